//! The local key ring: wrapping keys by scope and version, and which KMS keys may be used right now.
//!
//! A data key is wrapped for a key domain: under the registry's key (`AES256`), a KMS key (`KMS`), or, with two data
//! keys, each under one of them (`KMS_DSSE`). Wrapping keys lie in the metadata, wrapped by the root key, and stay in
//! memory once they were needed. What memory says about KMS keys is the truth: changes move it before they are answered,
//! and those on other nodes by an epoch (`freshness.rs`).

mod rotate;
mod sealing;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};

use wharf_iam::token::TokenSealer;
use wharf_store::meta::iam::epochs;
use wharf_store::meta::keys::WRAPPED;
use wharf_store::meta::{Meta, MetaError, keys, kms};
use wharf_store::seal::key_ring::wrapped_version;
use wharf_store::seal::{ContentKeys, DataKey, RootKey, WrappingKey};
use wharf_types::RegistryRef;

pub use self::rotate::RotateReport;
pub(crate) use self::sealing::Sealer;
use self::sealing::UploadKey;
use crate::{Encryption, KeyDomain, RegistryError};

/// What a wrapping key's own wrapping is bound to, besides scope and version.
const MATERIAL: &str = "wrapping-key";

/// All keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeyRing {
    ring: Arc<Ring>,
}

struct Ring {
    root: RootKey,
    encrypt: bool,
    wrapping: RwLock<HashMap<String, Arc<Versions>>>,
    states: RwLock<HashMap<String, KeyState>>,
    /// Held while states change, so that memory follows the order of the commits.
    state_changes: tokio::sync::Mutex<()>,
    rotation: tokio::sync::Mutex<()>,
    sealers: RwLock<HashMap<&'static str, Sealer>>,
    tokens: RwLock<Option<Arc<TokenSealer>>>,
    upload_keys: RwLock<Arc<Vec<UploadKey>>>,
}

/// The versions of one wrapping key, newest first; never empty.
struct Versions(Vec<Arc<WrappingKey>>);

impl Versions {
    fn newest(&self) -> Result<&WrappingKey, RegistryError> {
        self.0.first().map(Arc::as_ref).ok_or_else(|| internal("a wrapping key has no version"))
    }

    fn find(&self, version: u32) -> Option<&Arc<WrappingKey>> {
        self.0.iter().find(|key| key.version() == version)
    }
}

/// Whether a KMS key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Enabled,
    Disabled,
    PendingDeletion,
}

impl KeyState {
    /// KMS's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, RegistryError> {
        [Self::Enabled, Self::Disabled, Self::PendingDeletion]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| internal(format!("a KMS key is in the unknown state {text:?}")))
    }
}

/// Fresh keys for new content, with their wrapping to be stored beside it.
pub(crate) struct NewContentKeys {
    /// `None`: stored plain.
    pub(crate) keys: Option<ContentKeys>,
    /// `None`: stored plain.
    pub(crate) wrapped: Option<Vec<u8>>,
}

/// What to do about a wrapping key that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Refuse,
}

impl KeyRing {
    /// Opens the ring. `encrypt`: whether content of `AES256` repositories is sealed; that of the others always is.
    ///
    /// # Errors
    /// When the metadata cannot be read, or the root key is not the one it was made with.
    pub(crate) async fn open(meta: &Meta, root: RootKey, encrypt: bool) -> Result<Self, RegistryError> {
        let (probe, rows) = meta.read(|tx| Ok::<_, MetaError>((keys::any(tx)?, kms::states(tx)?))).await?;
        let mut states = HashMap::new();
        for row in &rows {
            states.insert(key_arn(&row.registry, &row.id), KeyState::parse(&row.state)?);
        }
        let ring = Ring {
            root,
            encrypt,
            wrapping: RwLock::default(),
            states: RwLock::new(states),
            state_changes: tokio::sync::Mutex::default(),
            rotation: tokio::sync::Mutex::default(),
            sealers: RwLock::default(),
            tokens: RwLock::default(),
            upload_keys: RwLock::default(),
        };
        let keys = Self { ring: Arc::new(ring) };
        if let Some(row) = probe {
            keys.unwrap_material(&row.scope, row.version, &row.material)?;
        }
        // Side by side: a first start makes these keys, and waits for one sync.
        tokio::try_join!(keys.refresh_tokens(meta), keys.refresh_upload_keys(meta))?;
        Ok(keys)
    }

