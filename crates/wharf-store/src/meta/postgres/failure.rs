//! What an error of the server, or of the way to it, means for a transaction.

use std::error::Error as _;

use tokio_postgres::{Error, error::SqlState};

use crate::meta::error::{ConstraintKind, MetaError};

/// Why a transaction cannot go on.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It lost a race: from a new snapshot it may well succeed.
    Race(MetaError),
    /// A constraint. It may be the trace of a race, too: the same work from a new snapshot says which.
    Constraint(MetaError),
    /// The connection is gone, and the transaction with it.
    Lost(MetaError),
    /// Anything else, which would only come again.
    Other(MetaError),
}

impl Failure {
    pub fn of(error: &Error) -> Failure {
        let words: std::sync::Arc<str> = words(error).into();
        let Some(state) = error.code() else {
            return match error.is_closed()
                || error.source().is_some_and(|source| source.is::<std::io::Error>())
            {
                true => Failure::Lost(MetaError::Unreachable(words)),
                false => Failure::Other(MetaError::Other(words)),
            };
        };
        let constraint = |kind| Failure::Constraint(MetaError::Constraint { kind, detail: words.clone() });
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
                Failure::Race(MetaError::Conflict(words))
            }
            // A node with a newer schema has changed a table under a prepared statement.
            SqlState::FEATURE_NOT_SUPPORTED if words.contains("cached plan") => {
                Failure::Lost(MetaError::Unreachable(words))
            }
            SqlState::UNIQUE_VIOLATION => constraint(ConstraintKind::Unique),
            SqlState::FOREIGN_KEY_VIOLATION | SqlState::RESTRICT_VIOLATION => {
                constraint(ConstraintKind::ForeignKey)
            }
            SqlState::CHECK_VIOLATION => constraint(ConstraintKind::Check),
            SqlState::NOT_NULL_VIOLATION => constraint(ConstraintKind::NotNull),
            SqlState::DISK_FULL => Failure::Other(MetaError::Full),
            SqlState::READ_ONLY_SQL_TRANSACTION => Failure::Other(MetaError::ReadOnly),
            SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => Failure::Other(MetaError::Busy),
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Failure::Other(MetaError::Corrupt(words)),
            _ if is_gone(state) => Failure::Lost(MetaError::Unreachable(words)),
            _ => Failure::Other(MetaError::Other(words)),
        }
    }

    pub fn error(&self) -> &MetaError {
        match self {
            Failure::Race(error)
            | Failure::Constraint(error)
            | Failure::Lost(error)
            | Failure::Other(error) => error,
        }
    }
}

/// True if the server has ended the session, or takes none now.
fn is_gone(state: &SqlState) -> bool {
    state.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(state)
}

/// The server's message with its code, or the driver's with its cause. For logs, not for clients.
fn words(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
