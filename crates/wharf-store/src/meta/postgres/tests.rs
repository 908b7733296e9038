//! What only this engine promises: few round trips, races and lost connections that callers do not see.

use std::sync::{Barrier, atomic::AtomicU64};

use tokio::task::JoinSet;
use wharf_testing::{
    postgres::{Database, PrivateServer},
    proxy::{Cut, Proxy},
};

use super::*;
use crate::meta::{MIGRATIONS, Meta, MetaStats, POSTGRES_MIGRATIONS};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE counters (id BIGINT PRIMARY KEY, value BIGINT NOT NULL);
          INSERT INTO counters VALUES (1, 0), (2, 0);
          CREATE TABLE marks (id BIGINT PRIMARY KEY, counter BIGINT NOT NULL);",
}];

const READ: &str = "SELECT value FROM counters WHERE id = $1";
const ADD: &str = "UPDATE counters SET value = value + $2 WHERE id = $1";
const MARK: &str = "INSERT INTO marks (id, counter) VALUES ($1, $2)";

fn open_with(url: &str, change: impl FnOnce(&mut PostgresOptions)) -> Meta {
    let mut options = PostgresOptions::new(url.parse().unwrap());
    change(&mut options);
    Meta::open_postgres_with(options, SCHEMA, &[]).unwrap()
}

fn open(database: &Database) -> Meta {
    open_with(&database.url(), |_| {})
}

fn value(tx: &mut Tx<'_>, id: i64) -> Result<i64, MetaError> {
    tx.query_one(READ, &[&id], |row| row.get(0))
}

fn trips(meta: &Meta, before: MetaStats) -> u64 {
    meta.stats().round_trips - before.round_trips
}

#[tokio::test]
async fn a_statement_is_a_round_trip_and_a_commit_another() {
    let Some(database) = Database::create() else { return };
    let meta = open(&database);
    let one = |tx: &mut Tx<'_>| value(tx, 1);
    let two = |tx: &mut Tx<'_>| Ok::<_, MetaError>(value(tx, 1)? + value(tx, 2)?);
    let write = |tx: &mut Tx<'_>| {
        let sum = value(tx, 1)? + value(tx, 2)?;
        for id in 1..=2i64 {
            tx.execute_later(ADD, &[&id, &1])?;
        }
        tx.execute(ADD, &[&1, &0])?;
        tx.execute_later(ADD, &[&1, &sum])
    };
    // Prepares the statements.
    meta.read(two).await.unwrap();
    meta.write(write).await.unwrap();

    let before = meta.stats();
    meta.read(one).await.unwrap();
    assert_eq!(trips(&meta, before), 1);
    let before = meta.stats();
    meta.read(two).await.unwrap();
    assert_eq!(trips(&meta, before), 2);
    let before = meta.stats();
    meta.write(write).await.unwrap();
    assert_eq!(trips(&meta, before), 4, "two reads, a write with what waited, the commit with the rest");
    let before = meta.stats();
    meta.write(|_| Ok::<_, MetaError>(())).await.unwrap();
    assert_eq!(trips(&meta, before), 0, "nothing asked, nothing sent");
    assert_eq!(meta.read(|tx| Ok::<_, MetaError>((value(tx, 1)?, value(tx, 2)?))).await.unwrap(), (4, 2));
    assert_eq!(meta.stats().connects, 3, "one to migrate, one to read, one to write");
}

/// Each takes from a counter only if the sum of both allows it: right only if none acts on what another has changed.
#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_keep_what_one_would() {
    let Some(database) = Database::create() else { return };
    let meta = open(&database);
    let fill = |tx: &mut Tx<'_>| tx.execute("UPDATE counters SET value = 20", &[]);
    meta.write(fill).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..8i64 {
        let meta = meta.clone();
        writers.spawn(async move {
            let mut taken = 0;
            for round in 0..8 {
                let id = (writer + round) % 2 + 1;
                let take = move |tx: &mut Tx<'_>| {
                    if value(tx, 1)? + value(tx, 2)? < 1 {
                        return Ok(0);
                    }
                    tx.execute(MARK, &[&(writer * 100 + round), &id])?;
                    tx.execute(ADD, &[&id, &-1])
                };
                taken += meta.write::<_, MetaError>(take).await.unwrap();
            }
            taken
        });
    }
    let mut taken = 0;
    while let Some(count) = writers.join_next().await {
        taken += count.unwrap();
    }
    let left = |tx: &mut Tx<'_>| Ok::<_, MetaError>(value(tx, 1)? + value(tx, 2)?);
    assert_eq!(taken, 40, "as much as there was");
    assert_eq!(meta.read(left).await.unwrap(), 0);
    assert_eq!(database.run("SELECT COUNT(*) FROM marks"), "40", "each is done once");
}

