//! The embedded engine: one writer thread, a pool of readers, and how their connections are opened and set.

mod copier;
mod migrate;
mod readers;
mod snapshot;
pub(super) mod statements;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::sync::mpsc;

use self::{
    copier::Copier,
    readers::Readers,
    writer::{Message, Write, Writer},
};
use super::{error::MetaError, migrations::Migration, stats::Counters, testing::FaultPlan, tx::Tx};

/// Tells the time in microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What to do when durability is lost for good. It should not return; if it does, the handle is closed.
pub type FatalHook = Arc<dyn Fn(&MetaError) + Send + Sync>;

/// How to open SQLite. `Default` suits a server.
#[derive(Clone)]
pub struct SqliteOptions {
    /// Connections for `Meta::read`; half of them at most serve `Meta::read_background`.
    pub readers: usize,
    /// Connections for `Meta::read_now`: as many as there are runtime threads, within reason.
    pub immediate_readers: usize,
    /// How long to wait for a lock another process holds.
    pub busy_timeout: Duration,
    /// Most jobs in one commit.
    pub batch_jobs: usize,
    /// A batch takes no further job once it has run for this long.
    pub batch_time: Duration,
    /// Jobs that may wait for the writer; more of them wait in `Meta::write`.
    pub queue: usize,
    /// Size of the write-ahead log, in bytes, from which it is copied into the database, beside the writer; at most
    /// four times as much stays.
    pub checkpoint_bytes: u64,
    /// The time of transactions.
    pub clock: Clock,
    /// Called when a sync failed. Logs and aborts the process by default.
    pub fatal: FatalHook,
    /// Faults for tests.
    pub faults: Option<Arc<FaultPlan>>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        SqliteOptions {
            readers: 4,
            immediate_readers: threads.clamp(2, 8),
            busy_timeout: Duration::from_secs(5),
            batch_jobs: 256,
            batch_time: Duration::from_millis(2),
            queue: 1024,
            checkpoint_bytes: 32 << 20,
            clock: Arc::new(system_micros),
            fatal: Arc::new(abort),
            faults: None,
        }
    }
}

fn system_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

fn abort(error: &MetaError) {
    tracing::error!(%error, "lost durability of the metadata, ending the process at once");
    std::process::abort();
}

/// The database as `Meta` uses it.
pub(super) struct Engine {
    path: PathBuf,
    queue: mpsc::Sender<Message>,
    readers: Arc<Readers>,
    counters: Arc<Counters>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    pub fn open(path: &Path, options: SqliteOptions, migrations: &[Migration]) -> Result<Engine, MetaError> {
        let conn = open_writer(path, &options)?;
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
        let path = path.to_owned();
        Ok(Engine { path, queue, readers, counters, writer: Mutex::new(Some(thread)) })
    }

    pub async fn write<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let (job, answer) = Write::new(work);
        if self.queue.send(Message::Run(job)).await.is_err() {
            return Err(MetaError::Closed.into());
        }
        answer.await.unwrap_or_else(|_| Err(MetaError::Closed.into()))
    }

    /// Work of the background never takes more than half of the connections.
    pub async fn read<T, E>(
        &self,
        background: bool,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let turn = self.readers.turn(background).await?;
        self.counters.reads.fetch_add(1, Relaxed);
        let readers = Arc::clone(&self.readers);
        let reading = tokio::task::spawn_blocking(move || readers.read(turn, work));
        reading.await.unwrap_or_else(|_| Err(MetaError::other("a read transaction panicked").into()))
    }

    pub fn read_now<T, E: From<MetaError>>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.counters.reads.fetch_add(1, Relaxed);
        self.readers.read_now(work)
    }

    pub async fn copy_to(&self, to: &Path) -> Result<(), MetaError> {
        let (from, to) = (self.path.clone(), to.to_owned());
        let copying = tokio::task::spawn_blocking(move || snapshot::copy(&from, &to));
        copying.await.unwrap_or_else(|_| Err(MetaError::other("copying the metadata panicked")))
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub async fn close(&self) {
        self.readers.close();
        // Refused only if the writer has ended already.
        let _ = self.queue.send(Message::Close).await;
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.queue.closed().await;
    }
}

/// The page cache is small on purpose: idle memory is bounded, and the system's cache is one copy away.
const WRITER_CACHE_KIB: u32 = 4096;
const READER_CACHE_KIB: u32 = 1024;
const CACHED_STATEMENTS: usize = 256;

fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_CREATE, options)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(MetaError::other(format!("{} cannot have a write-ahead log", path.display())));
    }
    // FULL syncs the log at every commit. Checkpoints are ours: see `writer`.
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {};
         PRAGMA cache_size = -{WRITER_CACHE_KIB};",
        options.checkpoint_bytes.saturating_mul(2),
    ))?;
    Ok(conn)
}

fn open_copier(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
    let conn = open(path, OpenFlags::empty(), options)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
    Ok(conn)
}

fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
    let conn = open(path, OpenFlags::empty(), options)?;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA query_only = ON;
         PRAGMA cache_size = -{READER_CACHE_KIB};"
    ))?;
    Ok(conn)
}

fn open(path: &Path, extra: OpenFlags, options: &SqliteOptions) -> Result<Connection, MetaError> {
    // Not SQLITE_OPEN_URI: a path is a path. Each connection is used by one thread at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(options.busy_timeout)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // One plan per statement: without it SQLite plans statements with partial indexes anew for each binding.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.execute_batch(
        "PRAGMA temp_store = MEMORY;
         PRAGMA mmap_size = 0;",
    )?;
    Ok(conn)
}

/// Runs a statement without parameters or rows, kept prepared.
fn run(conn: &Connection, sql: &'static str) -> Result<(), MetaError> {
    conn.prepare_cached(sql)?.raw_execute()?;
    Ok(())
}

#[cfg(test)]
mod tests;
