//! Signed download URLs of `GetDownloadUrlForLayer`: the token names principal, repository, digest and expiry, and is
//! authorized again when it is used.

use serde::{Deserialize, Serialize};
use wharf_store::meta::blobs;
use wharf_types::{Digest, RepositoryRef};

use crate::repositories::stored;
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
}

impl Registry {
    /// A token with which the caller may fetch a layer for an hour (`download_ttl`).
    ///
    /// # Errors
    /// `RepositoryNotFound`; `LayerNotFound`; `LayerInaccessible` when no image names the layer; `Kms`.
    pub async fn layer_download_token(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<String, RegistryError> {
        let repository = self.repository(at).await?;
        self.inner.keys.check_domain(&repository.domain)?;
        let text = digest.to_string();
        let (linked, referenced) = self.inner.meta.read_now(|tx| {
            let linked = blobs::link_exists(tx, repository.id, &text)?;
            Ok::<_, RegistryError>((linked, blobs::is_referenced(tx, repository.id, &text)?))
        })?;
        if !linked {
            return Err(RegistryError::LayerNotFound(repository.name.clone(), *digest));
        }
        if !referenced {
            return Err(RegistryError::LayerInaccessible(*digest));
        }
        let identity = &at.caller().identity;
        let sealed = Sealed {
            access_key: identity.access_key_id.clone(),
            principal: identity.principal_id.clone(),
            account: repository.name.registry.account.to_string(),
            region: repository.name.registry.region.to_string(),
            name: repository.name.name.to_string(),
            digest: text,
            expires_at: self.inner.clock.now().plus(self.inner.options.download_ttl).as_micros(),
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
        let plain = self.inner.sealers.download.open(token).map_err(|_| gone())?;
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| gone())?;
        if sealed.expires_at <= self.inner.clock.now().as_micros() {
            return Err(gone());
        }
        let record = self.authenticate_access_key(&sealed.access_key).await?.ok_or_else(gone)?;
        if !record.active || record.identity.principal_id != sealed.principal {
            return Err(gone());
        }
        let repository = RepositoryRef::private(
            stored("account", &sealed.account)?,
            stored("region", &sealed.region)?,
            stored("repository name", &sealed.name)?,
        );
        Ok((Caller { identity: record.identity.clone() }, repository, stored("digest", &sealed.digest)?))
    }
}
