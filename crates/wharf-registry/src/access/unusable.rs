//! What stands in for a policy that is stored but cannot be used: a denial of everything. What the policy would have
//! denied is not known, and a broken one must not be an error of the server's either (`iam-evaluation` §4).
//!
//! Of a repository or registry the root user of its account may still read, replace and remove the policy: somebody
//! must be able to.

use std::fmt;

use wharf_iam::policy::{Policy, PolicyKind};

/// The policy as it is stored; if it cannot be used, one that denies everything to everybody, which is logged.
pub(super) fn usable_or_deny(
    kind: PolicyKind,
    stored: Result<Policy, impl fmt::Display>,
    of: impl fmt::Display,
) -> Policy {
    stored.unwrap_or_else(|error| {
        tracing::error!(%error, "the stored policy of {of} is unusable: everything is denied");
        deny_all(kind)
    })
}

/// A policy of a kind that denies everything to everybody it is about.
pub(super) fn deny_all(kind: PolicyKind) -> Policy {
    let text = match kind {
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => {
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#
        }
        // Policies of scope `V1` are about three actions, none of which repairs one.
        PolicyKind::Registry { v1_scope: true } => {
            r#"{"Version":"2012-10-17",
                "Statement":{"Effect":"Deny","Principal":"*","Action":"ecr:*","Resource":"*"}}"#
        }
        PolicyKind::Registry { v1_scope: false } => {
            r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Deny","Principal":"*","Resource":"*",
                 "NotAction":["ecr:GetRegistryPolicy","ecr:PutRegistryPolicy","ecr:DeleteRegistryPolicy"]},
                {"Effect":"Deny","Principal":"*","Action":"ecr:*","Resource":"*",
                 "Condition":{"StringNotEquals":{"aws:PrincipalType":"Account"}}}]}"#
        }
        PolicyKind::Repository | PolicyKind::Resource => {
            r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Deny","Principal":"*",
                 "NotAction":["ecr:GetRepositoryPolicy","ecr:SetRepositoryPolicy","ecr:DeleteRepositoryPolicy"]},
                {"Effect":"Deny","Principal":"*","Action":"ecr:*",
                 "Condition":{"StringNotEquals":{"aws:PrincipalType":"Account"}}}]}"#
        }
        PolicyKind::Trust => {
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*",
                "Action":["sts:AssumeRole","sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"]}}"#
        }
    };
    Policy::parse(kind, text).expect("our own documents are sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_denial_of_every_kind() {
        let kinds = [
            PolicyKind::Identity,
            PolicyKind::Boundary,
            PolicyKind::Session,
            PolicyKind::Repository,
            PolicyKind::Resource,
            PolicyKind::Registry { v1_scope: false },
            PolicyKind::Registry { v1_scope: true },
            PolicyKind::Trust,
        ];
        for kind in kinds {
            assert_eq!(deny_all(kind).kind(), kind);
        }
    }
}