    /// The key that wraps secrets which lie in the metadata.
    pub(crate) fn root(&self) -> &RootKey {
        &self.ring.root
    }

    /// Fresh data keys for a new object or manifest of `domain`.
    ///
    /// # Errors
    /// [`RegistryError::Kms`] when the domain's key may not be used.
    pub(crate) async fn content_keys(
        &self,
        meta: &Meta,
        domain: &KeyDomain,
    ) -> Result<NewContentKeys, RegistryError> {
        self.check_domain(domain)?;
        if domain.encryption == Encryption::Aes256 && !self.ring.encrypt {
            return Ok(NewContentKeys { keys: None, wrapped: None });
        }
        let aad = bound_to(domain);
        let mut data_keys = Vec::with_capacity(2);
        let mut wrapped = Vec::with_capacity(2 * WRAPPED);
        for (scope, missing) in scopes(domain)? {
            let versions = self.wrapping(meta, &scope, missing).await?;
            let (key, wrapping) = versions.newest()?.generate_data_key(&aad).map_err(internal)?;
            data_keys.push(key);
            wrapped.extend_from_slice(&wrapping);
        }
        Ok(NewContentKeys { keys: Some(assemble(&data_keys)?), wrapped: Some(wrapped) })
    }

    /// The data keys of stored content; `None` when it is stored plain.
    ///
    /// # Errors
    /// [`RegistryError::Kms`] when the domain's key is disabled, about to be deleted, or gone.
    pub(crate) async fn open_content_keys(
        &self,
        meta: &Meta,
        domain: &KeyDomain,
        wrapped: Option<&[u8]>,
    ) -> Result<Option<ContentKeys>, RegistryError> {
        self.check_domain(domain)?;
        let Some(wrapped) = wrapped else {
            return match domain.encryption {
                Encryption::Aes256 => Ok(None),
                _ => Err(internal("content of a KMS repository has no wrapped keys")),
            };
        };
        assemble(&self.unwrap(meta, domain, wrapped).await?).map(Some)
    }

    /// Whether the domain's key may be used right now: one look-up, for every hit of a cache.
    ///
    /// # Errors
    /// [`RegistryError::Kms`] if not.
    pub(crate) fn check_domain(&self, domain: &KeyDomain) -> Result<(), RegistryError> {
        domain.encryption.kms_key().map_or(Ok(()), |arn| self.check_key(arn))
    }

    /// Whether the KMS key with this ARN may be used right now.
    pub(crate) fn check_key(&self, arn: &str) -> Result<(), RegistryError> {
        let state = self.ring.states.read().unwrap_or_else(PoisonError::into_inner).get(arn).copied();
        let (code, message) = match state {
            Some(KeyState::Enabled) => return Ok(()),
            Some(KeyState::Disabled) => ("DisabledException", format!("{arn} is disabled.")),
            Some(KeyState::PendingDeletion) => {
                ("KMSInvalidStateException", format!("{arn} is pending deletion."))
            }
            None => ("NotFoundException", format!("Key '{arn}' does not exist")),
        };
        Err(RegistryError::Kms { code, message })
    }

    /// Whether memory has heard of the domain's key, in whatever state.
    pub(crate) fn knows(&self, domain: &KeyDomain) -> bool {
        let states = self.ring.states.read().unwrap_or_else(PoisonError::into_inner);
        domain.encryption.kms_key().is_none_or(|arn| states.contains_key(arn))
    }

