//! Versioned migrations: forward only, all that are missing in one transaction, refused by a program older than the
//! database.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::meta::{error::MetaError, migrations::Migration};

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

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;
    use crate::meta::MIGRATIONS;

    const ROWS: i64 = 3;

    fn texts(conn: &Connection, sql: &str) -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn tables(conn: &Connection) -> Vec<String> {
        texts(
            conn,
            "SELECT name FROM sqlite_schema
             WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'schema_migrations'",
        )
    }

    fn columns(conn: &Connection, table: &str) -> Vec<String> {
        texts(conn, &format!("SELECT name FROM pragma_table_info('{table}')"))
    }

    /// The value of a column in the so manieth row; that of the row it refers to, if it does.
    fn value(conn: &Connection, table: &str, column: &str, row: i64) -> Value {
        let parent = "SELECT \"table\", \"to\" FROM pragma_foreign_key_list($1) WHERE \"from\" = $2";
        let parent: Option<(String, String)> = conn
            .query_row(parent, [table, column], |found| Ok((found.get(0)?, found.get(1)?)))
            .optional()
            .unwrap();
        if let Some((parent, to)) = parent {
            return value(conn, &parent, &to, row);
        }
        let kind = "SELECT type FROM pragma_table_info($1) WHERE name = $2";
        match conn.query_row(kind, [table, column], |found| found.get::<_, String>(0)).unwrap().as_str() {
            "TEXT" => Value::Text(format!("{table}.{column}.{row}")),
            "BLOB" => Value::Blob(vec![row as u8; 40]),
            "BOOLEAN" => Value::Integer(row % 2),
            _ => Value::Integer(row),
        }
    }

    fn fill(conn: &Connection, table: &str) {
        let columns = columns(conn, table);
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        for row in 1..=ROWS {
            let values = columns.iter().map(|column| value(conn, table, column, row));
            conn.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
        }
    }

    fn rows(conn: &Connection, table: &str, columns: &[String]) -> Vec<Vec<Value>> {
        let columns_text = columns.join(", ");
        let mut statement =
            conn.prepare(&format!("SELECT {columns_text} FROM {table} ORDER BY {columns_text}")).unwrap();
        let rows =
            statement.query_map([], |row| (0..columns.len()).map(|place| row.get(place)).collect()).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn schema(conn: &Connection) -> Vec<String> {
        texts(
            conn,
            "SELECT type || ' ' || name || ' on ' || tbl_name || ': ' || COALESCE(sql, '')
             FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
        )
    }

    #[test]
    fn whatever_version_a_database_has_its_rows_and_indexes_outlive_the_migrations() {
        let fresh = Connection::open_in_memory().unwrap();
        migrate(&fresh, MIGRATIONS, 1).unwrap();
        for known in 1..MIGRATIONS.len() {
            let conn = Connection::open_in_memory().unwrap();
            migrate(&conn, &MIGRATIONS[..known], 1).unwrap();
            // Tables come in any order; what they refer to is there in the end.
            conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
            let before: Vec<_> = tables(&conn)
                .into_iter()
                // What a step puts there itself is not ours to repeat.
                .filter(|table| table != "epochs")
                .map(|table| {
                    fill(&conn, &table);
                    let columns = columns(&conn, &table);
                    let rows = rows(&conn, &table, &columns);
                    assert_eq!(rows.len() as i64, ROWS);
                    (table, columns, rows)
                })
                .collect();
            assert!(before.len() > 15, "every table has rows");
            assert!(texts(&conn, "SELECT \"table\" FROM pragma_foreign_key_check").is_empty());

            migrate(&conn, MIGRATIONS, 2).unwrap();
            for (table, columns, old) in &before {
                assert_eq!(&rows(&conn, table, columns), old, "{table} of version {known}");
            }
            assert!(texts(&conn, "SELECT \"table\" FROM pragma_foreign_key_check").is_empty());
            assert_eq!(texts(&conn, "PRAGMA integrity_check"), ["ok"]);
            assert_eq!(schema(&conn), schema(&fresh), "the same tables and indexes as a new one");
            let referred = "DELETE FROM objects WHERE id = 'objects.id.1'";
            assert!(conn.execute(referred, []).is_err(), "references hold again");
        }
    }

    #[test]
    fn rows_are_found_by_indexes() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn, MIGRATIONS, 1).unwrap();
        for (query, index) in [
            ("SELECT 1 FROM blobs WHERE domain_id = 1 AND digest = ''", "USING PRIMARY KEY"),
            ("SELECT 1 FROM blobs WHERE object_id = ''", "blobs_by_object"),
            ("SELECT 1 FROM repository_blobs WHERE repository_id = 1 AND digest = ''", "USING PRIMARY KEY"),
            (
                "SELECT 1 FROM repository_blobs WHERE domain_id = 1 AND digest = ''",
                "repository_blobs_by_blob",
            ),
            ("SELECT 1 FROM repository_blobs WHERE unreferenced_since < 1", "repository_blobs_unreferenced"),
            ("SELECT 1 FROM manifest_blobs WHERE repository_id = 1 AND blob = ''", "manifest_blobs_by_blob"),
            (
                "SELECT 1 FROM manifest_children WHERE repository_id = 1 AND child = ''",
                "manifest_children_by_child",
            ),
            ("SELECT 1 FROM tags WHERE repository_id = 1 AND digest = ''", "tags_by_digest"),
            ("SELECT 1 FROM ended_uploads WHERE id < ''", "USING PRIMARY KEY"),
        ] {
            let plan: String =
                conn.query_row(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3)).unwrap();
            assert!(plan.starts_with("SEARCH") && plan.contains(index), "{query}: {plan}");
        }
    }
}
