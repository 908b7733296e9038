//! The metadata: one relational database behind short, synchronous transactions.
//!
//! `Meta` runs closures over a `Tx`, on SQLite or on PostgreSQL. On SQLite writes share commits: each is a savepoint in
//! the transaction of the one writer thread, answered after that transaction's sync. On PostgreSQL each is a serializable
//! transaction of its own, run again when it loses a race. Reads have connections of their own and see one snapshot each.
//! The statements live beside their functions in the topic modules; nothing outside `meta` writes SQL.

pub mod accounts;
pub mod archive;
pub mod blobs;
pub mod copy;
pub mod current;
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
mod migrations;
pub mod missing;
pub mod objects;
mod postgres;
pub mod pull_time;
pub mod push;
pub mod repositories;
pub mod scrub;
pub mod settings;
mod sqlite;
mod stats;
pub mod tags;
pub mod testing;
pub mod tombstones;
mod tx;
pub mod uploads;
mod value;

use std::{path::Path, sync::Arc};

pub use self::{
    error::{ConstraintKind, MetaError},
    migrations::Migration,
    postgres::{PostgresOptions, PostgresUrl, UrlError},
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

/// Steps that PostgreSQL has a text of its own for.
const POSTGRES_MIGRATIONS: &[Migration] =
    &[Migration { version: 4, sql: include_str!("migrations/postgres/0004_clustered.sql") }];

/// A handle on the metadata. Clones share one database; the last one to go ends the engine.
#[derive(Clone)]
pub struct Meta {
    engine: Arc<Engine>,
}

enum Engine {
    Sqlite(sqlite::Engine),
    Postgres(postgres::Engine),
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
        let engine = Engine::Sqlite(sqlite::Engine::open(path, options, migrations)?);
        Ok(Meta { engine: Arc::new(engine) })
    }

    /// Connects to a PostgreSQL database (13 or later) and brings its schema up to date; any number of nodes may do so
    /// at once. Fails with `MetaError::Newer` if a newer program has written it. Blocks: call it before serving.
    pub fn open_postgres(options: PostgresOptions) -> Result<Meta, MetaError> {
        Self::open_postgres_with(options, MIGRATIONS, POSTGRES_MIGRATIONS)
    }

    /// As `open_postgres`, with another schema, `own` being the steps with a text of PostgreSQL's own: for tests of the
    /// engine itself.
    pub fn open_postgres_with(
        options: PostgresOptions,
        migrations: &[Migration],
        own: &[Migration],
    ) -> Result<Meta, MetaError> {
        let engine = Engine::Postgres(postgres::Engine::open(options, migrations, own)?);
        Ok(Meta { engine: Arc::new(engine) })
    }

    /// Runs `work` in a write transaction and returns once that is durable. An `Err`, or a panic, undoes this work only.
    /// It may be run more than once, so it must not keep state from an earlier run. A caller that goes away does not
    /// stop what has begun.
    ///
    /// On SQLite it is a savepoint in a transaction shared with other writes. When the shared commit fails, every work
    /// in it answers that error, those that failed by themselves too: they may have judged by changes that are undone.
    /// On PostgreSQL it answers `MetaError::Conflict` after losing too many races, and `MetaError::OutcomeUnknown` when
    /// the server cannot be asked what became of a commit.
    pub async fn write<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.write(work).await,
            Engine::Postgres(engine) => engine.write(work).await,
        }
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
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read(false, work).await,
            Engine::Postgres(engine) => engine.read(false, work).await,
        }
    }

    /// As `read`, for work that nobody waits for: it can never take the connections that requests need.
    pub async fn read_background<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read(true, work).await,
            Engine::Postgres(engine) => engine.read(true, work).await,
        }
    }

    /// Runs `work` in a read transaction on the calling thread. On SQLite that may be the reactor's: one or two look-ups
    /// by index take microseconds. On PostgreSQL it blocks for a round trip at least: see `read_quick`.
    pub fn read_now<T, E>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<MetaError>,
    {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read_now(work),
            Engine::Postgres(engine) => engine.read_now(work),
        }
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
        match &*self.engine {
            Engine::Sqlite(engine) => engine.read_now(work),
            Engine::Postgres(engine) => engine.read(false, work).await,
        }
    }

    /// Copies the whole embedded metadata, as of one instant, into the new file `to`, while others read and write. The
    /// file is durable, its name is not yet. PostgreSQL's is copied by its own tools.
    pub async fn copy_to(&self, to: &Path) -> Result<(), MetaError> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.copy_to(to).await,
            Engine::Postgres(_) => Err(MetaError::other("PostgreSQL is backed up by its own tools")),
        }
    }

    /// What has been done since the metadata was opened.
    pub fn stats(&self) -> MetaStats {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.counters().snapshot(),
            Engine::Postgres(engine) => engine.counters().snapshot(),
        }
    }

    /// Write transactions that wait for their turn now.
    pub fn queued(&self) -> usize {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.queued(),
            Engine::Postgres(engine) => engine.queued(),
        }
    }

    /// Finishes what has begun and ends the engine; SQLite's write-ahead log is emptied into the database. Later calls
    /// on any clone answer `MetaError::Closed`.
    pub async fn close(&self) {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.close().await,
            Engine::Postgres(engine) => engine.close().await,
        }
    }
}

#[cfg(test)]
mod tests;