    /// Reads the states of keys again, after a change on another node.
    ///
    /// # Errors
    /// When the metadata fails; then memory stays as it is.
    pub(crate) async fn follow_states(&self, meta: &Meta) -> Result<(), RegistryError> {
        let _states = self.lock_states().await;
        let rows = meta.read(kms::states).await?;
        let mut states = HashMap::with_capacity(rows.len());
        for row in &rows {
            states.insert(key_arn(&row.registry, &row.id), KeyState::parse(&row.state)?);
        }
        let before = {
            let mut known = self.ring.states.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, states.clone())
        };
        for gone in before.keys().filter(|arn| !states.contains_key(*arn)) {
            self.forget(&scope_of_arn(gone)?);
        }
        Ok(())
    }

    /// Keeps others from changing states until the guard goes.
    pub(crate) async fn lock_states(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.ring.state_changes.lock().await
    }

    /// Follows a committed change of a key's state; `None` when the key is gone.
    pub(crate) fn set_state(&self, arn: &str, state: Option<KeyState>) {
        let mut states = self.ring.states.write().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => drop(states.insert(arn.to_owned(), state)),
            None => drop(states.remove(arn)),
        }
    }

    /// Forgets the key's versions in memory.
    pub(crate) fn forget(&self, scope: &str) {
        self.ring.wrapping.write().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }

    /// A new wrapping key, wrapped by the root key, for `wharf_store::meta::keys::insert`.
    pub(crate) fn new_material(&self, scope: &str, version: u32) -> Result<Vec<u8>, RegistryError> {
        let key = DataKey::generate().map_err(internal)?;
        self.ring.root.wrap(MATERIAL, &material_context(scope, version), key.bytes()).map_err(internal)
    }

    fn unwrap_material(&self, scope: &str, version: u32, material: &[u8]) -> Result<DataKey, RegistryError> {
        let opened = self.ring.root.unwrap(MATERIAL, &material_context(scope, version), material);
        opened.and_then(|bytes| DataKey::from_bytes(&bytes)).map_err(|error| {
            internal(format!(
                "the root key does not open {scope} version {version} ({error}): \
                 use the root key that this deployment was made with"
            ))
        })
    }

    /// The data keys in `wrapped`, in the order of [`scopes`].
    async fn unwrap(
        &self,
        meta: &Meta,
        domain: &KeyDomain,
        wrapped: &[u8],
    ) -> Result<Vec<DataKey>, RegistryError> {
        let aad = bound_to(domain);
        let scopes = scopes(domain)?;
        if wrapped.len() != scopes.len() * WRAPPED {
            return Err(internal(format!(
                "wrapped keys of {} bytes in key domain {}",
                wrapped.len(),
                domain.id
            )));
        }
        let mut opened = Vec::with_capacity(2);
        for ((scope, _), wrapped) in scopes.iter().zip(wrapped.chunks(WRAPPED)) {
            let version = wrapped_version(wrapped).map_err(internal)?;
            let key = self.version(meta, scope, version).await?;
            opened.push(key.unwrap(wrapped, &aad).map_err(|error| internal(format!("{scope}: {error}")))?);
        }
        Ok(opened)
    }

    async fn version(
        &self,
        meta: &Meta,
        scope: &str,
        version: u32,
    ) -> Result<Arc<WrappingKey>, RegistryError> {
        let known = self.wrapping(meta, scope, Missing::Refuse).await?;
        if let Some(key) = known.find(version) {
            return Ok(Arc::clone(key));
        }
        let read = self.load(meta, scope, Missing::Refuse).await?;
        let found = read.find(version).map(Arc::clone);
        found.ok_or_else(|| internal(format!("version {version} of {scope} is gone")))
    }

    async fn wrapping(
        &self,
        meta: &Meta,
        scope: &str,
        missing: Missing,
    ) -> Result<Arc<Versions>, RegistryError> {
        let known = self.ring.wrapping.read().unwrap_or_else(PoisonError::into_inner).get(scope).cloned();
        match known {
            Some(versions) => Ok(versions),
            None => self.load(meta, scope, missing).await,
        }
    }

    /// Reads a wrapping key's versions into memory.
    async fn load(&self, meta: &Meta, scope: &str, missing: Missing) -> Result<Arc<Versions>, RegistryError> {
        let secrets = self.secrets(meta, scope, missing).await?;
        let versions = secrets.iter().map(|(version, key)| Arc::new(WrappingKey::new(scope, *version, key)));
        let versions = Arc::new(Versions(versions.collect()));
        let mut known = self.ring.wrapping.write().unwrap_or_else(PoisonError::into_inner);
        let newest = |versions: &Versions| versions.0.first().map_or(0, |key| key.version());
        // Two may load at once; the one that read before a rotation must not undo what the other saw after it.
        match known.get(scope) {
            Some(other) if newest(other) > newest(&versions) => Ok(Arc::clone(other)),
            _ => {
                known.insert(scope.to_owned(), Arc::clone(&versions));
                Ok(versions)
            }
        }
    }

    /// A key's versions, newest first.
    async fn secrets(
        &self,
        meta: &Meta,
        scope: &str,
        missing: Missing,
    ) -> Result<Vec<(u32, DataKey)>, RegistryError> {
        let wanted = scope.to_owned();
        let mut rows = meta.read(move |tx| keys::versions(tx, &wanted)).await?;
        if rows.is_empty() {
            if missing == Missing::Refuse {
                return Err(internal(format!("the key {scope} is gone")));
            }
            let (wanted, material) = (scope.to_owned(), self.new_material(scope, 1)?);
            rows = meta
                .write(move |tx| {
                    // Held, so that of two nodes that want the same new key one makes it.
                    epochs::hold(tx, epochs::KEY_RING)?;
                    if keys::versions(tx, &wanted)?.is_empty() {
                        keys::insert(tx, &wanted, 1, &material)?;
                    }
                    keys::versions(tx, &wanted)
                })
                .await?;
        }
        let open = |row: &keys::WrappingKeyRow| {
            Ok((row.version, self.unwrap_material(&row.scope, row.version, &row.material)?))
        };
        rows.iter().rev().map(open).collect()
    }
}

