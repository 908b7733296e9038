//! What became of a commit whose answer was lost.
//!
//! A transaction that changes something leaves a token, a row of its own, in its commit. Whoever does not get the
//! commit's answer inserts the same token from a new connection: that waits for the transaction if it still runs, then
//! finds its row, so that it is committed, or leaves one there, so that it never can be. Transaction ids would not do:
//! after a crash the server may use one again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_postgres::SimpleQueryMessage;

use super::{
    connection::{Connection, Connector, Role},
    failure::Failure,
    wait::send,
};
use crate::meta::error::MetaError;

/// Where tokens are kept, and what earlier processes have left there dropped: beside the table of versions, for it
/// belongs to the engine.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS commit_tokens (
    token BYTEA NOT NULL PRIMARY KEY,
    undone BOOLEAN NOT NULL DEFAULT FALSE,
    made_at TIMESTAMPTZ NOT NULL DEFAULT now()
)";

pub(super) const DROP_OLD: &str = "DELETE FROM commit_tokens WHERE made_at < now() - INTERVAL '1 day'";

/// Leaves a token in a transaction.
pub(super) const LEAVE: &str = "INSERT INTO commit_tokens (token) VALUES ($1)";

/// Names one commit: 8 random bytes of this engine and a number that counts up.
#[derive(Clone, Copy)]
pub(super) struct Token([u8; 16]);

impl Token {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn literal(&self) -> String {
        format!("'\\x{}'", hex::encode(self.0))
    }
}

/// Makes tokens that no other engine makes, and drops those that nobody will ask for.
pub(super) struct Tokens {
    engine: u64,
    state: Mutex<State>,
}

struct State {
    next: u64,
    /// Numbers of commits that have no answer yet.
    open: BTreeSet<u64>,
    swept: u64,
}

/// So many tokens pile up before they are dropped.
const SWEEP_EVERY: u64 = 200;

impl Tokens {
    pub fn new() -> Result<Tokens, MetaError> {
        let mut engine = [0; 8];
        aws_lc_rs::rand::fill(&mut engine).map_err(|_| MetaError::other("no random bytes"))?;
        let state = State { next: 0, open: BTreeSet::new(), swept: 0 };
        Ok(Tokens { engine: u64::from_be_bytes(engine), state: Mutex::new(state) })
    }

    /// A token for one commit, kept until it is dropped.
    pub fn open(&self) -> Open<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        Open { tokens: self, number }
    }

    fn token(&self, number: u64) -> Token {
        Token((u128::from(self.engine) << 64 | u128::from(number)).to_be_bytes())
    }

    /// Drops the tokens before the oldest commit without an answer, when they have become many. Nobody waits for it.
    pub fn sweep(&self, connection: &Connection) {
        let (from, to) = {
            let mut state = self.lock();
            let oldest = state.open.first().copied().unwrap_or(state.next);
            if oldest < state.swept + SWEEP_EVERY {
                return;
            }
            (std::mem::replace(&mut state.swept, oldest), oldest)
        };
        send(connection.client.batch_execute(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
             DELETE FROM commit_tokens WHERE token >= {} AND token < {};
             COMMIT",
            self.token(from).literal(),
            self.token(to).literal(),
        )));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit on its way: its token stays.
pub(super) struct Open<'t> {
    tokens: &'t Tokens,
    number: u64,
}

impl Open<'_> {
    pub fn token(&self) -> Token {
        self.tokens.token(self.number)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.tokens.lock().open.remove(&self.number);
    }
}

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// True if the transaction that left `token` is committed; false if it is not and never will be. Fails with
/// `MetaError::OutcomeUnknown` if the server cannot be asked within `limit`.
pub(super) fn is_committed(
    connector: &Arc<Connector>,
    token: Token,
    limit: Duration,
) -> Result<bool, MetaError> {
    let until = Instant::now() + limit;
    loop {
        let error = match connector.connect(Role::Write).map(|connection| ask(&connection, token)) {
            Ok(Ok(committed)) => return Ok(committed),
            Ok(Err(failure)) => failure.error().clone(),
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(MetaError::OutcomeUnknown(error.to_string().into()));
        }
        std::thread::sleep(PAUSE);
    }
}

fn ask(connection: &Connection, token: Token) -> Result<bool, Failure> {
    let token = token.literal();
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         INSERT INTO commit_tokens (token, undone) VALUES ({token}, TRUE) ON CONFLICT DO NOTHING;
         SELECT undone FROM commit_tokens WHERE token = {token};
         COMMIT"
    );
    let answer = connection.exchange(connection.client.simple_query(&sql))?;
    let undone = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    match undone {
        Some("f") => Ok(true),
        Some("t") => Ok(false),
        other => Err(Failure::Other(MetaError::other(format!("a commit's token reads {other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_new_and_those_on_their_way_are_kept() {
        let tokens = Tokens::new().unwrap();
        let (first, second) = (tokens.open(), tokens.open());
        assert_ne!(first.token().bytes(), second.token().bytes());
        assert!(first.token().bytes() < second.token().bytes());
        assert_eq!(tokens.lock().open.len(), 2);
        drop(first);
        assert_eq!(tokens.lock().open.first(), Some(&1));
        assert_ne!(tokens.token(0).bytes(), Tokens::new().unwrap().token(0).bytes());
    }
}
