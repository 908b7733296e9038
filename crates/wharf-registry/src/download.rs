//! Signed download URLs of `GetDownloadUrlForLayer`: the token names principal, repository, digest and expiry, and is
//! authorized again when it is used.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use wharf_store::meta::{Tx, archive, blobs};
use wharf_types::{Digest, RepositoryRef};

use crate::accounts::AccessKeyRecord;
use crate::repositories::stored;
use crate::sessions::Session;
use crate::{Authorized, Caller, Registry, RegistryError};

/// What a token seals.
#[derive(Serialize, Deserialize)]
struct Sealed {
    access_key: String,
    principal: String,
    account: String,
    region: String,
    name: String,
    digest: String,
    expires_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

impl Registry {
    /// A token with which the caller may fetch a layer for an hour (`download_ttl`).
    ///
    /// # Errors
    /// `RepositoryNotFound`; `LayerNotFound`; `LayerInaccessible` when no image names the layer; `LayerArchived`
    /// when only archived ones do; `Kms`.
    pub async fn layer_download_token(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<String, RegistryError> {
        let repository = self.repository(at).await?;
        self.inner.keys.check_domain(&repository.domain)?;
        let text = digest.to_string();
        let (id, wanted) = (repository.id, text.clone());
        let read = move |tx: &mut Tx<'_>| {
            let linked = blobs::link_exists(tx, id, &wanted)?;
            let referenced = blobs::is_referenced(tx, id, &wanted)?;
            Ok::<_, RegistryError>((linked, referenced, archive::is_archived_only(tx, id, &wanted)?))
        };
        let (linked, referenced, archived) = self.inner.meta.read_quick(read).await?;
        if !linked {
            return Err(RegistryError::LayerNotFound(repository.name.clone(), *digest));
        }
        if !referenced {
            return Err(RegistryError::LayerInaccessible(*digest));
        }
        if archived {
            return Err(RegistryError::LayerArchived(*digest));
        }
        let identity = &at.caller().identity;
        let expires_at = self.inner.clock.now().plus(self.inner.options.download_ttl);
        let session = at.caller().session();
        let sealed = Sealed {
            access_key: identity.access_key_id.clone(),
            principal: identity.principal_id.clone(),
            account: repository.name.registry.account.to_string(),
            region: repository.name.registry.region.to_string(),
            name: repository.name.name.to_string(),
            digest: text,
            expires_at: session.map_or(expires_at, |session| expires_at.min(session.expires_at)).as_micros(),
            session: session.map(|session| BASE64.encode(session.encode())),
        };
        let plain =
            serde_json::to_vec(&sealed).map_err(|error| RegistryError::Internal(error.to_string()))?;
        self.inner.sealers.download.seal(&plain).map_err(|error| RegistryError::Internal(error.to_string()))
    }

    /// Opens a download token: who may fetch what, if the face authorizes it again. The key it was issued to must
    /// still be active.
    ///
    /// # Errors
    /// `NotFound` for a token that is not ours, has expired, or whose key is gone: the URL leads nowhere.
    pub async fn open_download_token(
        &self,
        token: &str,
    ) -> Result<(Caller, RepositoryRef, Digest), RegistryError> {
        let gone = || RegistryError::NotFound("the download URL is not valid or has expired".into());
        let plain =
            self.open_anywhere(|| self.inner.sealers.download.open(token)).await.map_err(|_| gone())?;
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| gone())?;
        if sealed.expires_at <= self.inner.clock.now().as_micros() {
            return Err(gone());
        }
        let caller = self.holder(&sealed).await?.ok_or_else(gone)?;
        let repository = RepositoryRef::private(
            stored("account", &sealed.account)?,
            stored("region", &sealed.region)?,
            stored("repository name", &sealed.name)?,
        );
        Ok((caller, repository, stored("digest", &sealed.digest)?))
    }

    /// Whoever the token was issued to, as long as their credentials count.
    async fn holder(&self, sealed: &Sealed) -> Result<Option<Caller>, RegistryError> {
        if let Some(session) = &sealed.session {
            let bytes = BASE64.decode(session).ok();
            let Some(bytes) = bytes else { return Ok(None) };
            let Some(session) = Session::decode(&bytes) else { return Ok(None) };
            let mut hash = [0; 32];
            hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
            return self.session_caller(&hash, &sealed.access_key, session).await;
        }
        let record = self.authenticate_access_key(&sealed.access_key).await?;
        let counts = |record: &AccessKeyRecord| {
            record.active && record.caller.identity.principal_id == sealed.principal
        };
        Ok(record.filter(counts).map(|record| record.caller))
    }
}
