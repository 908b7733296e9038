//! Storage classes: images go to the archive at once, and come back by a job that first sees their content home. One
//! transaction each, referrers with their subject.
//!
//! What is active can be pulled whole: whatever makes an image active does the same to the images it names.

use std::sync::Arc;

use serde_json::json;
use wharf_store::meta::manifests::{self, ManifestRow};
use wharf_store::meta::objects::Place;
use wharf_store::meta::{Tx, archive, events, jobs, lifecycle, tags};
use wharf_types::{Digest, RepositoryRef, Timestamp};

use crate::archive::{ARCHIVE, RESTORE};
use crate::images::{Asked, asked};
use crate::lifecycle::holders_with_relatives;
use crate::repositories::{hold_repository, stored};
use crate::service_events::{self, By};
use crate::uninterrupted::uninterrupted;
use crate::{
    Authorized, ImageFailureCode, ImageId, ImageRef, ImageStatus, Registry, RegistryError, Repository,
};

/// What an image's content is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageClass {
    /// Pulls.
    Standard,
    /// Later.
    Archive,
}

impl StorageClass {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Archive => "ARCHIVE",
        }
    }
}

impl Registry {
    /// `UpdateImageStorageClass`. Into the archive at once: when this returns, nobody can pull the image. Out of it by a
    /// job; the image is `ACTIVATING` until then. Answers the image as it was named, and its status.
    ///
    /// # Errors
    /// `ImageNotFound`; `InvalidParameter` for an id that names nothing; `ImageStorageClassUpdateNotSupported` for an
    /// image that is in the class or on its way there, and for one to be archived that an index names which is not.
    pub async fn update_image_storage_class(
        &self,
        at: &Authorized<RepositoryRef>,
        id: &ImageId,
        class: StorageClass,
    ) -> Result<(ImageRef, ImageStatus), RegistryError> {
        let repository = self.repository(at).await?;
        let asked = match asked(id) {
            Ok(asked) => asked,
            Err(failed) if failed.code == ImageFailureCode::ImageNotFound => {
                return Err(RegistryError::ImageNotFound(repository.name.clone(), id.clone()));
            }
            Err(failed) => return Err(RegistryError::invalid("imageId", failed.reason)),
        };
        let (registry, id, moves) = (self.clone(), id.clone(), self.inner.archive.is_some());
        uninterrupted(async move {
            let work = Arc::clone(&repository);
            let change = move |tx: &mut Tx<'_>| {
                hold_repository(tx, &work)?;
                let (image, row) = resolve(tx, &work, &id, &asked)?;
                check(tx, &work, &id, &row, class)?;
                let moved = match class {
                    StorageClass::Archive => archive(tx, &work, &row.digest, None, moves)?,
                    StorageClass::Standard => begin_activation(tx, &work, &row.digest)?,
                };
                Ok::<_, RegistryError>((image, moved))
            };
            let changed = registry.inner.meta.write(change).await;
            registry.inner.images.lists.forget(repository.id);
            let (image, moved) = changed?;
            registry.forget_moved(repository.id, &moved);
            registry.inner.jobs.wake();
            let status = match class {
                StorageClass::Archive => ImageStatus::Archived,
                StorageClass::Standard => ImageStatus::Activating,
            };
            Ok((image, status))
        })
        .await
    }

    /// What a pull of an image that may not be pulled is told: nothing, or, where pulls restore, to come again.
    ///
    /// # Errors
    /// `ManifestUnknown`, `ImageActivating`.
    pub(crate) async fn refuse_pull<T>(
        &self,
        repository: &Arc<Repository>,
        asked: &Asked,
    ) -> Result<T, RegistryError> {
        if !self.inner.options.restore_on_pull {
            return Err(RegistryError::ManifestUnknown);
        }
        match self.begin_restore_for_pull(repository, asked).await? {
            Some(digest) => Err(RegistryError::ImageActivating(digest)),
            None => Err(RegistryError::ManifestUnknown),
        }
    }

    /// Has an archived image brought back, unless that is under way. `None` if it is not archived.
    pub(crate) async fn begin_restore_for_pull(
        &self,
        repository: &Arc<Repository>,
        asked: &Asked,
    ) -> Result<Option<Digest>, RegistryError> {
        let Some((digest, status)) = self.image_status(repository, asked).await? else { return Ok(None) };
        if status == ImageStatus::Archived {
            let (registry, work, text) = (self.clone(), Arc::clone(repository), digest.to_string());
            uninterrupted(async move {
                let id = work.id;
                let change = move |tx: &mut Tx<'_>| {
                    hold_repository(tx, &work)?;
                    begin_activation(tx, &work, &text)
                };
                let moved = registry.inner.meta.write(change).await;
                registry.inner.images.lists.forget(id);
                registry.forget_moved(id, &moved?);
                registry.inner.jobs.wake();
                Ok(())
            })
            .await?;
        }
        Ok((status != ImageStatus::Active).then_some(digest))
    }

    /// The status of an image, whatever it is.
    pub(crate) async fn image_status(
        &self,
        repository: &Repository,
        asked: &Asked,
    ) -> Result<Option<(Digest, ImageStatus)>, RegistryError> {
        let (id, asked) = (repository.id, asked.clone());
        let read = move |tx: &mut Tx<'_>| {
            let text = match &asked {
                Asked::Digest(digest) | Asked::Both(digest, _) => Some(digest.to_string()),
                Asked::Tag(tag) => tags::find(tx, id, tag.as_str())?,
            };
            let Some(text) = text else { return Ok(None) };
            let Some(row) = manifests::find(tx, id, &text)? else { return Ok(None) };
            Ok(Some((stored("digest", &text)?, status(&row)?)))
        };
        self.inner.meta.read_quick(read).await
    }

    /// Forgets what memory holds of images whose status changed, and of the blobs that they name.
    pub(crate) fn forget_moved(&self, repository_id: i64, moved: &[Digest]) {
        for digest in moved {
            self.inner.images.forget_manifest(repository_id, *digest);
        }
        if !moved.is_empty() {
            self.forget_blobs_of(repository_id);
        }
    }
}

