//! The local ring's named keys and their aliases.

use wharf_types::{RegistryRef, Timestamp};

use super::{MetaError, Row, Tx};

/// A named key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKeyRow {
    /// Whose, and where.
    pub registry: RegistryRef,
    /// The key's id.
    pub id: String,
    /// Free text.
    pub description: String,
    /// `Enabled`, `Disabled` or `PendingDeletion`.
    pub state: String,
    /// `CUSTOMER` or `AWS`.
    pub manager: String,
    /// The key policy; kept, not judged yet.
    pub policy: String,
    /// JSON: a list of pairs.
    pub tags: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it goes, if that is planned.
    pub deletion_at: Option<Timestamp>,
}

/// An alias as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsAliasRow {
    /// `alias/…`.
    pub name: String,
    /// The key it stands for.
    pub key_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last pointed elsewhere.
    pub updated_at: Timestamp,
}

/// Adds a key.
pub fn insert_key(tx: &mut Tx<'_>, key: &KmsKeyRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO kms_keys
             (account, region, id, description, state, manager, policy, tags, created_at, deletion_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &key.registry.account.as_str(),
            &key.registry.region.as_str(),
            &key.id,
            &key.description,
            &key.state,
            &key.manager,
            &key.policy,
            &key.tags,
            &key.created_at.as_micros(),
            &key.deletion_at.map(Timestamp::as_micros),
        ],
    )?;
    Ok(())
}

/// The key with this id.
pub fn find_key(tx: &mut Tx<'_>, registry: &RegistryRef, id: &str) -> Result<Option<KmsKeyRow>, MetaError> {
    tx.query_opt(
        "SELECT account, region, id, description, state, manager, policy, tags, created_at, deletion_at
         FROM kms_keys
         WHERE account = $1 AND region = $2 AND id = $3",
        &[&registry.account.as_str(), &registry.region.as_str(), &id],
        key,
    )
}

/// Up to `limit` keys after `after` (empty for the first page), in order of id.
pub fn list_keys(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    after: &str,
    limit: usize,
) -> Result<Vec<KmsKeyRow>, MetaError> {
    tx.query_all(
        "SELECT account, region, id, description, state, manager, policy, tags, created_at, deletion_at
         FROM kms_keys
         WHERE account = $1 AND region = $2 AND id > $3
         ORDER BY id
         LIMIT $4",
        &[&registry.account.as_str(), &registry.region.as_str(), &after, &limit],
        key,
    )
}

/// Region, account, id, state and planned end of every key: what is held in memory.
pub fn states(tx: &mut Tx<'_>) -> Result<Vec<KmsKeyRow>, MetaError> {
    tx.query_all(
        "SELECT account, region, id, '', state, manager, '', '[]', created_at, deletion_at FROM kms_keys",
        &[],
        key,
    )
}

/// Sets a key's state and planned end.
pub fn set_state(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    id: &str,
    state: &str,
    deletion_at: Option<Timestamp>,
) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE kms_keys
         SET state = $4, deletion_at = $5
         WHERE account = $1 AND region = $2 AND id = $3",
        &[
            &registry.account.as_str(),
            &registry.region.as_str(),
            &id,
            &state,
            &deletion_at.map(Timestamp::as_micros),
        ],
    )?;
    Ok(())
}

/// Up to `limit` keys whose planned end has come.
pub fn due_keys(tx: &mut Tx<'_>, now: Timestamp, limit: usize) -> Result<Vec<KmsKeyRow>, MetaError> {
    tx.query_all(
        "SELECT account, region, id, description, state, manager, policy, tags, created_at, deletion_at
         FROM kms_keys
         WHERE state = 'PendingDeletion' AND deletion_at <= $1
         LIMIT $2",
        &[&now.as_micros(), &limit],
        key,
    )
}

/// Removes a key and its aliases.
pub fn delete_key(tx: &mut Tx<'_>, registry: &RegistryRef, id: &str) -> Result<(), MetaError> {
    let (account, region) = (registry.account, &registry.region);
    tx.execute(
        "DELETE FROM kms_aliases WHERE account = $1 AND region = $2 AND key_id = $3",
        &[&account.as_str(), &region.as_str(), &id],
    )?;
    tx.execute(
        "DELETE FROM kms_keys WHERE account = $1 AND region = $2 AND id = $3",
        &[&account.as_str(), &region.as_str(), &id],
    )?;
    Ok(())
}

/// Adds an alias. Fails with a unique violation if the name is taken.
pub fn insert_alias(tx: &mut Tx<'_>, registry: &RegistryRef, alias: &KmsAliasRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO kms_aliases (account, region, name, key_id, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &registry.account.as_str(),
            &registry.region.as_str(),
            &alias.name,
            &alias.key_id,
            &alias.created_at.as_micros(),
            &alias.updated_at.as_micros(),
        ],
    )?;
    Ok(())
}

/// The id of the key an alias stands for.
pub fn find_alias(tx: &mut Tx<'_>, registry: &RegistryRef, name: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT key_id
         FROM kms_aliases
         WHERE account = $1 AND region = $2 AND name = $3",
        &[&registry.account.as_str(), &registry.region.as_str(), &name],
        |row| row.get(0),
    )
}

/// Removes an alias; `false` if there is none.
pub fn delete_alias(tx: &mut Tx<'_>, registry: &RegistryRef, name: &str) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM kms_aliases WHERE account = $1 AND region = $2 AND name = $3",
        &[&registry.account.as_str(), &registry.region.as_str(), &name],
    )?;
    Ok(removed == 1)
}

/// Up to `limit` aliases after `after` (empty for the first page), in order of name; those of one key, if given.
pub fn list_aliases(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    key_id: Option<&str>,
    after: &str,
    limit: usize,
) -> Result<Vec<KmsAliasRow>, MetaError> {
    // An empty id names no key, and a comparison without NULL reads the same on every engine.
    tx.query_all(
        "SELECT name, key_id, created_at, updated_at
         FROM kms_aliases
         WHERE account = $1 AND region = $2 AND name > $3 AND ($4 = '' OR key_id = $4)
         ORDER BY name
         LIMIT $5",
        &[&registry.account.as_str(), &registry.region.as_str(), &after, &key_id.unwrap_or(""), &limit],
        |row| {
            Ok(KmsAliasRow {
                name: row.get(0)?,
                key_id: row.get(1)?,
                created_at: Timestamp::from_micros(row.get(2)?),
                updated_at: Timestamp::from_micros(row.get(3)?),
            })
        },
    )
}

fn key(row: &Row<'_>) -> Result<KmsKeyRow, MetaError> {
    let bad = |index, error: &dyn std::fmt::Display| MetaError::column(index, error.to_string());
    let account = row.text(0)?.parse().map_err(|error| bad(0, &error))?;
    let region = row.text(1)?.parse().map_err(|error| bad(1, &error))?;
    Ok(KmsKeyRow {
        registry: RegistryRef::new(account, region),
        id: row.get(2)?,
        description: row.get(3)?,
        state: row.get(4)?,
        manager: row.get(5)?,
        policy: row.get(6)?,
        tags: row.get(7)?,
        created_at: Timestamp::from_micros(row.get(8)?),
        deletion_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_micros),
    })
}
