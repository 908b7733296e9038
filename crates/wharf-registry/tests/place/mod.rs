//! Where a registry under test keeps its stores: a directory, and its metadata in SQLite or in PostgreSQL.
//!
//! The tests that `tests/postgres.rs` includes once more run on PostgreSQL there; `WHARF_TEST_METADATA=postgres` has all of
//! them run on it.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use wharf_registry::{Authorized, Caller, Clock, Registry};
use wharf_store::meta::testing::FaultPlan;
use wharf_store::meta::{Meta, PostgresOptions, SqliteOptions};
use wharf_testing::postgres::Database;

pub struct Place {
    directory: tempfile::TempDir,
    /// An empty database, if the metadata is not in the directory.
    database: Option<Database>,
}

impl Place {
    /// Where there is no PostgreSQL, it says so, and SQLite does.
    pub fn new() -> Self {
        let everywhere = std::env::var("WHARF_TEST_METADATA").is_ok_and(|engine| engine == "postgres");
        let wanted = everywhere || module_path!().starts_with("postgres::");
        let database = if wanted { Database::create() } else { None };
        Place { directory: tempfile::tempdir().unwrap(), database }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Opens the metadata. Its time is the manual clock's.
    pub fn open_meta(&self, clock: &Clock, faults: Option<Arc<FaultPlan>>) -> Meta {
        let Clock::Manual(now) = clock.clone() else { panic!("tests set the time") };
        let clock = Arc::new(move || now.load(Ordering::SeqCst));
        match &self.database {
            Some(database) => {
                let options = PostgresOptions::new(database.url().parse().unwrap());
                Meta::open_postgres(PostgresOptions { clock: Some(clock), faults, ..options }).unwrap()
            }
            None => {
                let options = SqliteOptions { clock, faults, ..SqliteOptions::default() };
                Meta::open_sqlite(&self.path().join("meta.db"), options).unwrap()
            }
        }
    }

    /// Whether its metadata is behind a network.
    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }
}

/// Authorizes a caller who may do it, so that tests need not wait: where a database has to be waited for, on a thread of
/// its own.
pub fn authorized<T: Send + Clone>(registry: &Registry, target: T) -> Authorized<T>
where
    Authorized<T>: Send,
{
    let account = super::ACCOUNT.parse().unwrap();
    let needs = [wharf_iam::decision::Need::new("ecr:*", "*", account)];
    let caller = Caller::root(account, "AKIATEST");
    if let Some(at_once) = registry.authorize(&caller, target.clone(), &needs).now_or_never() {
        return at_once.unwrap();
    }
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|threads| {
        let asking = threads.spawn(|| runtime.block_on(registry.authorize(&caller, target, &needs)));
        asking.join().unwrap().unwrap()
    })
}
