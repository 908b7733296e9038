//! One connection: how it is made and set, and the statements prepared on it.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio_postgres::{Client, Config, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    PostgresOptions,
    clock::{self, ServerClock},
    failure::Failure,
    tls,
    wait::wait,
};
use crate::meta::{error::MetaError, stats::Counters};

/// Makes connections.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    /// Settings of every session, as SQL.
    settings: String,
    connect_timeout: Duration,
    /// How long an answer may take before the connection is given up: a server that neither answers nor closes.
    pub answer_timeout: Duration,
    pub patience: Duration,
    pub max_age: Duration,
    pub clock: Arc<ServerClock>,
    pub counters: Arc<Counters>,
    runtime: tokio::runtime::Handle,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Read,
    Write,
}

/// Statements kept prepared on a connection. All of ours fit; lists of many lengths could add up.
const CACHED_STATEMENTS: usize = 512;

/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

impl Connector {
    pub fn new(
        options: &PostgresOptions,
        counters: Arc<Counters>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Connector, MetaError> {
        let mut config = options.url.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("wharf");
        }
        config
            .connect_timeout(options.connect_timeout)
            .tcp_user_timeout(options.keepalive * 3)
            .keepalives(true)
            .keepalives_idle(options.keepalive)
            .keepalives_interval(options.keepalive / 2)
            .keepalives_retries(3);
        Ok(Connector {
            config,
            tls: tls::connector(&options.url)?,
            settings: settings(options),
            connect_timeout: options.connect_timeout,
            answer_timeout: options.statement_timeout + options.lock_timeout + Duration::from_secs(5),
            patience: options.patience,
            max_age: options.max_age,
            clock: Arc::new(ServerClock::new()),
            counters,
            runtime,
        })
    }

    /// Connects, trying again for a while when the server does not take connections: it may be starting.
    pub fn connect(self: &Arc<Self>, role: Role) -> Result<Connection, MetaError> {
        let until = Instant::now() + self.patience;
        loop {
            match self.try_connect(role) {
                Err(Failure::Lost(_)) if Instant::now() < until => std::thread::sleep(RECONNECT_PAUSE),
                Err(failure) => return Err(failure.error().clone()),
                Ok(connection) => return Ok(connection),
            }
        }
    }

    fn try_connect(self: &Arc<Self>, role: Role) -> Result<Connection, Failure> {
        let unreachable = |words: &str| Failure::Lost(MetaError::Unreachable(words.into()));
        let (config, tls) = (self.config.clone(), self.tls.clone());
        let runtime = self.runtime.clone();
        let connecting = self.runtime.spawn(async move {
            let (client, connection) = config.connect(tls).await?;
            // It ends with the client, or when the server closes it; then every request on it fails.
            runtime.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "lost a connection to the metadata's server");
                }
            });
            Ok::<_, tokio_postgres::Error>(client)
        });
        // Each address of the host has its own time to connect in.
        let client = match wait(connecting, self.connect_timeout * 4) {
            // An answer of the server's is one; anything else may be better in a moment.
            Some(Ok(connected)) => connected.map_err(|error| match Failure::of(&error) {
                Failure::Other(MetaError::Other(words)) if error.code().is_none() => {
                    Failure::Lost(MetaError::Unreachable(words))
                }
                failure => failure,
            })?,
            Some(Err(_)) => return Err(Failure::Lost(MetaError::Closed)),
            None => return Err(unreachable("it does not answer")),
        };
        self.counters.connects.fetch_add(1, Relaxed);
        let connection = Connection {
            client,
            role,
            statements: HashMap::new(),
            opened: Instant::now(),
            connector: Arc::clone(self),
        };
        connection.set_up()?;
        Ok(connection)
    }
}

/// Every session refuses to write outside the transactions that say they will: should a `BEGIN` ever fail, what was sent
/// behind it cannot take effect by itself.
fn settings(options: &PostgresOptions) -> String {
    let millis = |duration: Duration| duration.as_millis();
    format!(
        "SET default_transaction_read_only = on;
         SET statement_timeout = {};
         SET lock_timeout = {};
         SET idle_in_transaction_session_timeout = {};
         SET client_min_messages = warning;
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') = 'off';",
        millis(options.statement_timeout),
        millis(options.lock_timeout),
        millis(options.idle_in_transaction_timeout),
    )
}

/// A serializable transaction remembers what it read. One that scans a whole table, as the planner likes to do while
/// that is small, has read all of it, and every writer elsewhere in the table seems to race with it.
const WRITER_SETTINGS: &str = "SET enable_seqscan = off;";

/// A connection, and what is prepared on it. It is used by one transaction at a time.
pub(super) struct Connection {
    pub client: Client,
    pub role: Role,
    statements: HashMap<Box<str>, Statement>,
    opened: Instant,
    pub connector: Arc<Connector>,
}

impl Connection {
    fn set_up(&self) -> Result<(), Failure> {
        let role = match self.role {
            Role::Read => "",
            Role::Write => WRITER_SETTINGS,
        };
        let sql = format!("{}{role}{}", self.connector.settings, clock::ASK);
        let sent = Instant::now();
        let answer = self.exchange(self.client.simple_query(&sql))?;
        self.learn_time(sent, &answer);
        Ok(())
    }

    /// Waits for the answer to a request: a round trip.
    pub fn exchange<T>(
        &self,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        self.connector.counters.round_trips.fetch_add(1, Relaxed);
        match wait(request, self.connector.answer_timeout) {
            Some(answer) => answer.map_err(|error| Failure::of(&error)),
            None => Err(Failure::Lost(MetaError::Unreachable("it does not answer any more".into()))),
        }
    }

    /// The statement, prepared now unless it was before.
    pub fn prepared(&mut self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.exchange(self.client.prepare(sql))?;
        if self.statements.len() >= CACHED_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Takes in what the server said its time is: the last value of an answer that ends with `clock::ASK`.
    pub fn learn_time(&self, sent: Instant, answer: &[SimpleQueryMessage]) {
        let told = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        if let Some(micros) = told {
            self.connector.clock.learn(sent, micros);
        }
    }

    /// True if it can serve another transaction.
    pub fn is_usable(&self) -> bool {
        !self.client.is_closed() && self.opened.elapsed() < self.connector.max_age
    }
}
