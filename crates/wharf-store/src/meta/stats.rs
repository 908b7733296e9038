//! Counters of the metadata, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets of `MetaStats::batch_sizes`; the last bucket takes whatever is larger.
pub const BATCH_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// A snapshot of what the metadata has done since it was opened. All values only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetaStats {
    /// Write transactions answered, whatever the answer.
    pub jobs: u64,
    /// Write transactions that panicked.
    pub panics: u64,
    /// Commits that succeeded, each with one sync for its whole batch.
    pub commits: u64,
    /// Batches that failed as a whole.
    pub failed_batches: u64,
    /// Batches by size, not cumulative; see `BATCH_BOUNDS`.
    pub batch_sizes: [u64; 10],
    /// Microseconds spent in commits, that is mostly in syncs.
    pub commit_micros: u64,
    /// Times the write-ahead log was copied into the database.
    pub checkpoints: u64,
    /// Read transactions on the pool and on the calling thread.
    pub reads: u64,
    /// Times something was sent to PostgreSQL and its answer waited for. Statements that share one wait count once.
    pub round_trips: u64,
    /// Transactions that PostgreSQL made run again: a lost race, or a lost connection.
    pub retries: u64,
    /// Connections made to PostgreSQL.
    pub connects: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub jobs: AtomicU64,
    pub panics: AtomicU64,
    pub commits: AtomicU64,
    pub failed_batches: AtomicU64,
    pub batch_sizes: [AtomicU64; 10],
    pub commit_micros: AtomicU64,
    pub checkpoints: AtomicU64,
    pub reads: AtomicU64,
    pub round_trips: AtomicU64,
    pub retries: AtomicU64,
    pub connects: AtomicU64,
}

impl Counters {
    pub fn count_batch(&self, size: usize) {
        let bucket =
            BATCH_BOUNDS.iter().position(|bound| size as u64 <= *bound).unwrap_or(BATCH_BOUNDS.len());
        self.batch_sizes[bucket].fetch_add(1, Relaxed);
        self.jobs.fetch_add(size as u64, Relaxed);
    }

    pub fn snapshot(&self) -> MetaStats {
        MetaStats {
            jobs: self.jobs.load(Relaxed),
            panics: self.panics.load(Relaxed),
            commits: self.commits.load(Relaxed),
            failed_batches: self.failed_batches.load(Relaxed),
            batch_sizes: std::array::from_fn(|bucket| self.batch_sizes[bucket].load(Relaxed)),
            commit_micros: self.commit_micros.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            reads: self.reads.load(Relaxed),
            round_trips: self.round_trips.load(Relaxed),
            retries: self.retries.load(Relaxed),
            connects: self.connects.load(Relaxed),
        }
    }
}
