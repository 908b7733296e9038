//! Policies of users, groups and roles: inline ones, and the managed ones that are attached.

use wharf_types::{AccountId, Timestamp};

use super::principals::{PrincipalKind, PrincipalRow, name_key, principal};
use crate::meta::{MetaError, Tx};

/// Puts an inline policy in place of an earlier one of the name.
pub fn put_inline(tx: &mut Tx<'_>, principal_id: &str, name: &str, document: &str) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO inline_policies (principal_id, name, document)
         VALUES ($1, $2, $3)
         ON CONFLICT (principal_id, name) DO UPDATE
         SET document = excluded.document",
        &[&principal_id, &name, &document],
    )?;
    Ok(())
}

/// The document of an inline policy.
pub fn inline(tx: &mut Tx<'_>, principal_id: &str, name: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT document FROM inline_policies WHERE principal_id = $1 AND name = $2",
        &[&principal_id, &name],
        |row| row.get(0),
    )
}

/// Names and documents of every inline policy of a principal, in order of name. Their size together is bounded.
pub fn all_inline(tx: &mut Tx<'_>, principal_id: &str) -> Result<Vec<(String, String)>, MetaError> {
    tx.query_all(
        "SELECT name, document
         FROM inline_policies
         WHERE principal_id = $1
         ORDER BY name",
        &[&principal_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Up to `limit` names of inline policies after `after` (empty for the first page), in order.
pub fn inline_names(
    tx: &mut Tx<'_>,
    principal_id: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT name
         FROM inline_policies
         WHERE principal_id = $1 AND name > $2
         ORDER BY name
         LIMIT $3",
        &[&principal_id, &after, &limit],
        |row| row.get(0),
    )
}

/// Removes an inline policy; `false` if there is none.
pub fn delete_inline(tx: &mut Tx<'_>, principal_id: &str, name: &str) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM inline_policies WHERE principal_id = $1 AND name = $2",
        &[&principal_id, &name],
    )?;
    Ok(removed == 1)
}

/// Attaches a managed policy; nothing changes if it is attached.
pub fn attach(
    tx: &mut Tx<'_>,
    principal_id: &str,
    policy_arn: &str,
    now: Timestamp,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO attached_policies (principal_id, policy_arn, attached_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (principal_id, policy_arn) DO NOTHING",
        &[&principal_id, &policy_arn, &now.as_micros()],
    )?;
    Ok(())
}

/// Detaches a managed policy; `false` if it was not attached.
pub fn detach(tx: &mut Tx<'_>, principal_id: &str, policy_arn: &str) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM attached_policies WHERE principal_id = $1 AND policy_arn = $2",
        &[&principal_id, &policy_arn],
    )?;
    Ok(removed == 1)
}

/// The ARNs of the managed policies attached to a principal, in order; their number is bounded by a quota.
pub fn attached(tx: &mut Tx<'_>, principal_id: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT policy_arn
         FROM attached_policies
         WHERE principal_id = $1
         ORDER BY policy_arn",
        &[&principal_id],
        |row| row.get(0),
    )
}

/// How a managed policy is used in an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyUse {
    /// Users, groups and roles it is attached to.
    pub attachments: i64,
    /// Users and roles it bounds.
    pub boundaries: i64,
}

/// How a managed policy is used in an account.
pub fn usage(tx: &mut Tx<'_>, account: AccountId, policy_arn: &str) -> Result<PolicyUse, MetaError> {
    let attachments = tx.query_one(
        "SELECT COUNT(*)
         FROM attached_policies a JOIN principals p ON p.id = a.principal_id
         WHERE a.policy_arn = $1 AND p.account = $2",
        &[&policy_arn, &account.as_str()],
        |row| row.get(0),
    )?;
    let boundaries = tx.query_one(
        "SELECT COUNT(*) FROM principals WHERE boundary = $1 AND account = $2",
        &[&policy_arn, &account.as_str()],
        |row| row.get(0),
    )?;
    Ok(PolicyUse { attachments, boundaries })
}

/// Which of a policy's uses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseFilter<'a> {
    /// Where it is attached.
    pub attached: bool,
    /// Where it is the boundary.
    pub boundary: bool,
    /// Only this kind of principal.
    pub kind: Option<PrincipalKind>,
    /// Only with paths that begin so.
    pub path_prefix: &'a str,
}

/// Up to `limit` principals of an account that use a managed policy, after a kind and name (empty for the first page),
/// in that order.
pub fn users_of(
    tx: &mut Tx<'_>,
    account: AccountId,
    policy_arn: &str,
    filter: &UseFilter<'_>,
    after: (&str, &str),
    limit: usize,
) -> Result<Vec<PrincipalRow>, MetaError> {
    let kind = filter.kind.map_or("", PrincipalKind::as_str);
    tx.query_all(
        "SELECT id, account, kind, name, path, boundary, trust_policy, description, max_session,
                last_used_at, last_used_region, created_at
         FROM principals
         WHERE account = $1
           AND (($3 AND id IN (SELECT principal_id FROM attached_policies WHERE policy_arn = $2))
                OR ($4 AND boundary = $2))
           AND ($5 = '' OR kind = $5)
           AND substr(path, 1, length($6)) = $6
           AND (kind > $7 OR (kind = $7 AND name_key > $8))
         ORDER BY kind, name_key
         LIMIT $9",
        &[
            &account.as_str(),
            &policy_arn,
            &filter.attached,
            &filter.boundary,
            &kind,
            &filter.path_prefix,
            &after.0,
            &name_key(after.1),
            &limit,
        ],
        principal,
    )
}