/// Ends every session of the database but its own.
fn end_all_sessions(database: &Database) {
    database.run(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_in_a_transaction_is_begun_again() {
    let Some(database) = Database::create() else { return };
    let database = Arc::new(database);
    let meta = open(&database);
    let runs = Arc::new(AtomicU64::new(0));
    let (counted, server) = (Arc::clone(&runs), Arc::clone(&database));
    let work = move |tx: &mut Tx<'_>| {
        tx.execute(ADD, &[&1, &1])?;
        if counted.fetch_add(1, Relaxed) == 0 {
            end_all_sessions(&server);
        }
        value(tx, 1)
    };
    assert_eq!(meta.write(work).await.unwrap(), 1);
    assert_eq!(runs.load(Relaxed), 2);

    let (counted, server) = (Arc::clone(&runs), Arc::clone(&database));
    let read = move |tx: &mut Tx<'_>| {
        value(tx, 1)?;
        if counted.fetch_add(1, Relaxed) == 2 {
            end_all_sessions(&server);
        }
        value(tx, 1)
    };
    assert_eq!(meta.read(read).await.unwrap(), 1);
    assert_eq!(runs.load(Relaxed), 4);
    // Idle ones, too.
    end_all_sessions(&database);
    assert_eq!(meta.read_now(|tx| value(tx, 1)).unwrap(), 1);
    meta.write(|tx| tx.execute(ADD, &[&1, &1])).await.unwrap();
    assert_eq!(meta.read_now(|tx| value(tx, 1)).unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_done_exactly_once() {
    let Some(database) = Database::create() else { return };
    let proxy = Proxy::start(database.socket()).unwrap();
    let meta = open_with(&database.url_by_port(proxy.port()), |options| options.writers = 2);
    let mut wanted = 0;
    for (mark, cut) in
        [Cut::Never, Cut::AfterTheServer, Cut::BeforeTheServer, Cut::AfterTheServer].into_iter().enumerate()
    {
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        let work = move |tx: &mut Tx<'_>| {
            counted.fetch_add(1, Relaxed);
            tx.execute_later(ADD, &[&1, &1])?;
            tx.execute(MARK, &[&mark, &1])
        };
        proxy.cut_next_commit(cut);
        assert_eq!(meta.write(work).await.unwrap(), 1, "{cut:?}");
        wanted += 1;
        assert_eq!(meta.read(|tx| value(tx, 1)).await.unwrap(), wanted, "{cut:?}");
        let once = if cut == Cut::BeforeTheServer { 2 } else { 1 };
        assert_eq!(runs.load(Relaxed), once, "{cut:?}");
    }
    assert_eq!(proxy.cuts(), 3);
    assert_eq!(database.run("SELECT COUNT(*) FROM marks"), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_may_migrate_at_once() {
    let Some(database) = Database::create() else { return };
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        let nodes: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let options = PostgresOptions::new(database.url().parse().unwrap());
                    Meta::open_postgres(options).map(drop)
                })
            })
            .collect();
        for node in nodes {
            node.join().unwrap().unwrap();
        }
    });
    assert_eq!(database.run("SELECT COUNT(*) FROM schema_migrations"), MIGRATIONS.len().to_string());
}

/// Each writer counts what was acknowledged; the server goes away in between, as in a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_and_comes_back_loses_and_doubles_nothing() {
    let Some(server) = PrivateServer::start() else { return };
    let database = server.create_database();
    let meta = open_with(&database.url(), |options| options.patience = Duration::from_secs(60));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..4i64 {
        let (meta, stop, done) = (meta.clone(), Arc::clone(&stop), Arc::clone(&done));
        writers.spawn(async move {
            let mut acknowledged = 0;
            while !stop.load(Relaxed) {
                let mark = writer * 1_000_000 + acknowledged;
                let work = move |tx: &mut Tx<'_>| {
                    tx.execute_later(ADD, &[&1, &1])?;
                    tx.execute(MARK, &[&mark, &1])
                };
                meta.write::<_, MetaError>(work).await.unwrap();
                acknowledged += 1;
                done.fetch_add(1, Relaxed);
            }
            acknowledged
        });
    }
    let server = Arc::new(server);
    for _ in 0..2 {
        let before = done.load(Relaxed);
        while done.load(Relaxed) < before + 20 {
            tokio::task::yield_now().await;
        }
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.crash_and_restart()).await.unwrap();
    }
    stop.store(true, Relaxed);
    let mut acknowledged = 0;
    while let Some(count) = writers.join_next().await {
        acknowledged += count.unwrap();
    }
    assert_eq!(meta.read(|tx| value(tx, 1)).await.unwrap(), acknowledged);
    assert_eq!(database.run("SELECT COUNT(*) FROM marks"), acknowledged.to_string());
}

