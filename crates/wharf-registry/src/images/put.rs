//! `put_image`: the one way an image comes to be, whichever face it came through.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use wharf_store::meta::manifests::{self, ManifestRow, SealedManifest};
use wharf_store::meta::missing::{self, Missing};
use wharf_store::meta::{Tx, archive, current, push, repositories, tags};
use wharf_store::object::ObjectId;
use wharf_store::seal::ContentKeys;
use wharf_store::seal::segment::{seal_annotations, seal_small};
use wharf_types::{Digest, DigestAlgorithm, Manifest, RepositoryRef, Tag};

use crate::repositories::{hold_repository, stored, stored_mutability};
use crate::storage_class::settle_put;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, ImageStatus, Quotas, Registry, RegistryError, Repository};

/// An image to store.
#[derive(Clone, Debug)]
pub struct PutImage {
    /// The manifest.
    pub manifest: Manifest,
    /// The digest the client promised, if it did.
    pub digest: Option<Digest>,
    /// The tags to point at it; usually none or one.
    pub tags: Vec<Tag>,
}

/// What a put did.
#[derive(Clone, Debug)]
pub struct PutOutcome {
    /// The image's digest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// Whether anything is different now.
    pub changed: bool,
}

/// All that the transaction needs.
struct Work {
    repository: Arc<Repository>,
    digest: Digest,
    row: ManifestRow,
    sealed: SealedManifest,
    /// Must be in the repository, unless manifests may be sparse.
    blobs: Vec<String>,
    /// Referenced if it is in the repository.
    foreign_blobs: Vec<String>,
    children: Vec<String>,
    tags: Vec<Tag>,
    quotas: Quotas,
    /// The content that is stored does not authenticate and is to be replaced.
    damaged: bool,
    /// What is missing is waited for, not refused.
    sparse: bool,
}

