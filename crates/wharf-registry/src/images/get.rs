//! Pulling manifests.

use std::sync::Arc;

use bytes::Bytes;
use wharf_store::meta::current::{self, CurrentImage};
use wharf_store::meta::{Tx, manifests, tags};
use wharf_store::seal::segment::open_small;
use wharf_types::{Digest, MediaType, Reference, RepositoryRef, Tag};

use super::{Asked, StoredManifest, asked, failure, mismatch, not_found};
use crate::convert::convert;
use crate::repositories::stored;
use crate::{
    Authorized, Image, ImageFailure, ImageFailureCode, ImageId, ImageRef, ImageStatus, Registry,
    RegistryError, Repository,
};

impl Registry {
    /// A manifest by tag or digest. Where the dialect converts, a pull by tag gets a type in `accept` if one exists;
    /// an empty `accept` takes anything.
    ///
    /// # Errors
    /// `ManifestUnknown` (also for an archived image; `ImageActivating` where pulls restore those), `RepositoryNotFound`, `Kms`, `Damaged`.
    pub async fn get_manifest(
        &self,
        at: &Authorized<RepositoryRef>,
        reference: &Reference,
        accept: &[MediaType],
    ) -> Result<Arc<StoredManifest>, RegistryError> {
        if self.has_peers()
            && let Some(stored) = self.remembered_image(at.target(), reference).await?
        {
            return Ok(self.in_accepted_form(stored, reference, accept));
        }
        let repository = self.repository(at).await?;
        let stored = match reference {
            Reference::Digest(digest) => self.load(&repository, *digest).await?,
            Reference::Tag(tag) => self.load_tag(&repository, tag).await?,
        };
        let Some(stored) = stored else {
            let asked = match reference {
                Reference::Digest(digest) => Asked::Digest(*digest),
                Reference::Tag(tag) => Asked::Tag(tag.clone()),
            };
            return self.refuse_pull(&repository, &asked).await;
        };
        Ok(self.in_accepted_form(stored, reference, accept))
    }