#[tokio::test]
async fn time_is_the_servers() {
    let Some(database) = Database::create() else { return };
    let meta = open(&database);
    let asked = |database: &Database| database.run(clock::ASK).parse::<i64>().unwrap();
    let before = asked(&database);
    let now = meta.write(|tx| Ok::<_, MetaError>(tx.now_micros())).await.unwrap();
    // An estimate: off by half of an answer's time, which is short of ten seconds on any machine.
    assert!((before - 10_000_000..asked(&database) + 10_000_000).contains(&now), "{now} and {before}");
}

#[tokio::test]
async fn tokens_of_finished_commits_do_not_pile_up() {
    let Some(database) = Database::create() else { return };
    let meta = open(&database);
    for _ in 0..450 {
        meta.write(|tx| tx.execute(ADD, &[&1, &1])).await.map_err(|error: MetaError| error).unwrap();
    }
    let left: u64 = database.run("SELECT COUNT(*) FROM commit_tokens").parse().unwrap();
    assert!(left <= 201, "{left} tokens");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be_unreachable() {
    // Nobody listens on a port that was just free, or it is another server that is none of ours.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://wharf:s3cret@127.0.0.1:{free}/meta?sslmode=disable");
    let mut options = PostgresOptions::new(url.parse().unwrap());
    options.patience = Duration::ZERO;
    let error = Meta::open_postgres(options).err().unwrap();
    assert!(matches!(error, MetaError::Unreachable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

/// Tables, columns and their kinds, keys and indexes: what both engines' schemas must agree in.
#[tokio::test]
async fn the_schema_is_that_of_sqlite() {
    let Some(database) = Database::create() else { return };
    let postgres = Meta::open_postgres_with(
        PostgresOptions::new(database.url().parse().unwrap()),
        MIGRATIONS,
        POSTGRES_MIGRATIONS,
    );
    drop(postgres.unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    let sqlite = Meta::open_sqlite(&path, crate::meta::SqliteOptions::default()).unwrap();
    let lines = |sql: &'static str| -> Vec<String> {
        sqlite
            .read_now(|tx| tx.query_all(sql, &[], |row| row.get(0)))
            .map_err(|error: MetaError| error)
            .unwrap()
    };
    let columns = lines(
        "SELECT tables.name || '.' || columns.name || ' ' ||
                CASE columns.type WHEN 'BLOB' THEN 'BYTEA' WHEN 'INTEGER' THEN 'BIGINT' ELSE columns.type END ||
                CASE WHEN columns.\"notnull\" OR columns.pk THEN ' NOT NULL' ELSE '' END
         FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'
         ORDER BY 1",
    );
    let theirs = database.run(
        "SELECT table_name || '.' || column_name || ' ' || UPPER(data_type) ||
                CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END
         FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> 'commit_tokens'
         ORDER BY (table_name || '.' || column_name || ' ') COLLATE \"C\"",
    );
    let mut columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut theirs: Vec<&str> = theirs.lines().collect();
    columns.sort_unstable();
    theirs.sort_unstable();
    assert!(columns.len() > 100);
    assert_eq!(theirs, columns);

    let indexes =
        lines("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name");
    let theirs = database.run(
        "SELECT indexname FROM pg_indexes
         WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'
         ORDER BY indexname COLLATE \"C\"",
    );
    assert_eq!(theirs.lines().collect::<Vec<_>>(), indexes);
    let foreign = lines(
        "SELECT tables.name || ' ' || keys.\"table\" FROM sqlite_schema AS tables, pragma_foreign_key_list(tables.name) AS keys
         WHERE tables.type = 'table' AND keys.seq = 0",
    );
    let theirs = database.run("SELECT conname FROM pg_constraint WHERE contype = 'f'");
    assert_eq!(theirs.lines().count(), foreign.len());
    let ordered = database.run(
        "SELECT COUNT(*) FROM information_schema.columns
         WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
    );
    assert_eq!(ordered, "0", "text is ordered by bytes");
}
