//! What every engine promises, on a small schema: the same tests on each.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering::Relaxed},
    mpsc as std_mpsc,
};

use wharf_testing::postgres::Database;

use super::{
    testing::{FaultPlan, Site, When},
    *,
};

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE items (
              id BIGINT PRIMARY KEY,
              name TEXT NOT NULL UNIQUE,
              data BLOB,
              flag BOOLEAN,
              size BIGINT CHECK (size >= 0)
          );
          CREATE TABLE parts (
              id BIGINT PRIMARY KEY,
              item BIGINT NOT NULL REFERENCES items (id) ON DELETE RESTRICT
          );
          CREATE TABLE late (item BIGINT REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED);",
}];

const INSERT: &str = "INSERT INTO items (id, name) VALUES ($1, $2)";

/// What a test may choose.
#[derive(Clone, Default)]
struct Choices {
    readers: Option<usize>,
    clock: Option<Clock>,
}

/// An empty database of one engine.
enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Place {
    fn open(
        &self,
        choices: Choices,
        faults: Arc<FaultPlan>,
        migrations: &[Migration],
    ) -> Result<Meta, MetaError> {
        match self {
            Place::Sqlite(directory) => {
                let mut options = SqliteOptions { faults: Some(faults), ..SqliteOptions::default() };
                options.readers = choices.readers.unwrap_or(options.readers);
                options.immediate_readers = choices.readers.unwrap_or(options.immediate_readers);
                options.clock = choices.clock.unwrap_or(options.clock);
                Meta::open_sqlite_with(&directory.path().join("meta.db"), options, migrations)
            }
            Place::Postgres(database) => {
                let mut options = PostgresOptions::new(database.url().parse().unwrap());
                options.faults = Some(faults);
                options.readers = choices.readers.unwrap_or(options.readers);
                options.clock = choices.clock;
                Meta::open_postgres_with(options, migrations, &[])
            }
        }
    }
}

struct Fixture {
    meta: Meta,
    faults: Arc<FaultPlan>,
    place: Place,
}

impl Fixture {
    fn new(place: Place, choices: Choices) -> Self {
        let faults = Arc::new(FaultPlan::new());
        let meta = place.open(choices, Arc::clone(&faults), SCHEMA).unwrap();
        Fixture { meta, faults, place }
    }

    async fn insert(&self, id: i64) -> Result<u64, MetaError> {
        self.meta.write(move |tx| insert(tx, id)).await
    }

    fn ids(&self) -> Vec<i64> {
        self.meta.read_now(ids).unwrap()
    }
}

fn insert(tx: &mut Tx<'_>, id: i64) -> Result<u64, MetaError> {
    tx.execute(INSERT, &[&id, &format!("item {id}")])
}

fn ids(tx: &mut Tx<'_>) -> Result<Vec<i64>, MetaError> {
    tx.query_all("SELECT id FROM items ORDER BY id", &[], |row| row.get(0))
}

/// Runs each test on both engines, an empty database each.
macro_rules! on_both_engines {
    ($($name:ident;)*) => {
        mod sqlite_engine {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Place::Sqlite(tempfile::tempdir().unwrap())).await;
            })*
        }
        mod postgres_engine {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(database) = wharf_testing::postgres::Database::create() {
                    super::$name(super::Place::Postgres(database)).await;
                }
            })*
        }
    };
}

on_both_engines! {
    a_change_is_read_back_by_every_kind_of_read_once_acknowledged;
    constraints_are_told_apart;
    returning_statements_are_complete_at_their_first_row;
    placeholders_bind_by_number;
    every_kind_of_value_makes_the_round_trip;
    a_read_sees_one_snapshot_while_others_write;
    background_reads_leave_connections_for_others;
    reads_cannot_write_and_survive_a_panic;
    transactions_take_their_time_from_the_clock_given;
    faults_strike_the_chosen_call_once;
    failing_and_panicking_writes_leave_nothing;
    what_is_executed_later_fails_the_transaction;
    text_is_ordered_and_compared_by_bytes;
    migrations_run_once_in_order_and_a_newer_database_is_refused;
    a_closed_handle_refuses_everything;
}

