//! The second store: content that only archived images need moves there, byte for byte, and back.
//!
//! A move is a copy under a new object: its row is committed first, then the bytes are written and synced, then they are
//! read back and authenticated, then one transaction looks again at who needs the blob and puts the copy in the place of
//! the original, which is discarded. Whatever ends a move before that transaction leaves a copy that nobody points at, which
//! the collector takes; the job is done again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_store::meta::archive::{self, Belongs, BlobKey};
use wharf_store::meta::jobs::Job;
use wharf_store::meta::objects::{self, Place, StoredObject};
use wharf_store::meta::{MetaError, Tx, jobs, lifecycle, manifests};
use wharf_store::object::{ObjectError, ObjectId, ObjectStore};

use crate::jobs::{LEASE_MICROS, Outcome};
use crate::repositories::hold_repository;
use crate::scrub::Verdict;
use crate::storage_class::{activate, give_up_activation, job_key};
use crate::uninterrupted::uninterrupted;
use crate::{Registry, RegistryError, Repository};

/// Takes the content of an archived image to the archive; the key is repository id and digest.
pub(crate) const ARCHIVE: &str = "archive";
/// Brings the content of an image home, and ends its activation; the key is repository id and digest.
pub(crate) const RESTORE: &str = "restore";

/// Bytes that a copy reads at once.
const CHUNK: usize = 1 << 20;
/// How long an unfinished copy is left alone by the collector; extended with the job's lease.
const COPY_LEASE: i64 = 10 * 60 * 1_000_000;
/// How often a long copy says that it goes on.
const HOLD_EVERY: Duration = Duration::from_secs(10);
/// When content is looked at again whose key may not be used.
const LOCKED: Duration = Duration::from_secs(600);
/// Rows that one step of the sweep looks at.
const PAGE: usize = 100;

/// What became of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// It is where it belongs.
    Done,
    /// That cannot be decided or done before this time is over.
    Later(Duration),
    /// Its content is not what was stored.
    Damaged,
}

impl Registry {
    /// The store that has, or shall have, an object.
    pub(crate) fn store(&self, place: Place) -> Result<&Arc<dyn ObjectStore>, RegistryError> {
        match place {
            Place::Main => Ok(&self.inner.objects),
            Place::Archive => self.inner.archive.as_ref().ok_or_else(|| {
                RegistryError::Internal("content is in an archive that is not configured".to_owned())
            }),
        }
    }

