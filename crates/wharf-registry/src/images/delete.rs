//! Deleting images and tags: the one delete path. What goes, goes into the trash window.

use std::sync::Arc;

use serde_json::json;
use wharf_store::meta::tombstones::{self, DeletedManifest};
use wharf_store::meta::{Tx, archive, blobs, events, manifests, missing, repositories, tags};
use wharf_types::{Digest, Reference, RepositoryRef, Tag};

use super::{Asked, Deleted, asked, failure, mismatch, not_found};
use crate::lifecycle;
use crate::repositories::{from_row, hold_repository, stored};
use crate::service_events::{self, By};
use crate::storage_class;
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
    /// These run it or what it belongs to.
    InUse(Vec<String>),
}

/// What to do about an image that somebody runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Delete it: the caller has looked, is told to, or does not care.
    Ignored,
    /// Leave it.
    Stays,
}

/// What the operator deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ForcedDeletion {
    /// One entry per tag, or one without a tag.
    pub deleted: Vec<DeletedReference>,
    /// Who was reported to run it.
    pub in_use_by: Vec<String>,
}

/// An image that is gone, or a tag.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeletedReference {
    /// The image.
    pub digest: String,
    /// The tag it had.
    pub tag: Option<String>,
}

impl Registry {
    /// `BatchDeleteImage`. By tag: the tag goes, and the image with its last tag. By digest: the image and all its
    /// tags. An image that an index names stays, and where [`Options::protect_in_use`](crate::Options) says so one that
    /// somebody runs. One transaction: all that can go, goes together.
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
        let (registry, in_use) = (self.clone(), self.in_use_rule());
        let (deleted, failed) = uninterrupted(async move {
            let work = repository.clone();
            let done = registry.inner.meta.write(move |tx| delete_batch(tx, &work, &wanted, in_use)).await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok((deleted, _)) = &done {
                registry.forget_images(&repository, deleted).await;
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
    /// `ManifestUnknown`, `ReferencedByManifestList`, `ImageInUse`.
    pub async fn delete_reference(
        &self,
        at: &Authorized<RepositoryRef>,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let (registry, repository) = (self.clone(), self.repository(at).await?);
        let reference = reference.clone();
        let keep_untagged = self.inner.options.dialect == Dialect::Spec;
        let in_use = self.in_use_rule();
        let fate = uninterrupted(async move {
            let work = repository.clone();
            let fate = registry
                .inner
                .meta
                .write(move |tx| {
                    hold_repository(tx, &work)?;
                    match &reference {
                        Reference::Digest(digest) => delete_digest(tx, &work, *digest, in_use),
                        Reference::Tag(tag) if keep_untagged => untag(tx, &work, tag),
                        Reference::Tag(tag) => delete_tag(tx, &work, tag, in_use),
                    }
                })
                .await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok(Fate::Removed(deleted)) = &fate {
                registry.forget_images(&repository, deleted).await;
            }
            fate
        })
        .await?;
        fate.removed().map(|_| ())
    }

    /// The operator's own delete, whom no policy concerns: by digest the image and its tags, by tag the tag, and the
    /// image with its last one. With `force` also what somebody runs. Each leaves an event, with those who run it.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `ManifestUnknown`, `ReferencedByManifestList`; without `force` `ImageInUse`, where
    /// [`Options::protect_in_use`](crate::Options) says so.
    pub async fn delete_as_operator(
        &self,
        repository: &RepositoryRef,
        reference: &Reference,
        force: bool,
    ) -> Result<ForcedDeletion, RegistryError> {
        let Some(repository) = self.find_repository(repository).await? else {
            return Err(RegistryError::RepositoryNotFound(repository.clone()));
        };
        let (registry, reference) = (self.clone(), reference.clone());
        let in_use = if force { InUse::Ignored } else { self.in_use_rule() };
        let (deleted, in_use_by) = uninterrupted(async move {
            let work = repository.clone();
            let done =
                registry.inner.meta.write(move |tx| delete_noted(tx, &work, &reference, in_use, force)).await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok((deleted, _)) = &done {
                registry.forget_images(&repository, deleted).await;
            }
            done
        })
        .await?;
        let shown = |image: ImageRef| DeletedReference {
            digest: image.digest.to_string(),
            tag: image.tag.map(|tag| tag.to_string()),
        };
        Ok(ForcedDeletion { deleted: deleted.into_iter().map(shown).collect(), in_use_by })
    }

    /// What becomes of an image in use that a client deletes.
    fn in_use_rule(&self) -> InUse {
        if self.inner.options.protect_in_use { InUse::Stays } else { InUse::Ignored }
    }

    /// Forgets images that are gone.
    pub(crate) async fn forget_images(&self, repository: &Repository, deleted: &[ImageRef]) {
        for image in deleted {
            self.inner.images.forget_manifest(repository.id, image.digest);
            if let Some(tag) = &image.tag {
                self.inner.images.forget_tag(repository.id, tag);
            }
        }
        // What only archived images name now may not be pulled any more. If that cannot be asked, it is so.
        if deleted.is_empty() {
            return;
        }
        let id = repository.id;
        let asked = self.inner.meta.read_quick(move |tx| archive::has_inactive(tx, id)).await;
        if asked.unwrap_or(true) {
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

impl Fate {
    /// What was removed, or why nothing was.
    fn removed(self) -> Result<Deleted, RegistryError> {
        match self {
            Self::Removed(deleted) => Ok(deleted),
            Self::Held(parents) => Err(RegistryError::ReferencedByManifestList(parents)),
            Self::InUse(holders) => Err(RegistryError::ImageInUse(holders)),
            Self::Absent | Self::Mismatch => Err(RegistryError::ManifestUnknown),
        }
    }
}

/// Deletes as the operator does, and notes it; answers also who runs the image.
fn delete_noted(
    tx: &mut Tx<'_>,
    repository: &Repository,
    reference: &Reference,
    in_use: InUse,
    force: bool,
) -> Result<(Deleted, Vec<String>), RegistryError> {
    hold_repository(tx, repository)?;
    let digest = match reference {
        Reference::Digest(digest) => Some(digest.to_string()),
        Reference::Tag(tag) => tags::find(tx, repository.id, tag.as_str())?,
    };
    let Some(digest) = digest else { return Err(RegistryError::ManifestUnknown) };
    let holders: Vec<String> =
        lifecycle::holders_with_relatives(tx, repository, &digest)?.into_iter().collect();
    let fate = match reference {
        Reference::Digest(digest) => delete_digest(tx, repository, *digest, in_use)?,
        Reference::Tag(tag) => delete_tag(tx, repository, tag, in_use)?,
    };
    let deleted = fate.removed()?;
    let registry = &repository.name.registry;
    for image in &deleted {
        let mut detail = json!({
            "action-type": "DELETE", "result": "SUCCESS", "repository-name": repository.name.name.to_string(),
            "image-digest": image.digest.to_string(), "deleted-by": "operator", "forced": force,
            "in-use-by": holders,
        });
        if let Some(tag) = &image.tag {
            detail["image-tag"] = json!(tag.as_str());
        }
        let (account, region) = (registry.account.as_str(), registry.region.as_str());
        events::insert(tx, account, region, "ECR Image Action", &detail.to_string())?;
        let details = json!({
            "repositoryName": repository.name.name.as_str(), "imageDigest": image.digest.to_string(),
            "imageTag": image.tag.as_ref().map(Tag::as_str), "forced": force, "inUseBy": holders,
        });
        service_events::note(tx, repository, By::Operator, "DeleteImage", details)?;
    }
    Ok((deleted, holders))
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
    in_use: InUse,
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
                Asked::Digest(digest) => delete_digest(tx, repository, *digest, in_use)?,
                Asked::Tag(tag) => delete_tag(tx, repository, tag, in_use)?,
                Asked::Both(digest, tag) => delete_both(tx, repository, *digest, tag, in_use)?,
            };
            match fate {
                Fate::Removed(images) => deleted.extend(images),
                Fate::Absent => failures.push(not_found(id)),
                Fate::Mismatch => failures.push(mismatch(id)),
                Fate::InUse(holders) => {
                    let reason = RegistryError::ImageInUse(holders).to_string();
                    failures.push(failure(id, ImageFailureCode::ImageInaccessible, reason));
                }
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
    in_use: InUse,
) -> Result<Fate, RegistryError> {
    let text = digest.to_string();
    if !manifests::exists(tx, repository.id, &text)? {
        return Ok(Fate::Absent);
    }
    let parents = manifests::parents(tx, repository.id, &text)?;
    if !parents.is_empty() {
        return Ok(Fate::Held(parents.iter().map(|text| stored("digest", text)).collect::<Result<_, _>>()?));
    }
    if in_use == InUse::Stays {
        let holders = lifecycle::holders_with_relatives(tx, repository, &text)?;
        if !holders.is_empty() {
            return Ok(Fate::InUse(holders.into_iter().collect()));
        }
    }
    let shares = archive::has_inactive(tx, repository.id)? && archive::is_used(tx)?;
    let blobs = if shares { manifests::blobs(tx, repository.id, &text)? } else { Vec::new() };
    let names = remove_image(tx, repository, &text)?;
    storage_class::settle_deleted(tx, repository, &blobs)?;
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
fn delete_tag(
    tx: &mut Tx<'_>,
    repository: &Repository,
    tag: &Tag,
    in_use: InUse,
) -> Result<Fate, RegistryError> {
    let Some(text) = tags::find(tx, repository.id, tag.as_str())? else { return Ok(Fate::Absent) };
    if tags::count_of(tx, repository.id, &text)? == 1 {
        return delete_digest(tx, repository, stored("digest", &text)?, in_use);
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
    in_use: InUse,
) -> Result<Fate, RegistryError> {
    match tags::find(tx, repository.id, tag.as_str())? {
        Some(current) if current == digest.to_string() => delete_tag(tx, repository, tag, in_use),
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
