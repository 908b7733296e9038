//! Roles: who may assume them, and for how long.
//!
//! Users and roles that a trust policy names are bound to their unique ids when it is saved, so that nobody who is made
//! later under the same name may assume the role.

use wharf_iam::policy::PolicyKind;
use wharf_store::meta::Tx;
use wharf_store::meta::iam::principals::{self, PrincipalRow};
use wharf_store::meta::iam::{roles, tags as principal_tags};
use wharf_types::{AccountId, Timestamp};

use super::binding::{BindError, bind, unbind};
use super::tags::check_tags;
use super::users::{insert_principal, require_no_policies};
use super::written::{check_written, size};
use super::{IamError, Principal, PrincipalKind, PrincipalRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Characters of a trust policy, white space not counted (IAM quota).
const TRUST_CHARACTERS: usize = 2048;
/// Seconds of the longest session of a role that says nothing about it.
pub(crate) const SESSION: u32 = 3600;

/// A role as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// What it has in common with users and groups.
    pub principal: Principal,
    /// Who may assume it, by ARN as long as they live.
    pub trust_policy: String,
    /// Free text.
    pub description: Option<String>,
    /// Seconds of the longest session.
    pub max_session: u32,
    /// When and in which region it was last in use.
    pub last_used: Option<(Timestamp, String)>,
}

/// What a new role is like.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// Who may assume it.
    pub trust_policy: String,
    /// Free text.
    pub description: Option<String>,
    /// Seconds of the longest session, 3600 to 43200; 3600 unless given.
    pub max_session: Option<u32>,
    /// The ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

impl Registry {
    /// Makes a role.
    ///
    /// # Errors
    /// `EntityAlreadyExists`, `LimitExceeded`, `InvalidInput` (tags), `MalformedPolicyDocument` (trust policy, principals
    /// that do not exist included), `NoSuchEntity` or `PolicyNotAttachable` (boundary).
    pub async fn create_role(
        &self,
        of: &Authorized<PrincipalRef>,
        new: NewRole,
    ) -> Result<Role, RegistryError> {
        check_trust(&new.trust_policy)?;
        check_tags(&new.tags)?;
        let mut row = self.new_principal(of)?;
        row.boundary = new.boundary;
        row.description = new.description;
        row.max_session = Some(i64::from(new.max_session.unwrap_or(SESSION)));
        let (trust, tags) = (new.trust_policy, new.tags);
        self.write_identities(move |tx| {
            let row = PrincipalRow { trust_policy: Some(bound(tx, &trust)?), ..row.clone() };
            insert_principal(tx, &row, &tags)?;
            let tags = principal_tags::list(tx, &row.id)?;
            role(tx, row, tags)
        })
        .await
    }

    /// A role.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn role(&self, of: &Authorized<PrincipalRef>) -> Result<Role, RegistryError> {
        let wanted = of.target().clone();
        self.inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                let tags = principal_tags::list(tx, &row.id)?;
                role(tx, row, tags)
            })
            .await
    }

    /// The roles of an account whose path begins with `path_prefix`, in order of name, without tags.
    ///
    /// # Errors
    /// `ValidationError` for a marker of another listing.
    pub async fn list_roles(
        &self,
        of: &Authorized<AccountId>,
        path_prefix: &str,
        page: PageRequest,
    ) -> Result<Page<Role>, RegistryError> {
        let account = *of.target();
        let query = ["iam:ListRoles", account.as_str(), path_prefix];
        let [after] = self.open_iam_marker(&query, &page)?;
        let (limit, prefix) = (page.limit, path_prefix.to_owned());
        let found = self
            .inner
            .meta
            .read(move |tx| {
                let rows = principals::list(tx, account, PrincipalKind::Role, &prefix, &after, limit + 1)?;
                rows.into_iter()
                    .map(|row| role(tx, row, Vec::new()))
                    .collect::<Result<Vec<_>, RegistryError>>()
            })
            .await?;
        self.cut_iam_page(&query, found, limit, |role| vec![role.principal.name.clone()])
    }

    /// Deletes a role that has no policies any more; its sessions end with it.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict`.
    pub async fn delete_role(&self, of: &Authorized<PrincipalRef>) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            require_no_policies(tx, &row.id)?;
            Ok(principals::delete(tx, &row.id)?)
        })
        .await
    }

    /// Changes what is given, keeps the rest.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn update_role(
        &self,
        of: &Authorized<PrincipalRef>,
        description: Option<String>,
        max_session: Option<u32>,
    ) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            Ok(roles::update(tx, &row.id, description.as_deref(), max_session.map(i64::from))?)
        })
        .await
    }

    /// Puts a trust policy in place of the earlier one. Sessions that were begun go on.
    ///
    /// # Errors
    /// `NoSuchEntity`, `MalformedPolicyDocument`, `LimitExceeded`.
    pub async fn update_trust_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        trust_policy: String,
    ) -> Result<(), RegistryError> {
        check_trust(&trust_policy)?;
        self.change_principal(of, move |tx, row| {
            let bound = bound(tx, &trust_policy)?;
            Ok(roles::set_trust_policy(tx, &row.id, &bound)?)
        })
        .await
    }
}

fn check_trust(document: &str) -> Result<(), IamError> {
    check_written(PolicyKind::Trust, document)?;
    match size(document) {
        0..=TRUST_CHARACTERS => Ok(()),
        _ => Err(IamError::quota("ACLSizePerRole", TRUST_CHARACTERS)),
    }
}

/// The trust policy with the unique ids of those it names.
fn bound(tx: &mut Tx<'_>, document: &str) -> Result<String, RegistryError> {
    bind(tx, document).map_err(|error| match error {
        BindError::Unbound { arn } => {
            IamError::MalformedPolicyDocument(format!("Invalid principal in policy: \"AWS\":\"{arn}\""))
                .into()
        }
        BindError::Syntax => IamError::MalformedPolicyDocument("Syntax errors in policy.".into()).into(),
        BindError::Meta(error) => error.into(),
    })
}

fn role(tx: &mut Tx<'_>, mut row: PrincipalRow, tags: Vec<(String, String)>) -> Result<Role, RegistryError> {
    let trust = row.trust_policy.take().unwrap_or_default();
    Ok(Role {
        trust_policy: unbind(tx, &trust)?,
        description: row.description.take(),
        max_session: max_session(&row),
        last_used: row.last_used_at.zip(row.last_used_region.take()),
        principal: Principal::of(row, tags),
    })
}

/// Seconds of the longest session of a role.
pub(crate) fn max_session(row: &PrincipalRow) -> u32 {
    row.max_session.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(SESSION)
}
