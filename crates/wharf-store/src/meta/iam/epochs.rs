//! Counters that tell every node when what it remembers is old.
//!
//! A change moves its epoch in its own transaction, so an epoch that stands still proves that nothing has changed.

use crate::meta::{MetaError, Tx};

/// Users, groups, roles, their keys and policies.
pub const IDENTITIES: &str = "identities";
/// Policies and tags of repositories, policies of registries, and what scopes them.
pub const RESOURCE_POLICIES: &str = "resource-policies";

/// Settings of registries, and whose pulls count.
pub const SETTINGS: &str = "settings";
/// States of KMS keys.
pub const KMS_KEYS: &str = "kms-keys";
/// Versions of wrapping and sealing keys.
pub const KEY_RING: &str = "key-ring";

/// Moves an epoch on. Call it in the transaction of the change, before anything is looked at: whoever else moves it
/// then waits, so that of two changes that rest on the same look the second sees the first.
pub fn move_on(tx: &mut Tx<'_>, name: &'static str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO epochs (name, value)
         VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET value = epochs.value + 1",
        &[&name],
    )?;
    Ok(())
}

/// Makes whoever moves or holds an epoch wait for the end of this transaction, without moving it.
pub fn hold(tx: &mut Tx<'_>, name: &'static str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO epochs (name, value) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET value = epochs.value",
        &[&name],
    )?;
    Ok(())
}

/// Where every epoch stands; one that never moved may be missing.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<(String, i64)>, MetaError> {
    tx.query_all("SELECT name, value FROM epochs", &[], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Where an epoch stands. Fails with `MetaError::Missing` for a name that is none.
pub fn value(tx: &mut Tx<'_>, name: &'static str) -> Result<i64, MetaError> {
    tx.query_one("SELECT value FROM epochs WHERE name = $1", &[&name], |row| row.get(0))
}