async fn a_change_is_read_back_by_every_kind_of_read_once_acknowledged(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    assert_eq!(fixture.insert(1).await.unwrap(), 1);

    assert_eq!(fixture.ids(), [1]);
    assert_eq!(fixture.meta.read(ids).await.unwrap(), [1]);
    assert_eq!(fixture.meta.read_background(ids).await.unwrap(), [1]);
}

async fn constraints_are_told_apart(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    fixture.insert(1).await.unwrap();
    let refused = |sql: &'static str| {
        let meta = fixture.meta.clone();
        async move {
            match meta.write(move |tx| tx.execute(sql, &[])).await {
                Err(MetaError::Constraint { kind, .. }) => kind,
                other => panic!("{sql}: {other:?}"),
            }
        }
    };
    assert_eq!(refused("INSERT INTO items (id, name) VALUES (1, 'x')").await, ConstraintKind::Unique);
    assert_eq!(refused("INSERT INTO items (id, name) VALUES (2, 'item 1')").await, ConstraintKind::Unique);
    assert_eq!(refused("INSERT INTO items (id, name) VALUES (2, NULL)").await, ConstraintKind::NotNull);
    assert_eq!(
        refused("INSERT INTO items (id, name, size) VALUES (2, 'x', -1)").await,
        ConstraintKind::Check
    );
    assert_eq!(refused("INSERT INTO parts (id, item) VALUES (1, 9)").await, ConstraintKind::ForeignKey);

    fixture.meta.write(|tx| tx.execute("INSERT INTO parts (id, item) VALUES (1, 1)", &[])).await.unwrap();
    assert_eq!(refused("DELETE FROM items WHERE id = 1").await, ConstraintKind::ForeignKey);
}

async fn returning_statements_are_complete_at_their_first_row(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    let inserted: Result<Option<i64>, MetaError> = fixture
        .meta
        .write(|tx| {
            tx.query_opt("INSERT INTO parts (id, item) VALUES (1, 9) RETURNING id", &[], |row| row.get(0))
        })
        .await;
    assert!(inserted.unwrap_err().is_foreign_key());

    let new: i64 = fixture
        .meta
        .write(|tx| {
            let sql = "INSERT INTO items (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id";
            tx.query_one(sql, &[], |row| row.get(0))
        })
        .await
        .map_err(|error: MetaError| error)
        .unwrap();
    assert_eq!((new, fixture.ids()), (1, vec![1, 2]));
}

async fn placeholders_bind_by_number(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    let read = |sql: &'static str, params: &[&dyn Param]| {
        fixture.meta.read_now(|tx| tx.query_one(sql, params, |row| row.get::<String>(0)))
    };
    let (one, two) = ("one", String::from("two"));
    assert_eq!(read("SELECT $2 || $1 || $2 || $1", &[&one, &two]).unwrap(), "twoonetwoone");
    assert_eq!(read("SELECT $1 || $2", &[&one, &two]).unwrap(), "onetwo");
    let twelve: Vec<String> = (1..=12).map(|number| format!("<{number}>")).collect();
    let params: Vec<&dyn Param> = twelve.iter().map(|text| text as &dyn Param).collect();
    let sql = "SELECT $12 || $11 || $1 || $2 || $3 || $4 || $5 || $6 || $7 || $8 || $9 || $10";
    assert_eq!(read(sql, &params).unwrap(), "<12><11><1><2><3><4><5><6><7><8><9><10>");

    let refused: [(&'static str, &[&dyn Param]); 4] = [
        ("SELECT $1", &[]),
        ("SELECT $1", &[&one, &two]),
        ("SELECT $1 || $3", &[&one, &two]),
        ("SELECT ?1", &[&one]),
    ];
    for (sql, params) in refused {
        assert!(matches!(read(sql, params), Err(MetaError::Other(_))), "{sql}");
    }
}

