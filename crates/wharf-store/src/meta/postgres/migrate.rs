//! Migrations of a server that many nodes share: under a lock of the database's, all that are missing in one transaction.

use std::time::Duration;

use super::{
    commits,
    connection::{Connection, Connector, Role},
    failure::Failure,
    wait::wait,
};
use crate::meta::{error::MetaError, migrations::Migration};

/// The lock that a migrating node holds, until its transaction ends: "wharf" in letters.
const LOCK: i64 = 0x77_68_61_72_66;

/// The oldest server we know to work.
const OLDEST_SERVER: i64 = 13_00_00;

/// A migration may rewrite tables, and others wait for it.
const LIMIT: Duration = Duration::from_secs(3600);

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT PRIMARY KEY,
    applied_at BIGINT NOT NULL
)";

/// Brings the schema up to date. Nodes that serve already, of this version or of an older one, go on: steps only add
/// what older programs need not know.
pub(super) fn migrate(
    connector: &std::sync::Arc<Connector>,
    migrations: &[Migration],
    own: &[Migration],
    now_micros: impl Fn() -> i64,
) -> Result<(), MetaError> {
    let connection = connector.connect(Role::Read)?;
    let server = number(&connection, "SELECT current_setting('server_version_num')")?;
    if server < OLDEST_SERVER {
        return Err(MetaError::other(format!(
            "PostgreSQL 13 or later is needed, this is {}",
            server / 10_000
        )));
    }
    let known = migrations.last().map_or(0, |last| last.version);
    let begin = format!(
        "SET statement_timeout = 0;
         SET lock_timeout = 0;
         BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SELECT pg_advisory_xact_lock({LOCK});
         {VERSIONS};
         {};
         {};",
        commits::TABLE,
        commits::DROP_OLD,
    );
    run(&connection, &begin)?;
    let found = number(&connection, "SELECT COALESCE(MAX(version), 0) FROM schema_migrations")?;
    if found > known {
        return Err(MetaError::Newer { found, known });
    }
    for migration in &migrations[usize::try_from(found).unwrap_or(0)..] {
        let version = migration.version;
        let step = format!(
            "{}\n;INSERT INTO schema_migrations (version, applied_at) VALUES ({version}, {});",
            migration.for_postgres(own),
            now_micros(),
        );
        run(&connection, &step).map_err(|error| MetaError::other(format!("migration {version}: {error}")))?;
    }
    run(&connection, "COMMIT")
}

fn run(connection: &Connection, sql: &str) -> Result<(), MetaError> {
    match wait(connection.client.batch_execute(sql), LIMIT) {
        Some(done) => done.map_err(|error| Failure::of(&error).error().clone()),
        None => Err(MetaError::Unreachable("a migration takes too long".into())),
    }
}

fn number(connection: &Connection, sql: &str) -> Result<i64, MetaError> {
    let answer = connection
        .exchange(connection.client.simple_query(sql))
        .map_err(|failure| failure.error().clone())?;
    answer
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        })
        .ok_or(MetaError::Missing)
}
