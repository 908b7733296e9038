//! What this process knows about uploads beyond their rows: who writes to which, and which it finished lately.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::OwnedMutexGuard;
use wharf_types::{Digest, UploadId};

use crate::RegistryError;

/// Finished uploads that are remembered for clients that lost the answer.
const REMEMBERED: u64 = 4096;
/// How long ample free space is believed.
const PLENTY: Duration = Duration::from_secs(1);

/// An upload that this process has tried to finish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finishing {
    pub(super) repository_id: i64,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Uploads under way in this process.
pub(crate) struct ActiveUploads {
    /// Tells ids of one second apart.
    issued: AtomicU32,
    holders: Arc<Mutex<HashMap<UploadId, Arc<Holder>>>>,
    finishing: Cache<UploadId, Finishing>,
    plenty_until: Mutex<Option<Instant>>,
}

/// Who has an upload.
#[derive(Debug, Default)]
struct Holder {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The request is over; what it left is being removed, which takes a moment.
    cleaning: AtomicBool,
}

impl Default for ActiveUploads {
    fn default() -> Self {
        Self {
            // Another process may have issued some in this second.
            issued: AtomicU32::new(RandomState::new().hash_one(0) as u32),
            holders: Arc::default(),
            finishing: Cache::new(REMEMBERED),
            plenty_until: Mutex::default(),
        }
    }
}

/// The right to write to one upload, until dropped. Rows are guarded by compare-and-set besides, so this only keeps
/// two requests from spoiling each other's work.
#[derive(Debug)]
pub(crate) struct Claim {
    id: UploadId,
    holder: Arc<Holder>,
    holders: Arc<Mutex<HashMap<UploadId, Arc<Holder>>>>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Claim {
    /// Says that the request is over and only cleans up: the next one may wait for it.
    pub(super) fn cleans_up(&self) {
        self.holder.cleaning.store(true, Ordering::SeqCst);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut holders = lock(&self.holders);
        self.holder.cleaning.store(false, Ordering::SeqCst);
        drop(self.turn.take());
        // The map and we: nobody waits for the turn.
        if Arc::strong_count(&self.holder) == 2 {
            holders.remove(&self.id);
        }
        // Whoever was refused at this moment left an entry behind; there are never many.
        if holders.len() > 64 {
            holders.retain(|_, holder| Arc::strong_count(holder) > 1);
        }
    }
}

impl ActiveUploads {
    /// Takes an upload for one request, after the cleanup of one that failed.
    ///
    /// # Errors
    /// `UploadBusy` while another request has it.
    pub(crate) async fn claim(&self, id: UploadId) -> Result<Claim, RegistryError> {
        let holder = self.holder(id);
        let turn = match Arc::clone(&holder.turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) if holder.cleaning.load(Ordering::SeqCst) => Arc::clone(&holder.turn).lock_owned().await,
            Err(_) => return Err(RegistryError::UploadBusy),
        };
        Ok(Claim { id, holder, holders: Arc::clone(&self.holders), turn: Some(turn) })
    }

    /// Takes an upload if nobody has it.
    pub(crate) fn try_claim(&self, id: UploadId) -> Option<Claim> {
        let holder = self.holder(id);
        let turn = Arc::clone(&holder.turn).try_lock_owned().ok()?;
        Some(Claim { id, holder, holders: Arc::clone(&self.holders), turn: Some(turn) })
    }

    fn holder(&self, id: UploadId) -> Arc<Holder> {
        Arc::clone(lock(&self.holders).entry(id).or_default())
    }

    /// A number for the next id.
    pub(super) fn next_number(&self) -> u32 {
        self.issued.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what an upload is about to become.
    pub(super) fn note_finishing(&self, id: UploadId, finishing: Finishing) {
        self.finishing.insert(id, finishing);
    }

    /// What an upload was about to become, if it was lately.
    pub(super) fn finishing(&self, id: UploadId) -> Option<Finishing> {
        self.finishing.get(&id)
    }

    pub(super) fn has_plenty(&self) -> bool {
        lock(&self.plenty_until).is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn remember_plenty(&self) {
        *lock(&self.plenty_until) = Some(Instant::now() + PLENTY);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claim_is_exclusive_and_cleanup_is_waited_for() {
        let (uploads, id) = (ActiveUploads::default(), UploadId::random());
        let first = uploads.claim(id).await.unwrap();
        assert!(matches!(uploads.claim(id).await, Err(RegistryError::UploadBusy)));
        assert!(uploads.try_claim(id).is_none());
        assert!(uploads.try_claim(UploadId::random()).is_some());
        first.cleans_up();
        let second = uploads.claim(id);
        let mut second = std::pin::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let second = second.await.unwrap();
        assert!(matches!(uploads.claim(id).await, Err(RegistryError::UploadBusy)));
        drop(second);
        assert!(lock(&uploads.holders).is_empty(), "nothing is remembered of uploads nobody has");
    }
}