fn status(row: &ManifestRow) -> Result<ImageStatus, RegistryError> {
    ImageStatus::parse(&row.status)
        .ok_or_else(|| RegistryError::Internal(format!("stored image status {:?}", row.status)))
}

fn resolve(
    tx: &mut Tx<'_>,
    repository: &Repository,
    id: &ImageId,
    asked: &Asked,
) -> Result<(ImageRef, ManifestRow), RegistryError> {
    let missing = || RegistryError::ImageNotFound(repository.name.clone(), id.clone());
    let (digest, tag) = match asked {
        Asked::Digest(digest) => (*digest, None),
        Asked::Tag(tag) | Asked::Both(_, tag) => {
            let text = tags::find(tx, repository.id, tag.as_str())?.ok_or_else(missing)?;
            (stored("digest", &text)?, Some(tag.clone()))
        }
    };
    if matches!(asked, Asked::Both(wanted, _) if *wanted != digest) {
        return Err(missing());
    }
    let row = manifests::find(tx, repository.id, &digest.to_string())?.ok_or_else(missing)?;
    Ok((ImageRef { digest, tag }, row))
}

/// Whether an image may go to a class.
fn check(
    tx: &mut Tx<'_>,
    repository: &Repository,
    id: &ImageId,
    row: &ManifestRow,
    class: StorageClass,
) -> Result<(), RegistryError> {
    let reason = match (class, status(row)?) {
        (StorageClass::Archive, ImageStatus::Active) => {
            let parents = archive::unarchived_parents(tx, repository.id, &row.digest)?;
            if parents.is_empty() {
                return Ok(());
            }
            format!("the image is referenced by manifest list: [{}]", parents.join(", "))
        }
        (StorageClass::Standard, ImageStatus::Archived) => return Ok(()),
        (StorageClass::Archive, ImageStatus::Archived) => "the image is archived already".to_owned(),
        (StorageClass::Standard, ImageStatus::Active) => "the image is active already".to_owned(),
        (_, ImageStatus::Activating) => "the image is being restored".to_owned(),
    };
    Err(RegistryError::StorageClassUpdateNotSupported {
        repository: repository.name.clone(),
        id: id.clone(),
        class: class.as_str(),
        reason,
    })
}

/// Archives an active image that no index needs, and the referrers of what is archived, but for those that an index
/// needs, or that run, where a lifecycle `rule` and nobody by hand does it. Answers them all. `moves`: there is a second store that their content goes to.
pub(crate) fn archive(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
    rule: Option<u64>,
    moves: bool,
) -> Result<Vec<Digest>, RegistryError> {
    let (id, now) = (repository.id, tx.now_micros());
    let mut archived = Vec::new();
    let mut left = vec![digest.to_owned()];
    while let Some(next) = left.pop() {
        if rule.is_some() && !holders_with_relatives(tx, repository, &next)?.is_empty() {
            continue;
        }
        if !archive::unarchived_parents(tx, id, &next)?.is_empty() || !manifests::archive(tx, id, &next, now)?
        {
            continue;
        }
        note(tx, repository, &next, StorageClass::Archive, rule)?;
        if moves {
            jobs::put(tx, ARCHIVE, &job_key(id, &next), now)?;
        }
        left.extend(lifecycle::referrers(tx, id, &next)?);
        archived.push(stored("digest", &next)?);
    }
    Ok(archived)
}

