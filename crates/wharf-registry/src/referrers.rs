//! Referrers: signatures, SBOMs and other manifests that name another as their subject.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use wharf_store::meta::manifests::{self, ManifestRow, ReferrerRow};
use wharf_store::seal::segment::open_annotations;
use wharf_types::{Digest, MediaType, RepositoryRef};

use crate::repositories::stored;
use crate::{Authorized, ImageStatus, Page, PageRequest, Referrer, Registry, RegistryError, Repository};

impl Registry {
    /// The referrers of `subject` in order of digest; none where the subject is unknown. `artifact_types` narrows
    /// them (any of), empty = all.
    ///
    /// # Errors
    /// `RepositoryNotFound`; `Kms` when one has annotations and the key may not be used; `Damaged`.
    pub async fn list_referrers(
        &self,
        at: &Authorized<RepositoryRef>,
        subject: &Digest,
        artifact_types: &[String],
        status: Option<ImageStatus>,
        page: PageRequest,
    ) -> Result<Page<Referrer>, RegistryError> {
        let repository = self.repository(at).await?;
        let (id, text) = (repository.id.to_string(), subject.to_string());
        let narrowed = format!("{artifact_types:?}/{status:?}");
        let query = ["ListImageReferrers", id.as_str(), text.as_str(), narrowed.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let (repository_id, limit, types) = (repository.id, page.limit, artifact_types.to_vec());
        let (subject, status) = (text.clone(), status.map(ImageStatus::as_str));
        let mut rows = self
            .inner
            .meta
            .read(move |tx| {
                manifests::page_referrers(tx, repository_id, &subject, &types, status, &after, limit + 1)
            })
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| more) {
            Some(last) => Some(self.seal_page(&query, vec![last.row.digest.clone()])?),
            None => None,
        };
        let mut items = Vec::with_capacity(rows.len());
        for referrer in rows {
            let annotations = self.open_annotations(&repository, &referrer).await?;
            items.push(described(referrer.row, annotations)?);
        }
        Ok(Page { items, next })
    }

    /// The annotations of a referrer: content of the image, so its key must be usable.
    async fn open_annotations(
        &self,
        repository: &Repository,
        referrer: &ReferrerRow,
    ) -> Result<BTreeMap<String, String>, RegistryError> {
        let Some(kept) = referrer.row.annotations.as_deref() else { return Ok(BTreeMap::new()) };
        let inner = &self.inner;
        let keys =
            inner.keys.open_content_keys(&inner.meta, &repository.domain, referrer.keys.as_deref()).await?;
        let text = match keys {
            None => kept.as_bytes().to_vec(),
            Some(keys) => {
                let digest = stored("digest", &referrer.row.digest)?;
                let sealed = STANDARD_NO_PAD.decode(kept).map_err(|_| RegistryError::Damaged(digest))?;
                open_annotations(&keys, stored("object id", &referrer.seal_id)?, sealed)
                    .map_err(|_| RegistryError::Damaged(digest))?
            }
        };
        serde_json::from_slice(&text)
            .map_err(|error| RegistryError::Internal(format!("stored annotations: {error}")))
    }
}

fn described(row: ManifestRow, annotations: BTreeMap<String, String>) -> Result<Referrer, RegistryError> {
    Ok(Referrer {
        digest: stored("digest", &row.digest)?,
        media_type: MediaType::parse(&row.media_type)
            .ok_or_else(|| RegistryError::Internal(format!("stored media type {:?}", row.media_type)))?,
        artifact_type: row.artifact_type,
        size: u64::try_from(row.size).unwrap_or_default(),
        annotations,
        status: ImageStatus::parse(&row.status)
            .ok_or_else(|| RegistryError::Internal(format!("stored image status {:?}", row.status)))?,
    })
}
