//! A cache that a committed change can never be hidden by.
//!
//! The race to win: a reader reads the old row, a writer commits and invalidates, the reader then stores what it
//! read. So a reader takes a ticket first, stores, and looks at the ticket again: had any writer moved it meanwhile,
//! the reader takes its entry out again. A writer moves the ticket before it invalidates, so one of the two always
//! removes the stale entry; and a writer is done before it answers its client.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

/// What a reader saw before it read.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

/// A bounded map from names to committed facts.
pub(crate) struct CoherentCache<K, V> {
    entries: Cache<K, V>,
    changes: AtomicU64,
}

impl<K, V> CoherentCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `capacity` entries.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { entries: Cache::new(capacity), changes: AtomicU64::new(0) }
    }

    /// At most `capacity` bytes as `weigh` counts them.
    pub(crate) fn weighed(capacity: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        Self {
            entries: Cache::builder().max_capacity(capacity).weigher(weigh).build(),
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key)
    }

    /// Taken before the read whose result [`fill`](Self::fill) stores.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.changes.load(Ordering::SeqCst))
    }

    pub(crate) fn fill(&self, ticket: Ticket, key: &K, value: V) {
        self.entries.insert(key.clone(), value);
        if self.changes.load(Ordering::SeqCst) != ticket.0 {
            self.entries.invalidate(key);
        }
    }

    /// Called after a change of `key` has committed and before its client is answered.
    pub(crate) fn invalidate(&self, key: &K) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_was_overtaken_leaves_nothing() {
        let cache = CoherentCache::new(10);
        let ticket = cache.ticket();
        cache.invalidate(&"tag");
        cache.fill(ticket, &"tag", "old");
        assert_eq!(cache.get(&"tag"), None);
        cache.fill(cache.ticket(), &"tag", "new");
        assert_eq!(cache.get(&"tag"), Some("new"));
        cache.invalidate(&"tag");
        assert_eq!(cache.get(&"tag"), None);
    }
}
