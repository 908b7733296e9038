//! What this process knows about uploads beyond their rows: who writes to which, and which it finished lately.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::OwnedMutexGuard;
use wharf_types::{Digest, UploadId};

use crate::RegistryError;

/// Finished uploads that are remembered for clients that lost the answer.
const REMEMBERED: u64 = 4096;
/// Uploads without a row that are held at once. Further ones get theirs at once.
const MOST_UNWRITTEN: usize = 4096;
/// How long ample free space is believed.
const PLENTY: Duration = Duration::from_secs(1);

/// An upload that this process has tried to finish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finishing {
    pub(super) repository_id: i64,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// An upload that has begun and has no row yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unwritten {
    pub(super) repository_id: i64,
    pub(super) expires_at: i64,
    /// Somebody began to write its row, and it is not known whether that was done.
    pub(super) tried: bool,
}

/// Uploads under way in this process.
pub(crate) struct ActiveUploads {
    unwritten: Mutex<HashMap<UploadId, Unwritten>>,
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
            unwritten: Mutex::default(),
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

    /// Notes an upload that has no row yet. Answers whether there was room for it.
    pub(super) fn begin(&self, id: UploadId, upload: Unwritten) -> bool {
        let mut unwritten = lock(&self.unwritten);
        let room = unwritten.len() < MOST_UNWRITTEN;
        if room {
            unwritten.insert(id, upload);
        }
        room
    }

    /// What is known of an upload that has no row yet.
    pub(super) fn unwritten(&self, id: UploadId) -> Option<Unwritten> {
        lock(&self.unwritten).get(&id).copied()
    }

    /// Notes that the row of an upload is about to be written.
    pub(super) fn note_tried(&self, id: UploadId) {
        if let Some(upload) = lock(&self.unwritten).get_mut(&id) {
            upload.tried = true;
        }
    }

    /// Notes that an upload has its row, or has ended. Answers whether it had none before.
    pub(super) fn forget_unwritten(&self, id: UploadId) -> bool {
        lock(&self.unwritten).remove(&id).is_some()
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
