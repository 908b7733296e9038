//! Wrapping keys, and the wrapped data keys of objects, manifests and tombstones.

use wharf_types::{RegistryRef, Timestamp};

use super::{MetaError, Row, Tx};

/// One version of a wrapping key, as it is kept.
#[derive(Clone)]
pub struct WrappingKeyRow {
    /// What it is for: `registry/<account>/<region>`, `kms/<account>/<region>/<key id>`, `seal/<purpose>`.
    pub scope: String,
    /// Its version; versions of a scope count up from 1.
    pub version: u32,
    /// The key, wrapped by the root key.
    pub material: Vec<u8>,
    /// When it was made, by the metadata's clock.
    pub created_at: Timestamp,
}

/// A key domain as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    /// Row id.
    pub id: i64,
    /// Whose, and where.
    pub registry: RegistryRef,
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub encryption_type: String,
    /// The key's ARN; empty for `AES256`.
    pub kms_key: String,
}

/// The versions of one wrapping key, oldest first.
pub fn versions(tx: &mut Tx<'_>, scope: &str) -> Result<Vec<WrappingKeyRow>, MetaError> {
    tx.query_all(
        "SELECT scope, version, material, created_at
         FROM wrapping_keys
         WHERE scope = $1
         ORDER BY version",
        &[&scope],
        wrapping_key,
    )
}

/// Any wrapping key, to try the root key on.
pub fn any(tx: &mut Tx<'_>) -> Result<Option<WrappingKeyRow>, MetaError> {
    tx.query_opt(
        "SELECT scope, version, material, created_at FROM wrapping_keys ORDER BY scope, version LIMIT 1",
        &[],
        wrapping_key,
    )
}

/// Every scope that has a key.
pub fn scopes(tx: &mut Tx<'_>) -> Result<Vec<String>, MetaError> {
    tx.query_all("SELECT DISTINCT scope FROM wrapping_keys ORDER BY scope", &[], |row| row.get(0))
}

/// Adds a version. Fails with a unique violation if it exists.
pub fn insert(tx: &mut Tx<'_>, scope: &str, version: u32, material: &[u8]) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute(
        "INSERT INTO wrapping_keys (scope, version, material, created_at)
         VALUES ($1, $2, $3, $4)",
        &[&scope, &version, &material, &now],
    )?;
    Ok(())
}

/// Forgets one version. What it wrapped can never be opened again.
pub fn delete_version(tx: &mut Tx<'_>, scope: &str, version: u32) -> Result<(), MetaError> {
    tx.execute("DELETE FROM wrapping_keys WHERE scope = $1 AND version = $2", &[&scope, &version])?;
    Ok(())
}

/// Forgets every version of a key. What it wrapped can never be opened again.
pub fn delete_scope(tx: &mut Tx<'_>, scope: &str) -> Result<(), MetaError> {
    tx.execute("DELETE FROM wrapping_keys WHERE scope = $1", &[&scope])?;
    Ok(())
}

/// Every key domain.
pub fn domains(tx: &mut Tx<'_>) -> Result<Vec<DomainRow>, MetaError> {
    tx.query_all(
        "SELECT id, account, region, encryption_type, kms_key FROM key_domains ORDER BY id",
        &[],
        |row| {
            let bad = |index, error: &dyn std::fmt::Display| MetaError::column(index, error.to_string());
            let account = row.text(1)?.parse().map_err(|error| bad(1, &error))?;
            let region = row.text(2)?.parse().map_err(|error| bad(2, &error))?;
            Ok(DomainRow {
                id: row.get(0)?,
                registry: RegistryRef::new(account, region),
                encryption_type: row.get(3)?,
                kms_key: row.get(4)?,
            })
        },
    )
}

/// Wrapped data keys of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedRow<K> {
    /// Which row.
    pub key: K,
    /// The key domain it was wrapped for.
    pub domain_id: i64,
    /// The wrapped keys.
    pub wrapped: Vec<u8>,
}

/// Up to `limit` objects with wrapped keys after the object `after` (empty for the first), in order of id.
pub fn object_keys(tx: &mut Tx<'_>, after: &str, limit: usize) -> Result<Vec<WrappedRow<String>>, MetaError> {
    tx.query_all(
        "SELECT id, domain_id, keys
         FROM objects
         WHERE id > $1 AND keys IS NOT NULL
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        |row| Ok(WrappedRow { key: row.get(0)?, domain_id: row.get(1)?, wrapped: row.get(2)? }),
    )
}

