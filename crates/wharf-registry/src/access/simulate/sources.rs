//! Whose policies a simulation is about, and what they are called in its answer.

use wharf_iam::decision::Identity;
use wharf_iam::evaluate::NamedPolicy;
use wharf_iam::policy::PolicyKind;
use wharf_store::meta::Tx;
use wharf_store::meta::iam::effective::EffectivePolicy;
use wharf_store::meta::iam::principals::PrincipalRow;
use wharf_store::meta::iam::{groups, policies};
use wharf_types::{AccountId, Arn};

use super::invalid;
use crate::access::principals::{compile, managed_policy};
use crate::{IamError, PrincipalKind, PrincipalRef, RegistryError};

/// Policies of a principal that a simulation leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyExclusion {
    /// All of a kind: `inline`, `aws-managed`, `user-managed`, `permission-boundary`. Others leave nothing out.
    Kind(String),
    /// The managed policy with this ARN.
    Arn(String),
    /// One inline policy.
    Inline {
        /// `user`, `group` or `role`.
        kind: String,
        /// Whose it is.
        owner: String,
        /// What it is called.
        policy: String,
    },
}

/// A principal and its policies.
pub(super) struct Sources {
    pub(super) account: AccountId,
    /// Who it is; of a group a user without a name. Nobody if no principal is named.
    pub(super) identity_of: Option<Identity>,
    pub(super) identity: Vec<NamedPolicy>,
    pub(super) boundary: Vec<NamedPolicy>,
}

impl Sources {
    /// No principal.
    pub(super) fn nobody(account: AccountId) -> Self {
        Self { account, identity_of: None, identity: Vec::new(), boundary: Vec::new() }
    }

    /// A principal as it stands, with the policies of its groups.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub(super) fn load(
        tx: &mut Tx<'_>,
        principal: &PrincipalRef,
        excluded: &[PolicyExclusion],
    ) -> Result<Self, RegistryError> {
        // One that was changed meanwhile, or has another path, is not who was asked for.
        let row = principal.hold(tx).map_err(|error| match error {
            RegistryError::Iam(IamError::ConcurrentModification(_)) => {
                IamError::no_principal(principal.kind(), principal.name()).into()
            }
            other => other,
        })?;
        let mut identity = own_policies(tx, &row, excluded)?;
        if row.kind == PrincipalKind::User {
            for group in groups::of_user(tx, &row.id)? {
                identity.extend(own_policies(tx, &group, excluded)?);
            }
        }
        let of_kind = |kind: &str| excluded.contains(&PolicyExclusion::Kind(kind.to_owned()));
        let boundary =
            row.boundary.clone().filter(|arn| !of_kind("permission-boundary") && !is_excluded(excluded, arn));
        let boundary = match boundary {
            Some(arn) => vec![managed(tx, PolicyKind::Boundary, arn)?],
            None => Vec::new(),
        };
        let mut identity_of = entity(row.account, row.kind, principal.arn(), &row.name, &row.id);
        identity_of.tags = principal.tags().to_vec();
        Ok(Self { account: row.account, identity_of: Some(identity_of), identity, boundary })
    }
}

/// The inline and attached policies of one principal.
fn own_policies(
    tx: &mut Tx<'_>,
    row: &PrincipalRow,
    excluded: &[PolicyExclusion],
) -> Result<Vec<NamedPolicy>, RegistryError> {
    let kind = row.kind.as_str();
    let mut found = Vec::new();
    for (policy, document) in policies::all_inline(tx, &row.id)? {
        let name = format!("{kind}_{}_{policy}", row.name);
        let this = PolicyExclusion::Inline { kind: kind.to_owned(), owner: row.name.clone(), policy };
        if !excluded.contains(&this) && !excluded.contains(&PolicyExclusion::Kind("inline".to_owned())) {
            found.push(compile(PolicyKind::Identity, &EffectivePolicy { name, document: Some(document) }));
        }
    }
    for arn in policies::attached(tx, &row.id)? {
        if !is_excluded(excluded, &arn) {
            found.push(managed(tx, PolicyKind::Identity, arn)?);
        }
    }
    Ok(found)
}

/// Whether a managed policy is left out.
fn is_excluded(excluded: &[PolicyExclusion], arn: &str) -> bool {
    let own_kind = source_of(arn).1;
    excluded.iter().any(|exclusion| match exclusion {
        PolicyExclusion::Kind(kind) => kind == own_kind,
        PolicyExclusion::Arn(excluded) => excluded == arn,
        PolicyExclusion::Inline { .. } => false,
    })
}

