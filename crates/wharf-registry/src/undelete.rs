//! Undeleting: images come back from their tombstones, with content that is still in the trash or was pushed again.

use std::collections::HashSet;
use std::sync::Arc;

use wharf_store::meta::{MetaError, Tx, blobs, jobs, manifests, missing, repositories, tags, tombstones};
use wharf_types::{Digest, RepositoryRef, Tag};

use crate::archive::RESTORE;
use crate::repositories::{hold_repository, stored};
use crate::storage_class::{job_key, settle_put};
use crate::uninterrupted::uninterrupted;
use crate::{Quotas, Registry, RegistryError, Repository};

/// Tombstones read at once.
const PAGE: usize = 500;

/// What an undelete did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndeleteReport {
    /// Images that are back, children of indexes first.
    pub restored: Vec<Digest>,
    /// Tags that point at them again.
    pub tags: Vec<Tag>,
    /// Images that could not be restored, and why.
    pub skipped: Vec<(Digest, String)>,
}

/// What one transaction did.
enum Outcome {
    Restored(Vec<Tag>),
    /// Its children must come back first.
    Waits(Vec<Digest>),
}

/// Why a transaction was undone.
enum Refusal {
    Failed(RegistryError),
    Because(String),
}

impl From<MetaError> for Refusal {
    fn from(error: MetaError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Self::Failed(error)
    }
}

impl Registry {
    /// Restores the deleted images of a repository: the one with this digest, those that had this tag, or all. An image
    /// comes back whole, with the images an index names and with all its tags that do not exist now, as far as the quota
    /// of tags allows; a tag that exists is not moved. Nothing is restored of an image whose content is gone.
    ///
    /// # Errors
    /// `RepositoryNotFound`: a deleted repository has to be created again first, with the same encryption.
    pub async fn undelete(
        &self,
        repository: &RepositoryRef,
        digest: Option<&Digest>,
        tag: Option<&Tag>,
    ) -> Result<UndeleteReport, RegistryError> {
        let repository = self
            .find_repository(repository)
            .await?
            .ok_or_else(|| RegistryError::RepositoryNotFound(repository.clone()))?;
        let mut report = UndeleteReport::default();
        let mut decided = HashSet::new();
        for wanted in self.deleted_images(&repository, digest, tag).await? {
            let mut stack = vec![wanted];
            while let Some(&next) = stack.last() {
                if decided.contains(&next) {
                    stack.pop();
                    continue;
                }
                match self.restore(&repository, next).await {
                    Ok(Outcome::Restored(tags)) => {
                        for tag in &tags {
                            self.inner.images.forget_tag(repository.id, tag);
                        }
                        report.restored.push(next);
                        report.tags.extend(tags);
                    }
                    Ok(Outcome::Waits(children)) => {
                        // One may lie on the stack already and be needed here first.
                        let before = stack.len();
                        stack.extend(children.iter().filter(|child| !decided.contains(*child)));
                        if stack.len() > before {
                            continue;
                        }
                        let reason = format!("image {} that it names is gone", children[0]);
                        report.skipped.push((next, reason));
                    }
                    Err(Refusal::Because(reason)) => report.skipped.push((next, reason)),
                    Err(Refusal::Failed(error)) => return Err(error),
                }
                decided.insert(next);
                stack.pop();
            }
        }
        Ok(report)
    }

    async fn deleted_images(
        &self,
        repository: &Repository,
        digest: Option<&Digest>,
        tag: Option<&Tag>,
    ) -> Result<Vec<Digest>, RegistryError> {
        if let Some(digest) = digest {
            return Ok(vec![*digest]);
        }
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let (name, from) = (repository.name.clone(), after);
            let page = self
                .inner
                .meta
                .read_background(move |tx| {
                    let (registry, kind) = (&name.registry, name.kind.as_str());
                    let (account, region) = (registry.account.as_str(), registry.region.as_str());
                    tombstones::page(tx, account, region, kind, name.name.as_str(), from, PAGE)
                })
                .await
                .map_err(|error: MetaError| RegistryError::from(error))?;
            let Some((last, _, _)) = page.last() else { return Ok(found) };
            after = *last;
            for (_, text, tags) in page {
                if tag.is_none_or(|tag| tags.iter().any(|had| had == tag.as_str())) {
                    found.push(stored("digest", &text)?);
                }
            }
        }
    }

    async fn restore(&self, repository: &Arc<Repository>, digest: Digest) -> Result<Outcome, Refusal> {
        let (repository, now) = (Arc::clone(repository), self.inner.clock.now().as_micros());
        let quotas = self.inner.options.quotas;
        let registry = self.clone();
        uninterrupted(async move {
            let id = repository.id;
            let outcome =
                registry.inner.meta.write(move |tx| restore(tx, &repository, &digest, quotas, now)).await;
            registry.inner.images.lists.forget(id);
            registry.forget_blobs_of(id);
            Ok(outcome)
        })
        .await?
    }
}

/// Restores one image from its newest tombstone, all or nothing.
fn restore(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &Digest,
    quotas: Quotas,
    now: i64,
) -> Result<Outcome, Refusal> {
    hold_repository(tx, repository)?;
    let (id, name, text) = (repository.id, &repository.name, digest.to_string());
    let (account, region) = (name.registry.account.as_str(), name.registry.region.as_str());
    let found = tombstones::find(tx, account, region, name.kind.as_str(), name.name.as_str(), &text)?;
    let Some((tombstone, dead)) = found else {
        return Err(Refusal::Because("it is not in the trash".into()));
    };
    if dead.domain_id != repository.domain.id {
        return Err(Refusal::Because("the repository has another encryption now".into()));
    }
    if !manifests::exists(tx, id, &text)? {
        let mut absent = Vec::new();
        for child in &dead.children {
            if !manifests::exists(tx, id, child)? {
                absent.push(stored("digest", child)?);
            }
        }
        if !absent.is_empty() {
            return Ok(Outcome::Waits(absent));
        }
        for blob in &dead.blobs {
            if !blobs::relink(tx, id, repository.domain.id, blob, now)? {
                return Err(Refusal::Because(format!("blob {blob} is gone")));
            }
        }
        if repositories::count_images(tx, id, 1)? > quotas.images_per_repository {
            return Err(Refusal::Because("the repository has its maximum number of images".into()));
        }
        manifests::insert(tx, id, &dead.manifest, &dead.sealed)?;
        manifests::link_blobs(tx, id, &text, &dead.blobs)?;
        manifests::link_children(tx, id, &text, &dead.children)?;
        let late = missing::link_or_record(tx, id, &text, &dead.missing)?;
        manifests::raise_content_size(tx, id, &text, late)?;
        match dead.manifest.status.as_str() {
            "ACTIVE" => drop(settle_put(tx, repository, &text)?),
            "ACTIVATING" => jobs::put(tx, RESTORE, &job_key(id, &text), now)?,
            _ => {}
        }
    }
    let mut room = quotas.tags_per_image.saturating_sub(tags::count_of(tx, id, &text)?);
    let mut restored = Vec::new();
    for tag in &dead.tags {
        if room > 0 && tags::find(tx, id, tag)?.is_none() {
            room -= 1;
            tags::put(tx, id, tag, &text)?;
            restored.push(stored("tag", tag)?);
        }
    }
    tombstones::remove(tx, tombstone)?;
    Ok(Outcome::Restored(restored))
}
