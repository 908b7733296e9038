//! Collection: what nothing refers to goes to the trash, what was long in the trash goes for good. Online, in small
//! transactions, each of which looks again before it acts; it can stop after any of them.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wharf_store::meta::objects::{self, Doomed, Place};
use wharf_store::meta::{MetaError, Tx, accounts, blobs, jobs, tombstones, uploads};
use wharf_store::object::{ObjectId, ObjectStore};
use wharf_types::Timestamp;

use crate::{Progress, Registry, RegistryError};

/// Rows that one transaction changes.
const BATCH: usize = 100;
/// Keys that one look at the object store lists.
const PAGE: usize = 500;
/// How long a key nobody has named must have been seen before it is removed.
const SAFE_AGE: Duration = Duration::from_secs(3600);
/// How often the background collector looks through the whole object store.
const RECONCILE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// What the turn to collect is called among the leases.
const COLLECTION: &str = "collection";
/// Unknown keys that are remembered from one look to the next.
const REMEMBERED: usize = 100_000;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CollectReport {
    /// Uploads given up.
    pub uploads_expired: u64,
    /// Links from repositories to blobs dropped.
    pub links_dropped: u64,
    /// Blobs whose last link went.
    pub blobs_trashed: u64,
    /// Their stored bytes.
    pub bytes_trashed: u64,
    /// Objects removed for good.
    pub objects_deleted: u64,
    /// Their stored bytes.
    pub bytes_deleted: u64,
    /// Deleted images that can no longer be restored.
    pub tombstones_dropped: u64,
    /// Keys in the object store that no row names, removed or waiting to be.
    pub unknown_objects: u64,
}

/// What the collector remembers between two runs.
#[derive(Default)]
pub(crate) struct Collector {
    /// Held by the one run; keys that no row named, with when they were first seen.
    unknown: tokio::sync::Mutex<HashMap<ObjectId, Timestamp>>,
}

impl Collector {
    /// Keeps the collector from running for as long as the answer lives.
    pub async fn pause(&self) -> impl Drop {
        self.unknown.lock().await
    }
}

impl Registry {
    /// Collects once. Runs wait for each other.
    ///
    /// # Errors
    /// A failure of a store; what was done until then is done, and the next run goes on.
    pub async fn collect(&self, progress: &dyn Progress) -> Result<CollectReport, RegistryError> {
        let mut unknown = self.inner.collector.unknown.lock().await;
        let mut report = CollectReport::default();
        self.collect_rows(progress, &mut report).await?;
        self.reconcile(&mut unknown, progress, &mut report).await?;
        Ok(report)
    }

