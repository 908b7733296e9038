//! Sealers: for text that leaves the server and comes back, and for the state of unfinished uploads. Each purpose has
//! keys of its own; the newest seals, all open.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};
use wharf_iam::token::{self, OpenError, Purpose, SealError, SealingKey, TokenSealer};
use wharf_store::meta::Meta;
use wharf_store::seal::RootKey;
use wharf_types::UploadId;
use zeroize::Zeroizing;

use super::{KeyRing, Missing, internal};
use crate::RegistryError;

pub(super) const TOKENS: &str = "seal/registry-token";
pub(super) const UPLOAD_STATES: &str = "seal/upload-state";
const UPLOAD_STATE: &str = "upload-state";
const UPLOAD_ID: &[u8] = b"wharf: upload id";

/// One version of the key for what belongs to uploads.
pub(super) struct UploadKey {
    version: u32,
    states: RootKey,
    ids: hmac::Key,
}

impl UploadKey {
    /// The tag of an upload's id. Of its 64 bits an id keeps 62.
    fn tag(&self, repository_id: i64, head: [u8; 8]) -> [u8; 8] {
        let tag = hmac::sign(&self.ids, &[repository_id.to_be_bytes(), head].concat());
        let mut short = [0; 8];
        short.copy_from_slice(&tag.as_ref()[..8]);
        short
    }

    fn has_issued(&self, repository_id: i64, seconds: u32, id: UploadId) -> bool {
        let own = UploadId::issued(seconds, 0, |_| self.tag(repository_id, id.head()));
        constant_time::verify_slices_are_equal(&own.as_bytes()[8..], &id.as_bytes()[8..]).is_ok()
    }
}

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
        let keys = self.upload_keys();
        let key = keys.first().ok_or_else(no_upload_key)?;
        let sealed = key.states.wrap(UPLOAD_STATE, upload.as_bytes(), plain).map_err(internal)?;
        Ok([&key.version.to_be_bytes()[..], &sealed].concat())
    }

    /// Opens what [`seal_state`](Self::seal_state) sealed for the same upload.
    pub(crate) fn open_state(
        &self,
        upload: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RegistryError> {
        let keys = self.upload_keys();
        let (version, sealed) =
            sealed.split_first_chunk().ok_or_else(|| internal("an upload's state is cut"))?;
        let version = u32::from_be_bytes(*version);
        let key = keys
            .iter()
            .find(|key| key.version == version)
            .ok_or_else(|| internal(format!("version {version} of the key of upload states is gone")))?;
        key.states
            .unwrap(UPLOAD_STATE, upload.as_bytes(), sealed)
            .map_err(|error| internal(format!("the state of upload {upload}: {error}")))
    }

    /// An id for a new upload to a repository, which needs no row: [`has_issued`](Self::has_issued) knows it again, in
    /// every process that has these keys. Of `number` the lower 28 bits count; they must differ within one second.
    pub(crate) fn issue_upload_id(
        &self,
        repository_id: i64,
        seconds: u32,
        number: u32,
    ) -> Result<UploadId, RegistryError> {
        let keys = self.upload_keys();
        let key = keys.first().ok_or_else(no_upload_key)?;
        Ok(UploadId::issued(seconds, number, |head| key.tag(repository_id, head)))
    }

    /// Whether an id was issued for an upload to this repository, then. With keys that a rotation has destroyed (12 h
    /// after the next ones were made) it is not known any more.
    pub(crate) fn has_issued(&self, repository_id: i64, seconds: u32, id: UploadId) -> bool {
        self.upload_keys().iter().any(|key| key.has_issued(repository_id, seconds, id))
    }

    fn upload_keys(&self) -> Arc<Vec<UploadKey>> {
        Arc::clone(&self.ring.upload_keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the sealing keys again, after a rotation.
    pub(super) async fn refresh_sealers(&self, meta: &Meta) -> Result<(), RegistryError> {
        self.refresh_tokens(meta).await?;
        self.refresh_upload_keys(meta).await?;
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

    pub(super) async fn refresh_upload_keys(&self, meta: &Meta) -> Result<(), RegistryError> {
        let secrets = self.secrets(meta, UPLOAD_STATES, Missing::Create).await?;
        let keys = secrets.iter().map(|(version, key)| {
            let ids = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), UPLOAD_ID);
            let ids = hmac::Key::new(hmac::HMAC_SHA256, ids.as_ref());
            UploadKey { version: *version, states: RootKey::from_key(key), ids }
        });
        let keys = keys.collect();
        *self.ring.upload_keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
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

fn no_upload_key() -> RegistryError {
    internal("there is no key for uploads")
}
