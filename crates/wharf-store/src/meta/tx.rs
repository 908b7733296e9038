//! A transaction as the topic modules see it, whatever the engine.

use rusqlite::Connection;

use super::{
    dialect::Dialect,
    error::MetaError,
    testing::{FaultPlan, Site},
    value::{Param, Row},
};

/// An open transaction. Only `$1..$n` placeholders; each of the given parameters must be used, in any order, any
/// number of times.
pub struct Tx<'c> {
    conn: &'c Connection,
    now_micros: i64,
    site: Site,
    faults: Option<&'c FaultPlan>,
    last_error: Option<MetaError>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        now_micros: i64,
        site: Site,
        faults: Option<&'c FaultPlan>,
    ) -> Self {
        Tx { conn, now_micros, site, faults, last_error: None }
    }

    /// The transaction's time, in microseconds since 1970: the same for all its statements.
    pub fn now_micros(&self) -> i64 {
        self.now_micros
    }

    /// The engine, for the fragments in `dialect`.
    pub fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    /// Runs a statement that returns no rows; answers how many rows it inserted, changed or removed.
    pub fn execute(&mut self, sql: &'static str, params: &[&dyn Param]) -> Result<u64, MetaError> {
        self.execute_dynamic(sql, params)
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
        self.guarded(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            bind(&mut statement, params)?;
            Ok(statement.raw_execute()? as u64)
        })
    }

    /// As `query_opt`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn query_opt_dynamic<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Option<T>, MetaError> {
        self.guarded(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            bind(&mut statement, params)?;
            let mut rows = statement.raw_query();
            // Changes and their constraints are complete before a RETURNING clause gives its first row.
            match rows.next()? {
                Some(row) => map(&Row::new(row)).map(Some),
                None => Ok(None),
            }
        })
    }

    /// As `query_all`, for a text assembled from constant parts and `dialect`, never from what a client sent.
    pub fn query_all_dynamic<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        self.guarded(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            bind(&mut statement, params)?;
            let mut rows = statement.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(map(&Row::new(row))?);
            }
            Ok(all)
        })
    }

    /// The last error of a statement: what to blame when SQLite has rolled back the whole transaction.
    pub(super) fn last_error(self) -> Option<MetaError> {
        self.last_error
    }

    fn guarded<T>(
        &mut self,
        statement: impl FnOnce(&'c Connection) -> Result<T, MetaError>,
    ) -> Result<T, MetaError> {
        let conn = self.conn;
        let result = match self.faults {
            None => statement(conn),
            Some(faults) => faults.around(self.site, || statement(conn)),
        };
        if let Err(error) = &result {
            self.last_error = Some(error.clone());
        }
        result
    }
}

/// Binds by the number in each placeholder's name: SQLite numbers `$n` by first appearance, not by `n`.
fn bind(statement: &mut rusqlite::Statement<'_>, params: &[&dyn Param]) -> Result<(), MetaError> {
    let count = statement.parameter_count();
    if count != params.len() {
        let detail = format!("{} parameters given to a statement with {count} placeholders", params.len());
        return Err(MetaError::other(detail));
    }
    for index in 1..=count {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$'))
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|number| (1..=count).contains(number))
            .ok_or_else(|| MetaError::other(format!("placeholder {index} is not one of $1 to ${count}")))?;
        statement.raw_bind_parameter(index, params[number - 1].value()?.as_sqlite())?;
    }
    Ok(())
}
