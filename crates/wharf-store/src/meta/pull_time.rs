//! When images were last pulled, and whose pulls do not count.

use wharf_types::{RegistryRef, Timestamp};

use super::{MetaError, Tx};

/// Adds a principal whose pulls do not count. Fails with a unique violation if it is there.
pub fn insert_exclusion(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    principal_arn: &str,
    now: Timestamp,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO pull_time_exclusions (account, region, principal_arn, created_at)
         VALUES ($1, $2, $3, $4)",
        &[&registry.account.as_str(), &registry.region.as_str(), &principal_arn, &now.as_micros()],
    )?;
    Ok(())
}

/// Removes a principal; `false` if it is not there.
pub fn delete_exclusion(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    principal_arn: &str,
) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM pull_time_exclusions
         WHERE account = $1 AND region = $2 AND principal_arn = $3",
        &[&registry.account.as_str(), &registry.region.as_str(), &principal_arn],
    )?;
    Ok(removed == 1)
}

/// Up to `limit` excluded principals after `after` (empty for the first page), in the order of their ARNs.
pub fn list_exclusions(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT principal_arn
         FROM pull_time_exclusions
         WHERE account = $1 AND region = $2 AND principal_arn > $3
         ORDER BY principal_arn
         LIMIT $4",
        &[&registry.account.as_str(), &registry.region.as_str(), &after, &limit],
        |row| row.get(0),
    )
}

/// Moves the time of an image's last pull forward; an image that has gone, or was pulled later, stays as it is.
pub fn set_pulled(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
    pulled_at: Timestamp,
) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests
         SET pulled_at = $3
         WHERE repository_id = $1 AND digest = $2 AND (pulled_at IS NULL OR pulled_at < $3)",
        &[&repository_id, &digest, &pulled_at.as_micros()],
    )?;
    Ok(changed == 1)
}
