//! One statement of a policy.

use super::PolicyKind;
use super::elements::{ResourcePattern, Rule, compile_actions, compile_resources};
use super::fault::{Fault, Faults};
use super::json::Json;
use super::principal::{self, PrincipalRule};
use crate::condition::{Condition, Operator};
use crate::pattern::Pattern;

/// A compiled statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sid: Option<Box<str>>,
    pub(crate) deny: bool,
    pub(crate) principals: PrincipalRule,
    pub(crate) actions: Rule<Pattern>,
    /// Repository and trust policies are about the one thing that they belong to.
    pub(crate) resources: Option<Rule<ResourcePattern>>,
    pub(crate) conditions: Box<[Condition]>,
}

impl Statement {
    /// The context keys that conditions and variables name.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let resources =
            self.resources.iter().flat_map(|rule| &rule.entries).flat_map(ResourcePattern::variables);
        self.conditions.iter().flat_map(Condition::keys).chain(resources.map(|(key, _)| key))
    }
}

/// The members of a statement's object.
#[derive(Default)]
struct Members<'a> {
    sid: Option<&'a Json>,
    effect: Option<&'a Json>,
    principal: Option<&'a Json>,
    not_principal: Option<&'a Json>,
    action: Option<&'a Json>,
    not_action: Option<&'a Json>,
    resource: Option<&'a Json>,
    not_resource: Option<&'a Json>,
    condition: Option<&'a Json>,
}

impl<'a> Members<'a> {
    fn read(statement: &'a Json, faults: &mut Faults) -> Option<Self> {
        let Json::Object(members) = statement else {
            faults.syntax("a statement is no object");
            return None;
        };
        let mut read = Self::default();
        for (name, value) in members {
            let member = match name.as_str() {
                "Sid" => &mut read.sid,
                "Effect" => &mut read.effect,
                "Principal" => &mut read.principal,
                "NotPrincipal" => &mut read.not_principal,
                "Action" => &mut read.action,
                "NotAction" => &mut read.not_action,
                "Resource" => &mut read.resource,
                "NotResource" => &mut read.not_resource,
                "Condition" => &mut read.condition,
                _ => {
                    faults.syntax(format!("unknown element {name:?}"));
                    continue;
                }
            };
            *member = Some(value);
        }
        Some(read)
    }
}

/// Compiles a statement; `None` if faults leave nothing to compile, which they then say.
pub(super) fn compile(
    kind: PolicyKind,
    statement: &Json,
    variables: bool,
    faults: &mut Faults,
) -> Option<Statement> {
    let members = Members::read(statement, faults)?;
    let sid = sid(kind, members.sid, faults);
    let deny = match members.effect {
        Some(Json::String(effect)) if effect == "Allow" => false,
        Some(Json::String(effect)) if effect == "Deny" => true,
        _ => {
            faults.syntax("Effect is neither Allow nor Deny");
            true
        }
    };
    let principals = principals(kind, &members, deny, faults);
    let actions = match one_of("Action", members.action, members.not_action, faults) {
        Some((value, negated)) => {
            let values = strings("Action", value, faults);
            Some(compile_actions(kind, &values, negated, faults))
        }
        None => {
            faults.add(Fault::NoActions);
            None
        }
    };
    let resources = resources(kind, &members, variables, faults);
    let conditions = members.condition.map(|value| conditions(value, variables, faults)).unwrap_or_default();
    Some(Statement { sid, deny, principals, actions: actions?, resources, conditions: conditions.into() })
}

fn sid(kind: PolicyKind, value: Option<&Json>, faults: &mut Faults) -> Option<Box<str>> {
    let sid = match value? {
        Json::String(sid) => sid,
        _ => {
            faults.syntax("Sid is no text");
            return None;
        }
    };
    let spaces = matches!(kind, PolicyKind::Repository | PolicyKind::Registry { .. } | PolicyKind::Resource);
    if !sid.bytes().all(|b| b.is_ascii_alphanumeric() || spaces && b == b' ') {
        faults.add(Fault::SidCharacters);
    }
    Some(sid.as_str().into())
}

