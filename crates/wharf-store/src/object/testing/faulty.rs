//! A store that fails on demand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::object::{ObjectError, ObjectId, ObjectReader, ObjectStore, ObjectWriter, WriterState};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An I/O error; the call had no effect.
    Error,
    /// A full disk; the call had no effect.
    Full,
    /// A read-only disk; the call had no effect.
    ReadOnly,
    /// Half of a write is done and then it fails; half of a read is returned. An I/O error for other calls.
    Short,
    /// The call waits first, on tokio's clock.
    Slow(Duration),
    /// The call has its effect and then fails.
    ErrorAfterEffect,
}

/// Which calls fail, and how often each was made. Shared by a store and its readers and writers; clones are the same.
/// Calls have the names of the trait methods: `create`, `resume`, `open`, `delete`, `list`, `deployment_marker`,
/// `write_deployment_marker`, `free_space`, `reopen`, `settled`, `append`, `checkpoint`, `finish`, `abort`, `read_at`.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    total: u64,
    calls: BTreeMap<&'static str, u64>,
    nth: BTreeMap<u64, Fault>,
    nth_of: BTreeMap<(&'static str, u64), Fault>,
    random: Option<(u64, u64)>,
    injected: u64,
}

impl Faults {
    /// Nothing fails yet.
    pub fn none() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `n`-th call from the beginning (the first is 0) goes wrong.
    pub fn fail_nth(&self, n: u64, fault: Fault) {
        self.lock().nth.insert(n, fault);
    }

    /// The `n`-th call of one name from the beginning (the first is 0) goes wrong.
    pub fn fail_nth_of(&self, name: &'static str, n: u64, fault: Fault) {
        self.lock().nth_of.insert((name, n), fault);
    }

    /// One call in `one_in` goes wrong at random in any way but `Slow`; the same seed gives the same sequence.
    pub fn fail_randomly(&self, seed: u64, one_in: u64) {
        self.lock().random = Some((seed | 1, one_in.max(1)));
    }

    /// Nothing fails any more. Counting goes on.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.nth.clear();
        state.nth_of.clear();
        state.random = None;
    }

    /// How often each call was made.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.lock().calls.clone()
    }

    /// How many calls were made.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// How many calls went wrong.
    pub fn injected(&self) -> u64 {
        self.lock().injected
    }

    fn next(&self, name: &'static str) -> Option<Fault> {
        let mut state = self.lock();
        let total = state.total;
        state.total += 1;
        let count = state.calls.entry(name).or_default();
        let nth = *count;
        *count += 1;
        let planned = state.nth.remove(&total);
        let fault = planned.or_else(|| state.nth_of.remove(&(name, nth))).or_else(|| state.random());
        state.injected += u64::from(fault.is_some());
        fault
    }

    async fn around<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        match self.next(name) {
            None => call.await,
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::ErrorAfterEffect) => {
                call.await?;
                Err(failure(Fault::ErrorAfterEffect))
            }
            Some(fault) => Err(failure(fault)),
        }
    }
}

impl State {
    fn random(&mut self) -> Option<Fault> {
        let (seed, one_in) = self.random.as_mut()?;
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        let drawn = *seed >> 16;
        if !drawn.is_multiple_of(*one_in) {
            return None;
        }
        let kinds = [Fault::Error, Fault::Full, Fault::ReadOnly, Fault::Short, Fault::ErrorAfterEffect];
        Some(kinds[(drawn / *one_in % 5) as usize])
    }
}

fn failure(fault: Fault) -> ObjectError {
    let source = match fault {
        Fault::Full => io::ErrorKind::StorageFull.into(),
        Fault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        _ => io::Error::other("injected fault"),
    };
    ObjectError::from_io("meeting an injected fault", source)
}

