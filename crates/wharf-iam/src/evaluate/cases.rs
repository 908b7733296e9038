//! Decision cases: a request, the policies around it, and what is expected, one JSON object per line.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use wharf_types::AccountId;

use super::{CallerPolicies, NamedPolicy, Principal, Request, evaluate};
use crate::actions::{self, ActionResource};
use crate::context::Context;
use crate::decision::{Identity, IdentityKind};
use crate::policy::{Policy, PolicyKind};

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// The case's name; empty if it has none.
    pub name: String,
    /// What it expects: an outcome's name or `invalid`.
    pub expected: String,
    /// The outcome's name or `invalid`.
    pub actual: &'static str,
    /// Which document is refused and why, or what decided.
    pub why: String,
}

impl CaseResult {
    /// Whether the case came out as expected.
    pub fn passed(&self) -> bool {
        self.expected == self.actual
    }
}

/// A line that is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Not JSON of this form.
    #[error("not a decision case")]
    Json(#[from] serde_json::Error),
    /// The principal is neither ARN nor service nor null.
    #[error("unknown form of principal {0:?}")]
    Principal(String),
    /// A condition key has another value than text or a list of texts.
    #[error("context key {0:?} is neither text nor a list of texts")]
    Context(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case<'a> {
    #[serde(default)]
    name: String,
    request: CaseRequest,
    #[serde(borrow, default)]
    identity_policies: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    resource_policy: Option<&'a RawValue>,
    #[serde(default)]
    resource_policy_type: Option<String>,
    #[serde(borrow, default)]
    permission_boundaries: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    session_policy: Option<&'a RawValue>,
    expected: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseRequest {
    principal: Option<String>,
    action: String,
    resource: String,
    resource_account: Option<String>,
    #[serde(default)]
    context: serde_json::Map<String, Value>,
}

/// Runs one case.
///
/// # Errors
/// If the line is no case. A policy in it that is refused is a result.
pub fn run(line: &str) -> Result<CaseResult, CaseError> {
    let case: Case<'_> = serde_json::from_str(line)?;
    let context = context(&case.request.context)?;
    let identity;
    let principal = match case.request.principal.as_deref() {
        None => Principal::Anonymous,
        Some(name) if !name.starts_with("arn:") && name.contains('.') => Principal::Service(name),
        Some(arn) => {
            identity = identity_of(arn, &context).ok_or_else(|| CaseError::Principal(arn.to_owned()))?;
            Principal::Identity(&identity)
        }
    };
    let (actual, why) = match Documents::read(&case) {
        Ok(documents) => decide(&case.request, principal, &documents, &context),
        Err(why) => ("invalid", why),
    };
    Ok(CaseResult { name: case.name, expected: case.expected, actual, why })
}

fn decide(
    request: &CaseRequest,
    principal: Principal<'_>,
    documents: &Documents,
    context: &Context<'_>,
) -> (&'static str, String) {
    let policies = CallerPolicies {
        identity: &documents.identity,
        boundary: &documents.boundary,
        session: documents.session.as_deref(),
    };
    let account = request.resource_account.as_deref().unwrap_or_else(|| account_of(&request.resource));
    let whole_registry = actions::ECR.iter().any(|action| {
        action.resource == ActionResource::Registry && action.name.eq_ignore_ascii_case(&request.action)
    });
    let resource = if whole_registry { "*" } else { &request.resource };
    let question = Request { action: &request.action, resource, resource_account: account, context };
    let resource_policies: Vec<&Policy> = documents.resource.iter().collect();
    let evaluation = evaluate(principal, policies, &resource_policies, &question);
    let mut why = evaluation.reason.as_str().to_owned();
    if let Some(by) = evaluation.by {
        why = format!("{why} ({}, statement {}", by.policy, by.index + 1);
        why.push_str(&by.sid.map_or_else(|| ")".to_owned(), |sid| format!(" {sid:?})")));
    }
    (evaluation.outcome.as_str(), why)
}

fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

struct Documents {
    identity: Vec<NamedPolicy>,
    boundary: Vec<NamedPolicy>,
    session: Option<Vec<NamedPolicy>>,
    resource: Option<Policy>,
}

impl Documents {
    /// Reads all documents of a case.
    ///
    /// # Errors
    /// Which document is refused, and why.
    fn read(case: &Case<'_>) -> Result<Self, String> {
        let resource_kind = match case.resource_policy_type.as_deref() {
            Some("registry") => PolicyKind::Registry { v1_scope: false },
            Some("trust") => PolicyKind::Trust,
            _ => PolicyKind::Repository,
        };
        let all = |member: &str, kind, documents: &[&RawValue]| {
            documents
                .iter()
                .enumerate()
                .map(|(index, raw)| named(&format!("{member}[{index}]"), kind, raw))
                .collect::<Result<Vec<_>, String>>()
        };
        let identity = case.identity_policies.as_deref().unwrap_or_default();
        let boundary = case.permission_boundaries.as_deref().unwrap_or_default();
        Ok(Self {
            identity: all("identityPolicies", PolicyKind::Identity, identity)?,
            boundary: all("permissionBoundaries", PolicyKind::Boundary, boundary)?,
            session: case
                .session_policy
                .map(|raw| named("sessionPolicy", PolicyKind::Session, raw).map(|policy| vec![policy]))
                .transpose()?,
            resource: case
                .resource_policy
                .map(|raw| parse("resourcePolicy", resource_kind, raw))
                .transpose()?,
        })
    }
}

fn named(name: &str, kind: PolicyKind, raw: &RawValue) -> Result<NamedPolicy, String> {
    Ok(NamedPolicy { name: name.into(), policy: Arc::new(parse(name, kind, raw)?) })
}

/// A document given as JSON text is the raw text of a policy.
fn parse(name: &str, kind: PolicyKind, raw: &RawValue) -> Result<Policy, String> {
    let quoted: Option<String> = serde_json::from_str(raw.get()).ok();
    let text = quoted.as_deref().unwrap_or(raw.get());
    Policy::parse(kind, text).map_err(|error| format!("{name}: {}", error.detail()))
}

fn context(members: &serde_json::Map<String, Value>) -> Result<Context<'_>, CaseError> {
    let mut context = Context::new();
    for (key, value) in members {
        let wrong = || CaseError::Context(key.clone());
        match value {
            Value::String(text) => context.set(key, text),
            Value::Bool(_) | Value::Number(_) => context.set(key, value.to_string()),
            Value::Array(values) => {
                let text = |value: &Value| match value {
                    Value::String(text) => Some(text.clone()),
                    Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
                    _ => None,
                };
                let texts: Option<Vec<String>> = values.iter().map(text).collect();
                context.set_list(key, texts.ok_or_else(wrong)?);
            }
            Value::Null | Value::Object(_) => return Err(wrong()),
        }
    }
    Ok(context)
}

/// Who an ARN names. A session's role is what the context says, since its own ARN has no path.
fn identity_of(arn: &str, context: &Context<'_>) -> Option<Identity> {
    if let Ok(account) = arn.parse() {
        return Some(Identity::root(account, ""));
    }
    let ["arn", partition, service, _, account, resource] = *arn.splitn(6, ':').collect::<Vec<_>>() else {
        return None;
    };
    let account: AccountId = account.parse().ok()?;
    let mut identity = Identity::root(account, "");
    identity.arn = arn.to_owned();
    // No policy can name it: unique ids are what stored policies are bound to.
    identity.principal_id = String::new();
    (identity.kind, identity.role_arn) = match (service, resource.split_once('/')) {
        ("iam", None) if resource == "root" => (IdentityKind::Root, None),
        ("iam", Some(("user", _))) => (IdentityKind::User, None),
        ("sts", Some(("federated-user", _))) => (IdentityKind::FederatedUser, None),
        ("sts", Some(("assumed-role", name))) => {
            let role = name.split_once('/')?.0;
            let stated = context.get("aws:PrincipalArn").and_then(|values| values.only());
            let stated = stated.filter(|stated| stated.contains(":role/"));
            let role =
                stated.map_or_else(|| format!("arn:{partition}:iam::{account}:role/{role}"), str::to_owned);
            (IdentityKind::AssumedRole, Some(role))
        }
        ("iam", Some(("role", _))) => (IdentityKind::AssumedRole, Some(arn.to_owned())),
        _ => return None,
    };
    Some(identity)
}
