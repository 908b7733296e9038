//! One transaction on one connection. Nothing is sent before the first statement, and then `BEGIN` goes out with it.

use std::time::Instant;

use futures_util::{TryStreamExt as _, future::join3};
use tokio_postgres::Statement;

use super::{
    clock,
    commits::{self, Token},
    connection::{Connection, Role},
    failure::Failure,
    value::{Kept, bound},
    wait::{in_order, send},
};
use crate::meta::{
    error::MetaError,
    value::{Param, Row},
};

/// A transaction. Dropping it closes its connection, which the server takes for a rollback.
pub struct Transaction {
    connection: Connection,
    begun: bool,
    /// True once a statement has changed something, as far as the server says.
    changed: bool,
    later: Vec<Later>,
    /// The first failure of a statement: the server refuses all further ones.
    failure: Option<Failure>,
}

/// A statement that waits to be sent.
struct Later {
    statement: Statement,
    params: Vec<Kept>,
}

/// So many statements wait at most before they are sent.
const MOST_LATER: usize = 64;

/// What became of a commit.
pub(super) enum Committed {
    /// It is durable.
    Yes,
    /// It is undone.
    No(Failure),
    /// The answer was lost; the token tells, if the server knows it.
    Unknown(Token, MetaError),
}

impl Transaction {
    pub(super) fn new(connection: Connection) -> Self {
        Transaction { connection, begun: false, changed: false, later: Vec::new(), failure: None }
    }

    /// Runs a statement and answers how many rows it inserted, changed or removed.
    pub(in crate::meta) fn execute(&mut self, sql: &str, params: &[&dyn Param]) -> Result<u64, MetaError> {
        let statement = self.prepared(sql)?;
        let bound = bound(params)?;
        let count = self.exchange(async |client| client.execute_raw(&statement, bound).await)?;
        self.changed |= count > 0;
        Ok(count)
    }

    /// Keeps a statement for the next exchange.
    pub(in crate::meta) fn execute_later(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<(), MetaError> {
        let statement = self.prepared(sql)?;
        if statement.params().len() != params.len() {
            return Err(wrong_number(&statement, params.len()));
        }
        let kept = params.iter().map(|param| param.value().map(Kept::from)).collect::<Result<_, _>>()?;
        self.changed = true;
        self.later.push(Later { statement, params: kept });
        match self.later.len() >= MOST_LATER {
            true => self.exchange(async |_| Ok(())),
            false => Ok(()),
        }
    }

    /// The first row, if there is one.
    pub(in crate::meta) fn query_opt<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Option<T>, MetaError> {
        let rows = self.rows(sql, params)?;
        rows.first().map(|row| map(&Row::of_postgres(row))).transpose()
    }

    /// All rows.
    pub(in crate::meta) fn query_all<T>(
        &mut self,
        sql: &str,
        params: &[&dyn Param],
        mut map: impl FnMut(&Row<'_>) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        let rows = self.rows(sql, params)?;
        rows.iter().map(|row| map(&Row::of_postgres(row))).collect()
    }

    fn rows(&mut self, sql: &str, params: &[&dyn Param]) -> Result<Vec<tokio_postgres::Row>, MetaError> {
        let statement = self.prepared(sql)?;
        let bound = bound(params)?;
        if statement.params().len() != bound.len() {
            return Err(wrong_number(&statement, bound.len()));
        }
        let rows = self.exchange(async |client| {
            client.query_raw(&statement, bound).await?.try_collect::<Vec<_>>().await
        })?;
        self.changed |= !rows.is_empty() && !sql.trim_start().starts_with("SELECT");
        Ok(rows)
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, MetaError> {
        if let Some(failure) = &self.failure {
            return Err(failure.error().clone());
        }
        match self.connection.prepared(sql) {
            Ok(statement) => Ok(statement),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Sends what waits and a request, `BEGIN` before them if that is due, and waits for all the answers.
    fn exchange<T>(
        &mut self,
        request: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, MetaError> {
        let later = std::mem::take(&mut self.later);
        let (connection, begun) = (&self.connection, self.begun);
        let sent = Instant::now();
        let begin = async {
            match begun {
                true => Ok(Vec::new()),
                false => connection.client.simple_query(&begin(connection)).await,
            }
        };
        let client = &connection.client;
        let earlier = in_order(later.iter().map(|later| later.send(client)).collect());
        let all = join3(begin, earlier, request(client));
        let done = connection.exchange(async {
            let (begin, later, main) = all.await;
            Ok((begin?, later?, main?))
        });
        match done {
            Ok((begin, (), value)) => {
                self.connection.learn_time(sent, &begin);
                self.begun = true;
                Ok(value)
            }
            Err(failure) => {
                self.begun = true;
                Err(self.failed(failure))
            }
        }
    }

    fn failed(&mut self, failure: Failure) -> MetaError {
        let error = failure.error().clone();
        self.failure.get_or_insert(failure);
        error
    }

    /// The first failure of a statement, if one has failed.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Commits what was done, in one exchange with what waits. Gives the connection back if it can be used further.
    pub(super) fn commit(mut self, token: Token) -> (Committed, Option<Connection>) {
        if !self.begun && self.later.is_empty() {
            return (Committed::Yes, Some(self.connection));
        }
        if self.changed {
            // Prepared before: until the exchange below, a lost connection has committed nothing.
            if let Err(error) = self.execute_later(commits::LEAVE, &[&token.bytes()]) {
                return self.undone(error);
            }
        }
        if let Err(error) = self.exchange(async |client| client.batch_execute("COMMIT").await) {
            return match self.failure.take() {
                Some(Failure::Lost(error)) if self.changed => (Committed::Unknown(token, error), None),
                Some(failure) => {
                    self.failure = Some(failure);
                    self.undone(error)
                }
                None => self.undone(error),
            };
        }
        (Committed::Yes, Some(self.connection))
    }

    fn undone(mut self, error: MetaError) -> (Committed, Option<Connection>) {
        let failure = self.failure.take().unwrap_or(Failure::Other(error));
        (Committed::No(failure), self.end())
    }

    /// Undoes what was done, without waiting. Gives the connection back if it can be used further.
    pub(super) fn end(self) -> Option<Connection> {
        if let Some(Failure::Lost(_)) = self.failure {
            return None;
        }
        if self.begun {
            send(self.connection.client.batch_execute("ROLLBACK"));
        }
        Some(self.connection)
    }
}

impl Later {
    fn send<'l>(
        &'l self,
        client: &'l tokio_postgres::Client,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'l>> {
        let params: Vec<_> = self.params.iter().map(Kept::bound).collect();
        Box::pin(client.execute_raw(&self.statement, params))
    }
}

/// The statement that begins a transaction; it asks for the time as well when that is due.
fn begin(connection: &Connection) -> String {
    let begin = match connection.role {
        Role::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Role::Write => "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
    };
    match connection.connector.clock.due() {
        true => format!("{begin};{}", clock::ASK),
        false => begin.to_owned(),
    }
}

fn wrong_number(statement: &Statement, given: usize) -> MetaError {
    let count = statement.params().len();
    MetaError::other(format!("{given} parameters given to a statement with {count} placeholders"))
}