    /// As [`get_manifest`](Self::get_manifest), if memory alone can answer.
    pub fn get_manifest_now(
        &self,
        at: &Authorized<RepositoryRef>,
        reference: &Reference,
        accept: &[MediaType],
    ) -> Option<Result<Arc<StoredManifest>, RegistryError>> {
        let repository = self.cached_repository(at.target())?;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => self.inner.images.tags.get(&(repository.id, tag.clone()))?,
        };
        let stored = self.inner.images.manifests.get(&(repository.id, digest))?;
        if let Err(error) = self.inner.keys.check_domain(&repository.domain) {
            return Some(Err(error));
        }
        Some(Ok(self.in_accepted_form(stored, reference, accept)))
    }

    /// An image from memory, where other nodes change images too: one look makes sure that the repository is still the
    /// one that is remembered, that the tag still points at the image, and that it may be pulled.
    async fn remembered_image(
        &self,
        name: &RepositoryRef,
        reference: &Reference,
    ) -> Result<Option<Arc<StoredManifest>>, RegistryError> {
        let Some(repository) = self.last_known_repository(name) else { return Ok(None) };
        let (wanted, of) = (reference.clone(), name.clone());
        let current = self.inner.meta.read_quick(move |tx| match &wanted {
            Reference::Digest(digest) => current::image_by_digest(tx, &of, &digest.to_string()),
            Reference::Tag(tag) => current::image_by_tag(tx, &of, tag.as_str()),
        });
        let current = current.await.map_err(RegistryError::from)?;
        let Some(CurrentImage { repository_id, image: Some((digest, status)) }) = current else {
            return Ok(None);
        };
        if repository_id != repository.id || status != ImageStatus::Active.as_str() {
            return Ok(None);
        }
        let digest: Digest = stored("digest", &digest)?;
        self.inner.keys.check_domain(&repository.domain)?;
        match self.inner.images.manifests.get(&(repository_id, digest)) {
            Some(known) => Ok(Some(known)),
            None => self.read_image(&repository, digest).await,
        }
    }

    fn in_accepted_form(
        &self,
        stored: Arc<StoredManifest>,
        reference: &Reference,
        accept: &[MediaType],
    ) -> Arc<StoredManifest> {
        let by_tag = matches!(reference, Reference::Tag(_));
        if by_tag && self.inner.options.dialect.converts_manifests() {
            return convert(&stored, accept).map_or(stored, Arc::new);
        }
        stored
    }

    /// Notes a pull for `lastRecordedPullTime`; written later, in batches.
    pub fn note_pull(&self, at: &Authorized<RepositoryRef>, pulled: &StoredManifest) {
        if let Some(repository) = self.last_known_repository(at.target()) {
            self.record_pull(at.caller(), &repository, &pulled.digest);
        }
    }

    async fn resolve_tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        let cache = &self.inner.images.tags;
        let key = (repository.id, tag.clone());
        if !self.has_peers()
            && let Some(digest) = cache.get(&key)
        {
            return Ok(Some(digest));
        }
        let ticket = cache.ticket();
        let wanted = key.clone();
        let read = move |tx: &mut Tx<'_>| tags::find(tx, wanted.0, wanted.1.as_str());
        let found = self.inner.meta.read_quick(read).await.map_err(RegistryError::from)?;
        let Some(text) = found else { return Ok(None) };
        let digest: Digest = stored("digest", &text)?;
        cache.fill(ticket, &key, digest);
        Ok(Some(digest))
    }

    /// What a tag points at. A tag that moves while it is followed is followed again, so that an image that was
    /// deleted after its tag had moved on is no reason to say that the tag is not there.
    async fn load_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Arc<StoredManifest>>, RegistryError> {
        let mut before = None;
        loop {
            let Some(digest) = self.resolve_tag(repository, tag).await? else { return Ok(None) };
            if let Some(stored) = self.load(repository, digest).await? {
                return Ok(Some(stored));
            }
            // The same digest twice: it is there and may not be pulled.
            if before.replace(digest) == Some(digest) {
                return Ok(None);
            }
        }
    }

    /// A manifest's bytes, opened and authenticated. `None` when it is not there or not active.
    pub(super) async fn load(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Option<Arc<StoredManifest>>, RegistryError> {
        self.inner.keys.check_domain(&repository.domain)?;
        if let Some(known) = self.inner.images.manifests.get(&(repository.id, digest)) {
            if !self.has_peers() {
                return Ok(Some(known));
            }
            let status = self.image_status(repository, &Asked::Digest(digest)).await?;
            return Ok(status.filter(|(_, status)| *status == ImageStatus::Active).map(|_| known));
        }
        self.read_image(repository, digest).await
    }

    async fn read_image(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<Option<Arc<StoredManifest>>, RegistryError> {
        let (cache, key) = (&self.inner.images.manifests, (repository.id, digest));
        let ticket = cache.ticket();
        let (id, text) = (repository.id, digest.to_string());
        let found = self.inner.meta.read_quick(move |tx| manifests::find_sealed(tx, id, &text)).await;
        let found = found.map_err(RegistryError::from)?;
        let Some((row, sealed)) = found.filter(|(row, _)| row.status == ImageStatus::Active.as_str()) else {
            return Ok(None);
        };
        let keys = self
            .inner
            .keys
            .open_content_keys(&self.inner.meta, &repository.domain, sealed.keys.as_deref())
            .await?;
        let bytes = match keys {
            Some(keys) => open_small(&keys, stored("object id", &sealed.seal_id)?, sealed.content)
                .map_err(|_| RegistryError::Damaged(digest))?,
            None => sealed.content,
        };
        if Digest::of(digest.algorithm(), &bytes) != digest {
            return Err(RegistryError::Damaged(digest));
        }
        let media_type = MediaType::parse(&row.media_type)
            .ok_or_else(|| RegistryError::Internal(format!("stored media type {:?}", row.media_type)))?;
        let manifest = Arc::new(StoredManifest { digest, media_type, bytes: Bytes::from(bytes) });
        cache.fill(ticket, &key, manifest.clone());
        Ok(Some(manifest))
    }

    /// `BatchGetImage`: each image or why not. Where `accepted` is not empty, a pull by tag is converted between
    /// Docker schema 2 and OCI when the stored type is not accepted and the other is.
    pub async fn batch_get_images(
        &self,
        at: &Authorized<RepositoryRef>,
        ids: &[ImageId],
        accepted: &[MediaType],
    ) -> Result<(Vec<Image>, Vec<ImageFailure>), RegistryError> {
        let repository = self.repository(at).await?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for id in ids {
            match self.get_one(&repository, id, accepted).await? {
                Ok(image) => {
                    self.record_pull(at.caller(), &repository, &image.0);
                    images.push(image.1);
                }
                Err(failed) => failures.push(failed),
            }
        }
        Ok((images, failures))
    }

    /// Why an image of a batch that is not served is not.
    async fn not_pulled(
        &self,
        repository: &Arc<Repository>,
        id: &ImageId,
        asked: &Asked,
    ) -> Result<ImageFailure, RegistryError> {
        let reason = match self.image_status(repository, asked).await? {
            None | Some((_, ImageStatus::Active)) => return Ok(not_found(id)),
            Some((_, ImageStatus::Activating)) => "Requested image is being restored",
            Some((_, ImageStatus::Archived)) if self.inner.options.restore_on_pull => {
                self.begin_restore_for_pull(repository, asked).await?;
                "Requested image is being restored"
            }
            Some((_, ImageStatus::Archived)) => "Requested image is archived",
        };
        Ok(failure(id, ImageFailureCode::ImageInaccessible, reason))
    }

    /// One image of a batch with the digest it is stored under.
    async fn get_one(
        &self,
        repository: &Arc<Repository>,
        id: &ImageId,
        accepted: &[MediaType],
    ) -> Result<Result<(Digest, Image), ImageFailure>, RegistryError> {
        let asked = match asked(id) {
            Ok(asked) => asked,
            Err(failed) => return Ok(Err(failed)),
        };
        let (loaded, tag) = match &asked {
            Asked::Digest(digest) => (self.load(repository, *digest).await, None),
            Asked::Tag(tag) => (self.load_tag(repository, tag).await, Some(tag)),
            Asked::Both(digest, tag) => match self.resolve_tag(repository, tag).await? {
                Some(current) if current != *digest => return Ok(Err(mismatch(id))),
                Some(digest) => (self.load(repository, digest).await, Some(tag)),
                None => return Ok(Err(not_found(id))),
            },
        };
        let stored = match loaded {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Err(self.not_pulled(repository, id, &asked).await?)),
            Err(RegistryError::Kms { message, .. }) => {
                return Ok(Err(failure(id, ImageFailureCode::KmsError, message)));
            }
            Err(error) => return Err(error),
        };
        let by_tag_only = matches!(asked, Asked::Tag(_));
        let digest = stored.digest;
        let served = if by_tag_only { convert(&stored, accepted).map_or(stored, Arc::new) } else { stored };
        let image = Image {
            id: ImageRef { digest: served.digest, tag: tag.cloned() },
            manifest: served.bytes.clone(),
            media_type: served.media_type.clone(),
        };
        Ok(Ok((digest, image)))
    }
}
