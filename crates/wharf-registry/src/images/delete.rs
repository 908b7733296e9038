//! Deleting images and tags: the one delete path. What goes, goes into the trash window.

use std::sync::Arc;

use wharf_store::meta::tombstones::{self, DeletedManifest};
use wharf_store::meta::{Tx, archive, blobs, manifests, missing, repositories, tags};
use wharf_types::{Digest, Reference, RepositoryRef, Tag};

use super::{Asked, Deleted, asked, failure, mismatch, not_found};
use crate::lifecycle;
use crate::repositories::{from_row, hold_repository, stored};
use crate::uninterrupted::uninterrupted;
use crate::{
    Authorized, Dialect, ImageFailure, ImageFailureCode, ImageId, ImageRef, Registry, RegistryError,
    Repository,
};

/// Manifests of a deleted repository that one transaction drops.
const BATCH: usize = 100;
/// Bytes of manifests that it moves to the trash, or one manifest more: other writes wait for it.
const BATCH_BYTES: u64 = 4 << 20;

/// What became of one image.
pub(crate) enum Fate {
    /// It is gone, under these names.
    Removed(Deleted),
    /// It was not there.
    Absent,
    /// Digest and tag name different images.
    Mismatch,
    /// An index that exists names it.
    Held(Vec<Digest>),
}

impl Registry {
    /// `BatchDeleteImage`. By tag: the tag goes, and the image with its last tag. By digest: the image and all its
    /// tags. An image that an index names stays. One transaction: all that can go, goes together.
    pub async fn delete_images(
        &self,
        at: &Authorized<RepositoryRef>,
        ids: &[ImageId],
    ) -> Result<(Deleted, Vec<ImageFailure>), RegistryError> {
        let repository = self.repository(at).await?;
        let mut failures = Vec::new();
        let mut wanted = Vec::new();
        for id in ids {
            match asked(id) {
                Ok(asked) => wanted.push((id.clone(), asked)),
                Err(failed) => failures.push(failed),
            }
        }
        let registry = self.clone();
        let (deleted, failed) = uninterrupted(async move {
            let work = repository.clone();
            let done = registry.inner.meta.write(move |tx| delete_batch(tx, &work, &wanted)).await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok((deleted, _)) = &done {
                registry.forget_images(&repository, deleted);
            }
            done
        })
        .await?;
        failures.extend(failed);
        Ok((deleted, failures))
    }

    /// OCI's `DELETE …/manifests/<reference>`. By digest: the image and its tags. By tag: the tag alone, as the
    /// specification says; in the `ecr` dialect the image goes with its last tag.
    ///
    /// # Errors
    /// `ManifestUnknown`, `ReferencedByManifestList`.
    pub async fn delete_reference(
        &self,
        at: &Authorized<RepositoryRef>,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let (registry, repository) = (self.clone(), self.repository(at).await?);
        let reference = reference.clone();
        let keep_untagged = self.inner.options.dialect == Dialect::Spec;
        let fate = uninterrupted(async move {
            let work = repository.clone();
            let fate = registry
                .inner
                .meta
                .write(move |tx| {
                    hold_repository(tx, &work)?;
                    match &reference {
                        Reference::Digest(digest) => delete_digest(tx, &work, *digest),
                        Reference::Tag(tag) if keep_untagged => untag(tx, &work, tag),
                        Reference::Tag(tag) => delete_tag(tx, &work, tag),
                    }
                })
                .await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok(Fate::Removed(deleted)) = &fate {
                registry.forget_images(&repository, deleted);
            }
            fate
        })
        .await?;
        match fate {
            Fate::Removed(_) => Ok(()),
            Fate::Held(parents) => Err(RegistryError::ReferencedByManifestList(parents)),
            Fate::Absent | Fate::Mismatch => Err(RegistryError::ManifestUnknown),
        }
    }

    /// Forgets images that are gone.
    pub(crate) fn forget_images(&self, repository: &Repository, deleted: &[ImageRef]) {
        for image in deleted {
            self.inner.images.forget_manifest(repository.id, image.digest);
            if let Some(tag) = &image.tag {
                self.inner.images.forget_tag(repository.id, tag);
            }
        }
        // What only archived images name now may not be pulled any more. If that cannot be asked, it is so.
        let asked = self.inner.meta.read_now(|tx| archive::has_inactive(tx, repository.id));
        if asked.unwrap_or(true) && !deleted.is_empty() {
            self.forget_blobs_of(repository.id);
        }
    }

    /// Drops what deleted repositories held, in batches that never hold the writer long. Called after each deletion
    /// and by the collector.
    pub(crate) async fn drop_deleted_repositories(&self) -> Result<(), RegistryError> {
        loop {
            if self.inner.stop.is_cancelled() {
                return Ok(());
            }
            let dropped = self.inner.meta.write(drop_some).await?;
            let Some(id) = dropped else { return Ok(()) };
            self.forget_blobs_of(id);
        }
    }
}

/// One step of dropping one deleted repository; answers which, or `None` when there is none.
fn drop_some(tx: &mut Tx<'_>) -> Result<Option<i64>, RegistryError> {
    let Some(row) = repositories::deleted(tx, 1)?.pop() else { return Ok(None) };
    let repository = from_row(row)?;
    let images = manifests::some_deletable(tx, repository.id, BATCH)?;
    let mut moved = 0;
    for (digest, size) in &images {
        if moved >= BATCH_BYTES {
            break;
        }
        remove_image(tx, &repository, digest)?;
        moved += size;
    }
    if images.is_empty() {
        let now = tx.now_micros();
        let left = blobs::drop_some_links_of_repository(tx, repository.id, now, BATCH)?;
        if left == 0 {
            lifecycle::drop_repository(tx, repository.id)?;
            repositories::remove(tx, repository.id)?;
        }
    }
    Ok(Some(repository.id))
}