impl Registry {
    /// Stores an image and points its tags at it: checks, inserts and links in one transaction. An archived image that is
    /// put again is active, with the images it names and its referrers.
    ///
    /// # Errors
    /// `ImageDigestDoesNotMatch`; `ImageTagAlreadyExists` for an immutable tag; `LayersNotFound` and
    /// `ReferencedImagesNotFound` for what it names and the repository lacks, unless manifests may be sparse;
    /// `LimitExceeded` at a quota; `Kms`; `TooLarge`. Nothing has changed then.
    pub async fn put_image(
        &self,
        at: &Authorized<RepositoryRef>,
        put: PutImage,
    ) -> Result<PutOutcome, RegistryError> {
        let limit = self.inner.options.limits.manifest;
        if put.manifest.bytes().len() as u64 > limit {
            return Err(RegistryError::TooLarge { what: "manifest", limit });
        }
        let algorithm = put.digest.map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm());
        let digest = put.manifest.digest(algorithm);
        if let Some(given) = put.digest.filter(|given| *given != digest) {
            return Err(RegistryError::ImageDigestDoesNotMatch { given, actual: digest });
        }
        let (repository, is_new) = self.put_target(at, digest, &put.tags).await?;
        self.inner.keys.check_domain(&repository.domain)?;
        let subject = put.manifest.subject().map(|subject| subject.digest);
        // Pushed again, a manifest that is damaged heals, as a layer does.
        let damaged =
            !is_new && matches!(self.load(&repository, digest).await, Err(RegistryError::Damaged(_)));
        if !is_new && !damaged && self.is_there(&repository, digest, &put.tags).await? {
            return Ok(PutOutcome { digest, subject, changed: false });
        }
        self.refuse_when_full().await?;
        let work = Work { damaged, ..self.prepare(repository.clone(), digest, &put).await? };
        let (registry, tags) = (self.clone(), put.tags);
        let changed = uninterrupted(async move {
            let blobs: Vec<String> = work.blobs.iter().chain(&work.foreign_blobs).cloned().collect();
            let stored = registry.inner.meta.write(move |tx| store(tx, &work)).await;
            // Whatever came of it: a write that failed may have reached the disk.
            for tag in &tags {
                registry.inner.images.forget_tag(repository.id, tag);
            }
            registry.inner.images.lists.forget(repository.id);
            let stored = stored?;
            if stored.beside_inactive {
                registry.forget_moved(repository.id, &stored.activated);
                for blob in blobs.iter().filter_map(|text| text.parse().ok()) {
                    registry.inner.blobs.forget(repository.id, blob);
                }
                registry.inner.jobs.wake();
            }
            Ok(stored.changed)
        })
        .await?;
        Ok(PutOutcome { digest, subject, changed })
    }

    /// Where to put an image, and whether it is known not to be there: in one look where there is something to look for
    /// anyway.
    async fn put_target(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: Digest,
        tags: &[Tag],
    ) -> Result<(Arc<Repository>, bool), RegistryError> {
        if !self.has_peers() {
            return Ok((self.repository(at).await?, false));
        }
        let (ticket, name) = (self.repository_ticket(), at.target());
        let (of, text) = (name.clone(), digest.to_string());
        let tag = tags.first().map(Tag::to_string).unwrap_or_default();
        let found = self.inner.meta.read_quick(move |tx| current::target(tx, &of, &text, &tag)).await;
        let found = found.map_err(RegistryError::from)?;
        let found = found.ok_or_else(|| RegistryError::RepositoryNotFound(name.clone()))?;
        let repository = self.remember_repository(ticket, name, found.repository).await?;
        Ok((repository, found.status.is_none()))
    }

    /// Whether the put would change nothing: told without a write, since most pushes of CI repeat an image.
    async fn is_there(
        &self,
        repository: &Repository,
        digest: Digest,
        wanted: &[Tag],
    ) -> Result<bool, RegistryError> {
        let (id, text, wanted) = (repository.id, digest.to_string(), wanted.to_vec());
        let read = move |tx: &mut Tx<'_>| {
            let row = manifests::find(tx, id, &text)?;
            if row.is_none_or(|row| row.status != ImageStatus::Active.as_str()) {
                return Ok(false);
            }
            for tag in &wanted {
                if tags::find(tx, id, tag.as_str())?.as_deref() != Some(text.as_str()) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.inner.meta.read_quick(read).await
    }

    async fn prepare(
        &self,
        repository: Arc<Repository>,
        digest: Digest,
        put: &PutImage,
    ) -> Result<Work, RegistryError> {
        let manifest = &put.manifest;
        let keys = self.inner.keys.content_keys(&self.inner.meta, &repository.domain).await?;
        let seal_id = ObjectId::random();
        let content = match &keys.keys {
            Some(keys) => seal_small(keys, seal_id, manifest.bytes())
                .map_err(|error| RegistryError::Internal(format!("sealing a manifest: {error}")))?,
            None => manifest.bytes().to_vec(),
        };
        let (foreign, own): (Vec<_>, Vec<_>) = manifest.blobs().into_iter().partition(|blob| blob.foreign);
        let annotations = match manifest.subject() {
            Some(_) => kept_annotations(manifest, keys.keys.as_ref(), seal_id)?,
            None => None,
        };
        let row = ManifestRow {
            digest: digest.to_string(),
            media_type: manifest.media_type().to_string(),
            artifact_type: manifest.artifact_type().map(str::to_owned),
            subject: manifest.subject().map(|subject| subject.digest.to_string()),
            annotations,
            size: stored_size(manifest.bytes().len() as u64),
            content_size: stored_size(manifest.content_size()),
            status: ImageStatus::Active.as_str().into(),
            pushed_at: self.inner.clock.now().as_micros(),
            pulled_at: None,
            archived_at: None,
            activated_at: None,
        };
        Ok(Work {
            repository,
            digest,
            row,
            sealed: SealedManifest { keys: keys.wrapped, seal_id: seal_id.to_string(), content },
            blobs: own.iter().map(|blob| blob.digest.to_string()).collect(),
            foreign_blobs: foreign.iter().map(|blob| blob.digest.to_string()).collect(),
            children: manifest.children().iter().map(|child| child.digest.to_string()).collect(),
            tags: put.tags.clone(),
            quotas: self.inner.options.quotas,
            damaged: false,
            sparse: self.inner.options.sparse_manifests,
        })
    }
}

