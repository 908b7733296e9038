//! What roles have beyond other principals: who may assume them, for how long, and when that last happened.

use wharf_types::{AccountId, Timestamp};

use super::principals::{PrincipalRow, principal};
use crate::meta::{MetaError, Tx};

/// The role that an ARN names, path and case included.
pub fn find_exactly(
    tx: &mut Tx<'_>,
    account: AccountId,
    path: &str,
    name: &str,
) -> Result<Option<PrincipalRow>, MetaError> {
    tx.query_opt(
        "SELECT id, account, kind, name, path, boundary, trust_policy, description, max_session,
                last_used_at, last_used_region, created_at
         FROM principals
         WHERE account = $1 AND kind = 'role' AND path = $2 AND name = $3",
        &[&account.as_str(), &path, &name],
        principal,
    )
}

/// Puts a trust policy in place of the earlier one; its principals are bound to unique ids.
pub fn set_trust_policy(tx: &mut Tx<'_>, id: &str, bound: &str) -> Result<(), MetaError> {
    tx.execute("UPDATE principals SET trust_policy = $2 WHERE id = $1", &[&id, &bound])?;
    Ok(())
}

/// Changes what is given, keeps the rest.
pub fn update(
    tx: &mut Tx<'_>,
    id: &str,
    description: Option<&str>,
    max_session: Option<i64>,
) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE principals
         SET description = COALESCE($2, description), max_session = COALESCE($3, max_session)
         WHERE id = $1",
        &[&id, &description, &max_session],
    )?;
    Ok(())
}

/// Notes that a role is in use.
pub fn note_use(tx: &mut Tx<'_>, id: &str, region: &str, now: Timestamp) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE principals SET last_used_at = $2, last_used_region = $3 WHERE id = $1",
        &[&id, &now.as_micros(), &region],
    )?;
    Ok(())
}
