//! The `Principal` element: who is named, and how strongly.

use wharf_types::AccountId;

use super::PolicyKind;
use super::fault::{Fault, Faults};
use super::json::Json;
use crate::decision::{Identity, IdentityKind};
use crate::evaluate::Principal;

/// One principal that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyPrincipal {
    /// `*`: everyone, the anonymous included.
    Everyone,
    /// An account id or root ARN: every authenticated caller of the account.
    Account(AccountId),
    /// A user's ARN, with its path.
    User(Box<str>),
    /// A role's ARN, with its path.
    Role(Box<str>),
    /// An assumed role's session, e.g. `arn:aws:sts::123456789012:assumed-role/builder/run-1`.
    RoleSession(Box<str>),
    /// A federated user's ARN.
    FederatedUser(Box<str>),
    /// `AIDA…` or `AROA…`: what a user's or role's ARN is bound to when a policy is stored.
    UniqueId(Box<str>),
    /// A service, e.g. `replication.ecr.amazonaws.com`.
    Service(Box<str>),
    /// An identity provider, in trust policies.
    Federated(Box<str>),
}

/// How a policy names a caller; several at once are possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant(u8);

impl Grant {
    /// By its own ARN: user, session, federated user, service, identity provider.
    pub(crate) const DIRECT: Self = Self(1);
    /// By `*`.
    pub(crate) const PUBLIC: Self = Self(2);
    /// By the ARN of the session's role.
    pub(crate) const ROLE: Self = Self(4);
    /// By its account.
    pub(crate) const ACCOUNT: Self = Self(8);

    /// Whether any of these is among them.
    pub(crate) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl PolicyPrincipal {
    fn grant(&self, caller: &Principal<'_>) -> Grant {
        let when = |named, grant| if named { grant } else { Grant::default() };
        match (self, caller) {
            (Self::Everyone, _) => Grant::PUBLIC,
            (Self::Service(name), Principal::Service(caller)) => when(**name == **caller, Grant::DIRECT),
            (Self::Federated(name), Principal::Federated(caller)) => when(**name == **caller, Grant::DIRECT),
            (named, Principal::Identity(caller)) => named.grant_to_identity(caller),
            _ => Grant::default(),
        }
    }

    fn grant_to_identity(&self, caller: &Identity) -> Grant {
        let (named, grant) = match self {
            Self::Account(account) => (*account == caller.account, Grant::ACCOUNT),
            Self::User(arn) => (caller.kind == IdentityKind::User && **arn == *caller.arn, Grant::DIRECT),
            Self::RoleSession(arn) => {
                (caller.kind == IdentityKind::AssumedRole && **arn == *caller.arn, Grant::DIRECT)
            }
            Self::FederatedUser(arn) => {
                (caller.kind == IdentityKind::FederatedUser && **arn == *caller.arn, Grant::DIRECT)
            }
            Self::Role(arn) => (caller.role_arn.as_deref() == Some(&**arn), Grant::ROLE),
            Self::UniqueId(id) => {
                let grant =
                    if caller.kind == IdentityKind::AssumedRole { Grant::ROLE } else { Grant::DIRECT };
                let bound = matches!(caller.kind, IdentityKind::User | IdentityKind::AssumedRole);
                (bound && **id == *caller.principal_id, grant)
            }
            Self::Everyone | Self::Service(_) | Self::Federated(_) => (false, Grant::default()),
        };
        if named { grant } else { Grant::default() }
    }
}

/// Whom a statement is about.
#[derive(Debug)]
pub(crate) enum PrincipalRule {
    /// Identity-type policies name nobody: they are about their bearer.
    Bearer,
    /// `Principal`
    Named(Box<[PolicyPrincipal]>),
    /// `NotPrincipal`, of a Deny: everyone except those named.
    Except(Box<[PolicyPrincipal]>),
}

impl PrincipalRule {
    /// How the statement names the caller; nothing if it is not about it. `bounded` callers, who have a permissions
    /// boundary, are hit by every `NotPrincipal`.
    pub(crate) fn grant(&self, caller: &Principal<'_>, bounded: bool) -> Grant {
        let all = |named: &[PolicyPrincipal]| {
            named.iter().fold(Grant::default(), |grant, named| grant.or(named.grant(caller)))
        };
        match self {
            Self::Bearer => Grant::DIRECT,
            Self::Named(named) => all(named),
            Self::Except(named) => {
                let mut own = Grant::DIRECT.or(Grant::ROLE).or(Grant::PUBLIC);
                if matches!(caller, Principal::Identity(caller) if caller.kind == IdentityKind::Root) {
                    own = own.or(Grant::ACCOUNT);
                }
                let exempt = !bounded && all(named).intersects(own);
                if exempt { Grant::default() } else { Grant::PUBLIC }
            }
        }
    }