/// The annotations as they are kept for lists of referrers: JSON, sealed as the manifest is. `None` = none.
fn kept_annotations(
    manifest: &Manifest,
    keys: Option<&ContentKeys>,
    seal_id: ObjectId,
) -> Result<Option<String>, RegistryError> {
    if manifest.annotations().is_empty() {
        return Ok(None);
    }
    let internal =
        |error: &dyn std::fmt::Display| RegistryError::Internal(format!("keeping annotations: {error}"));
    let text = serde_json::to_string(manifest.annotations()).map_err(|error| internal(&error))?;
    let Some(keys) = keys else { return Ok(Some(text)) };
    let sealed = seal_annotations(keys, seal_id, text.as_bytes()).map_err(|error| internal(&error))?;
    Ok(Some(STANDARD_NO_PAD.encode(sealed)))
}

/// Sizes are client text: what does not fit the store's integers is as large as they get.
fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// What the transaction did.
struct Stored {
    changed: bool,
    /// Images that were archived and are active now.
    activated: Vec<Digest>,
    /// The repository had archived images: blobs that only they named may be pulled now.
    beside_inactive: bool,
}

/// The transaction.
fn store(tx: &mut Tx<'_>, work: &Work) -> Result<Stored, RegistryError> {
    if let Some(stored) = store_new(tx, work)? {
        return Ok(stored);
    }
    hold_repository(tx, &work.repository)?;
    let beside_inactive = archive::has_inactive(tx, work.repository.id)?;
    let moved = check_tags(tx, work)?;
    let is_new = !manifests::exists(tx, work.repository.id, &work.row.digest)?;
    if is_new {
        insert(tx, work)?;
    } else if work.damaged {
        manifests::replace_content(tx, work.repository.id, &work.row, &work.sealed)?;
    }
    for (tag, from) in &moved {
        point(tx, work, tag, from.clone())?;
    }
    let most = work.quotas.tags_per_image;
    if !moved.is_empty() && tags::count_of(tx, work.repository.id, &work.row.digest)? > most {
        return Err(RegistryError::LimitExceeded(format!(
            "The image with digest '{}' already has the maximum number of tags ({most})",
            work.digest
        )));
    }
    let activated = settle_put(tx, &work.repository, &work.row.digest)?;
    let changed = is_new || work.damaged || !moved.is_empty() || !activated.is_empty();
    Ok(Stored { changed, activated, beside_inactive })
}

/// Stores an image that is new to its repository and where nothing is out of the ordinary, in as few statements as can
/// be; else `None`, and nothing has changed.
fn store_new(tx: &mut Tx<'_>, work: &Work) -> Result<Option<Stored>, RegistryError> {
    let named = work.blobs.len() + work.foreign_blobs.len();
    let ([] | [_]) = work.tags[..] else { return Ok(None) };
    if !work.children.is_empty() || named > push::MOST_BLOBS || work.quotas.tags_per_image == 0 {
        return Ok(None);
    }
    let (id, digest) = (work.repository.id, work.row.digest.as_str());
    let tag = work.tags.first();
    let found = push::look(tx, id, digest, tag.map_or("", Tag::as_str))?;
    let found = found.ok_or_else(|| RegistryError::RepositoryNotFound(work.repository.name.clone()))?;
    if !found.is_plain || found.images >= work.quotas.images_per_repository {
        return Ok(None);
    }
    if let (Some(tag), Some(_)) = (tag, &found.tag)
        && !stored_mutability(&found.mutability, &found.exclusions)?.may_move(tag)
    {
        return Ok(None);
    }
    let blobs: BTreeSet<&str> = work.blobs.iter().chain(&work.foreign_blobs).map(String::as_str).collect();
    let blobs: Vec<&str> = blobs.into_iter().collect();
    let held = push::hold_blobs(tx, id, &blobs)?;
    let is_held = |blob: &String| held.binary_search_by(|(held, _)| held.cmp(blob)).is_ok();
    if !work.blobs.iter().all(is_held) {
        return Ok(None);
    }
    push::insert(tx, id, &work.row, &work.sealed, &held)?;
    if let Some(tag) = tag {
        push::point(tx, id, tag.as_str(), digest)?;
    }
    Ok(Some(Stored { changed: true, activated: Vec::new(), beside_inactive: false }))
}

