//! `Action` and `Resource`, with their negations.

use super::PolicyKind;
use super::fault::{Fault, Faults};
use crate::condition::arn_fields;
use crate::context::Context;
use crate::pattern::{Case, Matched, Pattern, Syntax, split_fields};

/// Patterns of which one must match, or none.
#[derive(Debug)]
pub(crate) struct Rule<T> {
    pub(super) entries: Box<[T]>,
    /// `NotAction`, `NotResource`.
    pub(super) negated: bool,
}

impl Rule<Pattern> {
    /// Whether a statement is about the action.
    pub(crate) fn covers_action(&self, action: &str, context: &Context<'_>) -> bool {
        let matches = |entry: &Pattern| entry.compare(action, Case::Ignored, context) == Matched::Yes;
        self.entries.iter().any(matches) != self.negated
    }
}

impl Rule<ResourcePattern> {
    /// Whether a statement is about the resource.
    pub(crate) fn covers_resource(&self, resource: &ResourceName<'_>, context: &Context<'_>) -> bool {
        self.entries.iter().any(|entry| entry.matches(resource, context)) != self.negated
    }
}

/// The resource of a request, split once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceName<'a>(Option<[&'a str; 6]>);

impl<'a> ResourceName<'a> {
    /// Splits an ARN; `*` has no fields, so only the pattern `*` matches it.
    pub(crate) fn new(text: &'a str) -> Self {
        Self(arn_fields(text))
    }
}

/// A resource that a policy names.
#[derive(Debug)]
pub(crate) enum ResourcePattern {
    /// `*`
    Any,
    /// Six fields, compared one by one. Variables count in the last only.
    Arn(Box<[Pattern; 6]>),
}

impl ResourcePattern {
    fn matches(&self, resource: &ResourceName<'_>, context: &Context<'_>) -> bool {
        let (Self::Arn(patterns), fields) = (self, resource.0) else { return true };
        let Some(fields) = fields else { return false };
        // The last field tells resources apart best. It alone is case-sensitive.
        let of_field =
            |index: usize, case| patterns[index].compare(fields[index], case, context) == Matched::Yes;
        of_field(5, Case::Sensitive) && (0..5).all(|index| of_field(index, Case::Ignored))
    }

    /// The context keys that variables name.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let last = match self {
            Self::Any => None,
            Self::Arn(fields) => Some(&fields[5]),
        };
        last.into_iter().flat_map(Pattern::variables)
    }
}

/// Compiles actions, noting what is wrong with them.
pub(super) fn compile_actions(
    kind: PolicyKind,
    values: &[String],
    negated: bool,
    faults: &mut Faults,
) -> Rule<Pattern> {
    if values.is_empty() {
        faults.add(Fault::NoActions);
    }
    for value in values {
        if let Err(fault) = check_action(kind, value, negated) {
            faults.add(fault);
        }
    }
    let syntax = Syntax { wildcards: true, variables: false };
    Rule { entries: values.iter().map(|value| Pattern::compile(value, syntax)).collect(), negated }
}

fn check_action(kind: PolicyKind, action: &str, negated: bool) -> Result<(), Fault> {
    let foreign = || Err(Fault::ForeignAction(action.to_owned()));
    if action == "*" {
        return match kind {
            PolicyKind::Trust => Err(Fault::TrustAction),
            PolicyKind::Registry { v1_scope: true } => foreign(),
            _ => Ok(()),
        };
    }
    let (vendor, name) = action.split_once(':').ok_or(Fault::NoVendor)?;
    if name.contains(':') {
        return Err(Fault::Colons);
    }
    if vendor.is_empty() || !vendor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Fault::Vendor(vendor.to_owned()));
    }
    match kind {
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session | PolicyKind::Resource => Ok(()),
        PolicyKind::Repository | PolicyKind::Registry { v1_scope: false } => {
            if vendor.eq_ignore_ascii_case("ecr") { Ok(()) } else { foreign() }
        }
        PolicyKind::Registry { v1_scope: true } => {
            let enforced = action.eq_ignore_ascii_case("ecr:*") || is_v1_registry_action(action);
            if enforced && !negated { Ok(()) } else { foreign() }
        }
        PolicyKind::Trust => {
            let name = name.to_ascii_lowercase();
            let known = name.starts_with("assumerole") || name == "tagsession" || name == "setsourceidentity";
            if vendor.eq_ignore_ascii_case("sts") && known { Ok(()) } else { Err(Fault::TrustAction) }
        }
    }
}

/// The actions that registry policies of scope `V1` are about.
pub(crate) fn is_v1_registry_action(action: &str) -> bool {
    ["ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(action))
}

/// Compiles resources, noting what is wrong with them.
pub(super) fn compile_resources(
    kind: PolicyKind,
    values: &[String],
    negated: bool,
    variables: bool,
    faults: &mut Faults,
) -> Rule<ResourcePattern> {
    if values.is_empty() {
        faults.add(Fault::NoResources);
    }
    let mut entries = Vec::with_capacity(values.len());
    for value in values {
        match compile_resource(kind, value, variables) {
            Ok(pattern) => entries.push(pattern),
            Err(fault) => faults.add(fault),
        }
    }
    Rule { entries: entries.into(), negated }
}

fn compile_resource(kind: PolicyKind, text: &str, variables: bool) -> Result<ResourcePattern, Fault> {
    if text == "*" {
        return Ok(ResourcePattern::Any);
    }
    let mut fields = split_fields(text, 6);
    if fields.len() < 2 || fields[0] != "arn" {
        return Err(Fault::Resource(text.to_owned()));
    }
    if fields.get(2).is_none_or(|service| service.is_empty() || service.contains(['*', '?'])) {
        return Err(Fault::ResourceVendor);
    }
    // Only identity-type policies complete a shorter ARN.
    if fields.len() < 6 && !kind.is_identity_type() {
        return Err(Fault::Resource(text.to_owned()));
    }
    fields.resize(6, "*");
    let compile = |index: usize| {
        Pattern::compile(fields[index], Syntax { wildcards: true, variables: variables && index == 5 })
    };
    Ok(ResourcePattern::Arn(Box::new(std::array::from_fn(compile))))
}
