//! A transaction as the topic modules see it, whatever the engine.

use rusqlite::Connection;

use super::{
    dialect::Dialect,
    error::MetaError,
    postgres::Transaction,
    sqlite::statements,
    testing::{FaultPlan, Site},
    value::{Param, Row},
};

/// An open transaction. Only `$1..$n` placeholders; each of the given parameters must be used, in any order, any
/// number of times.
pub struct Tx<'c> {
    engine: Engine<'c>,
    now_micros: i64,
    site: Site,
    faults: Option<&'c FaultPlan>,
    last_error: Option<MetaError>,
}

enum Engine<'c> {
    Sqlite(&'c Connection),
    Postgres(&'c mut Transaction),
}

impl<'c> Tx<'c> {
    pub(super) fn on_sqlite(
        conn: &'c Connection,
        now_micros: i64,
        site: Site,
        faults: Option<&'c FaultPlan>,
    ) -> Self {
        Tx { engine: Engine::Sqlite(conn), now_micros, site, faults, last_error: None }
    }

    pub(super) fn on_postgres(
        transaction: &'c mut Transaction,
        now_micros: i64,
        site: Site,
        faults: Option<&'c FaultPlan>,
    ) -> Self {
        Tx { engine: Engine::Postgres(transaction), now_micros, site, faults, last_error: None }
    }

    /// The transaction's time, in microseconds since 1970: the same for all its statements.
    pub fn now_micros(&self) -> i64 {
        self.now_micros
    }

    /// The engine, for the fragments in `dialect`.
    pub fn dialect(&self) -> Dialect {
        match self.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement that returns no rows; answers how many rows it inserted, changed or removed.
    pub fn execute(&mut self, sql: &'static str, params: &[&dyn Param]) -> Result<u64, MetaError> {
        self.execute_dynamic(sql, params)
    }

    /// As `execute`, for a statement whose count nobody looks at: over a network it goes out together with the next
    /// statement, or with the commit, and its failure is theirs.
    pub fn execute_later(&mut self, sql: &'static str, params: &[&dyn Param]) -> Result<(), MetaError> {
        self.execute_later_dynamic(sql, params)
    }

    /// The first row, if there is one. With `RETURNING`, every row is changed, whichever is asked for.
    pub fn query_opt<T>(
        &mut self,
        sql: &'static str,
        params: &[&dyn Param],
        map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Option<T>, MetaError> {
        self.query_opt_dynamic(sql, params, map)
    }

    /// The first row; `MetaError::Missing` if there is none.
    pub fn query_one<T>(
        &mut self,
        sql: &'static str,
        params: &[&dyn Param],
        map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<T, MetaError> {
        self.query_opt_dynamic(sql, params, map)?.ok_or(MetaError::Missing)
    }

    /// All rows. The statement bounds their number (`LIMIT`), unless its key does.
    pub fn query_all<T>(
        &mut self,
        sql: &'static str,
        params: &[&dyn Param],
        map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        self.query_all_dynamic(sql, params, map)
    }

    /// As `execute`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn execute_dynamic(&mut self, sql: &str, params: &[&dyn Param]) -> Result<u64, MetaError> {
        self.guarded(|engine| match engine {
            Engine::Sqlite(conn) => statements::execute(conn, sql, params),
            Engine::Postgres(transaction) => transaction.execute(sql, params),
        })
    }

    /// As `execute_later`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn execute_later_dynamic(&mut self, sql: &str, params: &[&dyn Param]) -> Result<(), MetaError> {
        self.guarded(|engine| match engine {
            Engine::Sqlite(conn) => statements::execute(conn, sql, params).map(drop),
            Engine::Postgres(transaction) => transaction.execute_later(sql, params),
        })
    }

    /// As `query_opt`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn query_opt_dynamic<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Option<T>, MetaError> {
        self.guarded(|engine| match engine {
            Engine::Sqlite(conn) => statements::query_opt(conn, sql, params, map),
            Engine::Postgres(transaction) => transaction.query_opt(sql, params, map),
        })
    }

    /// As `query_all`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn query_all_dynamic<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        self.guarded(|engine| match engine {
            Engine::Sqlite(conn) => statements::query_all(conn, sql, params, map),
            Engine::Postgres(transaction) => transaction.query_all(sql, params, map),
        })
    }

    /// The last error of a statement: what to blame when SQLite has rolled back the whole transaction.
    pub(super) fn last_error(self) -> Option<MetaError> {
        self.last_error
    }

    fn guarded<T>(
        &mut self,
        statement: impl FnOnce(&mut Engine<'c>) -> Result<T, MetaError>,
    ) -> Result<T, MetaError> {
        let engine = &mut self.engine;
        let result = match self.faults {
            None => statement(engine),
            Some(faults) => faults.around(self.site, || statement(engine)),
        };
        if let Err(error) = &result {
            self.last_error = Some(error.clone());
        }
        result
    }
}