    /// Collects every so often until the registry is closed.
    pub(crate) fn start_collector(&self, every: Duration) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            let mut reconciled = registry.inner.clock.now();
            loop {
                tokio::select! {
                    () = registry.inner.stop.cancelled() => return,
                    () = tokio::time::sleep(every) => {}
                }
                if !registry.may_collect(every).await {
                    continue;
                }
                let mut unknown = registry.inner.collector.unknown.lock().await;
                let mut report = CollectReport::default();
                let mut outcome = registry.collect_rows(&(), &mut report).await;
                let now = registry.inner.clock.now();
                if outcome.is_ok() && now >= reconciled.plus(RECONCILE_EVERY) {
                    reconciled = now;
                    outcome = registry.reconcile(&mut unknown, &(), &mut report).await;
                }
                match outcome {
                    Ok(()) => tracing::debug!(?report, "collected"),
                    Err(error) => tracing::warn!(%error, "collection broke off and will be tried again"),
                }
            }
        });
    }

    /// Whether it is this node's turn to collect. Nodes may collect at the same time and do no harm; this keeps all of
    /// them from looking for the same things every time.
    async fn may_collect(&self, every: Duration) -> bool {
        if !self.has_peers() {
            return true;
        }
        // Not given back: whoever comes next may go when as much time has passed as between two rounds.
        let lease = i64::try_from(every.as_micros() / 2).unwrap_or(i64::MAX);
        let turn = self.change(move |tx| jobs::take_turn(tx, COLLECTION, "all", lease)).await;
        turn.inspect_err(|error| tracing::warn!(%error, "collection waits for the metadata"))
            .is_ok_and(|turn| turn.is_some())
    }

    async fn collect_rows(
        &self,
        progress: &dyn Progress,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        self.drop_deleted_repositories().await?;
        self.expire_uploads(progress, report).await?;
        self.drop_links(progress, report).await?;
        self.discard_abandoned().await?;
        self.empty_trash(progress, report).await?;
        self.drop_tombstones(report).await?;
        self.forget_what_is_over().await
    }

    fn stopped(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    fn trash_cutoff(&self) -> i64 {
        self.inner.clock.now().minus(self.inner.options.trash_window).as_micros()
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, MetaError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.inner.meta.write(work).await.map_err(RegistryError::from)
    }

    /// Ids of uploads that are over, and too old to begin one.
    async fn forget_ended_uploads(&self) -> Result<(), RegistryError> {
        let before = self.inner.clock.now().minus(self.inner.options.upload_lifetime).as_seconds();
        let any = self.inner.meta.read_background(move |tx| uploads::ended_before(tx, before)).await;
        let mut more = any.map_err(RegistryError::from)?;
        while more && !self.stopped() {
            more = self.change(move |tx| uploads::forget_ended(tx, before, BATCH)).await? == BATCH as u64;
        }
        Ok(())
    }

    /// Uploads that did not move for too long, except those that a request of this process is writing to.
    async fn expire_uploads(
        &self,
        progress: &dyn Progress,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        let mut limit = BATCH;
        while !self.stopped() {
            let now = self.inner.clock.now().as_micros();
            let due = self.inner.meta.read_background(move |tx| uploads::expired(tx, now, limit)).await;
            let due = due.map_err(RegistryError::from)?;
            let claims: Vec<_> =
                due.iter().filter_map(|id| Some((*id, self.inner.uploads.try_claim(*id)?))).collect();
            let free: Vec<_> = claims.iter().map(|(id, _)| *id).collect();
            for part in free.chunks(BATCH) {
                let part = part.to_vec();
                let expired = self.change(move |tx| {
                    part.iter().try_fold(0, |sum, id| Ok(sum + u64::from(uploads::expire(tx, *id, now)?)))
                });
                report.uploads_expired += expired.await?;
            }
            progress.report("uploads", report.uploads_expired, 0);
            if due.len() < limit {
                return self.forget_ended_uploads().await;
            }
            // All of them busy: look past them.
            limit = if free.is_empty() { limit * 2 } else { BATCH };
        }
        Ok(())
    }

    /// Links that no manifest has needed for the grace period, and the blobs that lose their last link.
    async fn drop_links(
        &self,
        progress: &dyn Progress,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        while !self.stopped() {
            let now = self.inner.clock.now();
            let cutoff = now.minus(self.inner.options.unreferenced_grace).as_micros();
            let dropped =
                self.change(move |tx| blobs::drop_unreferenced(tx, cutoff, now.as_micros(), BATCH)).await?;
            for link in &dropped {
                if let Ok(digest) = link.digest.parse() {
                    self.inner.blobs.forget(link.repository_id, digest);
                }
                report.links_dropped += 1;
                report.blobs_trashed += u64::from(link.trashed.is_some());
                report.bytes_trashed += link.trashed.unwrap_or_default();
            }
            progress.report("links", report.links_dropped, 0);
            if dropped.len() < BATCH {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn discard_abandoned(&self) -> Result<(), RegistryError> {
        while !self.stopped() {
            let now = self.inner.clock.now().as_micros();
            if self.change(move |tx| objects::discard_abandoned(tx, now, BATCH)).await? < BATCH as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Removes for good what was in the trash for the window, and what an earlier run left half removed.
    async fn empty_trash(
        &self,
        progress: &dyn Progress,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        let mut after = String::new();
        while !self.stopped() {
            let from = after.clone();
            let left = self.inner.meta.read_background(move |tx| objects::condemned(tx, &from, BATCH)).await;
            let left = left.map_err(RegistryError::from)?;
            let Some(last) = left.last() else { break };
            after = last.id.to_string();
            self.remove(&left, report).await?;
        }
        while !self.stopped() {
            let cutoff = self.trash_cutoff();
            // Committed before the first byte goes: from here on nobody can restore them.
            let doomed = self.change(move |tx| objects::condemn(tx, cutoff, BATCH)).await?;
            self.remove(&doomed, report).await?;
            progress.report("objects", report.objects_deleted, 0);
            if doomed.len() < BATCH {
                break;
            }
        }
        Ok(())
    }

    /// Removes the bytes of condemned objects, then their rows.
    async fn remove(&self, doomed: &[Doomed], report: &mut CollectReport) -> Result<(), RegistryError> {
        if doomed.is_empty() {
            return Ok(());
        }
        for place in [Place::Main, Place::Archive] {
            let there = doomed.iter().filter(|object| !object.inline && object.place == place);
            let there: Vec<ObjectId> = there.map(|object| object.id).collect();
            if !there.is_empty() {
                self.store(place)?.delete_many(&there).await?;
            }
        }
        let ids: Vec<ObjectId> = doomed.iter().map(|object| object.id).collect();
        self.change(move |tx| objects::remove_condemned(tx, &ids)).await?;
        let bytes = doomed.iter().map(|object| object.stored_size).sum::<u64>();
        report.objects_deleted += doomed.len() as u64;
        report.bytes_deleted += bytes;
        self.inner.stats.objects_collected.fetch_add(doomed.len() as u64, Relaxed);
        self.inner.stats.bytes_collected.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Removes one trashed object now: what a failed upload left.
    pub(crate) async fn sweep_object(&self, id: ObjectId) -> Result<(), RegistryError> {
        let doomed = self.change(move |tx| objects::condemn_one(tx, id)).await?;
        self.remove(doomed.as_slice(), &mut CollectReport::default()).await
    }

    async fn drop_tombstones(&self, report: &mut CollectReport) -> Result<(), RegistryError> {
        while !self.stopped() {
            let cutoff = self.trash_cutoff();
            let dropped = self.change(move |tx| tombstones::drop_old(tx, cutoff, BATCH)).await?;
            report.tombstones_dropped += dropped;
            if dropped < BATCH as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Looks through the object stores for keys that no row names. Rows come before bytes, so there should be none; one
    /// that two looks at least an hour apart have found is removed. Refuses to judge a store whose marker names another
    /// deployment: metadata restored from a backup knows nothing of newer objects. Then it has the archive put in order.
    async fn reconcile(
        &self,
        unknown: &mut HashMap<ObjectId, Timestamp>,
        progress: &dyn Progress,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        let deployment = self.inner.meta.read(accounts::deployment).await.map_err(RegistryError::from)?;
        let (mut listed, mut still) = (0, HashMap::new());
        for store in self.stores() {
            let marker = store.deployment_marker().await?;
            if marker.is_none() || marker != deployment {
                return Err(RegistryError::Internal(format!(
                    "the object store belongs to deployment {marker:?}, the metadata to {deployment:?}: no unknown object is touched"
                )));
            }
            let mut after = None;
            loop {
                if self.stopped() {
                    return Ok(());
                }
                let page = store.list(after, PAGE).await?;
                listed += page.len() as u64;
                progress.report("keys", listed, 0);
                self.judge_keys(&**store, &page, unknown, &mut still, report).await?;
                match page.last() {
                    Some((last, _)) if page.len() == PAGE => after = Some(*last),
                    _ => break,
                }
            }
        }
        *unknown = still;
        self.sweep_archive().await
    }

    async fn judge_keys(
        &self,
        store: &dyn ObjectStore,
        page: &[(ObjectId, u64)],
        unknown: &HashMap<ObjectId, Timestamp>,
        still: &mut HashMap<ObjectId, Timestamp>,
        report: &mut CollectReport,
    ) -> Result<(), RegistryError> {
        let ids: Vec<ObjectId> = page.iter().map(|(id, _)| *id).collect();
        let named = self.inner.meta.read_background(move |tx| objects::named(tx, &ids)).await;
        let named = named.map_err(RegistryError::from)?;
        let now = self.inner.clock.now();
        for (id, size) in page.iter().filter(|(id, _)| !named.contains(id)) {
            report.unknown_objects += 1;
            let first_seen = unknown.get(id).copied();
            match first_seen {
                Some(seen) if now >= seen.plus(SAFE_AGE) => {
                    tracing::warn!(object.id = %id, size_bytes = size, "removing object {id}, which no row names");
                    store.delete(*id).await?;
                    report.objects_deleted += 1;
                    report.bytes_deleted += size;
                }
                _ if still.len() < REMEMBERED => {
                    still.insert(*id, first_seen.unwrap_or(now));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