fn delete_batch(
    tx: &mut Tx<'_>,
    repository: &Arc<Repository>,
    wanted: &[(ImageId, Asked)],
) -> Result<(Deleted, Vec<ImageFailure>), RegistryError> {
    hold_repository(tx, repository)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    let mut left: Vec<&(ImageId, Asked)> = wanted.iter().collect();
    // A child may be listed before its index: what was held is tried again while that helps.
    loop {
        let before = left.len();
        let mut held = Vec::new();
        let mut reasons = Vec::new();
        for entry in left {
            let (id, asked) = entry;
            let fate = match asked {
                Asked::Digest(digest) => delete_digest(tx, repository, *digest)?,
                Asked::Tag(tag) => delete_tag(tx, repository, tag)?,
                Asked::Both(digest, tag) => delete_both(tx, repository, *digest, tag)?,
            };
            match fate {
                Fate::Removed(images) => deleted.extend(images),
                Fate::Absent => failures.push(not_found(id)),
                Fate::Mismatch => failures.push(mismatch(id)),
                Fate::Held(parents) => {
                    let reason = RegistryError::ReferencedByManifestList(parents).to_string();
                    reasons.push(failure(id, ImageFailureCode::ImageReferencedByManifestList, reason));
                    held.push(entry);
                }
            }
        }
        if held.is_empty() || held.len() == before {
            failures.extend(reasons);
            return Ok((deleted, failures));
        }
        left = held;
    }
}

/// Removes an image and its tags.
pub(crate) fn delete_digest(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: Digest,
) -> Result<Fate, RegistryError> {
    let text = digest.to_string();
    if !manifests::exists(tx, repository.id, &text)? {
        return Ok(Fate::Absent);
    }
    let parents = manifests::parents(tx, repository.id, &text)?;
    if !parents.is_empty() {
        return Ok(Fate::Held(parents.iter().map(|text| stored("digest", text)).collect::<Result<_, _>>()?));
    }
    let names = remove_image(tx, repository, &text)?;
    if names.is_empty() {
        return Ok(Fate::Removed(vec![ImageRef { digest, tag: None }]));
    }
    let images = names
        .iter()
        .map(|name| Ok(ImageRef { digest, tag: Some(stored("tag", name)?) }))
        .collect::<Result<_, RegistryError>>()?;
    Ok(Fate::Removed(images))
}

/// Removes a tag, and the image with its last one.
fn delete_tag(tx: &mut Tx<'_>, repository: &Repository, tag: &Tag) -> Result<Fate, RegistryError> {
    let Some(text) = tags::find(tx, repository.id, tag.as_str())? else { return Ok(Fate::Absent) };
    if tags::count_of(tx, repository.id, &text)? == 1 {
        return delete_digest(tx, repository, stored("digest", &text)?);
    }
    untag(tx, repository, tag)
}

/// Removes a tag and leaves the image.
pub(crate) fn untag(tx: &mut Tx<'_>, repository: &Repository, tag: &Tag) -> Result<Fate, RegistryError> {
    let Some(text) = tags::find(tx, repository.id, tag.as_str())? else { return Ok(Fate::Absent) };
    tags::remove(tx, repository.id, tag.as_str())?;
    Ok(Fate::Removed(vec![ImageRef { digest: stored("digest", &text)?, tag: Some(tag.clone()) }]))
}

fn delete_both(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: Digest,
    tag: &Tag,
) -> Result<Fate, RegistryError> {
    match tags::find(tx, repository.id, tag.as_str())? {
        Some(current) if current == digest.to_string() => delete_tag(tx, repository, tag),
        Some(_) => Ok(Fate::Mismatch),
        None if manifests::exists(tx, repository.id, &digest.to_string())? => Ok(Fate::Mismatch),
        None => Ok(Fate::Absent),
    }
}

/// Removes an image that no index names, leaving a tombstone; answers which tags it had.
fn remove_image(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<Vec<String>, RegistryError> {
    let id = repository.id;
    let Some((row, sealed)) = manifests::find_sealed(tx, id, digest)? else { return Ok(Vec::new()) };
    let names = tags::remove_of(tx, id, digest)?;
    let missing = missing::take(tx, id, digest)?;
    let tombstone = DeletedManifest {
        repository_id: id,
        account: repository.name.registry.account.to_string(),
        region: repository.name.registry.region.to_string(),
        kind: repository.name.kind.as_str().into(),
        name: repository.name.name.to_string(),
        domain_id: repository.domain.id,
        manifest: row,
        sealed,
        tags: names.clone(),
        blobs: manifests::blobs(tx, id, digest)?,
        children: manifests::children(tx, id, digest)?,
        missing,
    };
    tombstones::insert(tx, &tombstone)?;
    let now = tx.now_micros();
    blobs::unlink_manifest_blobs(tx, id, digest, now)?;
    manifests::remove(tx, id, digest)?;
    repositories::count_images(tx, id, -1)?;
    Ok(names)
}
