//! Tags of users and roles. Keys are unique ignoring case and keep the case they were written in.

use crate::meta::{MetaError, Tx};

/// The tags of a principal, in order of key; at most 50.
pub fn list(tx: &mut Tx<'_>, principal_id: &str) -> Result<Vec<(String, String)>, MetaError> {
    tx.query_all(
        "SELECT key, value
         FROM principal_tags
         WHERE principal_id = $1
         ORDER BY tag_key",
        &[&principal_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Adds a tag, or gives one that is there another value.
pub fn put(tx: &mut Tx<'_>, principal_id: &str, key: &str, value: &str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO principal_tags (principal_id, tag_key, key, value)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (principal_id, tag_key) DO UPDATE
         SET key = excluded.key, value = excluded.value",
        &[&principal_id, &key.to_lowercase(), &key, &value],
    )?;
    Ok(())
}

/// Removes a tag, if it is there.
pub fn delete(tx: &mut Tx<'_>, principal_id: &str, key: &str) -> Result<(), MetaError> {
    tx.execute(
        "DELETE FROM principal_tags WHERE principal_id = $1 AND tag_key = $2",
        &[&principal_id, &key.to_lowercase()],
    )?;
    Ok(())
}
