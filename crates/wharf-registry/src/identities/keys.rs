//! Access keys of users and, where the caller is the root user, of the root user.

use wharf_iam::decision::{Identity, IdentityKind};
use wharf_store::meta::Tx;
use wharf_store::meta::accounts;
use wharf_store::meta::iam::keys::{self, KeyInfoRow};
use wharf_store::meta::iam::tags;
use wharf_types::{AccountId, Timestamp};

use super::{IamError, Principal, PrincipalKind, PrincipalRef};
use crate::{Authorized, NewAccessKey, Page, PageRequest, Registry, RegistryError};

/// Access keys of one user (IAM quota).
const KEYS_PER_USER: usize = 2;
/// What the root user is called where the API wants a user's name.
const ROOT: &str = "root";

/// Whose keys, or whose entry, a request is about.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per request")]
pub enum KeyOwner {
    /// The root user of an account.
    Root(AccountId),
    /// A user.
    User(PrincipalRef),
}

impl KeyOwner {
    /// Whose keys are meant: the named user's, else the caller's own. To be
    /// [looked up](Registry::look_up_key_owner).
    ///
    /// # Errors
    /// `ValidationError` when nobody is named and the caller is no user.
    pub fn of(caller: &Identity, user: Option<&str>) -> Result<Self, RegistryError> {
        if let Some(name) = user {
            return Ok(Self::User(PrincipalRef::named(caller.account, PrincipalKind::User, name)));
        }
        match caller.kind {
            IdentityKind::Root => Ok(Self::Root(caller.account)),
            IdentityKind::User => {
                let name = caller.user_name.as_deref().unwrap_or_default();
                Ok(Self::User(PrincipalRef::user_with_id(caller.account, &caller.principal_id, name)))
            }
            _ => {
                let text = "Must specify userName when calling with non-User credentials";
                Err(IamError::Validation(text.into()).into())
            }
        }
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        match self {
            Self::Root(account) => *account,
            Self::User(user) => user.account(),
        }
    }

    /// The user's ARN.
    pub fn arn(&self) -> String {
        match self {
            Self::Root(account) => format!("arn:aws:iam::{account}:root"),
            Self::User(user) => user.arn(),
        }
    }

    /// The user's name; `root` for the root user.
    pub fn user_name(&self) -> &str {
        match self {
            Self::Root(_) => ROOT,
            Self::User(user) => user.name(),
        }
    }

    /// The user's tags when it was looked up.
    pub fn tags(&self) -> &[(String, String)] {
        match self {
            Self::Root(_) => &[],
            Self::User(user) => user.tags(),
        }
    }

    /// The user's id in this transaction; `None` for the root user.
    fn hold(&self, tx: &mut Tx<'_>) -> Result<Option<String>, RegistryError> {
        match self {
            Self::Root(_) => Ok(None),
            Self::User(user) => Ok(Some(user.hold(tx)?.id)),
        }
    }
}

/// An access key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKey {
    /// The access key id.
    pub id: String,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An access key as a request names it.
#[derive(Clone, Debug)]
pub struct KeyRef {
    account: AccountId,
    id: String,
    owner: Option<KeyOwner>,
}

impl KeyRef {
    /// A key that a caller of `account` names, to be [looked up](Registry::look_up_access_key).
    pub fn named(account: AccountId, id: String) -> Self {
        Self { account, id, owner: None }
    }

    /// The caller's account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Whose it is, if it is a key of the caller's account.
    pub fn owner(&self) -> Option<&KeyOwner> {
        self.owner.as_ref()
    }
}

/// When a key was last used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLastUsed {
    /// Whose it is.
    pub user_name: String,
    /// When, for which service, and in which region; `None` if never.
    pub last: Option<keys::KeyUse>,
}

impl Registry {
    /// Looks up whose keys are meant.
    ///
    /// # Errors
    /// `NoSuchEntity` for a caller who has gone; when the metadata fails.
    pub async fn look_up_key_owner(&self, owner: KeyOwner) -> Result<KeyOwner, RegistryError> {
        match owner {
            KeyOwner::User(user) => Ok(KeyOwner::User(self.look_up_principal(user).await?)),
            root @ KeyOwner::Root(_) => Ok(root),
        }
    }

    /// Looks up a key of the caller's account.
    ///
    /// # Errors
    /// When the metadata fails. That there is none is no error here.
    pub async fn look_up_access_key(&self, key: KeyRef) -> Result<KeyRef, RegistryError> {
        let (account, wanted) = (key.account, key.id.clone());
        let row = self.inner.meta.read_quick(move |tx| keys::find(tx, &wanted)).await;
        let row = row.map_err(RegistryError::from)?;
        let owner = match row.filter(|row| row.account == account) {
            None => None,
            Some(KeyInfoRow { principal_id: None, .. }) => Some(KeyOwner::Root(account)),
            Some(KeyInfoRow { principal_id: Some(user), .. }) => {
                self.find_principal_by_id(&user).await?.map(KeyOwner::User)
            }
        };
        Ok(KeyRef { owner, ..key })
    }

