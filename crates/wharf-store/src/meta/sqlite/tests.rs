//! What only this engine promises, on a small schema: shared commits, its log, its file.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU64, mpsc as std_mpsc},
};

use super::*;
use crate::meta::{
    Meta,
    testing::{FaultPlan, Site, When},
};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE items (
              id BIGINT PRIMARY KEY,
              name TEXT NOT NULL UNIQUE,
              data BLOB,
              flag BOOLEAN CHECK (flag IN (0, 1))
          );
          CREATE TABLE parts (
              id BIGINT PRIMARY KEY,
              item BIGINT NOT NULL REFERENCES items (id) ON DELETE RESTRICT
          );
          CREATE TABLE late (item BIGINT REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED);",
}];

const INSERT: &str = "INSERT INTO items (id, name) VALUES ($1, $2)";

struct Fixture {
    meta: Meta,
    path: PathBuf,
    faults: Arc<FaultPlan>,
    fatal: Arc<Mutex<Vec<MetaError>>>,
    _directory: tempfile::TempDir,
}

fn open() -> Fixture {
    open_with(|_| {})
}

fn open_with(change: impl FnOnce(&mut SqliteOptions)) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    let faults = Arc::new(FaultPlan::new());
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&fatal);
    let mut options = SqliteOptions {
        faults: Some(Arc::clone(&faults)),
        fatal: Arc::new(move |error| seen.lock().unwrap().push(error.clone())),
        batch_time: std::time::Duration::from_secs(10),
        ..SqliteOptions::default()
    };
    change(&mut options);
    let meta = Meta::open_sqlite_with(&path, options, SCHEMA).unwrap();
    Fixture { meta, path, faults, fatal, _directory: directory }
}

fn insert(tx: &mut Tx<'_>, id: i64) -> Result<u64, MetaError> {
    tx.execute(INSERT, &[&id, &format!("item {id}")])
}

fn ids(tx: &mut Tx<'_>) -> Result<Vec<i64>, MetaError> {
    tx.query_all("SELECT id FROM items ORDER BY id", &[], |row| row.get(0))
}

impl Fixture {
    async fn insert(&self, id: i64) -> Result<u64, MetaError> {
        self.meta.write(move |tx| insert(tx, id)).await
    }

    fn ids(&self) -> Vec<i64> {
        self.meta.read_now(ids).unwrap()
    }

    /// Keeps the writer inside a transaction, so that whatever is queued meanwhile shares its commit.
    async fn hold(&self) -> Held {
        let (release, held) = std_mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let mut started = Some(started);
        let meta = self.meta.clone();
        let job = tokio::spawn(async move {
            meta.write(move |_| {
                if let Some(started) = started.take() {
                    started.send(()).unwrap();
                }
                let _ = held.recv();
                Ok::<_, MetaError>(())
            })
            .await
        });
        running.await.unwrap();
        Held { release, job, meta: self.meta.clone() }
    }
}

struct Held {
    release: std_mpsc::Sender<()>,
    job: tokio::task::JoinHandle<Result<(), MetaError>>,
    meta: Meta,
}