/// A managed policy; one that has gone denies everything.
fn managed(tx: &mut Tx<'_>, kind: PolicyKind, arn: String) -> Result<NamedPolicy, RegistryError> {
    let found = managed_policy(tx, &arn)?;
    Ok(compile(kind, &found.unwrap_or(EffectivePolicy { name: arn, document: None })))
}

/// The caller that a user, group or role would be.
fn entity(account: AccountId, kind: PrincipalKind, arn: String, name: &str, id: &str) -> Identity {
    match kind {
        PrincipalKind::User => Identity::user(account, "", arn, name, id),
        PrincipalKind::Role => Identity::assumed_role(account, "", arn, id, "simulation"),
        PrincipalKind::Group => Identity { user_name: None, ..Identity::user(account, "", arn, "", id) },
    }
}

/// The caller that an ARN names. It need not exist.
///
/// # Errors
/// `InvalidInput` for anything but a user, group or role.
pub(super) fn entity_of(text: &str) -> Result<Identity, IamError> {
    let (account, kind, name) = entity_named(text)?;
    Ok(entity(account, kind, text.to_owned(), name.rsplit('/').next().unwrap_or_default(), ""))
}

/// The account, kind and path with name of a user's, group's or role's ARN.
///
/// # Errors
/// `InvalidInput` for anything else.
pub(crate) fn entity_named(text: &str) -> Result<(AccountId, PrincipalKind, String), IamError> {
    let vague =
        || invalid(format!("Invalid Entity Arn: {text} does not clearly define entity type and name."));
    let arn: Arn = text.parse().map_err(|_| vague())?;
    let account: AccountId = arn.account.parse().map_err(|_| vague())?;
    let (kind, name) =
        arn.resource.split_once('/').filter(|(_, name)| !name.ends_with('/')).ok_or_else(vague)?;
    let kind = match kind {
        "user" => PrincipalKind::User,
        "group" => PrincipalKind::Group,
        "role" => PrincipalKind::Role,
        _ => return Err(vague()),
    };
    if arn.service != "iam" || name.is_empty() {
        return Err(vague());
    }
    Ok((account, kind, name.to_owned()))
}

/// What IAM calls a policy, and where it comes from.
pub(super) fn source_of(name: &str) -> (&str, &'static str) {
    let last = name.rsplit('/').next().unwrap_or(name);
    match name.split(['_', ':', '.']).next() {
        _ if name == super::RESOURCE_POLICY => (name, "resource"),
        Some("arn") if name.starts_with("arn:aws:iam::aws:") => (last, "aws-managed"),
        Some("arn") => (last, "user-managed"),
        Some("user") => (name, "user"),
        Some("group") => (name, "group"),
        Some("role") => (name, "role"),
        _ => (name, "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_as_iam_names_them() {
        for (name, id, source) in [
            ("arn:aws:iam::aws:policy/ReadOnly", "ReadOnly", "aws-managed"),
            ("arn:aws:iam::123456789012:policy/a/b", "b", "user-managed"),
            ("user_erin_inline", "user_erin_inline", "user"),
            ("group_devs_inline", "group_devs_inline", "group"),
            ("role_ci_arn:", "role_ci_arn:", "role"),
            ("PolicyInputList.1", "PolicyInputList.1", "none"),
            ("PermissionsBoundaryPolicyInputList.1", "PermissionsBoundaryPolicyInputList.1", "none"),
            ("ResourcePolicy", "ResourcePolicy", "resource"),
        ] {
            assert_eq!(source_of(name), (id, source));
        }
    }

    #[test]
    fn only_users_groups_and_roles_are_simulated() {
        let named = |text: &str| entity_named(text).map(|(_, kind, name)| (kind, name)).ok();
        let arn = |rest: &str| format!("arn:aws:iam::123456789012:{rest}");
        assert_eq!(named(&arn("user/a/b")), Some((PrincipalKind::User, "a/b".to_owned())));
        assert_eq!(named(&arn("role/b")), Some((PrincipalKind::Role, "b".to_owned())));
        assert_eq!(named(&arn("group/b")), Some((PrincipalKind::Group, "b".to_owned())));
        for bad in [
            &arn("root"),
            &arn("user/"),
            &arn("user/a/"),
            &arn("policy/p"),
            "arn:aws:sts::123456789012:assumed-role/r/s",
            "arn:aws:iam::1:user/a",
            "x",
        ] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
