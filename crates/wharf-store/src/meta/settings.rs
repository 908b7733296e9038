//! Settings of a registry, by name.

use wharf_types::RegistryRef;

use super::{MetaError, Tx};

/// The value that was put, if one was.
pub fn find(tx: &mut Tx<'_>, registry: &RegistryRef, name: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT value
         FROM settings
         WHERE account = $1 AND region = $2 AND name = $3",
        &[&registry.account.as_str(), &registry.region.as_str(), &name],
        |row| row.get(0),
    )
}

/// Puts a value in place of an earlier one.
pub fn put(tx: &mut Tx<'_>, registry: &RegistryRef, name: &str, value: &str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO settings (account, region, name, value)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, region, name) DO UPDATE SET value = excluded.value",
        &[&registry.account.as_str(), &registry.region.as_str(), &name, &value],
    )?;
    Ok(())
}
