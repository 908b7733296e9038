//! Lists of names, and lists as a face has written them, kept until their repository changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use wharf_types::RepositoryRef;

use crate::{Authorized, Registry, RegistryError};

/// Bytes of written lists kept in memory.
const LIST_BYTES: u64 = 6 << 20;
/// A longer list is not kept: it would push out everything else.
const LONGEST: usize = 1 << 20;
/// What an entry takes besides its text.
const ENTRY: usize = 256;
/// Counters of changes. Repositories that share one only forget each other's lists.
const COUNTERS: usize = 4096;

/// Many short names in two allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    /// Adds a name behind the others.
    pub fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.text.truncate(self.ends.last().copied().unwrap_or_default());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The names in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ends.iter().enumerate().map(|(index, end)| &self.text[self.start(index)..*end])
    }

    /// The last name.
    pub fn last(&self) -> Option<&str> {
        self.ends.len().checked_sub(1).map(|index| &self.text[self.start(index)..])
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// A page of names, and whether there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamePage {
    /// The names in byte order.
    pub names: Names,
    /// Whether more come after them.
    pub more: bool,
}

impl NamePage {
    /// Reads one more than `limit` by `read`, to know whether there are more.
    pub(crate) fn read<E>(
        limit: usize,
        read: impl FnOnce(usize, &mut dyn FnMut(&str)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut names = Names::default();
        read(limit.saturating_add(1), &mut |name| names.push(name))?;
        let more = names.len() > limit;
        names.truncate(limit);
        Ok(Self { names, more })
    }
}

/// A list as a face has written it.
#[derive(Clone, Debug)]
pub struct WrittenList {
    /// The whole body.
    pub body: Bytes,
    /// The value of `Link`, where there are more pages.
    pub link: Option<Bytes>,
    /// Whether only some of the entries were asked for.
    pub filtered: bool,
    /// Whether it shows content of images, which their KMS key must allow each time.
    pub content: bool,
}

/// What had been changed of a repository when its list was about to be read.
#[derive(Clone, Copy, Debug)]
pub struct ListStamp {
    repository_id: i64,
    changes: u64,
}

/// The key holds what had been changed: a writer counts its change after its commit and before it answers, so
/// that every later request asks for another key, also where a reader that was overtaken stores what it read before.
/// Entries that nobody asks for any more are the first to go.
pub(crate) struct ListCache {
    lists: Cache<(i64, u64, Box<str>), Arc<WrittenList>>,
    changes: Box<[AtomicU64]>,
}

impl Default for ListCache {
    fn default() -> Self {
        let weigh = |(_, _, target): &(i64, u64, Box<str>), list: &Arc<WrittenList>| {
            let bytes = ENTRY + target.len() + list.body.len() + list.link.as_ref().map_or(0, Bytes::len);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let lists = Cache::builder()
            .max_capacity(LIST_BYTES)
            .weigher(weigh)
            // Not by frequency: what was popular before a change must not keep out what is asked for after it.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { lists, changes: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl ListCache {
    fn counter(&self, repository_id: i64) -> &AtomicU64 {
        &self.changes[repository_id.unsigned_abs() as usize % COUNTERS]
    }

    /// Taken before the list is read, or looked up.
    pub(crate) fn stamp(&self, repository_id: i64) -> ListStamp {
        ListStamp { repository_id, changes: self.counter(repository_id).load(Ordering::SeqCst) }
    }

    /// Called after a change of the repository's tags or images has committed and before its client is answered.
    pub(crate) fn forget(&self, repository_id: i64) {
        self.counter(repository_id).fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self, stamp: ListStamp, target: &str) -> Option<Arc<WrittenList>> {
        self.lists.get(&(stamp.repository_id, stamp.changes, target.into()))
    }

    fn keep(&self, stamp: ListStamp, target: &str, list: WrittenList) {
        if list.body.len() + target.len() <= LONGEST {
            self.lists.insert((stamp.repository_id, stamp.changes, target.into()), Arc::new(list));
        }
    }
}

impl Registry {
    /// The list a face has written for the same `target` (path and query) since the repository last changed, if it
    /// is remembered.
    ///
    /// # Errors
    /// `Kms` where the list shows content whose key may not be used now.
    pub fn kept_list(
        &self,
        at: &Authorized<RepositoryRef>,
        target: &str,
    ) -> Option<Result<Arc<WrittenList>, RegistryError>> {
        let repository = self.cached_repository(at.target())?;
        let lists = &self.inner.images.lists;
        let list = lists.get(lists.stamp(repository.id), target)?;
        if list.content
            && let Err(error) = self.inner.keys.check_domain(&repository.domain)
        {
            return Some(Err(error));
        }
        Some(Ok(list))
    }

    /// What [`keep_list`](Self::keep_list) needs; to be taken before anything of the list is read.
    ///
    /// # Errors
    /// `RepositoryNotFound`.
    pub async fn list_stamp(&self, at: &Authorized<RepositoryRef>) -> Result<ListStamp, RegistryError> {
        Ok(self.inner.images.lists.stamp(self.repository(at).await?.id))
    }

    /// Remembers a written list until its repository changes, or others are asked for more.
    pub fn keep_list(&self, stamp: ListStamp, target: &str, list: WrittenList) {
        if self.has_peers() {
            // Changes on other nodes are not counted here.
            return;
        }
        self.inner.images.lists.keep(stamp, target, list);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    fn list(text: impl Into<Bytes>) -> WrittenList {
        WrittenList { body: text.into(), link: None, filtered: false, content: false }
    }

    #[test]
    fn names_are_cut_where_they_were_joined() {
        let page = NamePage::read(2, |limit, visit| {
            assert_eq!(limit, 3);
            ["a", "", "ccc"].into_iter().for_each(visit);
            Ok::<_, ()>(())
        });
        let page = page.unwrap();
        assert!(page.more);
        assert!(page.names.iter().eq(["a", ""]));
        assert_eq!((page.names.len(), page.names.last()), (2, Some("")));
        let none = NamePage::read(0, |_, _| Ok::<_, ()>(())).unwrap();
        assert_eq!((none.names.last(), none.names.iter().len(), none.more), (None, 0, false));
    }

    #[test]
    fn a_change_hides_the_lists_of_its_repository_and_of_no_other() {
        let cache = ListCache::default();
        for repository in [1, 2] {
            cache.keep(cache.stamp(repository), "/tags", list("old"));
        }
        let overtaken = cache.stamp(1);
        cache.forget(1);
        assert!(cache.get(cache.stamp(1), "/tags").is_none());
        cache.keep(overtaken, "/tags", list("old"));
        assert!(cache.get(cache.stamp(1), "/tags").is_none(), "a reader that was overtaken");
        assert_eq!(cache.get(cache.stamp(2), "/tags").unwrap().body, "old");
        cache.keep(cache.stamp(1), "/tags", list("new"));
        assert_eq!(cache.get(cache.stamp(1), "/tags").unwrap().body, "new");
        assert!(cache.get(cache.stamp(1), "/tags?n=1").is_none());
    }

    #[test]
    fn what_is_asked_for_after_a_change_pushes_out_what_was_popular_before() {
        let cache = ListCache::default();
        let pages: Vec<String> = (0..10).map(|page| format!("/tags?last={page}")).collect();
        let body = Bytes::from(vec![b'x'; 500 << 10]);
        for _ in 0..3 {
            let stamp = cache.stamp(1);
            pages.iter().for_each(|page| cache.keep(stamp, page, list(body.clone())));
            cache.lists.run_pending_tasks();
            for _ in 0..50 {
                assert_eq!(pages.iter().filter(|page| cache.get(stamp, page).is_some()).count(), 10);
            }
            cache.forget(1);
        }
        assert!(cache.lists.weighted_size() <= LIST_BYTES);
        cache.keep(cache.stamp(1), "/long", list(vec![b'x'; LONGEST]));
        assert!(cache.get(cache.stamp(1), "/long").is_none(), "too long to be kept");
    }

    #[test]
    fn after_its_writer_was_answered_nobody_meets_the_old_list() {
        let cache = ListCache::default();
        let (fact, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        let stamp = cache.stamp(7);
                        cache.keep(stamp, "/tags", list(fact.load(SeqCst).to_string()));
                    }
                });
            }
            for now in 1..20_000_u64 {
                fact.store(now, SeqCst);
                cache.forget(7);
                let met = cache.get(cache.stamp(7), "/tags");
                if met.as_ref().is_some_and(|met| met.body != now.to_string()) {
                    done.store(true, SeqCst);
                    panic!("{met:?} instead of {now}");
                }
            }
            done.store(true, SeqCst);
        });
    }
}
