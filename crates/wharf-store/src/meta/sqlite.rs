//! The embedded engine: how its connections are opened and set.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{error::MetaError, testing::FaultPlan};

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

/// The page cache is small on purpose: idle memory is bounded, and the system's cache is one copy away.
const WRITER_CACHE_KIB: u32 = 4096;
const READER_CACHE_KIB: u32 = 1024;
const CACHED_STATEMENTS: usize = 256;

pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
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

pub(super) fn open_copier(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
    let conn = open(path, OpenFlags::empty(), options)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
    Ok(conn)
}

pub(super) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, MetaError> {
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
pub(super) fn run(conn: &Connection, sql: &'static str) -> Result<(), MetaError> {
    conn.prepare_cached(sql)?.raw_execute()?;
    Ok(())
}
