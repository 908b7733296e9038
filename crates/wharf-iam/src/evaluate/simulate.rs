//! What IAM's simulate operations and `wharf explain` answer.

use std::collections::BTreeSet;

use super::{
    CallerPolicies, Evaluation, Outcome, PolicySource, Principal, Question, Request, StatementRef, evaluate,
};
use crate::policy::Policy;

/// A decision with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation<'a> {
    /// The decision.
    pub evaluation: Evaluation<'a>,
    /// The statements that decided: all that deny, or else all that allow.
    pub matched: Vec<StatementRef<'a>>,
    /// Condition keys that policies ask for and the request does not have, sorted, as the policies write them.
    pub missing_context: Vec<&'a str>,
    /// What the caller's own policies say alone.
    pub identity: Outcome,
    /// What the policies of the resource say alone.
    pub resource: Outcome,
    /// What the permissions boundary says alone, if there is one.
    pub boundary: Option<Outcome>,
}

impl Outcome {
    /// The name that IAM's simulations use, e.g. `implicitDeny`.
    pub fn decision(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitlyDenied => "explicitDeny",
            Self::ImplicitlyDenied => "implicitDeny",
        }
    }

    /// What statements amount to, which all are about a request.
    fn of<'a>(matched: impl Iterator<Item = &'a StatementRef<'a>>) -> Self {
        matched.fold(Self::ImplicitlyDenied, |outcome, by| match (outcome, by.deny) {
            (Self::ExplicitlyDenied, _) | (_, true) => Self::ExplicitlyDenied,
            (_, false) => Self::Allowed,
        })
    }
}

/// Decides like [`evaluate`], and tells all that matched and all that was missing.
pub fn simulate<'a>(
    principal: Principal<'a>,
    policies: CallerPolicies<'a>,
    resource_policies: &'a [&'a Policy],
    request: &Request<'_>,
) -> Simulation<'a> {
    let evaluation = evaluate(principal, policies, resource_policies, request);
    let question = Question::new(principal, policies, request);
    let mut matched = Vec::new();
    let mut missing = BTreeSet::new();
    let mut look = |source, name: &'a str, policy: &'a Policy| {
        matched.extend(question.matches(source, name, policy).map(|(_, by)| by));
        missing.extend(policy.context_keys().filter(|key| request.context.get(key).is_none()));
    };
    if matches!(principal, Principal::Identity(_)) {
        let session = policies.session.unwrap_or_default();
        let sets = [
            (PolicySource::Identity, policies.identity),
            (PolicySource::Boundary, policies.boundary),
            (PolicySource::Session, session),
        ];
        for (source, set) in sets {
            for named in set {
                look(source, &named.name, &named.policy);
            }
        }
    }
    for policy in resource_policies.iter().filter(|policy| question.applies(policy)) {
        look(PolicySource::Resource, super::resource_policy_name(policy.kind()), policy);
    }
    let alone = |source| Outcome::of(matched.iter().filter(|by| by.source == source));
    let (identity, resource) = (alone(PolicySource::Identity), alone(PolicySource::Resource));
    let boundary = (!policies.boundary.is_empty()).then(|| alone(PolicySource::Boundary));
    match evaluation.outcome {
        Outcome::ExplicitlyDenied => matched.retain(|by| by.deny),
        Outcome::Allowed => matched.retain(|by| !by.deny),
        Outcome::ImplicitlyDenied => matched.clear(),
    }
    let mut missing_context: Vec<&str> = missing.into_iter().collect();
    missing_context.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    Simulation { evaluation, matched, missing_context, identity, resource, boundary }
}
