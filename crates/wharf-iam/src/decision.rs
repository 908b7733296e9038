//! Whether an identity may do what a request needs, and why not.
//!
//! [`decide`] knows no policies: an account's root key may do everything in its own account and nothing in another.
//! With policies, [`crate::evaluate::evaluate`] decides.

use std::borrow::Cow;
use std::fmt;

use wharf_types::AccountId;

use crate::context::Context;
use crate::evaluate::PolicySource;

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
    /// What `GetCallerIdentity` answers as `UserId`, and the condition key `aws:userid`.
    pub user_id: String,
    /// The user's name, of users only.
    pub user_name: Option<String>,
    /// The ARN of the role with its path, of role sessions only.
    pub role_arn: Option<String>,
    /// The session's or federated user's name.
    pub session_name: Option<String>,
    /// Tags of the user; of a role session the role's, overlaid by the session's.
    pub tags: Vec<(String, String)>,
}

/// The kinds of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityKind {
    /// The account itself.
    Root,
    /// A user, also by a session that `GetSessionToken` gave.
    User,
    /// A session of a role.
    AssumedRole,
    /// A session that `GetFederationToken` gave.
    FederatedUser,
    /// Nobody in particular: a caller without a credential, where such are heard.
    Anonymous,
}

impl IdentityKind {
    /// The value of the condition key `aws:PrincipalType`.
    pub fn principal_type(self) -> &'static str {
        match self {
            Self::Root => "Account",
            Self::User => "User",
            Self::AssumedRole => "AssumedRole",
            Self::FederatedUser => "FederatedUser",
            Self::Anonymous => "Anonymous",
        }
    }
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
            user_name: None,
            role_arn: None,
            session_name: None,
            tags: Vec::new(),
        }
    }

    /// A user; `arn` with its path, `id` is `AIDA…`.
    pub fn user(
        account: AccountId,
        access_key_id: impl Into<String>,
        arn: impl Into<String>,
        name: impl Into<String>,
        id: impl Into<String>,
    ) -> Self {
        let id = id.into();
        Self {
            kind: IdentityKind::User,
            arn: arn.into(),
            user_name: Some(name.into()),
            principal_id: id.clone(),
            user_id: id,
            ..Self::root(account, access_key_id)
        }
    }

    /// A session of a role; `role_arn` with its path, `role_id` is `AROA…`. Sessions are named without the path.
    pub fn assumed_role(
        account: AccountId,
        access_key_id: impl Into<String>,
        role_arn: impl Into<String>,
        role_id: impl Into<String>,
        session_name: impl Into<String>,
    ) -> Self {
        let (role_arn, role_id, session_name) = (role_arn.into(), role_id.into(), session_name.into());
        let role = role_arn.rsplit('/').next().unwrap_or_default();
        Self {
            kind: IdentityKind::AssumedRole,
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{session_name}"),
            user_id: format!("{role_id}:{session_name}"),
            principal_id: role_id,
            role_arn: Some(role_arn),
            session_name: Some(session_name),
            ..Self::root(account, access_key_id)
        }
    }

    /// A federated user.
    pub fn federated_user(
        account: AccountId,
        access_key_id: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        let name = name.into();
        Self {
            kind: IdentityKind::FederatedUser,
            arn: format!("arn:aws:sts::{account}:federated-user/{name}"),
            user_id: format!("{account}:{name}"),
            session_name: Some(name),
            ..Self::root(account, access_key_id)
        }
    }

    /// Sets the condition keys that say who the caller is: `aws:PrincipalArn` (of a session its role), `…Account`,
    /// `…Type`, `…IsAWSService`, `aws:userid`, `aws:username` and `aws:PrincipalTag/…`.
    pub fn describe<'a>(&'a self, context: &mut Context<'a>) {
        context.set("aws:PrincipalArn", self.role_arn.as_deref().unwrap_or(&self.arn));
        context.set("aws:PrincipalAccount", self.account.as_str());
        context.set("aws:PrincipalType", self.kind.principal_type());
        context.set("aws:PrincipalIsAWSService", "false");
        context.set("aws:userid", self.user_id.as_str());
        if let Some(name) = self.user_name.as_deref() {
            context.set("aws:username", name);
        }
        for (key, value) in &self.tags {
            context.set(format!("aws:PrincipalTag/{key}"), value.as_str());
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
    /// A policy of the caller allows the action, and nothing that must agree does not.
    IdentityPolicyAllows,
    /// A policy of the resource allows the action and needs nobody's consent.
    ResourcePolicyAllows,
    /// No policy of the caller allows the action.
    NoIdentityPolicyAllows,
    /// The resource is another account's (or the caller nobody's), and no policy of the resource allows the action.
    NoResourcePolicyAllows,
    /// The caller's permissions boundary does not allow the action.
    NoBoundaryAllows,
    /// The session's policy does not allow the action.
    NoSessionPolicyAllows,
    /// A statement denies the action.
    ExplicitDeny(PolicySource),
}

impl Reason {
    /// A name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RootOfAccount => "root of the account",
            Self::IdentityPolicyAllows => "an identity-based policy allows the action",
            Self::ResourcePolicyAllows => "a resource-based policy allows the action",
            Self::NoIdentityPolicyAllows => "no identity-based policy allows the action",
            Self::NoResourcePolicyAllows => "no resource-based policy allows the action",
            Self::NoBoundaryAllows => "no permissions boundary allows the action",
            Self::NoSessionPolicyAllows => "no session policy allows the action",
            Self::ExplicitDeny(PolicySource::Identity) => "explicit deny in an identity-based policy",
            Self::ExplicitDeny(PolicySource::Resource) => "explicit deny in a resource-based policy",
            Self::ExplicitDeny(PolicySource::Boundary) => "explicit deny in a permissions boundary",
            Self::ExplicitDeny(PolicySource::Session) => "explicit deny in a session policy",
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
        IdentityKind::User
        | IdentityKind::AssumedRole
        | IdentityKind::FederatedUser
        | IdentityKind::Anonymous => Decision { allowed: false, reason: Reason::NoIdentityPolicyAllows },
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
    /// The statement that denies, for the audit log; the text for the client does not tell.
    pub by: Option<String>,
}

impl AccessDenied {
    /// The refusal of a need.
    pub fn new(identity: &Identity, need: &Need, reason: Reason) -> Self {
        Self {
            caller: identity.arn.clone(),
            action: need.action,
            resource: need.resource.clone().into(),
            reason,
            by: None,
        }
    }

    /// The refusal of a need to a caller without an identity.
    pub fn anonymous(need: &Need) -> Self {
        Self {
            caller: "anonymous".into(),
            action: need.action,
            resource: need.resource.clone().into(),
            reason: Reason::NoResourcePolicyAllows,
            by: None,
        }
    }
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, action, resource, reason, by: _ } = self;
        write!(f, "User: {caller} is not authorized to perform: {action} on resource: {resource}")?;
        let because = match reason {
            // A refusal never has these reasons; the old form of the text, without one, still parses in clients.
            Reason::RootOfAccount | Reason::IdentityPolicyAllows | Reason::ResourcePolicyAllows => {
                return Ok(());
            }
            Reason::ExplicitDeny(_) => return write!(f, " with an {}", reason.as_str()),
            Reason::NoIdentityPolicyAllows => "identity-based policy",
            Reason::NoResourcePolicyAllows => "resource-based policy",
            Reason::NoBoundaryAllows => "permissions boundary",
            Reason::NoSessionPolicyAllows => "session policy",
        };
        write!(f, " because no {because} allows the {action} action")
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
