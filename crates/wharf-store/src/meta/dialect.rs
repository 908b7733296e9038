//! The only place where SQLite's and PostgreSQL's SQL differ, each difference under a name.

use std::fmt::Write as _;

/// The engine behind a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded engine: one writer, so that a write transaction needs no row locks.
    Sqlite,
    /// The scale-out engine: `READ COMMITTED`, so that rows that must stay are locked.
    Postgres,
}

impl Dialect {
    /// Follows a table's name and names the index to use: SQLite would take a unique one over a nearly empty one.
    pub fn indexed_by_manifests_inactive(self) -> &'static str {
        match self {
            Dialect::Sqlite => " INDEXED BY manifests_inactive",
            Dialect::Postgres => "",
        }
    }

    /// Ends a `SELECT` of rows that must not go away before the transaction ends.
    pub fn for_key_share(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR KEY SHARE",
        }
    }

    /// Ends a `SELECT` of rows that this transaction will change or remove.
    pub fn for_update(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }

    /// As `for_update`, passing over the rows that others hold: for workers that share a queue.
    pub fn for_update_skip_locked(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

/// Lists `count` placeholders starting at `$first`: `$3, $4, $5`. For `IN (…)`; at most some 30,000 fit a statement.
pub fn placeholders(first: usize, count: usize) -> String {
    let mut list = String::with_capacity(count * 6);
    for index in first..first + count {
        let comma = if index == first { "" } else { ", " };
        let _ = write!(list, "{comma}${index}");
    }
    list
}

/// Lists `rows` groups of `columns` placeholders starting at `$first`: `($1, $2), ($3, $4)`. For `VALUES`.
pub fn value_rows(first: usize, columns: usize, rows: usize) -> String {
    let groups: Vec<String> =
        (0..rows).map(|row| format!("({})", placeholders(first + row * columns, columns))).collect();
    groups.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_from_the_first() {
        assert_eq!(placeholders(3, 3), "$3, $4, $5");
        assert_eq!(placeholders(1, 0), "");
        assert_eq!(value_rows(2, 2, 2), "($2, $3), ($4, $5)");
    }

    #[test]
    fn only_postgres_locks_rows() {
        assert_eq!(Dialect::Sqlite.for_key_share(), "");
        assert_eq!(Dialect::Postgres.for_key_share(), " FOR KEY SHARE");
    }
}
