//! Repositories, their key domains and their resource tags.

use super::{MetaError, Row, Tx};

/// A repository row joined with its key domain.
#[derive(Clone, Debug)]
pub struct RepositoryRow {
    /// Never used twice.
    pub id: i64,
    /// Owner.
    pub account: String,
    /// Where.
    pub region: String,
    /// `private`, `public` or `deleted`.
    pub kind: String,
    /// Name in the registry.
    pub name: String,
    /// The API's name of the setting.
    pub mutability: String,
    /// JSON list of filters.
    pub exclusions: String,
    /// The deprecated switch.
    pub scan_on_push: bool,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Key domain.
    pub domain_id: i64,
    /// `AES256`, `KMS`, `KMS_DSSE`.
    pub encryption_type: String,
    /// ARN, or empty.
    pub kms_key: String,
}

/// A repository to insert.
#[derive(Clone, Debug)]
pub struct NewRepositoryRow {
    /// Owner.
    pub account: String,
    /// Where.
    pub region: String,
    /// `private` or `public`.
    pub kind: &'static str,
    /// Name in the registry.
    pub name: String,
    /// The API's name of the setting.
    pub mutability: &'static str,
    /// JSON list of filters.
    pub exclusions: String,
    /// The deprecated switch.
    pub scan_on_push: bool,
    /// Key domain.
    pub domain_id: i64,
}

/// Reads a repository from the first twelve columns.
pub(super) fn row(row: &Row<'_>) -> Result<RepositoryRow, MetaError> {
    Ok(RepositoryRow {
        id: row.get(0)?,
        account: row.get(1)?,
        region: row.get(2)?,
        kind: row.get(3)?,
        name: row.get(4)?,
        mutability: row.get(5)?,
        exclusions: row.get(6)?,
        scan_on_push: row.get(7)?,
        created_at: row.get(8)?,
        domain_id: row.get(9)?,
        encryption_type: row.get(10)?,
        kms_key: row.get(11)?,
    })
}

/// Finds a repository by its row id, unless it was deleted.
pub fn find_by_id(tx: &mut Tx<'_>, id: i64) -> Result<Option<RepositoryRow>, MetaError> {
    tx.query_opt(
        "SELECT r.id, r.account, r.region, r.kind, r.name, r.mutability, r.exclusions, r.scan_on_push, r.created_at,
                d.id, d.encryption_type, d.kms_key
         FROM repositories r
         JOIN key_domains d ON d.id = r.domain_id
         WHERE r.id = $1 AND r.kind <> 'deleted'",
        &[&id],
        row,
    )
}

/// Finds a repository by its full name.
pub fn find(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    kind: &str,
    name: &str,
) -> Result<Option<RepositoryRow>, MetaError> {
    tx.query_opt(
        "SELECT r.id, r.account, r.region, r.kind, r.name, r.mutability, r.exclusions, r.scan_on_push, r.created_at,
                d.id, d.encryption_type, d.kms_key
         FROM repositories r
         JOIN key_domains d ON d.id = r.domain_id
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name = $4",
        &[&account, &region, &kind, &name],
        row,
    )
}

/// Locks a repository against deletion for the rest of the transaction, and tells whether it is still there.
pub fn hold(tx: &mut Tx<'_>, id: i64) -> Result<bool, MetaError> {
    let sql = format!(
        "SELECT id FROM repositories WHERE id = $1 AND kind <> 'deleted'{}",
        tx.dialect().for_key_share()
    );
    Ok(tx.query_opt_dynamic(&sql, &[&id], |row| row.get::<i64>(0))?.is_some())
}