/// Wraps a store so that chosen calls fail. Readers give no file, so every read is a counted call.
#[derive(Clone)]
pub struct FaultyObjects {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultyObjects {
    /// Wraps `inner`; `faults` says what fails and may be changed at any time.
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    fn wrap(&self, inner: Box<dyn ObjectWriter>) -> Box<dyn ObjectWriter> {
        Box::new(FaultyWriter { inner, faults: self.faults.clone() })
    }
}

impl ObjectStore for FaultyObjects {
    fn create(&self, id: ObjectId) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        async move { Ok(self.wrap(self.faults.around("create", self.inner.create(id)).await?)) }.boxed()
    }

    fn resume(
        &self,
        id: ObjectId,
        state: WriterState,
        stored_len: u64,
    ) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let call = self.inner.resume(id, state, stored_len);
        async move { Ok(self.wrap(self.faults.around("resume", call).await?)) }.boxed()
    }

    fn open(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<dyn ObjectReader>, ObjectError>> {
        async move {
            let inner = self.faults.around("open", self.inner.open(id)).await?;
            Ok(Arc::new(FaultyReader { inner, faults: self.faults.clone() }) as Arc<dyn ObjectReader>)
        }
        .boxed()
    }

    fn delete(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move { self.faults.around("delete", self.inner.delete(id)).await }.boxed()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn reopen(
        &self,
        id: ObjectId,
        state: WriterState,
    ) -> BoxFuture<'_, Result<Option<WriterState>, ObjectError>> {
        async move { self.faults.around("reopen", self.inner.reopen(id, state)).await }.boxed()
    }

    fn settled(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move { self.faults.around("settled", self.inner.settled(id)).await }.boxed()
    }

    fn list(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(ObjectId, u64)>, ObjectError>> {
        async move { self.faults.around("list", self.inner.list(after, limit)).await }.boxed()
    }

    fn deployment_marker(&self) -> BoxFuture<'_, Result<Option<String>, ObjectError>> {
        async move { self.faults.around("deployment_marker", self.inner.deployment_marker()).await }.boxed()
    }

    fn write_deployment_marker<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        let call = self.inner.write_deployment_marker(deployment);
        async move { self.faults.around("write_deployment_marker", call).await }.boxed()
    }

    fn free_space(&self) -> BoxFuture<'_, Result<Option<u64>, ObjectError>> {
        async move { self.faults.around("free_space", self.inner.free_space()).await }.boxed()
    }
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    faults: Faults,
}

impl ObjectWriter for FaultyWriter {
    fn append(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move {
            match self.faults.next("append") {
                Some(Fault::Short) => {
                    self.inner.append(chunk.slice(..chunk.len() / 2)).await?;
                    Err(failure(Fault::Short))
                }
                Some(Fault::ErrorAfterEffect) => {
                    self.inner.append(chunk).await?;
                    Err(failure(Fault::ErrorAfterEffect))
                }
                Some(Fault::Slow(time)) => {
                    tokio::time::sleep(time).await;
                    self.inner.append(chunk).await
                }
                Some(fault) => Err(failure(fault)),
                None => self.inner.append(chunk).await,
            }
        }
        .boxed()
    }

    fn checkpoint(&mut self) -> BoxFuture<'_, Result<WriterState, ObjectError>> {
        async move { self.faults.around("checkpoint", self.inner.checkpoint()).await }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move { self.faults.around("finish", self.inner.finish()).await }.boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move { self.faults.around("abort", self.inner.abort()).await }.boxed()
    }
}

struct FaultyReader {
    inner: Arc<dyn ObjectReader>,
    faults: Faults,
}

impl ObjectReader for FaultyReader {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, ObjectError>> {
        async move {
            match self.faults.next("read_at") {
                Some(Fault::Short) => {
                    let bytes = self.inner.read_at(offset, len).await?;
                    Ok(bytes.slice(..bytes.len() / 2))
                }
                Some(Fault::Slow(time)) => {
                    tokio::time::sleep(time).await;
                    self.inner.read_at(offset, len).await
                }
                Some(fault) => Err(failure(fault)),
                None => self.inner.read_at(offset, len).await,
            }
        }
        .boxed()
    }

    fn window(&self) -> usize {
        self.inner.window()
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
