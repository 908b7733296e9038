//! Accounts and their root access keys; which deployment this is.

mod password;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use wharf_store::meta::accounts::{self, AccessKeyRow};
use wharf_store::meta::iam::epochs;
use wharf_store::meta::{Tx, archive, settings};
use wharf_types::{AccountId, RegistryRef, Timestamp};
use zeroize::Zeroizing;

use self::password::OpenedTokens;
pub use self::password::PasswordError;
use crate::cache::CoherentCache;
use crate::{Caller, Registry, RegistryError};

/// What a secret access key is sealed for, besides its id.
const ACCESS_KEY: &str = "access-key";
pub(crate) const KEY_ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
pub(crate) const SECRET_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Remembers that an account was given its first key, so that deleting it does not make another appear.
const FIRST_KEY: &str = "wharf:first-access-key";

/// A new access key; the secret is shown this once.
#[derive(Clone)]
pub struct NewAccessKey {
    /// Whose it is.
    pub account_id: AccountId,
    /// `AKIA` and 16 of `[A-Z2-7]`.
    pub access_key_id: String,
    /// 40 characters of base64's alphabet.
    pub secret_access_key: Zeroizing<String>,
}

impl fmt::Debug for NewAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAccessKey")
            .field("account_id", &self.account_id)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// An access key as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyInfo {
    /// The access key id.
    pub id: String,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What the verification of a signature needs to know of a key.
#[derive(Clone)]
pub struct AccessKeyRecord {
    /// The secret access key.
    pub secret: Zeroizing<String>,
    /// Whether it may be used.
    pub active: bool,
    /// Who uses it.
    pub caller: Caller,
}

impl fmt::Debug for AccessKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeyRecord")
            .field("active", &self.active)
            .field("identity", &self.caller.identity)
            .finish_non_exhaustive()
    }
}

/// Access keys that were used lately, and passwords that were opened.
pub(crate) struct KeyCache {
    records: CoherentCache<String, Arc<AccessKeyRecord>>,
    opened: OpenedTokens,
}

impl KeyCache {
    /// Forgets every key; opened passwords stay, as they say nothing about what counts now.
    pub(crate) fn clear(&self) {
        self.records.clear();
    }
}

impl Default for KeyCache {
    fn default() -> Self {
        Self { records: CoherentCache::new(10_000), opened: OpenedTokens::default() }
    }
}

