//! Policies of repositories and of registries. `document` is what was set; `bound` is what is evaluated: ARNs of users
//! and roles replaced by their unique ids.

use wharf_types::{RegistryRef, Timestamp};

use crate::meta::{MetaError, Row, Tx};

/// A stored policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// As set.
    pub document: String,
    /// With unique ids for ARNs.
    pub bound: String,
}

/// The policy of a repository.
pub fn of_repository(tx: &mut Tx<'_>, repository_id: i64) -> Result<Option<PolicyRow>, MetaError> {
    tx.query_opt(
        "SELECT document, bound
         FROM repository_policies
         WHERE repository_id = $1",
        &[&repository_id],
        policy,
    )
}

/// Puts a repository's policy in place of an earlier one.
pub fn set_of_repository(
    tx: &mut Tx<'_>,
    repository_id: i64,
    policy: &PolicyRow,
    now: Timestamp,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO repository_policies (repository_id, document, bound, updated_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository_id) DO UPDATE
         SET document = excluded.document, bound = excluded.bound, updated_at = excluded.updated_at",
        &[&repository_id, &policy.document, &policy.bound, &now.as_micros()],
    )?;
    Ok(())
}

/// Removes a repository's policy; `false` if there is none.
pub fn delete_of_repository(tx: &mut Tx<'_>, repository_id: i64) -> Result<bool, MetaError> {
    Ok(tx.execute("DELETE FROM repository_policies WHERE repository_id = $1", &[&repository_id])? == 1)
}

/// The policy of a registry.
pub fn of_registry(tx: &mut Tx<'_>, registry: &RegistryRef) -> Result<Option<PolicyRow>, MetaError> {
    tx.query_opt(
        "SELECT document, bound
         FROM registry_policies
         WHERE account = $1 AND region = $2",
        &[&registry.account.as_str(), &registry.region.as_str()],
        policy,
    )
}

/// Puts a registry's policy in place of an earlier one.
pub fn set_of_registry(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    policy: &PolicyRow,
    now: Timestamp,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO registry_policies (account, region, document, bound, updated_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, region) DO UPDATE
         SET document = excluded.document, bound = excluded.bound, updated_at = excluded.updated_at",
        &[
            &registry.account.as_str(),
            &registry.region.as_str(),
            &policy.document,
            &policy.bound,
            &now.as_micros(),
        ],
    )?;
    Ok(())
}

/// Removes a registry's policy; `false` if there is none.
pub fn delete_of_registry(tx: &mut Tx<'_>, registry: &RegistryRef) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM registry_policies WHERE account = $1 AND region = $2",
        &[&registry.account.as_str(), &registry.region.as_str()],
    )?;
    Ok(removed == 1)
}

fn policy(row: &Row<'_>) -> Result<PolicyRow, MetaError> {
    Ok(PolicyRow { document: row.get(0)?, bound: row.get(1)? })
}
