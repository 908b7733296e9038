//! Versioned migrations: forward only, all that are missing in one transaction, refused by a program older than the
//! database.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::MetaError;

/// One step of the schema. Never changed once released: mend it with a further step.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counts up from 1 without gaps.
    pub version: i64,
    /// Statements, without transaction control.
    pub sql: &'static str,
}

/// Applies what is missing, and answers the resulting version. Two processes may race: the loser sees the winner's work.
pub(super) fn migrate(
    conn: &Connection,
    migrations: &[Migration],
    now_micros: i64,
) -> Result<i64, MetaError> {
    debug_assert!(migrations.iter().zip(1..).all(|(migration, number)| migration.version == number));
    let known = migrations.last().map_or(0, |last| last.version);
    // A step may rebuild a table that others refer to. It has no effect inside a transaction.
    conn.execute_batch("PRAGMA foreign_keys = OFF")?;
    let outcome = in_transaction(conn, || migrate_from(conn, version_now(conn)?, migrations, now_micros));
    conn.execute_batch("PRAGMA foreign_keys = ON")?;
    outcome.map(|()| known)
}

fn version_now(conn: &Connection) -> Result<i64, MetaError> {
    let sql = "CREATE TABLE IF NOT EXISTS schema_migrations (
                   version BIGINT PRIMARY KEY,
                   applied_at BIGINT NOT NULL
               )";
    conn.execute_batch(sql)?;
    version(conn)
}

fn migrate_from(
    conn: &Connection,
    found: i64,
    migrations: &[Migration],
    now_micros: i64,
) -> Result<(), MetaError> {
    let known = migrations.last().map_or(0, |last| last.version);
    if found > known {
        return Err(MetaError::Newer { found, known });
    }
    let missing = &migrations[usize::try_from(found).unwrap_or(0)..];
    for migration in missing {
        apply(conn, migration, now_micros)?;
    }
    if missing.is_empty() || found == 0 {
        return Ok(());
    }
    let broken: Option<String> =
        conn.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()?;
    match broken {
        Some(table) => {
            Err(MetaError::other(format!("the migration leaves rows of `{table}` without what they name")))
        }
        None => Ok(()),
    }
}

fn apply(conn: &Connection, migration: &Migration, now_micros: i64) -> Result<(), MetaError> {
    let failed =
        |error: rusqlite::Error| MetaError::other(format!("migration {}: {error}", migration.version));
    conn.execute_batch(migration.sql).map_err(failed)?;
    let record = "INSERT INTO schema_migrations (version, applied_at) VALUES ($1, $2)";
    conn.execute(record, params![migration.version, now_micros]).map_err(failed)?;
    Ok(())
}

fn version(conn: &Connection) -> Result<i64, MetaError> {
    let newest = "SELECT MAX(version) FROM schema_migrations";
    let version: Option<Option<i64>> = conn.query_row(newest, [], |row| row.get(0)).optional()?;
    Ok(version.flatten().unwrap_or(0))
}

fn in_transaction(conn: &Connection, work: impl FnOnce() -> Result<(), MetaError>) -> Result<(), MetaError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let result = work().and_then(|()| Ok(conn.execute_batch("COMMIT")?));
    if result.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    result
}