    /// Both stores, as far as they are there.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Arc<dyn ObjectStore>> {
        [&self.inner.objects].into_iter().chain(&self.inner.archive)
    }

    /// One turn of an image's job: its blobs go where they belong, and an activation ends.
    pub(crate) async fn run_storage_job(&self, job: &Job) -> Result<Outcome, RegistryError> {
        let Some((id, digest)) = job.key.split_once('/') else { return Ok(Outcome::Finished) };
        let Some(repository) = self.repository_by_id(id.parse().unwrap_or_default()).await? else {
            return Ok(Outcome::Finished);
        };
        let (mut later, mut damaged) = (None, false);
        for blob in self.blobs_of_image(repository.id, digest).await? {
            match self.settle(&blob, job).await? {
                Settled::Done => {}
                Settled::Later(after) => later = later.max(Some(after)),
                Settled::Damaged => damaged = true,
            }
        }
        if let (Some(after), false) = (later, damaged) {
            return Ok(Outcome::Again(after));
        }
        match self.end_activation(&repository, digest, damaged, job).await {
            Err(RegistryError::RepositoryNotFound(_)) => Ok(Outcome::Finished),
            ended => ended.map(|()| Outcome::Finished),
        }
    }

    /// The blobs of an image, and those of the images that are activated with it.
    async fn blobs_of_image(&self, id: i64, digest: &str) -> Result<Vec<BlobKey>, RegistryError> {
        let digest = digest.to_owned();
        let found = self.inner.meta.read_background(move |tx| {
            let (mut blobs, mut seen) = (Vec::new(), HashSet::new());
            let mut left = vec![digest.clone()];
            while let Some(next) = left.pop() {
                let row = manifests::find(tx, id, &next)?;
                let Some(row) = row.filter(|row| next == digest || row.status == "ACTIVATING") else {
                    continue;
                };
                if !seen.insert(next.clone()) {
                    continue;
                }
                for place in [Place::Main, Place::Archive] {
                    blobs.extend(archive::blobs_in(tx, id, &next, place)?);
                }
                if row.status == "ACTIVATING" {
                    left.extend(manifests::children(tx, id, &next)?);
                    left.extend(lifecycle::referrers(tx, id, &next)?);
                }
            }
            Ok(blobs)
        });
        found.await.map_err(|error: MetaError| error.into())
    }

    /// Makes an image active whose content is home, or leaves it archived where that is damaged.
    async fn end_activation(
        &self,
        repository: &Arc<Repository>,
        digest: &str,
        damaged: bool,
        job: &Job,
    ) -> Result<(), RegistryError> {
        let (registry, repository) = (self.clone(), Arc::clone(repository));
        let (digest, job) = (digest.to_owned(), job.clone());
        uninterrupted(async move {
            let id = repository.id;
            let change = move |tx: &mut Tx<'_>| {
                let row = manifests::find(tx, id, &digest)?;
                if row.is_none_or(|row| row.status != "ACTIVATING") {
                    return Ok(Vec::new());
                }
                hold_repository(tx, &repository)?;
                hold(tx, &job)?;
                match damaged {
                    true => give_up_activation(tx, &repository, &digest),
                    false => activate(tx, &repository, &digest),
                }
            };
            let moved = registry.inner.meta.write(change).await;
            registry.inner.images.lists.forget(id);
            registry.forget_moved(id, &moved?);
            Ok(())
        })
        .await
    }

    /// Sees a blob's content to where it belongs.
    async fn settle(&self, blob: &BlobKey, job: &Job) -> Result<Settled, RegistryError> {
        if self.inner.archive.is_none() {
            return Ok(Settled::Done);
        }
        let key = blob.clone();
        let found = self.inner.meta.read_background(move |tx| {
            Ok((archive::object_of_blob(tx, key.0, &key.1)?, archive::belongs(tx, key.0, &key.1)?))
        });
        let (object, belongs) = found.await.map_err(|error: MetaError| RegistryError::from(error))?;
        let Some(object) = object else { return Ok(Settled::Done) };
        let target = match belongs {
            Belongs::Main => Place::Main,
            Belongs::Archive => Place::Archive,
            Belongs::Anywhere => object.place,
            Belongs::Undecided(_) if object.place == Place::Archive => object.place,
            Belongs::Undecided(asked) => {
                let decided = asked.saturating_add(self.grace_micros());
                let rest = decided.saturating_sub(self.inner.clock.now().as_micros());
                return Ok(Settled::Later(Duration::from_micros(rest.max(1_000_000).unsigned_abs())));
            }
        };
        if object.place == target {
            return Ok(Settled::Done);
        }
        self.relocate(blob, object, target, job).await
    }

    fn grace_micros(&self) -> i64 {
        i64::try_from(self.inner.options.unreferenced_grace.as_micros()).unwrap_or(i64::MAX)
    }

    /// Moves one object.
    async fn relocate(
        &self,
        blob: &BlobKey,
        from: StoredObject,
        target: Place,
        job: &Job,
    ) -> Result<Settled, RegistryError> {
        let (copy, lease) = (ObjectId::random(), job.clone());
        let begin = move |tx: &mut Tx<'_>| {
            hold(tx, &lease)?;
            let until = tx.now_micros().saturating_add(COPY_LEASE);
            Ok::<_, RegistryError>(objects::insert_copy(tx, copy, &from, target, until)?)
        };
        if !self.inner.meta.write(begin).await? {
            return Ok(Settled::Later(Duration::ZERO));
        }
        let moved = match self.copy(&from, copy, target, job).await {
            Ok(Settled::Done) => self.take_over(blob, from, copy, target, job).await,
            other => other,
        };
        if moved.as_ref().is_ok_and(|moved| *moved == Settled::Done) {
            return moved;
        }
        // Unless the copy is in use after all: a transaction that seemed to fail may have been committed.
        let given_up = self.inner.meta.write(move |tx| objects::give_up_copy(tx, copy)).await;
        given_up.map_err(|error: MetaError| RegistryError::from(error))?;
        self.sweep_object(copy).await?;
        moved
    }

    /// Writes the copy, syncs it, and reads it back.
    async fn copy(
        &self,
        from: &StoredObject,
        copy: ObjectId,
        target: Place,
        job: &Job,
    ) -> Result<Settled, RegistryError> {
        let source = match self.store(from.place)?.open(from.id).await {
            Err(ObjectError::NotFound(_)) => return self.judge_original(from.id).await,
            source => source?,
        };
        let mut writer = self.store(target)?.create(copy).await?;
        let (mut at, mut held) = (0, Instant::now());
        while at < source.size() {
            if self.inner.stop.is_cancelled() {
                return Ok(Settled::Later(Duration::ZERO));
            }
            let chunk = source.read_at(at, CHUNK.max(source.window())).await?;
            if chunk.is_empty() {
                break;
            }
            at += chunk.len() as u64;
            writer.append(chunk).await?;
            if held.elapsed() > HOLD_EVERY {
                self.hold_copy(copy, job).await?;
                held = Instant::now();
            }
        }
        writer.finish().await?;
        self.hold_copy(copy, job).await?;
        match self.verify_copy(copy, from.id).await? {
            None => Ok(Settled::Later(Duration::ZERO)),
            Some(Verdict::Sound) => Ok(Settled::Done),
            Some(Verdict::Locked) => Ok(Settled::Later(LOCKED)),
            Some(Verdict::Damaged | Verdict::Missing) => self.judge_original(from.id).await,
        }
    }

    /// Why a copy could not be made: the original is damaged and is quarantined, or the copy went wrong.
    async fn judge_original(&self, original: ObjectId) -> Result<Settled, RegistryError> {
        match self.verify_copy(original, original).await? {
            None => Ok(Settled::Later(Duration::ZERO)),
            Some(Verdict::Damaged | Verdict::Missing) => {
                self.quarantine(original).await;
                Ok(Settled::Damaged)
            }
            Some(Verdict::Sound | Verdict::Locked) => {
                Err(RegistryError::Internal(format!("the copy of object {original} is not what was copied")))
            }
        }
    }

    /// Reads a copy as the original is read. `None`: one of them is gone.
    async fn verify_copy(&self, copy: ObjectId, of: ObjectId) -> Result<Option<Verdict>, RegistryError> {
        let found = self.inner.meta.read_background(move |tx| objects::find_copy(tx, copy, of)).await;
        let Some(object) = found.map_err(|error: MetaError| RegistryError::from(error))? else {
            return Ok(None);
        };
        let domains = self.all_domains().await?;
        let domain = crate::scrub::domain(&domains, object.domain_id)?;
        Ok(Some(self.verify_object(domain, object).await?))
    }

    /// Extends the leases of a job and of the copy that it makes.
    async fn hold_copy(&self, copy: ObjectId, job: &Job) -> Result<(), RegistryError> {
        let job = job.clone();
        let extend = move |tx: &mut Tx<'_>| {
            hold(tx, &job)?;
            let until = tx.now_micros().saturating_add(COPY_LEASE);
            objects::extend_writing(tx, copy, until).map_err(RegistryError::from)
        };
        match self.inner.meta.write(extend).await? {
            true => Ok(()),
            false => Err(RegistryError::Internal(format!("copy {copy} was given up"))),
        }
    }

    /// Puts a verified copy in the place of its original, if that is still where the blob belongs.
    async fn take_over(
        &self,
        blob: &BlobKey,
        from: StoredObject,
        copy: ObjectId,
        target: Place,
        job: &Job,
    ) -> Result<Settled, RegistryError> {
        let (registry, blob, job) = (self.clone(), blob.clone(), job.clone());
        uninterrupted(async move {
            let change = move |tx: &mut Tx<'_>| {
                hold(tx, &job)?;
                // Locked before the look, so that what is decided here is still so when it is written.
                let current = archive::object_of_blob(tx, blob.0, &blob.1)?;
                let wanted = match archive::belongs(tx, blob.0, &blob.1)? {
                    Belongs::Main => Some(Place::Main),
                    Belongs::Archive => Some(Place::Archive),
                    Belongs::Undecided(_) | Belongs::Anywhere => None,
                };
                if current != Some(from) || wanted != Some(target) {
                    return Ok(false);
                }
                Ok::<_, RegistryError>(archive::replace_object(tx, &blob, &from, copy)?)
            };
            let replaced = registry.inner.meta.write(change).await;
            registry.inner.blobs.forget_object(from.id);
            Ok(if replaced? { Settled::Done } else { Settled::Later(Duration::ZERO) })
        })
        .await
    }

    /// Looks for images whose content is not where it belongs, and for activations without a job, and puts the jobs: for
    /// what changed by ways that put none, and for images that were archived before there was an archive.
    pub(crate) async fn sweep_archive(&self) -> Result<(), RegistryError> {
        let moves = self.inner.archive.is_some();
        let mut after = (0, String::new());
        while !self.inner.stop.is_cancelled() {
            let from = after.clone();
            let found = self.inner.meta.read_background(move |tx| {
                let page = archive::inactive(tx, (from.0, &from.1), PAGE)?;
                let last = page.last().map(|(image, _)| image.clone());
                let mut wanted = Vec::new();
                for ((id, digest), status) in page {
                    if status == "ACTIVATING" {
                        wanted.push((RESTORE, job_key(id, &digest)));
                    } else if moves && has_content_to_archive(tx, id, &digest)? {
                        wanted.push((ARCHIVE, job_key(id, &digest)));
                    }
                }
                Ok((last, wanted))
            });
            let (last, wanted) = found.await.map_err(|error: MetaError| RegistryError::from(error))?;
            self.put_jobs(wanted).await?;
            let Some(last) = last else { break };
            after = last;
        }
        let mut after = String::new();
        while moves && !self.inner.stop.is_cancelled() {
            let from = after.clone();
            let found = self.inner.meta.read_background(move |tx| {
                let page = archive::archived_blobs(tx, &from, PAGE)?;
                let last = page.last().map(|(object, _)| object.clone());
                let mut wanted = Vec::new();
                for (_, (domain_id, digest)) in page {
                    let user = archive::user_of(tx, domain_id, &digest)?;
                    wanted.extend(user.map(|(id, image)| (RESTORE, job_key(id, &image))));
                }
                Ok((last, wanted))
            });
            let (last, wanted) = found.await.map_err(|error: MetaError| RegistryError::from(error))?;
            self.put_jobs(wanted).await?;
            let Some(last) = last else { break };
            after = last;
        }
        self.inner.jobs.wake();
        Ok(())
    }

    async fn put_jobs(&self, wanted: Vec<(&'static str, String)>) -> Result<(), RegistryError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let put = move |tx: &mut Tx<'_>| {
            let now = tx.now_micros();
            wanted.iter().try_for_each(|(kind, key)| jobs::put(tx, kind, key, now))
        };
        self.inner.meta.write(put).await.map_err(|error: MetaError| error.into())
    }
}

fn has_content_to_archive(tx: &mut Tx<'_>, id: i64, digest: &str) -> Result<bool, MetaError> {
    for (domain_id, blob) in archive::blobs_in(tx, id, digest, Place::Main)? {
        if archive::belongs(tx, domain_id, &blob)? == Belongs::Archive {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Extends the lease of a job.
///
/// # Errors
/// When somebody else has taken the job over.
fn hold(tx: &mut Tx<'_>, job: &Job) -> Result<(), RegistryError> {
    match jobs::hold(tx, job, LEASE_MICROS)? {
        true => Ok(()),
        false => Err(RegistryError::Internal("the lease of a job was lost".to_owned())),
    }
}
