//! The metadata: one relational database behind short, synchronous transactions.
//!
//! `Meta` runs closures over a `Tx`. Writes share commits: each is a savepoint in the transaction of the one writer
//! thread, answered after that transaction's sync. Reads have connections of their own and see one snapshot each.
//! The statements live beside their functions in the topic modules; nothing outside `meta` writes SQL.

pub mod accounts;
pub mod archive;
pub mod blobs;
mod copier;
pub mod copy;
pub mod dialect;
mod error;
pub mod events;
pub mod iam;
pub mod in_use;
pub mod jobs;
pub mod keys;
pub mod kms;
pub mod lifecycle;
pub mod manifests;
mod migrate;
pub mod missing;
pub mod objects;
pub mod pull_time;
mod readers;
pub mod repositories;
pub mod scrub;
pub mod settings;
mod snapshot;
mod sqlite;
mod stats;
pub mod tags;
pub mod testing;
pub mod tombstones;
mod tx;
pub mod uploads;
mod value;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread::JoinHandle,
};

use tokio::sync::mpsc;

use self::{
    copier::Copier,
    readers::Readers,
    stats::Counters,
    writer::{Message, Write, Writer},
};
pub use self::{
    error::{ConstraintKind, MetaError},
    migrate::Migration,
    sqlite::{Clock, FatalHook, SqliteOptions},
    stats::{BATCH_BOUNDS, MetaStats},
    tx::Tx,
    value::{FromColumn, Param, Row, Value},
};

/// The schema, oldest step first.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("migrations/sqlite/0001_initial.sql") },
    Migration { version: 2, sql: include_str!("migrations/sqlite/0002_identities.sql") },
    Migration { version: 3, sql: include_str!("migrations/sqlite/0003_lifecycle.sql") },
    Migration { version: 4, sql: include_str!("migrations/sqlite/0004_clustered.sql") },
    Migration { version: 5, sql: include_str!("migrations/sqlite/0005_archive.sql") },
    Migration { version: 6, sql: include_str!("migrations/sqlite/0006_ended_uploads.sql") },
];

/// A handle on the metadata. Clones share one database; the last one to go ends the writer.
#[derive(Clone)]
pub struct Meta {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    queue: mpsc::Sender<Message>,
    readers: Arc<Readers>,
    counters: Arc<Counters>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Meta {
    /// Opens or creates the SQLite database at `path` and brings its schema up to date. Fails with
    /// `MetaError::Newer` if a newer program has written it. Blocks: call it before serving.
    pub fn open_sqlite(path: &Path, options: SqliteOptions) -> Result<Meta, MetaError> {
        Self::open_sqlite_with(path, options, MIGRATIONS)
    }

    /// As `open_sqlite`, with another schema: for tests of the engine itself.
    pub fn open_sqlite_with(
        path: &Path,
        options: SqliteOptions,
        migrations: &[Migration],
    ) -> Result<Meta, MetaError> {
        let conn = sqlite::open_writer(path, &options)?;
        migrate::migrate(&conn, migrations, (options.clock)())?;
        let readers = Arc::new(Readers::open(path, &options)?);
        let counters = Arc::new(Counters::default());
        let (queue, jobs) = mpsc::channel(options.queue.max(1));
        let writers = queue.downgrade();
        let report = move |outcome| {
            writers.upgrade().is_some_and(|queue| queue.blocking_send(Message::Copied(outcome)).is_ok())
        };
        let copier = Copier::start(path, &options, Box::new(report))?;
        let writer = Writer::new(conn, jobs, options, Arc::clone(&counters), copier)?;
        let thread = std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| MetaError::Io(error.to_string().into()))?;
        let inner =
            Inner { path: path.to_owned(), queue, readers, counters, writer: Mutex::new(Some(thread)) };
        Ok(Meta { inner: Arc::new(inner) })
    }

    /// Runs `work` in a write transaction and returns once that is durable. It is a savepoint in a transaction shared
    /// with other writes: an `Err`, or a panic, undoes this work only. It may be run more than once, so it must not
    /// keep state from an earlier run. A caller that goes away does not stop what is queued. When the shared commit
    /// fails, every work in it answers that error, those that failed by themselves too: they may have judged by
    /// changes that are undone.
    pub async fn write<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let (job, answer) = Write::new(work);
        if self.inner.queue.send(Message::Run(job)).await.is_err() {
            return Err(MetaError::Closed.into());
        }
        answer.await.unwrap_or_else(|_| Err(MetaError::Closed.into()))
    }

    /// Runs `work` in a read transaction (one snapshot) on a thread where it may block. Keep it short: an old
    /// snapshot keeps the write-ahead log from starting over.
    pub async fn read<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        self.read_pooled(false, work).await
    }

    /// As `read`, for work that nobody waits for: it never takes more than half of the connections.
    pub async fn read_background<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        self.read_pooled(true, work).await
    }

    async fn read_pooled<T, E>(
        &self,
        background: bool,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let turn = self.inner.readers.turn(background).await?;
        self.inner.counters.reads.fetch_add(1, Relaxed);
        let readers = Arc::clone(&self.inner.readers);
        let reading = tokio::task::spawn_blocking(move || readers.read(turn, work));
        reading.await.unwrap_or_else(|_| Err(MetaError::other("a read transaction panicked").into()))
    }

    /// Runs `work` in a read transaction on the calling thread, the reactor's included: one or two look-ups by index,
    /// which take microseconds.
    pub fn read_now<T, E>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<MetaError>,
    {
        self.inner.counters.reads.fetch_add(1, Relaxed);
        self.inner.readers.read_now(work)
    }

    /// As `read`, for one or two look-ups by index: on SQLite they take microseconds and run on the calling thread; an
    /// engine behind a network never blocks the caller's thread.
    pub async fn read_quick<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        self.read_now(work)
    }

    /// Copies the whole metadata, as of one instant, into the new file `to`, while others read and write. The file is
    /// durable, its name is not yet.
    pub async fn copy_to(&self, to: &Path) -> Result<(), MetaError> {
        let (from, to) = (self.inner.path.clone(), to.to_owned());
        let copying = tokio::task::spawn_blocking(move || snapshot::copy(&from, &to));
        copying.await.unwrap_or_else(|_| Err(MetaError::other("copying the metadata panicked")))
    }

    /// What has been done since the metadata was opened.
    pub fn stats(&self) -> MetaStats {
        self.inner.counters.snapshot()
    }

    /// Jobs that wait for the writer now.
    pub fn queued(&self) -> usize {
        self.inner.queue.max_capacity() - self.inner.queue.capacity()
    }

    /// Finishes what is queued, empties the write-ahead log into the database and ends the writer. Later calls on any
    /// clone answer `MetaError::Closed`.
    pub async fn close(&self) {
        self.inner.readers.close();
        // Refused only if the writer has ended already.
        let _ = self.inner.queue.send(Message::Close).await;
        let thread = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.inner.queue.closed().await;
    }
}

#[cfg(test)]
mod tests;
