//! Users, and what making, renaming and deleting is like for users, groups and roles alike.

use wharf_store::meta::Tx;
use wharf_store::meta::iam::principals::{self, PrincipalRow};
use wharf_store::meta::iam::{groups, keys, policies, tags as principal_tags};
use wharf_types::AccountId;

use super::principal::unique_id;
use super::tags::check_tags;
use super::{IamError, Principal, PrincipalKind, PrincipalRef, boundary};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Users of an account (IAM quota).
const USERS: usize = 5000;
/// Groups of an account (IAM quota).
const GROUPS: usize = 300;
/// Roles of an account (IAM quota).
const ROLES: usize = 1000;

impl Registry {
    /// Makes a user.
    ///
    /// # Errors
    /// `EntityAlreadyExists`, `LimitExceeded`, `InvalidInput` (tags), `NoSuchEntity` or `PolicyNotAttachable` (boundary).
    pub async fn create_user(
        &self,
        of: &Authorized<PrincipalRef>,
        boundary: Option<String>,
        tags: Vec<(String, String)>,
    ) -> Result<Principal, RegistryError> {
        let mut row = self.new_principal(of)?;
        row.boundary = boundary;
        self.create_principal(row, tags).await
    }

    /// A user, a group or a role.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn principal(&self, of: &Authorized<PrincipalRef>) -> Result<Principal, RegistryError> {
        let wanted = of.target().clone();
        self.inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                let tags = principal_tags::list(tx, &row.id)?;
                Ok(Principal::of(row, tags))
            })
            .await
    }

    /// The users, groups or roles of an account whose path begins with `path_prefix`, in order of name, without tags.
    ///
    /// # Errors
    /// `ValidationError` for a marker of another listing.
    pub async fn list_principals(
        &self,
        of: &Authorized<AccountId>,
        kind: PrincipalKind,
        path_prefix: &str,
        page: PageRequest,
    ) -> Result<Page<Principal>, RegistryError> {
        let account = *of.target();
        let query = ["iam:List", kind.as_str(), account.as_str(), path_prefix];
        let [after] = self.open_iam_marker(&query, &page)?;
        let (limit, prefix) = (page.limit, path_prefix.to_owned());
        let rows = self
            .inner
            .meta
            .read(move |tx| principals::list(tx, account, kind, &prefix, &after, limit + 1))
            .await?;
        let page = self.cut_iam_page(&query, rows, limit, |row| vec![row.name.clone()])?;
        Ok(page.map(|row| Principal::of(row, Vec::new())))
    }

    /// Gives a user or group another name or path. Its unique id stays, and with it what its policies and those that
    /// name it mean.
    ///
    /// # Errors
    /// `NoSuchEntity`, `EntityAlreadyExists`.
    pub async fn rename_principal(
        &self,
        of: &Authorized<PrincipalRef>,
        name: Option<String>,
        path: Option<String>,
    ) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            let name = name.as_deref().unwrap_or(&row.name);
            let path = path.as_deref().unwrap_or(&row.path);
            principals::rename(tx, &row.id, name, path).map_err(|error| taken(error, row.kind, name))
        })
        .await
    }

    /// Deletes a user that nothing hangs on any more.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict`.
    pub async fn delete_user(&self, of: &Authorized<PrincipalRef>) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            if !groups::of_user(tx, &row.id)?.is_empty() {
                return Err(conflict("must remove users from group first."));
            }
            if !keys::list(tx, row.account, Some(&row.id))?.is_empty() {
                return Err(conflict("must delete access keys first."));
            }
            require_no_policies(tx, &row.id)?;
            Ok(principals::delete(tx, &row.id)?)
        })
        .await
    }

    /// The row of a principal that is to be made, with a new unique id.
    pub(crate) fn new_principal(&self, of: &PrincipalRef) -> Result<PrincipalRow, RegistryError> {
        let prefix = match of.kind() {
            PrincipalKind::User => "AIDA",
            PrincipalKind::Group => "AGPA",
            PrincipalKind::Role => "AROA",
        };
        Ok(PrincipalRow {
            id: unique_id(prefix)?,
            account: of.account(),
            kind: of.kind(),
            name: of.name().to_owned(),
            path: of.path().to_owned(),
            boundary: None,
            trust_policy: None,
            description: None,
            max_session: None,
            last_used_at: None,
            last_used_region: None,
            created_at: self.inner.clock.now(),
        })
    }

    /// Adds a principal in a transaction of its own. See [`insert_principal`].
    pub(crate) async fn create_principal(
        &self,
        row: PrincipalRow,
        tags: Vec<(String, String)>,
    ) -> Result<Principal, RegistryError> {
        check_tags(&tags)?;
        let (new, with) = (row.clone(), tags.clone());
        self.write_identities(move |tx| insert_principal(tx, &new, &with)).await?;
        let mut tags = tags;
        tags.sort_by_key(|(key, _)| key.to_lowercase());
        Ok(Principal::of(row, tags))
    }
}

/// Adds a principal with its tags, which [`check_tags`] has seen.
///
/// # Errors
/// `EntityAlreadyExists`, `LimitExceeded`, and what a boundary may not be.
pub(crate) fn insert_principal(
    tx: &mut Tx<'_>,
    row: &PrincipalRow,
    tags: &[(String, String)],
) -> Result<(), RegistryError> {
    if let Some(arn) = &row.boundary {
        boundary::require_attachable(tx, row.account, arn)?;
    }
    principals::insert(tx, row).map_err(|error| taken(error, row.kind, &row.name))?;
    let (quota, limit) = match row.kind {
        PrincipalKind::User => ("UsersPerAccount", USERS),
        PrincipalKind::Group => ("GroupsPerAccount", GROUPS),
        PrincipalKind::Role => ("RolesPerAccount", ROLES),
    };
    if principals::count(tx, row.account, row.kind)? > limit {
        return Err(IamError::quota(quota, limit).into());
    }
    for (key, value) in tags {
        principal_tags::put(tx, &row.id, key, value)?;
    }
    Ok(())
}

/// Refuses to delete a principal that still has policies.
///
/// # Errors
/// `DeleteConflict`.
pub(crate) fn require_no_policies(tx: &mut Tx<'_>, principal_id: &str) -> Result<(), RegistryError> {
    if !policies::inline_names(tx, principal_id, "", 1)?.is_empty() {
        return Err(conflict("must delete policies first."));
    }
    if !policies::attached(tx, principal_id)?.is_empty() {
        return Err(conflict("must detach all policies first."));
    }
    Ok(())
}

/// `Cannot delete entity, …`
pub(crate) fn conflict(must: &str) -> RegistryError {
    IamError::DeleteConflict(format!("Cannot delete entity, {must}")).into()
}

fn taken(error: wharf_store::meta::MetaError, kind: PrincipalKind, name: &str) -> RegistryError {
    if !error.is_unique_violation() {
        return error.into();
    }
    let kind = match kind {
        PrincipalKind::User => "User",
        PrincipalKind::Group => "Group",
        PrincipalKind::Role => "Role",
    };
    IamError::EntityAlreadyExists(format!("{kind} with name {name} already exists.")).into()
}
