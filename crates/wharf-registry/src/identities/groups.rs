//! Groups, and who is in them.

use wharf_store::meta::Tx;
use wharf_store::meta::iam::groups;
use wharf_store::meta::iam::principals::{self, PrincipalRow};
use wharf_types::AccountId;

use super::users::{conflict, require_no_policies};
use super::{IamError, Principal, PrincipalKind, PrincipalRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Groups a user may be in (IAM quota).
const GROUPS_PER_USER: usize = 10;

impl Registry {
    /// Makes a group.
    ///
    /// # Errors
    /// `EntityAlreadyExists`, `LimitExceeded`.
    pub async fn create_group(&self, of: &Authorized<PrincipalRef>) -> Result<Principal, RegistryError> {
        let row = self.new_principal(of)?;
        self.create_principal(row, Vec::new()).await
    }

    /// A group and its users, in order of name.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn group(
        &self,
        of: &Authorized<PrincipalRef>,
        page: PageRequest,
    ) -> Result<(Principal, Page<Principal>), RegistryError> {
        let arn = of.arn();
        let query = ["iam:GetGroup", &arn];
        let [after] = self.open_iam_marker(&query, &page)?;
        let (limit, wanted) = (page.limit, of.target().clone());
        let (group, rows) = self
            .inner
            .meta
            .read(move |tx| {
                let group = wanted.hold(tx)?;
                let members = groups::members(tx, &group.id, &after, limit + 1)?;
                Ok::<_, RegistryError>((group, members))
            })
            .await?;
        let members = self.cut_iam_page(&query, rows, limit, |row| vec![row.name.clone()])?;
        Ok((Principal::of(group, Vec::new()), members.map(|row| Principal::of(row, Vec::new()))))
    }

    /// Deletes a group that nothing hangs on any more.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict`.
    pub async fn delete_group(&self, of: &Authorized<PrincipalRef>) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            if !groups::members(tx, &row.id, "", 1)?.is_empty() {
                return Err(conflict("must remove users from group first."));
            }
            require_no_policies(tx, &row.id)?;
            Ok(principals::delete(tx, &row.id)?)
        })
        .await
    }

    /// Puts a user into a group; once is enough.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`.
    pub async fn add_user_to_group(
        &self,
        of: &Authorized<PrincipalRef>,
        user: String,
    ) -> Result<(), RegistryError> {
        let (of, now) = (of.target().clone(), self.inner.clock.now());
        self.write_identities(move |tx| {
            let (group, user) = (of.hold(tx)?, find_user(tx, of.account(), &user)?);
            groups::add_member(tx, &group.id, &user.id, now)?;
            match groups::of_user(tx, &user.id)?.len() {
                0..=GROUPS_PER_USER => Ok(()),
                _ => Err(IamError::quota("GroupsPerUser", GROUPS_PER_USER).into()),
            }
        })
        .await
    }

    /// Takes a user out of a group.
    ///
    /// # Errors
    /// `NoSuchEntity`, also when the user is not in the group.
    pub async fn remove_user_from_group(
        &self,
        of: &Authorized<PrincipalRef>,
        user: String,
    ) -> Result<(), RegistryError> {
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let (group, row) = (of.hold(tx)?, find_user(tx, of.account(), &user)?);
            match groups::remove_member(tx, &group.id, &row.id)? {
                true => Ok(()),
                false => Err(IamError::NoSuchEntity(format!(
                    "The user with name {} is not in the group with name {}.",
                    row.name, group.name
                ))
                .into()),
            }
        })
        .await
    }

    /// The groups of a user, in order of name.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn groups_of_user(
        &self,
        of: &Authorized<PrincipalRef>,
        page: PageRequest,
    ) -> Result<Page<Principal>, RegistryError> {
        let wanted = of.target().clone();
        let rows = self
            .inner
            .meta
            .read(move |tx| {
                let user = wanted.hold(tx)?;
                Ok::<_, RegistryError>(groups::of_user(tx, &user.id)?)
            })
            .await?;
        let name = |row: &PrincipalRow| principals::name_key(&row.name);
        let rows = self.iam_page_of(&["iam:ListGroupsForUser", &of.arn()], rows, page, name)?;
        Ok(rows.map(|row| Principal::of(row, Vec::new())))
    }
}

fn find_user(tx: &mut Tx<'_>, account: AccountId, name: &str) -> Result<PrincipalRow, RegistryError> {
    let user = principals::find(tx, account, PrincipalKind::User, name)?;
    user.ok_or_else(|| IamError::no_principal(PrincipalKind::User, name).into())
}