impl Registry {
    /// The key with this id, as it stands now; `None` when there is none.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn authenticate_access_key(
        &self,
        access_key_id: &str,
    ) -> Result<Option<AccessKeyRecord>, RegistryError> {
        Ok(self.access_key(access_key_id).await?.map(|record| AccessKeyRecord::clone(&record)))
    }

    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKeyRecord>>, RegistryError> {
        self.confirm().await?;
        let id = id.to_owned();
        if let Some(record) = self.inner.access_keys.records.get(&id) {
            return Ok(Some(record));
        }
        let ticket = self.inner.access_keys.records.ticket();
        let wanted = id.clone();
        let read = move |tx: &mut Tx<'_>| accounts::find_access_key(tx, &wanted);
        let Some(row) = self.inner.meta.read(read).await? else { return Ok(None) };
        let caller = match &row.principal_id {
            None => Some(Caller::root(row.account, &row.id)),
            Some(user) => self.user_caller(user, &row.id).await?,
        };
        // A user goes with its keys: one that is being deleted has none that count.
        let Some(caller) = caller else { return Ok(None) };
        let secret = self.inner.keys.root().unwrap(ACCESS_KEY, row.id.as_bytes(), &row.secret);
        let text =
            secret.ok().and_then(|bytes| Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned())));
        let secret = text
            .ok_or_else(|| RegistryError::Internal(format!("the secret of access key {id} does not open")))?;
        let record = Arc::new(AccessKeyRecord { secret, active: row.active, caller });
        self.inner.access_keys.records.fill(ticket, &id, Arc::clone(&record));
        Ok(Some(record))
    }

    /// Makes an account with a root access key; a random id unless one is given.
    ///
    /// # Errors
    /// [`RegistryError::AlreadyExists`].
    pub async fn create_account(&self, id: Option<AccountId>) -> Result<NewAccessKey, RegistryError> {
        for _ in 0..8 {
            let account = id.map_or_else(random_account, Ok)?;
            let (new, row) = self.new_access_key(account)?;
            let now = self.inner.clock.now();
            let inserted = self
                .inner
                .meta
                .write(move |tx| {
                    if accounts::account_exists(tx, account)? {
                        return Ok(false);
                    }
                    accounts::insert_account(tx, account, now)?;
                    accounts::insert_access_key(tx, &row)?;
                    Ok::<_, RegistryError>(true)
                })
                .await?;
            if inserted {
                return Ok(new);
            }
            if id.is_some() {
                return Err(RegistryError::AlreadyExists(format!("account {account} exists already")));
            }
        }
        Err(RegistryError::Internal("no free account id was found".to_owned()))
    }

    /// Every account with its time of creation, in the order of their ids.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn list_accounts(&self) -> Result<Vec<(AccountId, Timestamp)>, RegistryError> {
        Ok(self.inner.meta.read(accounts::list_accounts).await?)
    }

    /// Makes another root access key of an account.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] without the account.
    pub async fn create_access_key(&self, account: AccountId) -> Result<NewAccessKey, RegistryError> {
        let (new, row) = self.new_access_key(account)?;
        self.inner
            .meta
            .write(move |tx| {
                require_account(tx, account)?;
                accounts::insert_access_key(tx, &row).map_err(RegistryError::from)
            })
            .await?;
        Ok(new)
    }

    /// Switches a key on or off; passwords issued to it follow at once.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`].
    pub async fn set_access_key_active(&self, id: &str, active: bool) -> Result<(), RegistryError> {
        self.change_access_key(id, move |tx, id| {
            accounts::set_access_key_active(tx, id, active).map_err(RegistryError::from)
        })
        .await
    }

    /// Deletes a key; passwords issued to it die with it.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`].
    pub async fn delete_access_key(&self, id: &str) -> Result<(), RegistryError> {
        self.change_access_key(id, |tx, id| accounts::delete_access_key(tx, id).map_err(RegistryError::from))
            .await
    }

    async fn change_access_key(
        &self,
        id: &str,
        change: impl Fn(&mut Tx<'_>, &str) -> Result<bool, RegistryError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let id = id.to_owned();
        self.write_identities(move |tx| match change(tx, &id)? {
            true => Ok(()),
            false => Err(RegistryError::NotFound(format!("there is no access key {id}"))),
        })
        .await
    }

    /// The keys of an account, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] without the account.
    pub async fn list_access_keys(&self, account: AccountId) -> Result<Vec<AccessKeyInfo>, RegistryError> {
        let rows = self
            .inner
            .meta
            .read(move |tx| {
                require_account(tx, account)?;
                accounts::list_access_keys(tx, account).map_err(RegistryError::from)
            })
            .await?;
        let info =
            |row: AccessKeyRow| AccessKeyInfo { id: row.id, active: row.active, created_at: row.created_at };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Gives the default account its first access key, once; `None` ever after, even when it was deleted.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn ensure_default_account(&self) -> Result<Option<NewAccessKey>, RegistryError> {
        let account = self.inner.options.default_account;
        let place = RegistryRef::new(account, self.inner.options.default_region.clone());
        let (new, row) = self.new_access_key(account)?;
        let first = self
            .inner
            .meta
            .write(move |tx| {
                // Held, so that of nodes that start at once one makes the key.
                epochs::hold(tx, epochs::IDENTITIES)?;
                let known = settings::find(tx, &place, FIRST_KEY)?.is_some();
                if known || !accounts::list_access_keys(tx, account)?.is_empty() {
                    return Ok(false);
                }
                accounts::insert_access_key(tx, &row)?;
                settings::put(tx, &place, FIRST_KEY, &row.id)?;
                Ok::<_, RegistryError>(true)
            })
            .await?;
        Ok(first.then_some(new))
    }

    /// The root of an account, for the operator's commands: by its oldest active key.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] without the account or such a key.
    pub async fn root_caller(&self, account: AccountId) -> Result<Caller, RegistryError> {
        let keys = self.list_access_keys(account).await?;
        let key = keys.into_iter().find(|key| key.active).ok_or_else(|| {
            RegistryError::NotFound(format!("account {account} has no active access key: make one first"))
        })?;
        Ok(Caller::root(account, key.id))
    }

    /// Makes sure that both stores belong together and that the default account exists.
    ///
    /// # Errors
    /// [`RegistryError::Internal`] when one store was replaced or restored without the other.
    pub(crate) async fn prepare_deployment(&self) -> Result<(), RegistryError> {
        let (account, now) = (self.inner.options.default_account, self.inner.clock.now());
        let fresh = uuid::Uuid::new_v4().to_string();
        let (mut marker, mut known) = self.deployments().await?;
        if marker.is_none() || known.is_none() {
            // One of them is new. That is fine for an empty object store and a disaster to hide for any other.
            if !self.inner.objects.list(None, 1).await?.is_empty() {
                // Unless another node has begun meanwhile, and filled both.
                (marker, known) = self.deployments().await?;
                if marker.is_none() || marker != known {
                    return Err(strangers(marker.as_deref(), known.as_deref()));
                }
            }
        } else if marker != known {
            return Err(strangers(marker.as_deref(), known.as_deref()));
        }
        let deployment = self
            .inner
            .meta
            .write(move |tx| {
                // Held, so that nodes that start at once agree.
                epochs::hold(tx, epochs::IDENTITIES)?;
                let id = match accounts::deployment(tx)? {
                    Some(id) => id,
                    None => {
                        accounts::insert_deployment(tx, &fresh, now)?;
                        fresh.clone()
                    }
                };
                if !accounts::account_exists(tx, account)? {
                    accounts::insert_account(tx, account, now)?;
                }
                Ok::<_, RegistryError>(id)
            })
            .await?;
        if marker.as_deref() != Some(&deployment) {
            self.inner.objects.write_deployment_marker(&deployment).await?;
        }
        self.prepare_archive(&deployment).await
    }

    /// The deployments that the object store and the metadata say they belong to.
    async fn deployments(&self) -> Result<(Option<String>, Option<String>), RegistryError> {
        let marker = self.inner.objects.deployment_marker().await?;
        Ok((marker, self.inner.meta.read(accounts::deployment).await?))
    }

    /// Makes sure that the archive is there where it is needed, and is this deployment's.
    async fn prepare_archive(&self, deployment: &str) -> Result<(), RegistryError> {
        let used = self.inner.meta.read(archive::is_used).await.map_err(RegistryError::from)?;
        let Some(archive) = &self.inner.archive else {
            return match used {
                false => Ok(()),
                true => Err(RegistryError::Internal(
                    "content of archived images is in an archive: say where, with the setting `archive`"
                        .to_owned(),
                )),
            };
        };
        match archive.deployment_marker().await? {
            Some(marker) if marker == deployment => Ok(()),
            None if !used && archive.list(None, 1).await?.is_empty() => {
                Ok(archive.write_deployment_marker(deployment).await?)
            }
            marker => Err(RegistryError::Internal(format!(
                "the archive belongs to deployment {marker:?}, the metadata to {deployment:?}"
            ))),
        }
    }

    pub(crate) fn new_access_key(
        &self,
        account: AccountId,
    ) -> Result<(NewAccessKey, AccessKeyRow), RegistryError> {
        let id = format!("AKIA{}", &*random_text(16, KEY_ID_ALPHABET)?);
        let secret = random_text(40, SECRET_ALPHABET)?;
        let sealed = self
            .inner
            .keys
            .root()
            .wrap(ACCESS_KEY, id.as_bytes(), secret.as_bytes())
            .map_err(|error| RegistryError::Internal(error.to_string()))?;
        let created_at = self.inner.clock.now();
        let row = AccessKeyRow {
            id: id.clone(),
            account,
            principal_id: None,
            secret: sealed,
            active: true,
            created_at,
        };
        Ok((NewAccessKey { account_id: account, access_key_id: id, secret_access_key: secret }, row))
    }
}

fn strangers(marker: Option<&str>, known: Option<&str>) -> RegistryError {
    let id = |id: Option<&str>| id.map_or("no deployment".to_owned(), |id| format!("deployment {id}"));
    RegistryError::Internal(format!(
        "the object store belongs to {}, the metadata to {}: use the two stores that belong together",
        id(marker),
        id(known)
    ))
}

fn require_account(tx: &mut Tx<'_>, account: AccountId) -> Result<(), RegistryError> {
    match accounts::account_exists(tx, account)? {
        true => Ok(()),
        false => Err(RegistryError::NotFound(format!("there is no account {account}"))),
    }
}

/// Uniform: the alphabets' lengths divide 256.
pub(crate) fn random_text(length: usize, alphabet: &[u8]) -> Result<Zeroizing<String>, RegistryError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    fill(&mut bytes)?;
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.extend(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])));
    Ok(text)
}

fn random_account() -> Result<AccountId, RegistryError> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    let digits = 100_000_000_000 + u64::from_be_bytes(bytes) % 900_000_000_000;
    digits.to_string().parse().map_err(|error| RegistryError::Internal(format!("{error}")))
}

fn fill(bytes: &mut [u8]) -> Result<(), RegistryError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| RegistryError::Internal("the operating system gives no randomness".to_owned()))
}

#[cfg(test)]
pub(crate) mod tests;