/// The tags that would be created or moved, with what they point at; refuses to move one that may not.
fn check_tags<'a>(tx: &mut Tx<'_>, work: &'a Work) -> Result<Vec<(&'a Tag, Option<String>)>, RegistryError> {
    let mut moved = Vec::new();
    for tag in &work.tags {
        let current = tags::find(tx, work.repository.id, tag.as_str())?;
        if current.as_ref() != Some(&work.row.digest) {
            may_move(tx, work, tag, current.as_deref())?;
            moved.push((tag, current));
        }
    }
    Ok(moved)
}

/// Refuses to move a tag from where it points, unless it may move.
fn may_move(tx: &mut Tx<'_>, work: &Work, tag: &Tag, current: Option<&str>) -> Result<(), RegistryError> {
    if current.is_none() {
        return Ok(());
    }
    // Read here, not from the cache: the setting must hold in the transaction that moves the tag.
    let (name, exclusions) = repositories::mutability(tx, work.repository.id)?;
    if !stored_mutability(&name, &exclusions)?.may_move(tag) {
        let repository = work.repository.name.clone();
        return Err(RegistryError::ImageTagAlreadyExists { repository, tag: tag.clone() });
    }
    Ok(())
}

/// Moves a tag from where it was seen to point. Where another node has moved it since, it is looked at again: of two
/// pushes of an immutable tag at the same time one is refused.
fn point(tx: &mut Tx<'_>, work: &Work, tag: &Tag, mut from: Option<String>) -> Result<(), RegistryError> {
    let (id, digest) = (work.repository.id, &work.row.digest);
    while !tags::point(tx, id, tag.as_str(), from.as_deref(), digest)? {
        from = tags::find(tx, id, tag.as_str())?;
        if from.as_ref() == Some(digest) {
            return Ok(());
        }
        may_move(tx, work, tag, from.as_deref())?;
    }
    Ok(())
}

fn insert(tx: &mut Tx<'_>, work: &Work) -> Result<(), RegistryError> {
    let id = work.repository.id;
    let most = work.quotas.images_per_repository;
    if repositories::count_images(tx, id, 1)? > most {
        return Err(RegistryError::LimitExceeded(format!(
            "The repository with name '{}' in the registry with id '{}' already has the maximum number of images ({most})",
            work.repository.name.name, work.repository.name.registry.account
        )));
    }
    manifests::insert(tx, id, &work.row, &work.sealed)?;
    let blobs = manifests::link_blobs(tx, id, &work.row.digest, &work.blobs)?;
    if !blobs.is_empty() && !work.sparse {
        return Err(RegistryError::LayersNotFound(work.repository.name.clone(), digests(&blobs)?));
    }
    manifests::link_blobs(tx, id, &work.row.digest, &work.foreign_blobs)?;
    let (children, largest) = manifests::link_children(tx, id, &work.row.digest, &work.children)?;
    if !children.is_empty() && !work.sparse {
        return Err(RegistryError::ReferencedImagesNotFound(
            work.repository.name.clone(),
            digests(&children)?,
        ));
    }
    let missing = Missing { blobs, manifests: children };
    let late = missing::link_or_record(tx, id, &work.row.digest, &missing)?;
    if !work.children.is_empty() {
        manifests::raise_content_size(tx, id, &work.row.digest, largest.max(late))?;
    }
    Ok(())
}

fn digests(texts: &[String]) -> Result<Vec<Digest>, RegistryError> {
    texts.iter().map(|text| stored("digest", text)).collect()
}