async fn every_kind_of_value_makes_the_round_trip(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    let data: Vec<u8> = (0..=255).collect();
    let bytes = data.clone();
    fixture
        .meta
        .write(move |tx| {
            let sql = "INSERT INTO items (id, name, data, flag) VALUES ($1, $2, $3, $4), ($5, $6, $7, $8)";
            let none: Option<Vec<u8>> = None;
            tx.execute(sql, &[&i64::MIN, &"näme", &bytes, &true, &7u64, &"", &none, &Some(false)])
        })
        .await
        .map_err(|error: MetaError| error)
        .unwrap();

    let sql = "SELECT id, name, data, flag FROM items ORDER BY id";
    let rows = fixture.meta.read_now(|tx| {
        tx.query_all(sql, &[], |row| {
            assert_eq!(row.text(1)?, row.get::<Box<str>>(1)?.as_ref());
            Ok((
                row.get::<i64>(0)?,
                row.get::<String>(1)?,
                row.get::<Option<Vec<u8>>>(2)?,
                row.get::<bool>(3)?,
            ))
        })
    });
    let wanted = vec![(i64::MIN, "näme".into(), Some(data), true), (7, String::new(), None, false)];
    assert_eq!(rows.map_err(|error: MetaError| error.to_string()), Ok(wanted));

    let column =
        |map: fn(&Row<'_>) -> Result<(), MetaError>| fixture.meta.read_now(|tx| tx.query_one(sql, &[], map));
    assert!(matches!(column(|row| row.get::<u64>(0).map(drop)), Err(MetaError::Column { index: 0, .. })));
    assert!(matches!(column(|row| row.get::<i64>(1).map(drop)), Err(MetaError::Column { index: 1, .. })));
    assert!(matches!(
        column(|row| row.get::<[u8; 32]>(2).map(drop)),
        Err(MetaError::Column { index: 2, .. })
    ));
    assert!(matches!(column(|row| row.get::<i64>(9).map(drop)), Err(MetaError::Column { index: 9, .. })));
    let too_large =
        fixture.meta.read_now(|tx| tx.query_one("SELECT $1", &[&u64::MAX], |row| row.get::<i64>(0)));
    assert!(matches!(too_large, Err(MetaError::Other(_))));
}

async fn a_read_sees_one_snapshot_while_others_write(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    fixture.insert(1).await.unwrap();
    let (resume, paused) = std_mpsc::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let meta = fixture.meta.clone();
    let reading = tokio::spawn(async move {
        meta.read(move |tx| {
            let first = ids(tx)?;
            started.take().unwrap().send(()).unwrap();
            paused.recv().unwrap();
            Ok::<_, MetaError>((first, ids(tx)?))
        })
        .await
    });
    running.await.unwrap();
    fixture.insert(2).await.unwrap();
    assert_eq!(fixture.ids(), [1, 2], "a new read sees the change");
    resume.send(()).unwrap();

    assert_eq!(reading.await.unwrap().unwrap(), (vec![1], vec![1]));
}

async fn background_reads_leave_connections_for_others(place: Place) {
    let fixture = Fixture::new(place, Choices { readers: Some(2), ..Choices::default() });
    let (resume, paused) = std_mpsc::channel::<()>();
    let paused = Arc::new(Mutex::new(paused));
    let background: Vec<_> = (0..4)
        .map(|_| {
            let (meta, paused) = (fixture.meta.clone(), Arc::clone(&paused));
            tokio::spawn(async move {
                let work = move |tx: &mut Tx<'_>| {
                    paused.lock().unwrap().recv().unwrap();
                    ids(tx)
                };
                meta.read_background(work).await
            })
        })
        .collect();
    for _ in 0..20 {
        assert!(fixture.meta.read(ids).await.unwrap().is_empty());
    }
    for _ in &background {
        resume.send(()).unwrap();
    }
    for read in background {
        read.await.unwrap().unwrap();
    }
}

