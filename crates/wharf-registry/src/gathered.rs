//! Facts that requests leave behind: gathered in memory and written in batches, so that no request waits for a write.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_store::meta::{MetaError, Tx};

use crate::{Registry, RegistryError};

/// Facts per transaction.
const BATCH: usize = 500;
/// Facts remembered at most.
const REMEMBERED: usize = 100_000;

/// The newest fact of each key, and whether it waits to be written. What was written stays, so that the next fact can
/// be told from one that says nothing new.
pub(crate) struct Gathered<K, V>(Mutex<HashMap<K, Noted<V>>>);

struct Noted<V> {
    fact: V,
    pending: bool,
}

impl<K, V> Default for Gathered<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone + PartialEq> Gathered<K, V> {
    fn noted(&self) -> MutexGuard<'_, HashMap<K, Noted<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last fact of a key `will_do`.
    pub(crate) fn knows(&self, key: &K, will_do: impl FnOnce(&V) -> bool) -> bool {
        self.noted().get(key).is_some_and(|noted| will_do(&noted.fact))
    }

    /// Notes a fact, in place of the last one of its key. Lost where too many wait to be written.
    pub(crate) fn note(&self, key: K, fact: V) {
        let mut all = self.noted();
        if all.len() >= REMEMBERED && !all.contains_key(&key) {
            all.retain(|_, noted| noted.pending);
            if all.len() >= REMEMBERED {
                return;
            }
        }
        all.insert(key, Noted { fact, pending: true });
    }

    /// The last fact of a key, if it may not be in the metadata yet.
    pub(crate) fn pending<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.noted().get(key).filter(|noted| noted.pending).map(|noted| noted.fact.clone())
    }

    fn batch(&self) -> Vec<(K, V)> {
        let noted = self.noted();
        let pending = noted.iter().filter(|(_, noted)| noted.pending);
        pending.take(BATCH).map(|(key, noted)| (key.clone(), noted.fact.clone())).collect()
    }

    /// A fact that came meanwhile goes with the next batch.
    fn settle(&self, written: Vec<(K, V)>) {
        let mut all = self.noted();
        for (key, fact) in written {
            if let Some(noted) = all.get_mut(&key).filter(|noted| noted.fact == fact) {
                noted.pending = false;
            }
        }
    }
}

impl Registry {
    /// Writes what is gathered now. On the way a fact meets those that other nodes have written: `write` keeps the
    /// later one.
    ///
    /// # Errors
    /// When the metadata fails; what was not written is kept for the next time.
    pub(crate) async fn write_gathered<K, V>(
        &self,
        gathered: &Gathered<K, V>,
        write: impl Fn(&mut Tx<'_>, &K, &V) -> Result<(), MetaError> + Send + Copy + 'static,
    ) -> Result<(), RegistryError>
    where
        K: Eq + Hash + Ord + Clone + Send + Sync + 'static,
        V: Clone + PartialEq + Send + Sync + 'static,
    {
        loop {
            let mut batch = gathered.batch();
            if batch.is_empty() {
                return Ok(());
            }
            // In one order everywhere, so that nodes that write the same rows wait for each other and never in a ring.
            batch.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            let written = batch.clone();
            let all = move |tx: &mut Tx<'_>| batch.iter().try_for_each(|(key, fact)| write(tx, key, fact));
            self.inner.meta.write(all).await.map_err(RegistryError::from)?;
            gathered.settle(written);
        }
    }

    /// Does `work` every so often until the registry stops. `what` is for the log, where it fails.
    pub(crate) fn repeat<F>(
        &self,
        every: Duration,
        what: &'static str,
        work: impl Fn(Registry) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), RegistryError>> + Send,
    {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            let mut turns = tokio::time::interval(every);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = registry.inner.stop.cancelled() => return,
                    _ = turns.tick() => {}
                }
                if let Err(error) = work(registry.clone()).await {
                    tracing::warn!(%error, "{what} failed and is tried again");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_fact_waits_until_it_is_written_itself() {
        let gathered = Gathered::<&str, i64>::default();
        gathered.note("a", 1);
        let batch = gathered.batch();
        gathered.note("a", 2);
        gathered.settle(batch);
        assert_eq!(gathered.pending("a"), Some(2), "it came while the first was written");
        gathered.settle(gathered.batch());
        assert_eq!((gathered.pending("a"), gathered.batch().len()), (None, 0));
        assert!(gathered.knows(&"a", |fact| *fact == 2));
        assert!(!gathered.knows(&"a", |fact| *fact == 1) && !gathered.knows(&"b", |_| true));
    }

    #[test]
    fn what_is_written_gives_way_to_what_is_not() {
        let gathered = Gathered::<usize, ()>::default();
        for key in 0..REMEMBERED {
            gathered.note(key, ());
        }
        gathered.note(REMEMBERED, ());
        assert_eq!(gathered.pending(&REMEMBERED), None, "all wait to be written");
        gathered.settle(gathered.batch());
        gathered.note(REMEMBERED, ());
        assert_eq!(gathered.pending(&REMEMBERED), Some(()));
        assert_eq!(gathered.noted().len(), REMEMBERED - BATCH + 1);
    }
}
