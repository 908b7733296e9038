//! Counters that tell every node when what it remembers is old.
//!
//! A change moves its epoch in its own transaction, so an epoch that stands still proves that nothing has changed.

use crate::meta::{MetaError, Tx};

/// Users, groups, roles, their keys and policies.
pub const IDENTITIES: &str = "identities";
/// Policies of repositories and registries, and what scopes them.
pub const RESOURCE_POLICIES: &str = "resource-policies";

/// Moves an epoch on. Call it in the transaction of the change.
pub fn move_on(tx: &mut Tx<'_>, name: &'static str) -> Result<(), MetaError> {
    tx.execute("UPDATE epochs SET value = value + 1 WHERE name = $1", &[&name])?;
    Ok(())
}

/// Where an epoch stands. Fails with `MetaError::Missing` for a name that is none.
pub fn value(tx: &mut Tx<'_>, name: &'static str) -> Result<i64, MetaError> {
    tx.query_one("SELECT value FROM epochs WHERE name = $1", &[&name], |row| row.get(0))
}