/// The one member of a pair that is there, and whether it is the negation.
fn one_of<'a>(
    name: &str,
    plain: Option<&'a Json>,
    negation: Option<&'a Json>,
    faults: &mut Faults,
) -> Option<(&'a Json, bool)> {
    match (plain, negation) {
        (Some(_), Some(_)) => {
            faults.syntax(format!("{name} and Not{name} exclude each other"));
            None
        }
        (Some(value), None) => Some((value, false)),
        (None, Some(value)) => Some((value, true)),
        (None, None) => None,
    }
}

fn principals(kind: PolicyKind, members: &Members<'_>, deny: bool, faults: &mut Faults) -> PrincipalRule {
    let both = members.principal.is_some() && members.not_principal.is_some();
    let chosen = one_of("Principal", members.principal, members.not_principal, faults);
    if kind.is_identity_type() {
        if chosen.is_some() {
            faults.add(Fault::PrincipalForbidden);
        }
        return PrincipalRule::Bearer;
    }
    match chosen {
        Some((value, false)) => PrincipalRule::Named(principal::parse(kind, value, faults)),
        Some((value, true)) => {
            if kind == PolicyKind::Trust {
                faults.add(Fault::Prohibited("NotPrincipal"));
            } else if !deny {
                faults.add(Fault::Principal("NotPrincipal goes with Deny only".into()));
            }
            PrincipalRule::Except(principal::parse(kind, value, faults))
        }
        None => {
            if !both {
                faults.add(Fault::PrincipalMissing);
            }
            PrincipalRule::Named([].into())
        }
    }
}

fn resources(
    kind: PolicyKind,
    members: &Members<'_>,
    variables: bool,
    faults: &mut Faults,
) -> Option<Rule<ResourcePattern>> {
    let chosen = one_of("Resource", members.resource, members.not_resource, faults);
    if matches!(kind, PolicyKind::Repository | PolicyKind::Trust) {
        if let Some((_, negated)) = chosen {
            faults.add(Fault::Prohibited(if negated { "NotResource" } else { "Resource" }));
        }
        return None;
    }
    let Some((value, negated)) = chosen else {
        if kind != PolicyKind::Resource {
            faults.add(Fault::NoResources);
        }
        return None;
    };
    let values = strings("Resource", value, faults);
    Some(compile_resources(kind, &values, negated, variables, faults))
}

fn conditions(value: &Json, variables: bool, faults: &mut Faults) -> Vec<Condition> {
    let Json::Object(operators) = value else {
        faults.syntax("Condition is no object");
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let operator = Operator::parse(name);
        if operator.is_none() {
            faults.add(Fault::Operator(name.clone()));
        }
        let Json::Object(keys) = keys else {
            faults.syntax(format!("the conditions under {name} are no object"));
            continue;
        };
        for (key, values) in keys {
            if !key.contains(':') {
                faults.add(Fault::NoVendor);
            }
            let values = condition_values(key, values, faults);
            conditions.extend(operator.map(|operator| Condition::compile(operator, key, &values, variables)));
        }
    }
    conditions
}

fn condition_values(key: &str, value: &Json, faults: &mut Faults) -> Vec<String> {
    let mut texts = Vec::new();
    for value in scalar_or_list(value) {
        match value {
            Json::String(text) | Json::Number(text) => texts.push(text.clone()),
            Json::Bool(value) => texts.push(value.to_string()),
            _ => faults.syntax(format!("a value of {key} is neither text nor number nor boolean")),
        }
    }
    texts
}

fn strings(name: &str, value: &Json, faults: &mut Faults) -> Vec<String> {
    let mut texts = Vec::new();
    for value in scalar_or_list(value) {
        match value {
            Json::String(text) => texts.push(text.clone()),
            _ => faults.syntax(format!("{name} holds something that is no text")),
        }
    }
    texts
}

fn scalar_or_list(value: &Json) -> &[Json] {
    match value {
        Json::Array(values) => values,
        scalar => std::slice::from_ref(scalar),
    }
}