impl Held {
    /// Lets the writer go on once `count` jobs wait behind the held one.
    async fn release_behind(self, count: usize) -> Result<(), MetaError> {
        while self.meta.queued() < count {
            tokio::task::yield_now().await;
        }
        drop(self.release);
        self.job.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_commits() {
    let fixture = open();
    let before = fixture.meta.stats();
    let held = fixture.hold().await;
    let mut writes = tokio::task::JoinSet::new();
    for id in 0..200 {
        let meta = fixture.meta.clone();
        writes.spawn(async move { meta.write(move |tx| insert(tx, id)).await });
    }
    held.release_behind(200).await.unwrap();
    while let Some(written) = writes.join_next().await {
        assert_eq!(written.unwrap().unwrap(), 1);
    }

    assert_eq!(fixture.ids().len(), 200);
    let after = fixture.meta.stats();
    assert_eq!(after.jobs - before.jobs, 201);
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.batch_sizes[8], 1, "one batch of 129 to 256: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded() {
    let fixture = open_with(|options| options.batch_jobs = 10);
    let held = fixture.hold().await;
    let writes: Vec<_> = (0..29)
        .map(|id| {
            tokio::spawn({
                let meta = fixture.meta.clone();
                async move { meta.write(move |tx| insert(tx, id)).await }
            })
        })
        .collect();
    held.release_behind(29).await.unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(fixture.meta.stats().commits, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_or_panicking_job_hurts_only_itself() {
    let fixture = open();
    fixture.insert(1).await.unwrap();
    let held = fixture.hold().await;
    let meta = fixture.meta.clone();
    let spawn = |id: i64, end: fn() -> Result<(), MetaError>| {
        let meta = meta.clone();
        tokio::spawn(async move {
            meta.write(move |tx| {
                insert(tx, id)?;
                end()
            })
            .await
        })
    };
    let good = spawn(2, || Ok(()));
    let failing = spawn(3, || Err(MetaError::Missing));
    let panicking = spawn(4, || panic!("a job's own fault"));
    let duplicate = spawn(1, || Ok(()));
    let last = spawn(5, || Ok(()));
    held.release_behind(5).await.unwrap();

    good.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert!(failing.await.unwrap().unwrap_err().is_missing());
    assert!(panicking.await.unwrap().unwrap_err().to_string().contains("panicked"));
    assert!(duplicate.await.unwrap().unwrap_err().is_unique_violation());
    assert_eq!(fixture.ids(), [1, 2, 5]);
    let stats = fixture.meta.stats();
    assert_eq!((stats.commits, stats.panics), (2, 1));
    fixture.insert(6).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_constraint_fails_only_the_job_that_breaks_it() {
    let fixture = open();
    let held = fixture.hold().await;
    let meta = fixture.meta.clone();
    let good = tokio::spawn({
        let meta = meta.clone();
        async move { meta.write(|tx| insert(tx, 1)).await }
    });
    let bad =
        tokio::spawn(
            async move { meta.write(|tx| tx.execute("INSERT INTO late (item) VALUES (99)", &[])).await },
        );
    held.release_behind(2).await.unwrap();

    good.await.unwrap().unwrap();
    assert!(bad.await.unwrap().unwrap_err().is_foreign_key());
    assert_eq!(fixture.ids(), [1]);
}

#[tokio::test]
async fn the_work_of_one_caller_is_applied_in_order_and_survives_reopening() {
    let fixture = open();
    for id in 0..20 {
        fixture.insert(id).await.unwrap();
    }
    // Not closed: what was acknowledged must already be in the file and its log.
    let again = Meta::open_sqlite_with(&fixture.path, SqliteOptions::default(), SCHEMA).unwrap();
    assert_eq!(again.read_now(ids).unwrap(), (0..20).collect::<Vec<_>>());
    again.close().await;
    fixture.insert(20).await.unwrap();
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    let fixture = open();
    let held = fixture.hold().await;
    let queued = tokio::spawn({
        let meta = fixture.meta.clone();
        async move { meta.write(|tx| insert(tx, 1)).await }
    });
    while fixture.meta.queued() < 1 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn({
        let meta = fixture.meta.clone();
        async move { meta.close().await }
    });
    held.release_behind(2).await.unwrap();
    closing.await.unwrap();

    assert_eq!(queued.await.unwrap().unwrap(), 1);
    assert!(matches!(fixture.insert(2).await, Err(MetaError::Closed)));
    assert!(matches!(fixture.meta.read(ids).await, Err(MetaError::Closed)));
    assert!(matches!(fixture.meta.read_now(ids), Err(MetaError::Closed)));
    fixture.meta.close().await;
    let log = fixture.path.with_extension("db-wal");
    assert!(std::fs::metadata(&log).map_or(true, |log| log.len() == 0), "the log is emptied");
    let again = Meta::open_sqlite_with(&fixture.path, SqliteOptions::default(), SCHEMA).unwrap();
    assert_eq!(again.read_now(ids).unwrap(), [1]);
}

#[tokio::test]
async fn faults_strike_the_chosen_call_once() {
    let fixture = open();
    let plan = &fixture.faults;
    plan.fail(Site::Statement, 2, When::Before, MetaError::Io("injected".into()));
    let two = |tx: &mut Tx<'_>| {
        insert(tx, 1)?;
        insert(tx, 2)
    };
    assert!(matches!(fixture.meta.write(two).await, Err(MetaError::Io(_))));
    assert_eq!((fixture.ids(), plan.pending(), plan.calls(Site::Statement)), (vec![], 0, 2));
    fixture.meta.write(two).await.unwrap();

    plan.fail(Site::Commit, 1, When::Before, MetaError::Full);
    assert!(matches!(fixture.insert(3).await, Err(MetaError::Full)));
    assert_eq!(fixture.ids(), [1, 2]);
    plan.fail(Site::Commit, 1, When::After, MetaError::Io("injected".into()));
    assert!(matches!(fixture.insert(3).await, Err(MetaError::Io(_))));
    assert_eq!(fixture.ids(), [1, 2, 3], "an error after the effect");
    plan.fail(Site::Read, 1, When::Before, MetaError::Busy);
    assert!(matches!(fixture.meta.read_now(ids), Err(MetaError::Busy)));

    fixture.insert(4).await.unwrap();
    assert_eq!(fixture.ids(), [1, 2, 3, 4]);
    assert!(fixture.fatal.lock().unwrap().is_empty());
    assert_eq!(fixture.meta.stats().failed_batches, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_fails_every_job_in_it() {
    let fixture = open();
    let held = fixture.hold().await;
    let meta = fixture.meta.clone();
    let write = |id: i64| {
        let meta = meta.clone();
        tokio::spawn(async move { meta.write(move |tx| insert(tx, id)).await })
    };
    // The second sees a duplicate of a row that the failed commit takes back: its own error would be a lie.
    let (first, second) = (write(1), write(1));
    fixture.faults.fail(Site::Commit, 1, When::Before, MetaError::Full);
    assert!(matches!(held.release_behind(2).await, Err(MetaError::Full)));
    assert!(matches!(first.await.unwrap(), Err(MetaError::Full)));
    assert!(matches!(second.await.unwrap(), Err(MetaError::Full)));
    assert!(fixture.ids().is_empty());
    fixture.insert(1).await.unwrap();
}

#[tokio::test]
async fn a_full_database_fails_cleanly_and_goes_on() {
    let fixture = open();
    fixture.insert(1).await.unwrap();
    let limit = |tx: &mut Tx<'_>| tx.query_one("PRAGMA max_page_count = 20", &[], |row| row.get::<i64>(0));
    fixture.meta.write(limit).await.unwrap();
    let large = |tx: &mut Tx<'_>| {
        insert(tx, 2)?;
        tx.execute("UPDATE items SET data = $1 WHERE id = 2", &[&vec![7u8; 200_000]])
    };
    assert!(matches!(fixture.meta.write(large).await, Err(MetaError::Full)));
    assert_eq!(fixture.ids(), [1]);
    fixture.insert(3).await.unwrap();
    assert_eq!(fixture.ids(), [1, 3]);
}

#[tokio::test]
async fn a_failed_sync_is_fatal_and_never_retried() {
    let fixture = open();
    fixture.insert(1).await.unwrap();
    fixture.faults.fail(Site::Commit, 1, When::Before, MetaError::SyncFailed("injected".into()));
    assert!(matches!(fixture.insert(2).await, Err(MetaError::SyncFailed(_))));
    assert_eq!(fixture.fatal.lock().unwrap().len(), 1);
    assert!(matches!(fixture.insert(3).await, Err(MetaError::Closed)));
    assert_eq!(fixture.faults.calls(Site::Commit), 2);
    assert_eq!(fixture.ids(), [1]);
}

#[tokio::test]
async fn the_log_is_copied_back_by_the_writer_and_stays_small() {
    let fixture = open_with(|options| options.checkpoint_bytes = 64 << 10);
    let row = Arc::new(vec![7u8; 8192]);
    for id in 0..200i64 {
        let row = Arc::clone(&row);
        let sql = "INSERT INTO items (id, name, data) VALUES ($1, $2, $3)";
        let insert = move |tx: &mut Tx<'_>| tx.execute(sql, &[&id, &id.to_string(), &row]);
        fixture.meta.write(insert).await.map_err(|error: MetaError| error).unwrap();
    }
    fixture.meta.write(|_| Ok::<_, MetaError>(())).await.unwrap();
    let checkpoints = fixture.meta.stats().checkpoints;
    assert!((10..=100).contains(&checkpoints), "{checkpoints} checkpoints");
    let log = std::fs::metadata(fixture.path.with_extension("db-wal")).unwrap().len();
    assert!(log < 256 << 10, "the log has {log} bytes");
}

#[tokio::test]
async fn migrations_run_once_in_order_and_a_newer_database_is_refused() {
    const LATER: &[Migration] = &[
        SCHEMA[0],
        Migration { version: 2, sql: "CREATE TABLE more (id BIGINT); INSERT INTO more VALUES (1);" },
    ];
    const BROKEN: &[Migration] = &[
        LATER[0],
        LATER[1],
        Migration { version: 3, sql: "CREATE TABLE half (id BIGINT); INSERT INTO nowhere VALUES (1);" },
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    let open = |migrations| Meta::open_sqlite_with(&path, SqliteOptions::default(), migrations);
    let count = |meta: &Meta, sql| meta.read_now(|tx| tx.query_one(sql, &[], |row| row.get::<i64>(0)));
    open(SCHEMA).unwrap().close().await;
    for _ in 0..2 {
        let meta = open(LATER).unwrap();
        assert_eq!(count(&meta, "SELECT COUNT(*) FROM more").unwrap(), 1);
        assert_eq!(count(&meta, "SELECT COUNT(*) FROM schema_migrations").unwrap(), 2);
        meta.close().await;
    }
    let refused = open(SCHEMA).err().unwrap();
    assert!(matches!(refused, MetaError::Newer { found: 2, known: 1 }), "{refused}");
    assert!(open(BROKEN).err().unwrap().to_string().contains("migration 3"));
    let meta = open(LATER).unwrap();
    let half = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'half'";
    assert_eq!(count(&meta, half).unwrap(), 0, "a failed migration leaves nothing");
}

#[tokio::test]
async fn the_real_schema_opens_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    for _ in 0..2 {
        let meta = Meta::open_sqlite(&path, SqliteOptions::default()).unwrap();
        let broken: Vec<String> = meta
            .read_now(|tx| tx.query_all("PRAGMA foreign_key_check", &[], |row| row.get(0)))
            .map_err(|error: MetaError| error)
            .unwrap();
        assert!(broken.is_empty());
        meta.close().await;
    }
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let refused = Meta::open_sqlite(&path, SqliteOptions::default()).err().unwrap();
    assert!(matches!(refused, MetaError::Corrupt(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_cancelled_callers_does_not_stop_the_writer() {
    let fixture = open();
    let held = fixture.hold().await;
    let ran = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&ran);
    let meta = fixture.meta.clone();
    let cancelled = tokio::spawn(async move {
        meta.write(move |tx| {
            counted.fetch_add(1, Relaxed);
            insert(tx, 1)
        })
        .await
    });
    while fixture.meta.queued() < 1 {
        tokio::task::yield_now().await;
    }
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    held.release_behind(1).await.unwrap();
    fixture.insert(2).await.unwrap();
    assert_eq!((ran.load(Relaxed), fixture.ids()), (1, vec![1, 2]));
}
