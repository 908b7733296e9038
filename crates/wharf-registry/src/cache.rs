//! A cache that a committed change can never be hidden by.
//!
//! The race to win: a reader reads the old row, a writer commits and invalidates, the reader then stores what it
//! read. So a reader takes a ticket before it reads; storing looks at the ticket and inserts under a shared lock, and a
//! writer moves the ticket and invalidates under the exclusive one. A reader that was overtaken stores nothing, not
//! for a moment: another request could meet it in that moment. A writer is done before it answers its client.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use moka::sync::Cache;

/// What a reader saw before it read.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

/// A bounded map from names to committed facts.
pub(crate) struct CoherentCache<K, V> {
    /// Each with the number of times the cache had been cleared when it came in.
    entries: Cache<K, (u64, V)>,
    changes: RwLock<u64>,
    clearings: AtomicU64,
}

impl<K, V> CoherentCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `capacity` entries.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { entries: Cache::new(capacity), changes: RwLock::new(0), clearings: AtomicU64::new(0) }
    }

    /// At most `capacity` bytes as `weigh` counts them.
    pub(crate) fn weighed(capacity: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        Self {
            entries: Cache::builder()
                .max_capacity(capacity)
                .weigher(move |key, (_, value): &(u64, V)| weigh(key, value))
                .build(),
            changes: RwLock::new(0),
            clearings: AtomicU64::new(0),
        }
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (clearing, value) = self.entries.get(key)?;
        (clearing == self.clearings.load(Ordering::Acquire)).then_some(value)
    }

    /// Taken before the read whose result [`fill`](Self::fill) stores.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(*self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn fill(&self, ticket: Ticket, key: &K, value: V) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == ticket.0 {
            self.entries.insert(key.clone(), (self.clearings.load(Ordering::Acquire), value));
        }
    }

    /// Called after a change of `key` has committed and before its client is answered.
    pub(crate) fn invalidate(&self, key: &K) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.entries.invalidate(key);
    }

    /// As [`invalidate`](Self::invalidate), of every key.
    pub(crate) fn clear(&self) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        // What is met from now on is judged by this number; the entries themselves go when they are due.
        self.clearings.fetch_add(1, Ordering::AcqRel);
        self.entries.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

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

    #[test]
    fn clearing_takes_everything_and_everyone_who_was_reading() {
        let cache = CoherentCache::new(10);
        for key in ["one", "two"] {
            cache.fill(cache.ticket(), &key, key);
        }
        let ticket = cache.ticket();
        cache.clear();
        cache.fill(ticket, &"three", "old");
        assert_eq!([cache.get(&"one"), cache.get(&"two"), cache.get(&"three")], [None; 3]);
        cache.fill(cache.ticket(), &"one", "new");
        assert_eq!(cache.get(&"one"), Some("new"));
    }

    #[test]
    fn after_its_writer_was_answered_nobody_meets_the_old_fact() {
        let cache = CoherentCache::new(10);
        let (fact, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        let ticket = cache.ticket();
                        cache.fill(ticket, &"tag", fact.load(SeqCst));
                    }
                });
            }
            for now in 1..20_000 {
                fact.store(now, SeqCst);
                cache.invalidate(&"tag");
                let met = cache.get(&"tag");
                if met.is_some_and(|met| met != now) {
                    done.store(true, SeqCst);
                    panic!("{met:?} instead of {now}");
                }
            }
            done.store(true, SeqCst);
        });
    }
}