/// A page of the repositories of a registry, in order of name, after `after` (exclusive; empty = from the start).
pub fn page(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    kind: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<RepositoryRow>, MetaError> {
    tx.query_all(
        "SELECT r.id, r.account, r.region, r.kind, r.name, r.mutability, r.exclusions, r.scan_on_push, r.created_at,
                d.id, d.encryption_type, d.kms_key
         FROM repositories r
         JOIN key_domains d ON d.id = r.domain_id
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name > $4
         ORDER BY r.name
         LIMIT $5",
        &[&account, &region, &kind, &after, &limit],
        row,
    )
}

/// The names only, as `page`.
pub fn page_names(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    kind: &str,
    after: &str,
    limit: usize,
    visit: &mut dyn FnMut(&str),
) -> Result<(), MetaError> {
    tx.query_all(
        "SELECT name
         FROM repositories
         WHERE account = $1 AND region = $2 AND kind = $3 AND name > $4
         ORDER BY name
         LIMIT $5",
        &[&account, &region, &kind, &after, &limit],
        |row| {
            visit(row.text(0)?);
            Ok(())
        },
    )?;
    Ok(())
}

/// How many repositories a registry has, for the quota: looks at each.
pub fn count(tx: &mut Tx<'_>, account: &str, region: &str, kind: &str) -> Result<u64, MetaError> {
    tx.query_one(
        "SELECT COUNT(*) FROM repositories WHERE account = $1 AND region = $2 AND kind = $3",
        &[&account, &region, &kind],
        |row| row.get(0),
    )
}

/// Finds or makes a key domain; `kms_key` is empty for `AES256`.
pub fn key_domain(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    encryption_type: &str,
    kms_key: &str,
) -> Result<i64, MetaError> {
    tx.execute(
        "INSERT INTO key_domains (account, region, encryption_type, kms_key)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, region, encryption_type, kms_key) DO NOTHING",
        &[&account, &region, &encryption_type, &kms_key],
    )?;
    // A statement of its own: with DO NOTHING … RETURNING a concurrent insert could leave no row to return.
    tx.query_one(
        "SELECT id
         FROM key_domains
         WHERE account = $1 AND region = $2 AND encryption_type = $3 AND kms_key = $4",
        &[&account, &region, &encryption_type, &kms_key],
        |row| row.get(0),
    )
}

/// Inserts a repository and gives its id. A unique violation means the name is taken.
pub fn insert(tx: &mut Tx<'_>, new: &NewRepositoryRow) -> Result<i64, MetaError> {
    let now = tx.now_micros();
    tx.query_one(
        "INSERT INTO repositories
             (account, region, kind, name, mutability, exclusions, scan_on_push, domain_id, images, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)
         RETURNING id",
        &[
            &new.account,
            &new.region,
            &new.kind,
            &new.name,
            &new.mutability,
            &new.exclusions,
            &new.scan_on_push,
            &new.domain_id,
            &now,
        ],
        |row| row.get(0),
    )
}

/// Changes tag mutability. Answers whether the repository was there.
pub fn set_mutability(
    tx: &mut Tx<'_>,
    id: i64,
    mutability: &str,
    exclusions: &str,
) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE repositories
         SET mutability = $2, exclusions = $3
         WHERE id = $1 AND kind <> 'deleted'",
        &[&id, &mutability, &exclusions],
    )?;
    Ok(changed == 1)
}

/// The setting as it stands in this transaction: mutability and its filters (JSON).
pub fn mutability(tx: &mut Tx<'_>, id: i64) -> Result<(String, String), MetaError> {
    tx.query_one("SELECT mutability, exclusions FROM repositories WHERE id = $1", &[&id], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Adds to (or takes from) the count of images and gives the new one. Holds the row until the transaction ends, so
/// that the quota is exact.
pub fn count_images(tx: &mut Tx<'_>, id: i64, change: i64) -> Result<u64, MetaError> {
    tx.query_one(
        "UPDATE repositories
         SET images = images + $2
         WHERE id = $1
         RETURNING images",
        &[&id, &change],
        |row| row.get(0),
    )
}

/// Whether the repository holds any image.
pub fn has_images(tx: &mut Tx<'_>, id: i64) -> Result<bool, MetaError> {
    let found = tx.query_opt("SELECT 1 FROM manifests WHERE repository_id = $1 LIMIT 1", &[&id], |row| {
        row.get::<i64>(0)
    })?;
    Ok(found.is_some())
}

/// Takes the repository out of its registry at once; its contents are dropped afterwards, in batches. The name is
/// free again. Answers whether it was there.
pub fn mark_deleted(tx: &mut Tx<'_>, id: i64) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE repositories
         SET kind = 'deleted', name = name || '@' || CAST(id AS TEXT)
         WHERE id = $1 AND kind <> 'deleted'",
        &[&id],
    )?;
    Ok(changed == 1)
}

/// Some repositories that are marked deleted.
pub fn deleted(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<RepositoryRow>, MetaError> {
    tx.query_all(
        "SELECT r.id, r.account, r.region, r.kind, r.name, r.mutability, r.exclusions, r.scan_on_push, r.created_at,
                d.id, d.encryption_type, d.kms_key
         FROM repositories r
         JOIN key_domains d ON d.id = r.domain_id
         WHERE r.kind = 'deleted'
         ORDER BY r.id
         LIMIT $1",
        &[&limit],
        row,
    )
}

/// Removes a repository that holds nothing any more.
pub fn remove(tx: &mut Tx<'_>, id: i64) -> Result<(), MetaError> {
    tx.execute("DELETE FROM repository_tags WHERE repository_id = $1", &[&id])?;
    tx.execute("DELETE FROM repositories WHERE id = $1", &[&id])?;
    Ok(())
}

/// The resource tags in order of key.
pub fn resource_tags(tx: &mut Tx<'_>, id: i64) -> Result<Vec<(String, String)>, MetaError> {
    tx.query_all(
        "SELECT key, value FROM repository_tags WHERE repository_id = $1 ORDER BY key",
        &[&id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Adds or overwrites one resource tag.
pub fn put_resource_tag(tx: &mut Tx<'_>, id: i64, key: &str, value: &str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO repository_tags (repository_id, key, value)
         VALUES ($1, $2, $3)
         ON CONFLICT (repository_id, key) DO UPDATE SET value = excluded.value",
        &[&id, &key, &value],
    )?;
    Ok(())
}

/// Removes one resource tag, if it is there.
pub fn remove_resource_tag(tx: &mut Tx<'_>, id: i64, key: &str) -> Result<(), MetaError> {
    tx.execute("DELETE FROM repository_tags WHERE repository_id = $1 AND key = $2", &[&id, &key])?;
    Ok(())
}