async fn reads_cannot_write_and_survive_a_panic(place: Place) {
    let fixture = Fixture::new(place, Choices { readers: Some(2), ..Choices::default() });
    assert!(matches!(fixture.meta.read(|tx| insert(tx, 1)).await, Err(MetaError::ReadOnly)));
    assert!(matches!(fixture.meta.read_now(|tx| insert(tx, 1)), Err(MetaError::ReadOnly)));
    for _ in 0..5 {
        let panicked = fixture.meta.read::<(), MetaError>(|_| panic!("a read's own fault")).await;
        assert!(panicked.unwrap_err().to_string().contains("panicked"));
        let meta = fixture.meta.clone();
        let panicked = std::thread::spawn(move || {
            meta.read_now::<(), MetaError>(|tx| {
                ids(tx)?;
                panic!("a read's own fault")
            })
        });
        assert!(panicked.join().is_err());
    }
    fixture.insert(1).await.unwrap();
    assert_eq!(fixture.meta.read(ids).await.unwrap(), [1]);
    assert_eq!(fixture.ids(), [1]);
}

async fn transactions_take_their_time_from_the_clock_given(place: Place) {
    let time = Arc::new(AtomicI64::new(1_000));
    let clock = Arc::clone(&time);
    let fixture = Fixture::new(
        place,
        Choices { clock: Some(Arc::new(move || clock.load(Relaxed))), ..Choices::default() },
    );
    let now = |tx: &mut Tx<'_>| Ok::<_, MetaError>(tx.now_micros());
    assert_eq!(fixture.meta.write(now).await.unwrap(), 1_000);
    time.store(2_000, Relaxed);
    assert_eq!(fixture.meta.write(now).await.unwrap(), 2_000);
    assert_eq!(fixture.meta.read_now(now).unwrap(), 2_000);
}

async fn faults_strike_the_chosen_call_once(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
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
}

async fn failing_and_panicking_writes_leave_nothing(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    let write = |end: fn() -> Result<(), MetaError>| {
        let meta = fixture.meta.clone();
        async move {
            meta.write(move |tx| {
                insert(tx, 1)?;
                tx.execute_later(INSERT, &[&2, &"later"])?;
                end()
            })
            .await
        }
    };
    assert!(write(|| Err(MetaError::Missing)).await.unwrap_err().is_missing());
    assert!(write(|| panic!("a job's own fault")).await.unwrap_err().to_string().contains("panicked"));
    assert!(fixture.ids().is_empty());
    assert_eq!(fixture.meta.stats().panics, 1);
    write(|| Ok(())).await.unwrap();
    assert_eq!(fixture.ids(), [1, 2]);
}

async fn what_is_executed_later_fails_the_transaction(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    fixture.insert(1).await.unwrap();
    let at_the_end = |tx: &mut Tx<'_>| {
        insert(tx, 2)?;
        tx.execute_later(INSERT, &[&1, &"again"])
    };
    assert!(fixture.meta.write(at_the_end).await.unwrap_err().is_unique_violation());
    let before_another = |tx: &mut Tx<'_>| {
        tx.execute_later(INSERT, &[&1, &"again"])?;
        ids(tx).map(drop)
    };
    assert!(fixture.meta.write(before_another).await.unwrap_err().is_unique_violation());
    let deferred = |tx: &mut Tx<'_>| tx.execute("INSERT INTO late (item) VALUES (99)", &[]);
    assert!(fixture.meta.write(deferred).await.unwrap_err().is_foreign_key());
    assert_eq!(fixture.ids(), [1]);

    let many = |tx: &mut Tx<'_>| {
        for id in 2..300i64 {
            tx.execute_later(INSERT, &[&id, &format!("item {id}")])?;
        }
        Ok::<_, MetaError>(ids(tx)?.len())
    };
    assert_eq!(fixture.meta.write(many).await.unwrap(), 299, "a statement sees those before it");
    assert_eq!(fixture.ids().len(), 299);
}

