//! Access keys as IAM sees them: whose they are, and when they were last used. Making and removing
//! them, and their secrets, are in `accounts`.

use wharf_types::{AccountId, Timestamp};

use super::account;
use crate::meta::{MetaError, Row, Tx};

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfoRow {
    /// The access key id.
    pub id: String,
    /// Whose account.
    pub account: AccountId,
    /// Whose; `None` for the account's root user.
    pub principal_id: Option<String>,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last signed a request.
    pub last_used_at: Option<Timestamp>,
    /// For which service.
    pub last_used_service: Option<String>,
    /// In which region.
    pub last_used_region: Option<String>,
}

/// A use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// When.
    pub at: Timestamp,
    /// The service, as it is named in credential scopes.
    pub service: String,
    /// The region.
    pub region: String,
}

/// The access key with this id.
pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<KeyInfoRow>, MetaError> {
    tx.query_opt(
        "SELECT id, account, principal_id, active, created_at, last_used_at, last_used_service, last_used_region
         FROM access_keys
         WHERE id = $1",
        &[&id],
        key_info,
    )
}

/// The keys of a user, or of the account's root user, oldest first.
pub fn list(
    tx: &mut Tx<'_>,
    account: AccountId,
    principal_id: Option<&str>,
) -> Result<Vec<KeyInfoRow>, MetaError> {
    match principal_id {
        Some(principal_id) => tx.query_all(
            "SELECT id, account, principal_id, active, created_at, last_used_at, last_used_service, last_used_region
             FROM access_keys
             WHERE account = $1 AND principal_id = $2
             ORDER BY created_at, id",
            &[&account.as_str(), &principal_id],
            key_info,
        ),
        None => tx.query_all(
            "SELECT id, account, principal_id, active, created_at, last_used_at, last_used_service, last_used_region
             FROM access_keys
             WHERE account = $1 AND principal_id IS NULL
             ORDER BY created_at, id",
            &[&account.as_str()],
            key_info,
        ),
    }
}

/// Notes a use of a key, unless a later one is known.
pub fn set_last_used(tx: &mut Tx<'_>, id: &str, used: &KeyUse) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE access_keys
         SET last_used_at = $2, last_used_service = $3, last_used_region = $4
         WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        &[&id, &used.at.as_micros(), &used.service, &used.region],
    )?;
    Ok(())
}

fn key_info(row: &Row<'_>) -> Result<KeyInfoRow, MetaError> {
    Ok(KeyInfoRow {
        id: row.get(0)?,
        account: account(row, 1)?,
        principal_id: row.get(2)?,
        active: row.get(3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        last_used_at: row.get::<Option<i64>>(5)?.map(Timestamp::from_micros),
        last_used_service: row.get(6)?,
        last_used_region: row.get(7)?,
    })
}
