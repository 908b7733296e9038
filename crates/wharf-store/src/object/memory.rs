//! Objects in memory: for tests of what stands above the seam.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::{ObjectError, ObjectId, ObjectReader, ObjectStore, ObjectWriter, WriterState};

/// Keeps objects in memory. Everything appended counts as durable.
#[derive(Debug, Clone, Default)]
pub struct MemoryObjects(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<ObjectId, Kind>,
    marker: Option<String>,
    writers: u64,
}

#[derive(Debug)]
struct Kind {
    bytes: Vec<u8>,
    writer: u64,
}

impl MemoryObjects {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the stored bytes of an object, as a failing disk would. Answers whether there is such an object.
    pub fn damage(&self, id: ObjectId, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.lock().objects.get_mut(&id).map(|kind| change(&mut kind.bytes)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self, id: ObjectId, writer: u64) -> Box<dyn ObjectWriter> {
        Box::new(MemoryWriter { store: self.clone(), id, writer })
    }
}

impl ObjectStore for MemoryObjects {
    fn create(&self, id: ObjectId) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let mut kept = self.lock();
        if kept.objects.contains_key(&id) {
            return ready(Err(ObjectError::AlreadyExists(id))).boxed();
        }
        kept.writers += 1;
        let writer = kept.writers;
        kept.objects.insert(id, Kind { bytes: Vec::new(), writer });
        ready(Ok(self.writer(id, writer))).boxed()
    }

    fn resume(
        &self,
        id: ObjectId,
        _: WriterState,
        stored_len: u64,
    ) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let mut kept = self.lock();
        kept.writers += 1;
        let writer = kept.writers;
        let Some(kind) = kept.objects.get_mut(&id) else {
            return ready(Err(ObjectError::NotFound(id))).boxed();
        };
        let found = kind.bytes.len() as u64;
        if found < stored_len {
            return ready(Err(ObjectError::Short { id, expected: stored_len, found })).boxed();
        }
        kind.bytes.truncate(stored_len as usize);
        kind.writer = writer;
        ready(Ok(self.writer(id, writer))).boxed()
    }

    fn open(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<dyn ObjectReader>, ObjectError>> {
        let found = self.lock().objects.get(&id).map(|kind| Bytes::copy_from_slice(&kind.bytes));
        ready(match found {
            Some(bytes) => Ok(Arc::new(MemoryReader(bytes)) as Arc<dyn ObjectReader>),
            None => Err(ObjectError::NotFound(id)),
        })
        .boxed()
    }

    fn delete(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        self.lock().objects.remove(&id);
        ready(Ok(())).boxed()
    }

    fn list(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(ObjectId, u64)>, ObjectError>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let kept = self.lock();
        let page = kept.objects.range((start, Bound::Unbounded)).take(limit);
        let page = page.map(|(id, kind)| (*id, kind.bytes.len() as u64)).collect();
        ready(Ok(page)).boxed()
    }

    fn deployment_marker(&self) -> BoxFuture<'_, Result<Option<String>, ObjectError>> {
        ready(Ok(self.lock().marker.clone())).boxed()
    }

    fn write_deployment_marker<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.lock().marker = Some(deployment.to_owned());
        ready(Ok(())).boxed()
    }

    fn free_space(&self) -> BoxFuture<'_, Result<Option<u64>, ObjectError>> {
        ready(Ok(None)).boxed()
    }
}

struct MemoryWriter {
    store: MemoryObjects,
    id: ObjectId,
    writer: u64,
}

impl MemoryWriter {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, ObjectError> {
        match self.store.lock().objects.get_mut(&self.id) {
            None => Err(ObjectError::NotFound(self.id)),
            Some(kind) if kind.writer != self.writer => Err(ObjectError::Superseded(self.id)),
            Some(kind) => Ok(act(&mut kind.bytes)),
        }
    }
}

impl ObjectWriter for MemoryWriter {
    fn append(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), ObjectError>> {
        ready(self.with(|bytes| bytes.extend_from_slice(&chunk))).boxed()
    }

    fn checkpoint(&mut self) -> BoxFuture<'_, Result<WriterState, ObjectError>> {
        ready(self.with(|_| WriterState::default())).boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        ready(self.with(|_| ())).boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        let mine = self.with(|_| ());
        if mine.is_ok() {
            self.store.lock().objects.remove(&self.id);
        }
        ready(mine).boxed()
    }
}

struct MemoryReader(Bytes);

impl ObjectReader for MemoryReader {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, ObjectError>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(len).min(self.0.len());
        ready(Ok(self.0.slice(start..end))).boxed()
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