/// Up to `limit` manifests with wrapped keys after `after`, in order of repository and digest.
pub fn manifest_keys(
    tx: &mut Tx<'_>,
    after: &(i64, String),
    limit: usize,
) -> Result<Vec<WrappedRow<(i64, String)>>, MetaError> {
    tx.query_all(
        "SELECT m.repository_id, m.digest, r.domain_id, m.keys
         FROM manifests m
         JOIN repositories r ON r.id = m.repository_id
         WHERE (m.repository_id, m.digest) > ($1, $2) AND m.keys IS NOT NULL
         ORDER BY m.repository_id, m.digest
         LIMIT $3",
        &[&after.0, &after.1, &limit],
        |row| {
            Ok(WrappedRow { key: (row.get(0)?, row.get(1)?), domain_id: row.get(2)?, wrapped: row.get(3)? })
        },
    )
}

/// Up to `limit` tombstones with wrapped keys after the tombstone `after`, in order of id.
pub fn tombstone_keys(tx: &mut Tx<'_>, after: i64, limit: usize) -> Result<Vec<WrappedRow<i64>>, MetaError> {
    tx.query_all(
        "SELECT id, domain_id, keys
         FROM deleted_manifests
         WHERE id > $1 AND keys IS NOT NULL
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        |row| Ok(WrappedRow { key: row.get(0)?, domain_id: row.get(1)?, wrapped: row.get(2)? }),
    )
}

/// Replaces an object's wrapped keys if they are still `old`.
pub fn replace_object_keys(tx: &mut Tx<'_>, id: &str, old: &[u8], new: &[u8]) -> Result<bool, MetaError> {
    let changed =
        tx.execute("UPDATE objects SET keys = $3 WHERE id = $1 AND keys = $2", &[&id, &old, &new])?;
    Ok(changed == 1)
}

/// Replaces a manifest's wrapped keys if they are still `old`.
pub fn replace_manifest_keys(
    tx: &mut Tx<'_>,
    manifest: &(i64, String),
    old: &[u8],
    new: &[u8],
) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests SET keys = $4 WHERE repository_id = $1 AND digest = $2 AND keys = $3",
        &[&manifest.0, &manifest.1, &old, &new],
    )?;
    Ok(changed == 1)
}

/// Replaces a tombstone's wrapped keys if they are still `old`.
pub fn replace_tombstone_keys(tx: &mut Tx<'_>, id: i64, old: &[u8], new: &[u8]) -> Result<bool, MetaError> {
    let changed =
        tx.execute("UPDATE deleted_manifests SET keys = $3 WHERE id = $1 AND keys = $2", &[&id, &old, &new])?;
    Ok(changed == 1)
}

/// The start of a data key's wrapping: format and key version.
pub const HEAD: usize = 5;
/// Bytes of one wrapped data key; content with two layers has two, one after the other.
pub const WRAPPED: usize = 65;

/// A key domain's row id with the heads of the first and the second wrapping (empty where there is one only).
pub type NamedHeads = (i64, Vec<u8>, Vec<u8>);

/// Which versions wrapped data keys name, each once. Reads every row that has keys; for the end of a rotation.
pub fn named_heads(tx: &mut Tx<'_>) -> Result<Vec<NamedHeads>, MetaError> {
    tx.query_all(
        "SELECT DISTINCT domain_id, substr(keys, 1, $1), substr(keys, $2, $1)
         FROM objects
         WHERE keys IS NOT NULL
         UNION
         SELECT DISTINCT r.domain_id, substr(m.keys, 1, $1), substr(m.keys, $2, $1)
         FROM manifests m
         JOIN repositories r ON r.id = m.repository_id
         WHERE m.keys IS NOT NULL
         UNION
         SELECT DISTINCT domain_id, substr(keys, 1, $1), substr(keys, $2, $1)
         FROM deleted_manifests
         WHERE keys IS NOT NULL",
        &[&HEAD, &(WRAPPED + 1)],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// The first bytes of every upload's sealed state that are not `newest`: which older versions are still in use.
pub fn upload_state_heads(
    tx: &mut Tx<'_>,
    length: usize,
    newest: &[u8],
    limit: usize,
) -> Result<Vec<Vec<u8>>, MetaError> {
    tx.query_all(
        "SELECT DISTINCT substr(state, 1, $1)
         FROM uploads
         WHERE state IS NOT NULL AND substr(state, 1, $1) <> $2
         LIMIT $3",
        &[&length, &newest, &limit],
        |row| row.get(0),
    )
}

fn wrapping_key(row: &Row<'_>) -> Result<WrappingKeyRow, MetaError> {
    Ok(WrappingKeyRow {
        scope: row.get(0)?,
        version: row.get(1)?,
        material: row.get(2)?,
        created_at: Timestamp::from_micros(row.get(3)?),
    })
}