async fn text_is_ordered_and_compared_by_bytes(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    let names = ["a", "B", "ä", "Z", "_", "b", "a-b", "ab", "é", "e\u{301}"];
    let written = fixture.meta.write(move |tx| {
        for (id, name) in names.iter().enumerate() {
            tx.execute(INSERT, &[&id, name])?;
        }
        Ok::<_, MetaError>(())
    });
    written.await.unwrap();
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let read = fixture
        .meta
        .read_now(|tx| tx.query_all("SELECT name FROM items ORDER BY name", &[], |row| row.get::<String>(0)));
    assert_eq!(read.map_err(|error: MetaError| error.to_string()).unwrap(), sorted);
    let above = fixture.meta.read_now(|tx| {
        tx.query_all("SELECT name FROM items WHERE name > $1 ORDER BY name", &[&"_"], |row| {
            row.get::<String>(0)
        })
    });
    let wanted: Vec<&str> = sorted.iter().copied().filter(|name| *name > "_").collect();
    assert_eq!(above.map_err(|error: MetaError| error.to_string()).unwrap(), wanted);
}

async fn migrations_run_once_in_order_and_a_newer_database_is_refused(place: Place) {
    const LATER: &[Migration] = &[
        SCHEMA[0],
        Migration { version: 2, sql: "CREATE TABLE more (id BIGINT); INSERT INTO more VALUES (1);" },
    ];
    const BROKEN: &[Migration] = &[
        LATER[0],
        LATER[1],
        Migration { version: 3, sql: "CREATE TABLE half (id BIGINT); INSERT INTO nowhere VALUES (1);" },
    ];
    let open = |migrations| place.open(Choices::default(), Arc::new(FaultPlan::new()), migrations);
    let count = |meta: &Meta, sql| meta.read_now(|tx| tx.query_one(sql, &[], |row| row.get::<i64>(0)));
    let older = open(SCHEMA).unwrap();
    for _ in 0..2 {
        let meta = open(LATER).unwrap();
        assert_eq!(count(&meta, "SELECT COUNT(*) FROM more").unwrap(), 1);
        assert_eq!(count(&meta, "SELECT COUNT(*) FROM schema_migrations").unwrap(), 2);
        meta.close().await;
    }
    let refused = open(SCHEMA).err().unwrap();
    assert!(matches!(refused, MetaError::Newer { found: 2, known: 1 }), "{refused}");
    older.write(|tx| insert(tx, 1)).await.unwrap();
    assert_eq!(older.read(ids).await.unwrap(), [1], "an older node that serves already goes on");
    older.close().await;
    assert!(open(BROKEN).err().unwrap().to_string().contains("migration 3"));
    let meta = open(LATER).unwrap();
    assert!(count(&meta, "SELECT COUNT(*) FROM half").is_err(), "a failed migration leaves nothing");
    assert_eq!(count(&meta, "SELECT COUNT(*) FROM schema_migrations").unwrap(), 2);
}

async fn a_closed_handle_refuses_everything(place: Place) {
    let fixture = Fixture::new(place, Choices::default());
    fixture.insert(1).await.unwrap();
    fixture.meta.close().await;
    assert!(matches!(fixture.insert(2).await, Err(MetaError::Closed)));
    assert!(matches!(fixture.meta.read(ids).await, Err(MetaError::Closed)));
    assert!(matches!(fixture.meta.read_background(ids).await, Err(MetaError::Closed)));
    assert!(matches!(fixture.meta.read_now(ids), Err(MetaError::Closed)));
    fixture.meta.close().await;
    let again = fixture.place.open(Choices::default(), Arc::new(FaultPlan::new()), SCHEMA).unwrap();
    assert_eq!(again.read_now(ids).unwrap(), [1]);
}