/// The ARN of a KMS key.
pub(crate) fn key_arn(registry: &RegistryRef, id: &str) -> String {
    format!("arn:aws:kms:{}:{}:key/{id}", registry.region, registry.account)
}

/// Where a KMS key's versions are kept.
pub(crate) fn kms_scope(registry: &RegistryRef, id: &str) -> String {
    format!("kms/{}/{}/{id}", registry.account, registry.region)
}

fn scope_of_arn(arn: &str) -> Result<String, RegistryError> {
    let mut parts = arn.splitn(6, ':').skip(3);
    let id =
        match (parts.next(), parts.next(), parts.next().and_then(|resource| resource.strip_prefix("key/"))) {
            (Some(region), Some(account), Some(id)) => format!("kms/{account}/{region}/{id}"),
            _ => return Err(internal(format!("a key domain names the key {arn:?}"))),
        };
    Ok(id)
}

/// The keys that wrap the data keys of a domain, the one for the inner layer first.
fn scopes(domain: &KeyDomain) -> Result<Vec<(String, Missing)>, RegistryError> {
    let own = || {
        let RegistryRef { account, region } = &domain.registry;
        (format!("registry/{account}/{region}"), Missing::Create)
    };
    Ok(match &domain.encryption {
        Encryption::Aes256 => vec![own()],
        Encryption::Kms(arn) => vec![(scope_of_arn(arn)?, Missing::Refuse)],
        Encryption::KmsDsse(arn) => vec![own(), (scope_of_arn(arn)?, Missing::Refuse)],
    })
}

/// What a wrapped data key is bound to: the domain, not one repository, so that a mount is only a link.
fn bound_to(domain: &KeyDomain) -> Vec<u8> {
    let (RegistryRef { account, region }, encryption) = (&domain.registry, &domain.encryption);
    format!("{account}/{region}/{}/{}", encryption.type_name(), encryption.kms_key().unwrap_or(""))
        .into_bytes()
}

fn assemble(keys: &[DataKey]) -> Result<ContentKeys, RegistryError> {
    match keys {
        [key] => Ok(ContentKeys::single(key)),
        [inner, outer] => Ok(ContentKeys::double(inner, outer)),
        _ => Err(internal("content has one key or two")),
    }
}

fn material_context(scope: &str, version: u32) -> Vec<u8> {
    format!("{scope}#{version}").into_bytes()
}

fn internal(error: impl Display) -> RegistryError {
    RegistryError::Internal(error.to_string())
}

#[cfg(test)]
mod tests;
