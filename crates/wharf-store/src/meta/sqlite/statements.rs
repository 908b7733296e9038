//! Runs single statements on a connection: prepared once, parameters bound by number.

use rusqlite::Connection;

use crate::meta::{
    error::MetaError,
    value::{Param, Row},
};

/// Runs a statement that returns no rows; answers how many rows it inserted, changed or removed.
pub fn execute(conn: &Connection, sql: &str, params: &[&dyn Param]) -> Result<u64, MetaError> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    Ok(statement.raw_execute()? as u64)
}

/// The first row, if there is one.
pub fn query_opt<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn Param],
    mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
) -> Result<Option<T>, MetaError> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    // Changes and their constraints are complete before a RETURNING clause gives its first row.
    match rows.next()? {
        Some(row) => map(&Row::of_sqlite(row)).map(Some),
        None => Ok(None),
    }
}

/// All rows.
pub fn query_all<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn Param],
    mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
) -> Result<Vec<T>, MetaError> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(map(&Row::of_sqlite(row))?);
    }
    Ok(all)
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