/// Begins to bring an archived image back with all that belongs to it: `ACTIVATING`, and a job that ends it.
fn begin_activation(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<Vec<Digest>, RegistryError> {
    let now = tx.now_micros();
    jobs::put(tx, RESTORE, &job_key(repository.id, digest), now)?;
    walk(tx, repository, digest, |tx, next| Ok(archive::begin_activation(tx, repository.id, next)?))
}

/// Makes an image active with all that belongs to it; answers those that were not.
pub(crate) fn activate(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<Vec<Digest>, RegistryError> {
    let now = tx.now_micros();
    walk(tx, repository, digest, |tx, next| {
        let changed = archive::activate(tx, repository.id, next, now)?;
        if changed {
            note(tx, repository, next, StorageClass::Standard, None)?;
            note_activation(tx, repository, next, ImageStatus::Active)?;
        }
        Ok(changed)
    })
}

/// Leaves an image in the archive whose content did not come back.
pub(crate) fn give_up_activation(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<Vec<Digest>, RegistryError> {
    walk(tx, repository, digest, |tx, next| {
        let changed = archive::give_up_activation(tx, repository.id, next)?;
        if changed {
            note_activation(tx, repository, next, ImageStatus::Archived)?;
        }
        Ok(changed)
    })
}

/// Changes an image, the images it names and the referrers of all of them, as far as `change` says that it did something;
/// beyond the first it goes on from those only.
fn walk(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
    mut change: impl FnMut(&mut Tx<'_>, &str) -> Result<bool, RegistryError>,
) -> Result<Vec<Digest>, RegistryError> {
    let mut changed = Vec::new();
    let mut left = vec![digest.to_owned()];
    let mut first = true;
    while let Some(next) = left.pop() {
        let done = change(tx, &next)?;
        if done {
            changed.push(stored("digest", &next)?);
        }
        if done || first {
            left.extend(manifests::children(tx, repository.id, &next)?);
            left.extend(lifecycle::referrers(tx, repository.id, &next)?);
        }
        first = false;
    }
    Ok(changed)
}

/// After an image was put or came back from the trash: whatever it names is active with it, and content that lies in the
/// archive comes home. Answers which images became active.
pub(crate) fn settle_put(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<Vec<Digest>, RegistryError> {
    let id = repository.id;
    let activated = match archive::has_inactive(tx, id)? {
        true => activate(tx, repository, digest)?,
        false => Vec::new(),
    };
    if archive::is_used(tx)? && !archive::blobs_in(tx, id, digest, Place::Archive)?.is_empty() {
        let now = tx.now_micros();
        jobs::put(tx, RESTORE, &job_key(id, digest), now)?;
    }
    Ok(activated)
}

/// After an image was deleted that had these blobs: those that only archived images of the repository need now follow them.
/// What images of other repositories need is found by the daily sweep.
pub(crate) fn settle_deleted(
    tx: &mut Tx<'_>,
    repository: &Repository,
    blobs: &[String],
) -> Result<(), RegistryError> {
    let (id, now) = (repository.id, tx.now_micros());
    for blob in blobs {
        if let Some(image) = archive::archived_user_of(tx, id, blob)? {
            jobs::put(tx, ARCHIVE, &job_key(id, &image), now)?;
        }
    }
    Ok(())
}

/// The key of an image's jobs.
pub(crate) fn job_key(repository_id: i64, digest: &str) -> String {
    format!("{repository_id}/{digest}")
}

/// ECR's event of a storage class that has changed.
fn note(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
    class: StorageClass,
    rule: Option<u64>,
) -> Result<(), RegistryError> {
    let Some(row) = manifests::find(tx, repository.id, digest)? else { return Ok(()) };
    let mut detail = json!({
        "result": "SUCCESS",
        "action-type": "UPDATE_STORAGE_CLASS",
        "target-storage-class": class.as_str(),
        "repository-name": repository.name.name.as_str(),
        "image-digest": digest,
        "manifest-media-type": row.media_type,
    });
    if let Some(artifact) = &row.artifact_type {
        detail["artifact-media-type"] = json!(artifact);
    }
    if let (StorageClass::Standard, Some(at)) = (class, row.activated_at) {
        detail["last-activated-at"] = json!(Timestamp::from_micros(at).to_rfc3339());
    }
    if let Some(rule) = rule {
        detail["lifecycle-rule-priority"] = json!(rule);
    }
    let kind = if row.subject.is_some() { "ECR Referrer Action" } else { "ECR Image Action" };
    let (account, region) = (&repository.name.registry.account, &repository.name.registry.region);
    Ok(events::insert(tx, account.as_str(), region.as_str(), kind, &detail.to_string())?)
}

/// CloudTrail's record of a restore that has ended.
fn note_activation(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
    status: ImageStatus,
) -> Result<(), RegistryError> {
    let result = if status == ImageStatus::Active { "SUCCESS" } else { "FAILED" };
    let details = json!({
        "repositoryName": repository.name.name.as_str(),
        "imageDigest": digest,
        "targetStorageClass": "STANDARD",
        "result": result,
        "imageStatus": status.as_str(),
    });
    service_events::note(tx, repository, By::Registry, "ImageActivationEvent", details)
}
