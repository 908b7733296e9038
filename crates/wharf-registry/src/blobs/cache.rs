//! Which blob is where, in memory.
//!
//! A cached entry must not outlive its link. The race: a reader reads the row, the link is dropped and the entry
//! invalidated, and then the reader stores what it read. So each reader takes a ticket before it reads; storing checks
//! the ticket and inserts under a shared lock, and whoever invalidates first moves the ticket on, then invalidates, under
//! the exclusive lock. A reader that was overtaken finds its ticket outdated and stores nothing. Whoever commits a
//! change invalidates before it answers, so nobody who was told of a change meets what was before.

use std::sync::{Arc, PoisonError, RwLock};

use moka::sync::Cache;
use wharf_store::object::ObjectId;
use wharf_types::Digest;

use super::BlobEntry;

/// Bytes of entries, small contents included.
const CAPACITY: u64 = 8 << 20;
/// What an entry takes besides its content, roughly.
const OVERHEAD: usize = 512;

/// What a reader saw before it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Blobs by repository id and digest.
pub(crate) struct BlobCache {
    entries: Cache<(i64, Digest), Arc<BlobEntry>>,
    changes: RwLock<u64>,
}

impl Default for BlobCache {
    fn default() -> Self {
        let weigh = |_: &(i64, Digest), entry: &Arc<BlobEntry>| {
            let content = entry.inline.as_ref().map_or(0, |content| content.len());
            u32::try_from(content + OVERHEAD).unwrap_or(u32::MAX)
        };
        let entries =
            Cache::builder().max_capacity(CAPACITY).weigher(weigh).support_invalidation_closures().build();
        Self { entries, changes: RwLock::new(0) }
    }
}

impl BlobCache {
    pub(super) fn get(&self, repository_id: i64, digest: Digest) -> Option<Arc<BlobEntry>> {
        self.entries.get(&(repository_id, digest))
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(*self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn fill(&self, ticket: Ticket, repository_id: i64, digest: Digest, entry: &Arc<BlobEntry>) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == ticket.0 {
            self.entries.insert((repository_id, digest), Arc::clone(entry));
        }
    }

    /// After a committed change of one link.
    pub(crate) fn forget(&self, repository_id: i64, digest: Digest) {
        self.change(|| self.entries.invalidate(&(repository_id, digest)));
    }

    /// After a committed change of an object, whoever is linked to it.
    pub(crate) fn forget_object(&self, object: ObjectId) {
        // Closures are registered, not run at once; entries inserted later are not affected.
        self.change(|| drop(self.entries.invalidate_entries_if(move |_, entry| entry.object == object)));
    }

    /// After a repository went away.
    pub(crate) fn forget_repository(&self, repository_id: i64) {
        self.change(|| drop(self.entries.invalidate_entries_if(move |key, _| key.0 == repository_id)));
    }

    fn change(&self, invalidate: impl FnOnce()) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        invalidate();
    }
}

#[cfg(test)]
mod tests {
    use wharf_types::{RegistryRef, Timestamp};

    use wharf_store::meta::objects::Place;

    use super::*;
    use crate::{Encryption, KeyDomain};

    fn entry() -> Arc<BlobEntry> {
        let registry = RegistryRef::new("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        Arc::new(BlobEntry {
            digest: Digest::sha256(b"x"),
            size: 1,
            object: ObjectId::random(),
            place: Place::Main,
            sealed_as: ObjectId::random(),
            archived: false,
            keys: None,
            inline: None,
            domain: KeyDomain { id: 1, registry, encryption: Encryption::Aes256 },
            unreferenced_since: None,
            read_at: Timestamp::from_micros(0),
        })
    }

    #[test]
    fn a_reader_that_was_overtaken_stores_nothing() {
        let (cache, entry, digest) = (BlobCache::default(), entry(), Digest::sha256(b"x"));
        let ticket = cache.ticket();
        cache.forget(1, digest);
        cache.fill(ticket, 1, digest, &entry);
        assert!(cache.get(1, digest).is_none());
        cache.fill(cache.ticket(), 1, digest, &entry);
        assert!(cache.get(1, digest).is_some());
    }

    #[test]
    fn forgetting_an_object_or_a_repository_spares_the_others() {
        let (cache, one, two, digest) = (BlobCache::default(), entry(), entry(), Digest::sha256(b"x"));
        cache.fill(cache.ticket(), 1, digest, &one);
        cache.fill(cache.ticket(), 2, digest, &one);
        cache.fill(cache.ticket(), 3, digest, &two);
        cache.forget_object(one.object);
        assert!(cache.get(1, digest).is_none() && cache.get(2, digest).is_none());
        assert!(cache.get(3, digest).is_some());
        cache.forget_repository(3);
        assert!(cache.get(3, digest).is_none());
    }
}