    /// A user, or the root user, which has no row: it is as old as its account.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn user_or_root(&self, of: &Authorized<KeyOwner>) -> Result<Principal, RegistryError> {
        let owner = of.target().clone();
        self.inner
            .meta
            .read(move |tx| match &owner {
                KeyOwner::User(user) => {
                    let row = user.hold(tx)?;
                    let tags = tags::list(tx, &row.id)?;
                    Ok(Principal::of(row, tags))
                }
                KeyOwner::Root(account) => Ok(Principal {
                    kind: PrincipalKind::User,
                    id: account.to_string(),
                    name: ROOT.to_owned(),
                    path: "/".to_owned(),
                    arn: owner.arn(),
                    boundary: None,
                    tags: Vec::new(),
                    created_at: accounts::created_at(tx, *account)?,
                }),
            })
            .await
    }

    /// Makes an access key; its secret is answered this once.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded` when there are two.
    pub async fn create_user_key(
        &self,
        of: &Authorized<KeyOwner>,
    ) -> Result<(NewAccessKey, Timestamp), RegistryError> {
        let (new, row) = self.new_access_key(of.account())?;
        let (owner, created_at) = (of.target().clone(), row.created_at);
        self.write_identities(move |tx| {
            let mut row = row.clone();
            row.principal_id = owner.hold(tx)?;
            accounts::insert_access_key(tx, &row)?;
            match keys::list(tx, row.account, row.principal_id.as_deref())?.len() {
                0..=KEYS_PER_USER => Ok(()),
                _ => Err(IamError::quota("AccessKeysPerUser", KEYS_PER_USER).into()),
            }
        })
        .await?;
        Ok((new, created_at))
    }

    /// The keys of a user, oldest first.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn list_user_keys(
        &self,
        of: &Authorized<KeyOwner>,
        page: PageRequest,
    ) -> Result<Page<UserKey>, RegistryError> {
        let owner = of.target().clone();
        let rows = self
            .inner
            .meta
            .read(move |tx| {
                let user = owner.hold(tx)?;
                Ok::<_, RegistryError>(keys::list(tx, owner.account(), user.as_deref())?)
            })
            .await?;
        let key = |row: &KeyInfoRow| format!("{:020} {}", row.created_at.as_micros(), row.id);
        let rows = self.iam_page_of(&["iam:ListAccessKeys", &of.arn()], rows, page, key)?;
        Ok(rows.map(|row| UserKey { id: row.id, active: row.active, created_at: row.created_at }))
    }

    /// Switches a user's key on or off; passwords issued to it follow at once.
    ///
    /// # Errors
    /// `NoSuchEntity`, also when the key is somebody else's.
    pub async fn update_user_key(
        &self,
        of: &Authorized<KeyOwner>,
        id: String,
        active: bool,
    ) -> Result<(), RegistryError> {
        let owner = of.target().clone();
        self.write_identities(move |tx| {
            require_key(tx, &owner, &id)?;
            accounts::set_access_key_active(tx, &id, active)?;
            Ok(())
        })
        .await
    }

    /// Deletes a user's key; passwords issued to it die with it.
    ///
    /// # Errors
    /// `NoSuchEntity`, also when the key is somebody else's.
    pub async fn delete_user_key(&self, of: &Authorized<KeyOwner>, id: String) -> Result<(), RegistryError> {
        let owner = of.target().clone();
        self.write_identities(move |tx| {
            require_key(tx, &owner, &id)?;
            accounts::delete_access_key(tx, &id)?;
            Ok(())
        })
        .await
    }

    /// When a key of the caller's account was last used.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn key_last_used(&self, of: &Authorized<KeyRef>) -> Result<KeyLastUsed, RegistryError> {
        let key = of.target().clone();
        let (Some(owner), id) = (key.owner, key.id) else { return Err(no_key(&of.id)) };
        if let Some(used) = self.inner.key_uses.pending(&id) {
            return Ok(KeyLastUsed { user_name: owner.user_name().to_owned(), last: Some(used) });
        }
        let wanted = id.clone();
        let row = self.inner.meta.read(move |tx| keys::find(tx, &wanted)).await?;
        let row = row.ok_or_else(|| no_key(&id))?;
        let last = match (row.last_used_at, row.last_used_service, row.last_used_region) {
            (Some(at), Some(service), Some(region)) => Some(keys::KeyUse { at, service, region }),
            _ => None,
        };
        Ok(KeyLastUsed { user_name: owner.user_name().to_owned(), last })
    }
}

fn require_key(tx: &mut Tx<'_>, owner: &KeyOwner, id: &str) -> Result<(), RegistryError> {
    let user = owner.hold(tx)?;
    match keys::find(tx, id)? {
        Some(key) if key.account == owner.account() && key.principal_id == user => Ok(()),
        _ => Err(no_key(id)),
    }
}

fn no_key(id: &str) -> RegistryError {
    IamError::NoSuchEntity(format!("The Access Key with id {id} cannot be found.")).into()
}
