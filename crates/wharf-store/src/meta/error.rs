//! What can go wrong between us and the metadata.

use std::sync::Arc;

use rusqlite::ffi;

/// Why a metadata call failed. Cheap to clone: every job of a failed commit is answered with the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// `query_one` found no row.
    #[error("no such row in the metadata")]
    Missing,
    /// The statement, or the commit, would break a constraint of the schema.
    #[error("the metadata refuses this: {detail}")]
    Constraint {
        /// Which kind of constraint.
        kind: ConstraintKind,
        /// The engine's words, such as `UNIQUE constraint failed: tags.name`. For logs, not for clients.
        detail: Arc<str>,
    },
    /// No space left for the metadata.
    #[error("no space left for the metadata")]
    Full,
    /// The file, the file system or the transaction is read-only.
    #[error("the metadata is read-only")]
    ReadOnly,
    /// Another process kept the database locked for longer than the busy timeout.
    #[error("the metadata is locked by another process")]
    Busy,
    /// The database file is damaged, or is not a database.
    #[error("the metadata is damaged: {0}")]
    Corrupt(Arc<str>),
    /// Reading or writing failed. A write that ends so has had no effect.
    #[error("input or output error in the metadata: {0}")]
    Io(Arc<str>),
    /// A sync failed: nobody knows what is on the disk, so the process must end and recover at its next start.
    #[error("cannot make the metadata durable: {0}")]
    SyncFailed(Arc<str>),
    /// The database server cannot be reached, refuses the connection, or has dropped it before anything was committed.
    #[error("cannot reach the metadata's server: {0}")]
    Unreachable(Arc<str>),
    /// Too many others change the same rows: the transaction has lost every one of its attempts, and had no effect.
    #[error("too many concurrent changes to the same metadata: {0}")]
    Conflict(Arc<str>),
    /// The answer to a commit was lost, and the server could not be asked afterwards what became of it.
    #[error("it is unknown whether the metadata has taken the change: {0}")]
    OutcomeUnknown(Arc<str>),
    /// The handle was closed.
    #[error("the metadata is closed")]
    Closed,
    /// A column does not hold what the reader asks for: the schema and the code disagree.
    #[error("column {index} of a row in the metadata: {detail}")]
    Column {
        /// Zero-based position in the row.
        index: usize,
        /// What was expected and found.
        detail: Arc<str>,
    },
    /// The database was written by a newer program.
    #[error(
        "the metadata has schema version {found}, but this program knows only versions up to {known}: \
         run the newer program that wrote it"
    )]
    Newer {
        /// Version found in the database.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// Anything else: an error in a statement, a value out of range, a panic inside a transaction.
    #[error("metadata: {0}")]
    Other(Arc<str>),
}

/// The kind of a violated constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstraintKind {
    /// `UNIQUE` or `PRIMARY KEY`.
    Unique,
    /// A reference to, or the removal of, a row that others refer to (`RESTRICT` included).
    ForeignKey,
    /// `CHECK`, or a trigger that refuses.
    Check,
    /// `NOT NULL`.
    NotNull,
}

impl MetaError {
    /// True if a row with the same unique key exists.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, MetaError::Constraint { kind: ConstraintKind::Unique, .. })
    }

    /// True if a referenced row is missing, or a removed row is still referenced.
    pub fn is_foreign_key(&self) -> bool {
        matches!(self, MetaError::Constraint { kind: ConstraintKind::ForeignKey, .. })
    }

    /// True if `query_one` found no row.
    pub fn is_missing(&self) -> bool {
        matches!(self, MetaError::Missing)
    }

    pub(crate) fn other(detail: impl Into<Arc<str>>) -> Self {
        MetaError::Other(detail.into())
    }

    pub(crate) fn column(index: usize, detail: impl Into<Arc<str>>) -> Self {
        MetaError::Column { index, detail: detail.into() }
    }
}

impl From<rusqlite::Error> for MetaError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, message) => {
                from_code(code, message.unwrap_or_else(|| code.to_string()))
            }
            rusqlite::Error::QueryReturnedNoRows => MetaError::Missing,
            other => MetaError::other(other.to_string()),
        }
    }
}

fn from_code(code: ffi::Error, message: String) -> MetaError {
    use rusqlite::ErrorCode;
    let detail = Arc::from(message);
    match code.code {
        ErrorCode::ConstraintViolation => {
            MetaError::Constraint { kind: constraint_kind(code.extended_code, &detail), detail }
        }
        ErrorCode::DiskFull => MetaError::Full,
        ErrorCode::ReadOnly => MetaError::ReadOnly,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => MetaError::Busy,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => MetaError::Corrupt(detail),
        ErrorCode::SystemIoFailure => match code.extended_code {
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => MetaError::SyncFailed(detail),
            // The shared-memory index is grown with zeros before it is mapped: only a full disk refuses that.
            ffi::SQLITE_IOERR_SHMSIZE => MetaError::Full,
            extended => MetaError::Io(Arc::from(format!("{detail} (code {extended})"))),
        },
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => MetaError::Io(detail),
        _ => MetaError::Other(detail),
    }
}

fn constraint_kind(extended: i32, detail: &str) -> ConstraintKind {
    match extended {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            ConstraintKind::Unique
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ConstraintKind::ForeignKey,
        // `ON DELETE RESTRICT` is an inner trigger, told from ours only by its words.
        ffi::SQLITE_CONSTRAINT_TRIGGER if detail.starts_with("FOREIGN KEY") => ConstraintKind::ForeignKey,
        ffi::SQLITE_CONSTRAINT_NOTNULL => ConstraintKind::NotNull,
        _ => ConstraintKind::Check,
    }
}
