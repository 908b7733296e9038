//! What this process knows about uploads beyond their rows: who writes to which, and which it finished lately.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
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
    claimed: Arc<Mutex<HashSet<UploadId>>>,
    finishing: Cache<UploadId, Finishing>,
    plenty_until: Mutex<Option<Instant>>,
}

impl Default for ActiveUploads {
    fn default() -> Self {
        Self { claimed: Arc::default(), finishing: Cache::new(REMEMBERED), plenty_until: Mutex::default() }
    }
}

/// The right to write to one upload, until dropped. Rows are guarded by compare-and-set besides, so this only keeps
/// two requests from spoiling each other's work.
#[derive(Debug)]
pub(crate) struct Claim {
    id: UploadId,
    claimed: Arc<Mutex<HashSet<UploadId>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claimed).remove(&self.id);
    }
}

impl ActiveUploads {
    /// Takes an upload for one request.
    ///
    /// # Errors
    /// `UploadBusy` while another has it.
    pub(crate) fn claim(&self, id: UploadId) -> Result<Claim, RegistryError> {
        match lock(&self.claimed).insert(id) {
            true => Ok(Claim { id, claimed: Arc::clone(&self.claimed) }),
            false => Err(RegistryError::UploadBusy),
        }
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
