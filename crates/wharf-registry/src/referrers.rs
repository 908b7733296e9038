//! Referrers: signatures, SBOMs and other manifests that name another as their subject.

use wharf_store::meta::manifests;
use wharf_types::{Digest, MediaType, RepositoryRef};

use crate::repositories::stored;
use crate::{Authorized, ImageStatus, Page, PageRequest, Referrer, Registry, RegistryError};

impl Registry {
    /// The referrers of `subject` in order of digest; none where the subject is unknown. `artifact_types` narrows
    /// them (any of), empty = all.
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
            Some(last) => Some(self.seal_page(&query, vec![last.digest.clone()])?),
            None => None,
        };
        let items = rows
            .into_iter()
            .map(|row| {
                let annotations = row.annotations.as_deref().unwrap_or("{}");
                Ok(Referrer {
                    digest: stored("digest", &row.digest)?,
                    media_type: MediaType::parse(&row.media_type).ok_or_else(|| {
                        RegistryError::Internal(format!("stored media type {:?}", row.media_type))
                    })?,
                    artifact_type: row.artifact_type,
                    size: u64::try_from(row.size).unwrap_or_default(),
                    annotations: serde_json::from_str(annotations)
                        .map_err(|error| RegistryError::Internal(format!("stored annotations: {error}")))?,
                    status: ImageStatus::parse(&row.status).ok_or_else(|| {
                        RegistryError::Internal(format!("stored image status {:?}", row.status))
                    })?,
                })
            })
            .collect::<Result<_, RegistryError>>()?;
        Ok(Page { items, next })
    }
}