    pub(crate) fn named(&self) -> &[PolicyPrincipal] {
        match self {
            Self::Bearer => &[],
            Self::Named(named) | Self::Except(named) => named,
        }
    }
}

/// Reads `"*"` or a map of kinds to names.
pub(super) fn parse(kind: PolicyKind, value: &Json, faults: &mut Faults) -> Box<[PolicyPrincipal]> {
    let mut named = Vec::new();
    match value {
        Json::String(text) if text == "*" => named.push(PolicyPrincipal::Everyone),
        Json::String(text) => faults.add(Fault::Principal(format!("\"{text}\""))),
        Json::Object(members) if !members.is_empty() => {
            for (name, values) in members {
                read_member(kind, name, values, &mut named, faults);
            }
        }
        _ => faults.syntax("Principal is neither \"*\" nor a map"),
    }
    named.into()
}

fn read_member(
    kind: PolicyKind,
    name: &str,
    values: &Json,
    named: &mut Vec<PolicyPrincipal>,
    faults: &mut Faults,
) {
    let read: fn(&str) -> Option<PolicyPrincipal> = match name {
        "AWS" => aws,
        "Service" => service,
        "Federated" if kind == PolicyKind::Trust => federated,
        "Federated" | "CanonicalUser" => return faults.add(Fault::Principal(format!("\"{name}\""))),
        _ => return faults.syntax(format!("unknown kind of principal {name:?}")),
    };
    let values = match values {
        Json::Array(values) if !values.is_empty() => &values[..],
        scalar => std::slice::from_ref(scalar),
    };
    for value in values {
        match value {
            Json::String(text) => match read(text) {
                Some(principal) => named.push(principal),
                None => faults.add(Fault::Principal(format!("\"{name}\":\"{text}\""))),
            },
            _ => faults.syntax(format!("a principal of kind {name} is no text")),
        }
    }
}

fn aws(text: &str) -> Option<PolicyPrincipal> {
    if text == "*" {
        return Some(PolicyPrincipal::Everyone);
    }
    if let Ok(account) = text.parse() {
        return Some(PolicyPrincipal::Account(account));
    }
    if let Some(rest) = text.strip_prefix("AIDA").or_else(|| text.strip_prefix("AROA")) {
        let legal = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        return legal.then(|| PolicyPrincipal::UniqueId(text.into()));
    }
    let ["arn", partition, service, "", account, resource] = *text.split(':').collect::<Vec<_>>() else {
        return None;
    };
    let account: AccountId = account.parse().ok()?;
    if !partition.starts_with("aws") || !partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
        return None;
    }
    match (service, resource.split_once('/')) {
        ("iam", None) if resource == "root" => Some(PolicyPrincipal::Account(account)),
        ("iam", Some(("user", name))) if is_path(name) => Some(PolicyPrincipal::User(text.into())),
        ("iam", Some(("role", name))) if is_path(name) => Some(PolicyPrincipal::Role(text.into())),
        ("sts", Some(("assumed-role", name))) => {
            let (role, session) = name.split_once('/')?;
            (is_name(role) && is_name(session)).then(|| PolicyPrincipal::RoleSession(text.into()))
        }
        ("sts", Some(("federated-user", name))) if is_name(name) => {
            Some(PolicyPrincipal::FederatedUser(text.into()))
        }
        _ => None,
    }
}

/// A path and a name: no component is empty, so `*`, which no name may hold, cannot hide either.
fn is_path(text: &str) -> bool {
    text.split('/').all(is_name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

fn service(text: &str) -> Option<PolicyPrincipal> {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (text.contains('.') && text.split('.').all(label)).then(|| PolicyPrincipal::Service(text.into()))
}

fn federated(text: &str) -> Option<PolicyPrincipal> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/%-".contains(&b);
    (!text.is_empty() && text.bytes().all(legal)).then(|| PolicyPrincipal::Federated(text.into()))
}
