//! Users, groups and roles as requests name them, and as they are answered.

pub use wharf_store::meta::iam::principals::PrincipalKind;
use wharf_store::meta::iam::principals::{self, PrincipalRow};
use wharf_store::meta::iam::tags;
use wharf_store::meta::{MetaError, Tx};
use wharf_types::{AccountId, Timestamp};

use super::IamError;
use crate::access::entity_named;
use crate::accounts::{KEY_ID_ALPHABET, random_text};
use crate::{Registry, RegistryError};

/// A user, group or role as a request names it, with what was known of it then. What is authorized is its ARN, which
/// has its stored path; who acts on it makes sure that it is still the same.
#[derive(Clone, Debug)]
pub struct PrincipalRef {
    account: AccountId,
    kind: PrincipalKind,
    name: String,
    path: String,
    sought: Sought,
    found: Option<PrincipalRow>,
    tags: Vec<(String, String)>,
}

/// How a user, group or role is to be looked up.
#[derive(Clone, Debug)]
enum Sought {
    /// Not at all: it was, or is to be made.
    No,
    ByName,
    /// As by name; one whose path is another is not meant.
    ByArn,
    ById(String),
}

impl PrincipalRef {
    /// One that is to be made. `path` is from `/` to `/`.
    pub fn to_create(account: AccountId, kind: PrincipalKind, path: &str, name: &str) -> Self {
        let (name, path) = (name.to_owned(), path.to_owned());
        Self { account, kind, name, path, sought: Sought::No, found: None, tags: Vec::new() }
    }

    /// One that a request names, to be [looked up](Registry::look_up_principal).
    pub fn named(account: AccountId, kind: PrincipalKind, name: &str) -> Self {
        Self { sought: Sought::ByName, ..Self::to_create(account, kind, "/", name) }
    }

    /// As [`named`](Self::named), by the ARN of a user, group or role. One whose path is another is not there.
    ///
    /// # Errors
    /// `InvalidInput` for anything but such an ARN.
    pub fn with_arn(arn: &str) -> Result<Self, RegistryError> {
        let (account, kind, name) = entity_named(arn)?;
        let (path, name) = match name.rsplit_once('/') {
            Some((path, name)) => (format!("/{path}/"), name),
            None => ("/".to_owned(), &*name),
        };
        Ok(Self { sought: Sought::ByArn, ..Self::to_create(account, kind, &path, name) })
    }

    /// As [`named`](Self::named), for the user with a unique id.
    pub(super) fn user_with_id(account: AccountId, id: &str, name: &str) -> Self {
        let sought = Sought::ById(id.to_owned());
        Self { sought, ..Self::to_create(account, PrincipalKind::User, "/", name) }
    }

    fn of(row: PrincipalRow, tags: Vec<(String, String)>) -> Self {
        Self {
            account: row.account,
            kind: row.kind,
            name: row.name.clone(),
            path: row.path.clone(),
            sought: Sought::No,
            found: Some(row),
            tags,
        }
    }

    fn is_by_name(&self) -> bool {
        matches!(self.sought, Sought::ByName)
    }

    /// The account it belongs to.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// What it is.
    pub fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// Its name, as it is stored; of one that does not exist, as the request writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path; `/` for one that does not exist.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its ARN. One that does not exist has an ARN too, so that permission is decided before existence is looked at.
    pub fn arn(&self) -> String {
        principal_arn(self.account, self.kind, &self.path, &self.name)
    }

    /// Its tags when it was looked up.
    pub fn tags(&self) -> &[(String, String)] {
        &self.tags
    }

    /// The ARN of its permissions boundary when it was looked up.
    pub fn boundary(&self) -> Option<&str> {
        self.found.as_ref()?.boundary.as_deref()
    }

    /// Its row in this transaction.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ConcurrentModification` when it is no longer what was authorized.
    pub(crate) fn hold(&self, tx: &mut Tx<'_>) -> Result<PrincipalRow, RegistryError> {
        let Some(row) = principals::find(tx, self.account, self.kind, &self.name)? else {
            return Err(IamError::no_principal(self.kind, &self.name).into());
        };
        match &self.found {
            Some(found) if (&found.id, &found.name, &found.path) == (&row.id, &row.name, &row.path) => {
                Ok(row)
            }
            _ => Err(IamError::ConcurrentModification(format!(
                "The {} with name {} was changed by another request. Please try again.",
                self.kind.as_str(),
                self.name
            ))
            .into()),
        }
    }
}

/// `arn:aws:iam::<account>:<kind><path><name>`.
pub(crate) fn principal_arn(account: AccountId, kind: PrincipalKind, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:{}{path}{name}", kind.as_str())
}

/// A user, group or role as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub kind: PrincipalKind,
    /// `AIDA…`, `AGPA…` or `AROA…`.
    pub id: String,
    /// As it was written.
    pub name: String,
    /// From `/` to `/`.
    pub path: String,
    /// `arn:aws:iam::…`.
    pub arn: String,
    /// The ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// In order of key; empty in listings.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Principal {
    pub(crate) fn of(row: PrincipalRow, tags: Vec<(String, String)>) -> Self {
        Self {
            kind: row.kind,
            arn: principal_arn(row.account, row.kind, &row.path, &row.name),
            id: row.id,
            name: row.name,
            path: row.path,
            boundary: row.boundary,
            tags,
            created_at: row.created_at,
        }
    }
}

impl Registry {
    /// Looks up whom a request [names](PrincipalRef::named): one or two reads by index.
    ///
    /// # Errors
    /// `NoSuchEntity` for a caller who has gone; when the metadata fails. That nobody has the name is no error here.
    pub async fn look_up_principal(&self, named: PrincipalRef) -> Result<PrincipalRef, RegistryError> {
        match &named.sought {
            Sought::No => Ok(named),
            Sought::ByName | Sought::ByArn => {
                let wanted = named.clone();
                let found = self.inner.meta.read_quick(move |tx| {
                    let found = principals::find(tx, wanted.account, wanted.kind, &wanted.name)?;
                    found.map(|row| with_tags(tx, row)).transpose()
                });
                let found = found.await.map_err(|error: MetaError| RegistryError::from(error))?;
                let meant = |found: &PrincipalRef| named.is_by_name() || found.path == named.path;
                Ok(found.filter(meant).unwrap_or(PrincipalRef { sought: Sought::No, ..named }))
            }
            Sought::ById(id) => match self.find_principal_by_id(id).await? {
                Some(found) => Ok(found),
                None => Err(IamError::no_principal(named.kind, &named.name).into()),
            },
        }
    }

    /// The principal with a unique id; `None` when nobody has it any more.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn find_principal_by_id(&self, id: &str) -> Result<Option<PrincipalRef>, RegistryError> {
        let id = id.to_owned();
        let found = self.inner.meta.read_quick(move |tx| {
            let found = principals::find_by_id(tx, &id)?;
            found.map(|row| with_tags(tx, row)).transpose()
        });
        found.await.map_err(|error: MetaError| RegistryError::from(error))
    }
}

fn with_tags(tx: &mut Tx<'_>, row: PrincipalRow) -> Result<PrincipalRef, MetaError> {
    let tags = if row.kind == PrincipalKind::Group { Vec::new() } else { tags::list(tx, &row.id)? };
    Ok(PrincipalRef::of(row, tags))
}

/// A new unique id: a prefix and 17 of `[A-Z2-7]`.
pub(crate) fn unique_id(prefix: &str) -> Result<String, RegistryError> {
    Ok(format!("{prefix}{}", &*random_text(17, KEY_ID_ALPHABET)?))
}
