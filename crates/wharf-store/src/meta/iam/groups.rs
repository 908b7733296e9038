//! Who is in which group.

use wharf_types::Timestamp;

use super::principals::{PrincipalRow, name_key, principal};
use crate::meta::{MetaError, Tx};

/// Puts a user into a group; nothing changes if it is in there.
pub fn add_member(tx: &mut Tx<'_>, group_id: &str, user_id: &str, now: Timestamp) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO group_members (group_id, user_id, joined_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (group_id, user_id) DO NOTHING",
        &[&group_id, &user_id, &now.as_micros()],
    )?;
    Ok(())
}

/// Takes a user out of a group; `false` if it was not in there.
pub fn remove_member(tx: &mut Tx<'_>, group_id: &str, user_id: &str) -> Result<bool, MetaError> {
    let removed =
        tx.execute("DELETE FROM group_members WHERE group_id = $1 AND user_id = $2", &[&group_id, &user_id])?;
    Ok(removed == 1)
}

/// Up to `limit` users of a group after the name `after` (empty for the first page), in order of name.
pub fn members(
    tx: &mut Tx<'_>,
    group_id: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<PrincipalRow>, MetaError> {
    tx.query_all(
        "SELECT p.id, p.account, p.kind, p.name, p.path, p.boundary, p.trust_policy, p.description, p.max_session,
                p.last_used_at, p.last_used_region, p.created_at
         FROM group_members m JOIN principals p ON p.id = m.user_id
         WHERE m.group_id = $1 AND p.name_key > $2
         ORDER BY p.name_key
         LIMIT $3",
        &[&group_id, &name_key(after), &limit],
        principal,
    )
}

/// The groups of a user, in order of name; at most 10.
pub fn of_user(tx: &mut Tx<'_>, user_id: &str) -> Result<Vec<PrincipalRow>, MetaError> {
    tx.query_all(
        "SELECT p.id, p.account, p.kind, p.name, p.path, p.boundary, p.trust_policy, p.description, p.max_session,
                p.last_used_at, p.last_used_region, p.created_at
         FROM group_members m JOIN principals p ON p.id = m.group_id
         WHERE m.user_id = $1
         ORDER BY p.name_key",
        &[&user_id],
        principal,
    )
}
