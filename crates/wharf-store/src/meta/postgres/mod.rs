//! The scale-out engine: PostgreSQL, shared by any number of nodes.
//!
//! Work runs on threads that may block; the connections are driven by a runtime of the engine's own. A write is a
//! serializable transaction of its own and is run again, whole, when it loses a race; so what was written for the one
//! writer of SQLite is right here, too.

mod clock;
mod commits;
mod connection;
mod failure;
mod migrate;
mod pool;
mod tls;
mod transaction;
mod url;
mod value;
mod wait;

use std::{
    hash::{BuildHasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

pub(super) use self::value::column;
use self::{
    commits::Tokens,
    connection::{Connector, Role},
    failure::Failure,
    pool::{Pool, Turn},
    transaction::Committed,
};
pub use self::{
    transaction::Transaction,
    url::{PostgresUrl, UrlError},
};
use super::{
    error::MetaError,
    migrations::Migration,
    sqlite::Clock,
    stats::Counters,
    testing::{FaultPlan, Site},
    tx::Tx,
};

/// How to use a PostgreSQL server.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where it is.
    pub url: PostgresUrl,
    /// Connections for `Meta::write`. Each node has its own; the server's `max_connections` bounds those of all nodes.
    pub writers: usize,
    /// Connections for `Meta::read`, `Meta::read_quick` and `Meta::read_now`.
    pub readers: usize,
    /// Connections for `Meta::read_background`, beside those of requests.
    pub background: usize,
    /// How long a statement may run.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a transaction may do nothing before the server ends it: its node may be gone.
    pub idle_in_transaction_timeout: Duration,
    /// How long it may take to connect to one address.
    pub connect_timeout: Duration,
    /// How long to wait for a turn at a connection, and how long to go on trying to connect while the server is away.
    pub patience: Duration,
    /// Connections older than this are replaced.
    pub max_age: Duration,
    /// After so long without traffic a connection is probed; it is given up after three times that.
    pub keepalive: Duration,
    /// How long to go on asking what became of a commit whose answer was lost.
    pub outcome_timeout: Duration,
    /// The time of transactions; the server's if there is none.
    pub clock: Option<Clock>,
    /// Faults for tests.
    pub faults: Option<Arc<FaultPlan>>,
}

impl PostgresOptions {
    /// What suits a server.
    pub fn new(url: PostgresUrl) -> Self {
        PostgresOptions {
            url,
            writers: 8,
            readers: 8,
            background: 2,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            max_age: Duration::from_secs(3600),
            keepalive: Duration::from_secs(10),
            outcome_timeout: Duration::from_secs(30),
            clock: None,
            faults: None,
        }
    }
}

/// The database as `Meta` uses it.
pub(super) struct Engine {
    shared: Arc<Shared>,
    /// Taken when the engine goes, for a runtime must not be dropped where another one runs.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    options: PostgresOptions,
    connector: Arc<Connector>,
    writers: Pool,
    readers: Pool,
    background: Pool,
    tokens: Tokens,
    counters: Arc<Counters>,
    /// Shared by the writes of this node; held alone by one that has lost several races, so that it does not lose to them
    /// for ever.
    lane: RwLock<()>,
}

/// A write gives up after so many lost races.
const MOST_RACES: u32 = 50;
/// From this attempt on an unlucky write has the node for itself.
const UNLUCKY: u32 = 3;
/// How often a broken constraint is looked at again from a new snapshot.
const CONSTRAINT_RETRIES: u32 = 1;
/// How often a write begins again because its connection was lost before its commit.
const LOST_RETRIES: u32 = 3;
/// The longest pause before another attempt.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Engine {
    pub fn open(
        options: PostgresOptions,
        migrations: &[Migration],
        own: &[Migration],
    ) -> Result<Engine, MetaError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("metadata-postgres")
            .enable_all()
            .build()
            .map_err(|error| MetaError::Io(error.to_string().into()))?;
        let counters = Arc::new(Counters::default());
        let connector = Connector::new(&options, Arc::clone(&counters), runtime.handle().clone());
        // From here on the runtime goes with the engine, however this ends.
        let mut engine = Unfinished { runtime: Some(runtime) };
        let connector = Arc::new(connector?);
        let pool = |role, size| Pool::new(&connector, role, size, options.patience);
        let shared = Shared {
            writers: pool(Role::Write, options.writers),
            readers: pool(Role::Read, options.readers),
            background: pool(Role::Read, options.background),
            tokens: Tokens::new()?,
            counters,
            lane: RwLock::new(()),
            connector: Arc::clone(&connector),
            options,
        };
        migrate::migrate(&connector, migrations, own, || shared.now_micros())?;
        Ok(Engine { shared: Arc::new(shared), runtime: engine.runtime.take() })
    }

    pub async fn write<T, E>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let turn = self.shared.writers.turn().await?;
        let shared = Arc::clone(&self.shared);
        let writing = tokio::task::spawn_blocking(move || shared.write(turn, work));
        writing.await.unwrap_or_else(|_| Err(MetaError::Closed.into()))
    }

    pub async fn read<T, E>(
        &self,
        background: bool,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<MetaError> + Send + 'static,
    {
        let turn = self.shared.pool(background).turn().await?;
        let shared = Arc::clone(&self.shared);
        let reading = tokio::task::spawn_blocking(move || shared.read(turn, background, work));
        reading.await.unwrap_or_else(|_| Err(MetaError::other("a read transaction panicked").into()))
    }

    pub fn read_now<T, E: From<MetaError>>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match wait::wait(self.shared.readers.turn_unhurried(), self.shared.options.patience) {
            Some(turn) => self.shared.read(turn?, false, work),
            None => Err(MetaError::Busy.into()),
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub fn queued(&self) -> usize {
        self.shared.writers.waiting()
    }

    pub async fn close(&self) {
        let options = &self.shared.options;
        self.shared.writers.close(options.writers).await;
        self.shared.readers.close(options.readers).await;
        self.shared.background.close(options.background).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(Unfinished { runtime: self.runtime.take() });
    }
}

/// A runtime that ends without waiting for its threads.
struct Unfinished {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How one attempt at a write has ended.
enum Attempt<T, E> {
    Done(Result<T, E>),
    /// The second is what to answer if it is not tried again.
    Failed(Failure, Result<T, E>),
}

impl Shared {
    fn pool(&self, background: bool) -> &Pool {
        match background {
            true => &self.background,
            false => &self.readers,
        }
    }

    fn now_micros(&self) -> i64 {
        match &self.options.clock {
            Some(clock) => clock(),
            None => self.connector.clock.now_micros(),
        }
    }

    /// Runs `work` on a snapshot; once more, on a new connection, if the first one was lost.
    fn read<T, E: From<MetaError>>(
        &self,
        turn: Turn,
        background: bool,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.counters.reads.fetch_add(1, Relaxed);
        let pool = self.pool(background);
        let mut connection = pool.take()?;
        for last in [false, true] {
            let mut transaction = Transaction::new(connection);
            let faults = self.options.faults.as_deref();
            let result = work(&mut Tx::on_postgres(&mut transaction, self.now_micros(), Site::Read, faults));
            let again = matches!(transaction.failure(), Some(Failure::Lost(_) | Failure::Race(_)));
            if let Some(connection) = transaction.end() {
                pool.give_back(connection);
            }
            if last || !again {
                drop(turn);
                return result;
            }
            self.counters.retries.fetch_add(1, Relaxed);
            connection = pool.take_new()?;
        }
        Err(MetaError::Closed.into())
    }

    /// Runs `work` until it is committed, or has failed by itself.
    fn write<T, E: From<MetaError>>(
        &self,
        turn: Turn,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = self.write_until_done(&mut work);
        self.counters.count_batch(1);
        drop(turn);
        result
    }

    fn write_until_done<T, E: From<MetaError>>(
        &self,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut races, mut constraints, mut losses) = (0, 0, 0);
        let mut alone = None;
        loop {
            let beside = alone.is_none().then(|| self.lane.read().unwrap_or_else(PoisonError::into_inner));
            let attempt = self.attempt(work, losses > 0)?;
            drop(beside);
            let (failure, result) = match attempt {
                Attempt::Done(result) => return result,
                Attempt::Failed(failure, result) => (failure, result),
            };
            let (count, most) = match failure {
                Failure::Race(_) => (&mut races, MOST_RACES),
                Failure::Constraint(_) => (&mut constraints, CONSTRAINT_RETRIES),
                Failure::Lost(_) => (&mut losses, LOST_RETRIES),
                Failure::Other(_) => return result,
            };
            *count += 1;
            if *count > most {
                // Whatever the work made of a lost race, it judged by a snapshot that is none.
                return match failure {
                    Failure::Race(error) => Err(error.into()),
                    _ => result,
                };
            }
            self.counters.retries.fetch_add(1, Relaxed);
            if races >= UNLUCKY && alone.is_none() {
                alone = Some(self.lane.write().unwrap_or_else(PoisonError::into_inner));
            }
            std::thread::sleep(pause(races));
        }
    }

    /// Runs `work` once and commits it. Fails if there is no connection, or nobody knows what became of the commit.
    fn attempt<T, E: From<MetaError>>(
        &self,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
        on_new_connection: bool,
    ) -> Result<Attempt<T, E>, MetaError> {
        let connection = match on_new_connection {
            true => self.writers.take_new()?,
            false => self.writers.take()?,
        };
        let mut transaction = Transaction::new(connection);
        let faults = self.options.faults.as_deref();
        let mut tx = Tx::on_postgres(&mut transaction, self.now_micros(), Site::Statement, faults);
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(&mut tx))) else {
            self.counters.panics.fetch_add(1, Relaxed);
            self.give_back(transaction.end());
            return Err(MetaError::other("a write transaction panicked"));
        };
        if let Some(failure) = transaction.failure().cloned() {
            self.give_back(transaction.end());
            // An error that the work passed over: the server has not.
            let result = result.and(Err(failure.error().clone().into()));
            return Ok(Attempt::Failed(failure, result));
        }
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                self.give_back(transaction.end());
                return Ok(Attempt::Done(Err(error)));
            }
        };
        match self.commit(transaction)? {
            None => Ok(Attempt::Done(Ok(value))),
            Some(failure) => {
                let error = failure.error().clone();
                Ok(Attempt::Failed(failure, Err(error.into())))
            }
        }
    }

    /// Commits; answers why that has not happened, if it has not.
    fn commit(&self, transaction: Transaction) -> Result<Option<Failure>, MetaError> {
        let started = Instant::now();
        let open = self.tokens.open();
        let commit = || {
            let (outcome, connection) = transaction.commit(open.token());
            if let Some(connection) = &connection {
                self.tokens.sweep(connection);
            }
            self.give_back(connection);
            Ok(outcome)
        };
        let outcome = match &self.options.faults {
            None => commit(),
            Some(faults) => faults.around(Site::Commit, commit),
        };
        let outcome = outcome.inspect_err(|_| {
            self.counters.failed_batches.fetch_add(1, Relaxed);
        })?;
        let failure = match outcome {
            Committed::Yes => None,
            Committed::No(failure) => Some(failure),
            Committed::Unknown(token, error) => {
                tracing::warn!(%error, "lost the answer to a commit, asking what became of it");
                match commits::is_committed(&self.connector, token, self.options.outcome_timeout)? {
                    true => None,
                    false => Some(Failure::Lost(error)),
                }
            }
        };
        if failure.is_none() {
            self.counters.commits.fetch_add(1, Relaxed);
            self.counters.commit_micros.fetch_add(started.elapsed().as_micros() as u64, Relaxed);
        }
        Ok(failure)
    }

    fn give_back(&self, connection: Option<connection::Connection>) {
        if let Some(connection) = connection {
            self.writers.give_back(connection);
        }
    }
}

/// Doubles with each lost race, and varies, so that those who met once do not meet again.
fn pause(races: u32) -> Duration {
    let longest = Duration::from_millis(1 << races.min(10)).min(LONGEST_PAUSE);
    let random = RandomState::new().hash_one(races);
    longest.mul_f64((random % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests;
