//! Policy documents: read, checked and compiled once, then shared.

mod elements;
mod fault;
mod json;
mod principal;
mod span;
mod statement;

use std::collections::HashSet;

pub(crate) use elements::{ResourceName, is_v1_registry_action};
pub use fault::{MAX_ECR_CHARACTERS, MAX_IAM_CHARACTERS, PolicyError};
pub(crate) use principal::Grant;
pub use principal::PolicyPrincipal;
pub use span::{Position, Span};
pub(crate) use statement::Statement;

use fault::{Fault, Faults};
use json::Json;

/// What a policy is attached to, which decides what it must and must not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Attached to a user, group or role, inline or managed.
    Identity,
    /// The upper limit of a user or role.
    Boundary,
    /// Given when a session was asked for.
    Session,
    /// Of one repository.
    Repository,
    /// Of a registry. Scope `V1` knows three actions only.
    Registry {
        /// Whether the account setting `REGISTRY_POLICY_SCOPE` is `V1`.
        v1_scope: bool,
    },
    /// Who may assume a role.
    Trust,
    /// Of any resource of any service, as simulations are given them: `Resource` may be left out.
    Resource,
}

impl PolicyKind {
    /// Whether policies of this kind are about their bearer, and so name no principal.
    pub fn is_identity_type(self) -> bool {
        matches!(self, Self::Identity | Self::Boundary | Self::Session)
    }
}

/// A policy, compiled. Immutable; share it in an `Arc`.
#[derive(Debug)]
pub struct Policy {
    kind: PolicyKind,
    text: Box<str>,
    statements: Box<[Statement]>,
}

impl Policy {
    /// Reads a policy that is to be evaluated. `Version` may be `2012-10-17`, `2008-10-17` or absent, which IAM's
    /// write operations do not allow: those use [`validate_for_write`].
    ///
    /// # Errors
    /// If the text breaks the grammar of its kind.
    pub fn parse(kind: PolicyKind, text: &str) -> Result<Self, PolicyError> {
        let mut faults = Faults::default();
        let policy = compile(kind, text, false, &mut faults);
        finish(kind, policy, faults)
    }

    /// The text it was made from, unchanged.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it is attached to.
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Everyone it names, in `Principal` and `NotPrincipal`, repetitions included.
    pub fn principals(&self) -> impl Iterator<Item = &PolicyPrincipal> {
        self.statements.iter().flat_map(|statement| statement.principals.named())
    }

    /// The condition keys its outcome depends on, as written, repetitions included. What no policy asks for need not
    /// be looked up.
    pub fn context_keys(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().flat_map(Statement::keys)
    }

    /// Where a statement stands in the text; its place is counted from 0.
    pub fn span(&self, index: usize) -> Option<Span> {
        span::of_statement(&self.text, index)
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

/// Reads a policy that is about to be stored, with everything that AWS checks then: size, characters, and for IAM's
/// own documents the version.
///
/// # Errors
/// AWS's code and message for the first fault, in AWS's order.
pub fn validate_for_write(kind: PolicyKind, text: &str) -> Result<Policy, PolicyError> {
    let mut faults = Faults::default();
    let iam = !matches!(kind, PolicyKind::Repository | PolicyKind::Registry { .. });
    let most = if iam { MAX_IAM_CHARACTERS } else { MAX_ECR_CHARACTERS };
    if text.is_empty() || text.chars().nth(most).is_some() {
        return Err(PolicyError { kind, fault: Fault::Length });
    }
    if iam && !text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}')) {
        return Err(PolicyError { kind, fault: Fault::Characters });
    }
    let policy = compile(kind, text, iam, &mut faults);
    finish(kind, policy, faults)
}

fn finish(kind: PolicyKind, policy: Option<Policy>, faults: Faults) -> Result<Policy, PolicyError> {
    match (faults.into_first(), policy) {
        (None, Some(policy)) => Ok(policy),
        (fault, _) => {
            let fault = fault.unwrap_or_else(|| Fault::Syntax("no policy".into()));
            Err(PolicyError { kind, fault })
        }
    }
}

fn compile(kind: PolicyKind, text: &str, current_version_only: bool, faults: &mut Faults) -> Option<Policy> {
    let document = match Json::parse(text) {
        Ok(Json::Object(members)) => members,
        Ok(_) => {
            faults.syntax("the document is no object");
            return None;
        }
        Err(error) => {
            faults.syntax(error.to_string());
            return None;
        }
    };
    let (mut version, mut statement) = (None, None);
    for (name, value) in &document {
        match (name.as_str(), value) {
            ("Version", Json::String(text)) if text == "2012-10-17" || text == "2008-10-17" => {
                version = Some(text.as_str());
            }
            ("Version", _) => faults.syntax("unknown Version"),
            ("Id", Json::String(_)) if !kind.is_identity_type() => {}
            ("Id", _) => faults.syntax("Id is not text, or not allowed here"),
            ("Statement", value) => statement = Some(value),
            _ => faults.syntax(format!("unknown element {name:?}")),
        }
    }
    let variables = version == Some("2012-10-17");
    if current_version_only && !variables {
        faults.add(Fault::Version);
    }
    let statements = match statement {
        Some(Json::Array(statements)) if !statements.is_empty() => &statements[..],
        Some(statement @ Json::Object(_)) => std::slice::from_ref(statement),
        _ => {
            faults.syntax("Statement is missing, empty, or neither object nor list");
            &[]
        }
    };
    let statements: Box<[Statement]> = statements
        .iter()
        .filter_map(|statement| statement::compile(kind, statement, variables, faults))
        .collect();
    let mut sids = HashSet::new();
    // An empty Sid is what tools write for none.
    let named =
        statements.iter().filter_map(|statement| statement.sid.as_deref()).filter(|sid| !sid.is_empty());
    for sid in named {
        if !sids.insert(sid) {
            faults.add(Fault::SidRepeated);
        }
    }
    Some(Policy { kind, text: text.into(), statements })
}

#[cfg(test)]
mod tests;
