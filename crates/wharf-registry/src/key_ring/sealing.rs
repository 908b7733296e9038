//! Sealers: for text that leaves the server and comes back, and for the state of unfinished uploads. Each purpose has
//! keys of its own; the newest seals, all open.

use std::sync::{Arc, PoisonError, RwLock};

use wharf_iam::token::{self, OpenError, Purpose, SealError, SealingKey, TokenSealer};
use wharf_store::meta::Meta;
use wharf_store::seal::RootKey;
use zeroize::Zeroizing;

use super::{KeyRing, Missing, internal};
use crate::RegistryError;

pub(super) const TOKENS: &str = "seal/registry-token";
pub(super) const UPLOAD_STATES: &str = "seal/upload-state";
const UPLOAD_STATE: &str = "upload-state";

/// Seals text for one purpose; follows rotations.
#[derive(Clone)]
pub(crate) struct Sealer {
    current: Arc<RwLock<Arc<token::Sealer>>>,
}

impl Sealer {
    /// Seals bytes into base64url without padding.
    ///
    /// # Errors
    /// [`SealError::Crypto`] only.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        self.current().seal(plain)
    }

    /// Opens sealed text.
    ///
    /// # Errors
    /// Text that was not sealed here for this purpose, or with a key that has gone.
    pub(crate) fn open(&self, text: &str) -> Result<Vec<u8>, OpenError> {
        self.current().open(text)
    }

    fn current(&self) -> Arc<token::Sealer> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KeyRing {
    /// The sealer of `page-token`, `download-url` or `session-credentials`. Its key is made when it is first asked for.
    pub(crate) async fn sealer(&self, meta: &Meta, purpose: &'static str) -> Result<Sealer, RegistryError> {
        let known = self.ring.sealers.read().unwrap_or_else(PoisonError::into_inner).get(purpose).cloned();
        if let Some(sealer) = known {
            return Ok(sealer);
        }
        let current = Arc::new(RwLock::new(Arc::new(self.text_sealer(meta, purpose).await?)));
        let mut sealers = self.ring.sealers.write().unwrap_or_else(PoisonError::into_inner);
        Ok(sealers.entry(purpose).or_insert(Sealer { current }).clone())
    }

    /// Issues and opens registry passwords.
    pub(crate) fn tokens(&self) -> Result<Arc<TokenSealer>, RegistryError> {
        let tokens = self.ring.tokens.read().unwrap_or_else(PoisonError::into_inner).clone();
        tokens.ok_or_else(|| internal("there is no key for registry tokens"))
    }

    /// Seals what must survive of an unfinished upload: bytes that are in no object yet, and the state of its hash.
    pub(crate) fn seal_state(&self, upload: &str, plain: &[u8]) -> Result<Vec<u8>, RegistryError> {
        let keys = Arc::clone(&self.ring.upload_states.read().unwrap_or_else(PoisonError::into_inner));
        let (version, key) = keys.first().ok_or_else(|| internal("there is no key for upload states"))?;
        let sealed = key.wrap(UPLOAD_STATE, upload.as_bytes(), plain).map_err(internal)?;
        Ok([&version.to_be_bytes()[..], &sealed].concat())
    }

    /// Opens what [`seal_state`](Self::seal_state) sealed for the same upload.
    pub(crate) fn open_state(
        &self,
        upload: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RegistryError> {
        let keys = Arc::clone(&self.ring.upload_states.read().unwrap_or_else(PoisonError::into_inner));
        let (version, sealed) =
            sealed.split_first_chunk().ok_or_else(|| internal("an upload's state is cut"))?;
        let version = u32::from_be_bytes(*version);
        let (_, key) = keys
            .iter()
            .find(|(known, _)| *known == version)
            .ok_or_else(|| internal(format!("version {version} of the key of upload states is gone")))?;
        key.unwrap(UPLOAD_STATE, upload.as_bytes(), sealed)
            .map_err(|error| internal(format!("the state of upload {upload}: {error}")))
    }

    /// Reads the sealing keys again, after a rotation.
    pub(super) async fn refresh_sealers(&self, meta: &Meta) -> Result<(), RegistryError> {
        self.refresh_tokens(meta).await?;
        self.refresh_upload_states(meta).await?;
        let sealers: Vec<_> = {
            let sealers = self.ring.sealers.read().unwrap_or_else(PoisonError::into_inner);
            sealers.iter().map(|(purpose, sealer)| (*purpose, sealer.clone())).collect()
        };
        for (purpose, sealer) in sealers {
            let fresh = Arc::new(self.text_sealer(meta, purpose).await?);
            *sealer.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    pub(super) async fn refresh_tokens(&self, meta: &Meta) -> Result<(), RegistryError> {
        let tokens = TokenSealer::new(&self.sealing_keys(meta, TOKENS).await?).map_err(internal)?;
        *self.ring.tokens.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(tokens));
        Ok(())
    }

    pub(super) async fn refresh_upload_states(&self, meta: &Meta) -> Result<(), RegistryError> {
        let secrets = self.secrets(meta, UPLOAD_STATES, Missing::Create).await?;
        let keys = secrets.iter().map(|(version, key)| (*version, RootKey::from_key(key))).collect();
        *self.ring.upload_states.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    async fn text_sealer(&self, meta: &Meta, purpose: &'static str) -> Result<token::Sealer, RegistryError> {
        let kind = match purpose {
            "page-token" => Purpose::PageToken,
            "download-url" => Purpose::DownloadUrl,
            "session-credentials" => Purpose::SessionCredentials,
            other => return Err(internal(format!("there is no sealer for {other:?}"))),
        };
        let keys = self.sealing_keys(meta, &format!("seal/{purpose}")).await?;
        token::Sealer::new(kind, &keys).map_err(internal)
    }

    async fn sealing_keys(&self, meta: &Meta, scope: &str) -> Result<Vec<SealingKey>, RegistryError> {
        let secrets = self.secrets(meta, scope, Missing::Create).await?;
        Ok(secrets.iter().map(|(version, key)| SealingKey::new(*version, *key.bytes())).collect())
    }
}
