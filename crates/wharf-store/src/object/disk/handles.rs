//! Open files of recently read objects. A range read of a hot blob then costs no path look-up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DiskReader;
use crate::object::ObjectId;

/// A bounded cache of readers; the one not used for longest goes first.
pub(super) struct Handles {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: HashMap<ObjectId, (Arc<DiskReader>, u64)>,
    clock: u64,
    /// Counts what was forgotten: a reader that was being opened meanwhile is not kept, it may be the forgotten one.
    epoch: u64,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<Arc<DiskReader>> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let (reader, used) = state.kept.get_mut(&id)?;
        *used = now;
        Some(Arc::clone(reader))
    }

    /// To be asked before opening what will be [`keep`](Self::keep)t.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    pub(super) fn keep(&self, id: ObjectId, reader: &Arc<DiskReader>, epoch: u64) {
        let mut state = self.lock();
        if state.epoch != epoch {
            return;
        }
        if state.kept.len() >= self.limit {
            let oldest = state.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| state.kept.remove(&id));
        }
        state.clock += 1;
        let now = state.clock;
        state.kept.insert(id, (Arc::clone(reader), now));
    }

    /// Drops the reader of an object that was deleted, or whose size changed.
    pub(super) fn forget(&self, id: ObjectId) {
        let mut state = self.lock();
        state.epoch += 1;
        state.kept.remove(&id);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().kept.len()
    }
}
