//! Whether an identity may do what a request needs, and why not.
//!
//! Until policies exist, an account's root key may do everything in its own account and nothing in another. Policy
//! evaluation will answer through the same [`decide`].

use std::borrow::Cow;
use std::fmt;

use wharf_types::AccountId;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key the caller signed with, or that its token was issued to.
    pub access_key_id: String,
    /// The account the caller belongs to.
    pub account: AccountId,
    /// What kind of principal it is.
    pub kind: IdentityKind,
    /// Its ARN, e.g. `arn:aws:iam::123456789012:root`.
    pub arn: String,
    /// Its unique id, which a principal made later under the same name does not get; of a root user the account id.
    pub principal_id: String,
    /// What `GetCallerIdentity` answers as `UserId`.
    pub user_id: String,
}

/// The kinds of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityKind {
    /// The account itself.
    Root,
}

impl Identity {
    /// The root user of an account.
    pub fn root(account: AccountId, access_key_id: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            account,
            kind: IdentityKind::Root,
            arn: format!("arn:aws:iam::{account}:root"),
            principal_id: account.to_string(),
            user_id: account.to_string(),
        }
    }
}

/// One permission that a request needs; a request may need several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The action, e.g. `ecr:PutImage`.
    pub action: &'static str,
    /// `*` or an ARN.
    pub resource: Cow<'static, str>,
    /// The account that owns the resource.
    pub resource_account: AccountId,
    /// Condition keys of the request with their values, e.g. `aws:TagKeys`.
    pub context: Vec<(String, Vec<String>)>,
}

impl Need {
    /// A need without condition keys.
    pub fn new(
        action: &'static str,
        resource: impl Into<Cow<'static, str>>,
        resource_account: AccountId,
    ) -> Self {
        Self { action, resource: resource.into(), resource_account, context: Vec::new() }
    }

    /// Adds a condition key.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, values: Vec<String>) -> Self {
        self.context.push((key.into(), values));
        self
    }
}

/// The outcome of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the identity may.
    pub allowed: bool,
    /// What decided, for the audit log.
    pub reason: Reason,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The root user acts in its own account.
    RootOfAccount,
    /// The resource is another account's, and no policy of that account allows the action.
    NoResourcePolicyAllows,
}

impl Reason {
    /// A name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RootOfAccount => "root of the account",
            Self::NoResourcePolicyAllows => "no resource-based policy allows the action",
        }
    }
}

/// Decides one need. Allocates nothing.
pub fn decide(identity: &Identity, need: &Need) -> Decision {
    match identity.kind {
        IdentityKind::Root if identity.account == need.resource_account => {
            Decision { allowed: true, reason: Reason::RootOfAccount }
        }
        IdentityKind::Root => Decision { allowed: false, reason: Reason::NoResourcePolicyAllows },
    }
}

/// Decides all needs of a request.
///
/// # Errors
/// The first need that is not allowed, in the order given.
pub fn authorize(identity: &Identity, needs: &[Need]) -> Result<(), AccessDenied> {
    for need in needs {
        let decision = decide(identity, need);
        if !decision.allowed {
            return Err(AccessDenied::new(identity, need, decision.reason));
        }
    }
    Ok(())
}

/// A refusal; `Display` is AWS's text (`AccessDeniedException` of JSON services, `AccessDenied` of query services).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDenied {
    /// The caller's ARN, or `anonymous`.
    pub caller: String,
    /// The action refused.
    pub action: &'static str,
    /// The resource it was refused on.
    pub resource: String,
    /// What decided.
    pub reason: Reason,
}

impl AccessDenied {
    /// The refusal of a need.
    pub fn new(identity: &Identity, need: &Need, reason: Reason) -> Self {
        Self {
            caller: identity.arn.clone(),
            action: need.action,
            resource: need.resource.clone().into(),
            reason,
        }
    }

    /// The refusal of a need to a caller without an identity.
    pub fn anonymous(need: &Need) -> Self {
        Self {
            caller: "anonymous".into(),
            action: need.action,
            resource: need.resource.clone().into(),
            reason: Reason::NoResourcePolicyAllows,
        }
    }
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, action, resource, reason } = self;
        write!(f, "User: {caller} is not authorized to perform: {action} on resource: {resource}")?;
        match reason {
            // A refusal never has this reason; the old form of the text, without one, still parses in clients.
            Reason::RootOfAccount => Ok(()),
            Reason::NoResourcePolicyAllows => {
                write!(f, " because no resource-based policy allows the {action} action")
            }
        }
    }
}

impl std::error::Error for AccessDenied {}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: &str = "arn:aws:ecr:us-east-1:210987654321:repository/team/api";

    fn account(digits: &str) -> AccountId {
        digits.parse().unwrap()
    }

    #[test]
    fn root_may_do_everything_in_its_own_account() {
        let root = Identity::root(account("123456789012"), "AKIDEXAMPLE");
        let need = Need::new("ecr:PutImage", "*", account("123456789012"));
        assert_eq!(decide(&root, &need), Decision { allowed: true, reason: Reason::RootOfAccount });
        assert_eq!(authorize(&root, &[need]), Ok(()));
    }

    #[test]
    fn root_may_do_nothing_in_another_account() {
        let root = Identity::root(account("123456789012"), "AKIDEXAMPLE");
        let own = Need::new("ecr:GetAuthorizationToken", "*", account("123456789012"));
        let foreign = Need::new("ecr:PutImage", REPOSITORY, account("210987654321"));
        let denied = authorize(&root, &[own, foreign.clone()]).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "User: arn:aws:iam::123456789012:root is not authorized to perform: ecr:PutImage on resource: \
             arn:aws:ecr:us-east-1:210987654321:repository/team/api because no resource-based policy allows the \
             ecr:PutImage action"
        );
        assert!(
            AccessDenied::anonymous(&foreign).to_string().starts_with("User: anonymous is not authorized")
        );
    }
}
