//! Managed policies that customers made, and their versions. AWS's own have no rows.

use wharf_types::{AccountId, Timestamp};

use super::account;
use super::principals::name_key;
use crate::meta::{MetaError, Row, Tx};

/// A managed policy as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedPolicyRow {
    /// `arn:aws:iam::<account>:policy<path><name>`.
    pub arn: String,
    /// `ANPA…`.
    pub id: String,
    /// Whose.
    pub account: AccountId,
    /// As it was written; unique in its account, ignoring case.
    pub name: String,
    /// From `/` to `/`.
    pub path: String,
    /// Free text.
    pub description: Option<String>,
    /// JSON: a list of pairs.
    pub tags: String,
    /// The number of the version that counts.
    pub default_version: i64,
    /// The highest number ever used.
    pub newest_version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its default version last changed.
    pub updated_at: Timestamp,
}

/// A version of a managed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// Its number, from 1.
    pub version: i64,
    /// What it says.
    pub document: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which managed policies of an account a listing wants.
#[derive(Clone, Copy, Debug)]
pub struct ListFilter<'a> {
    /// Only with paths that begin so.
    pub path_prefix: &'a str,
    /// Only those attached somewhere.
    pub attached: bool,
    /// Only those that bound somebody.
    pub boundary: bool,
}

/// Adds a policy. Fails with a unique violation if the name is taken.
pub fn insert(tx: &mut Tx<'_>, row: &ManagedPolicyRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO managed_policies
             (arn, id, account, name, name_key, path, description, tags, default_version, newest_version,
              created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &row.arn,
            &row.id,
            &row.account.as_str(),
            &row.name,
            &name_key(&row.name),
            &row.path,
            &row.description,
            &row.tags,
            &row.default_version,
            &row.newest_version,
            &row.created_at.as_micros(),
            &row.updated_at.as_micros(),
        ],
    )?;
    Ok(())
}

/// The policy with this ARN.
pub fn find(tx: &mut Tx<'_>, arn: &str) -> Result<Option<ManagedPolicyRow>, MetaError> {
    tx.query_opt(
        "SELECT arn, id, account, name, path, description, tags, default_version, newest_version, created_at, updated_at
         FROM managed_policies
         WHERE arn = $1",
        &[&arn],
        policy,
    )
}

/// How many managed policies an account has.
pub fn count(tx: &mut Tx<'_>, account: AccountId) -> Result<usize, MetaError> {
    tx.query_one("SELECT COUNT(*) FROM managed_policies WHERE account = $1", &[&account.as_str()], |row| {
        row.get(0)
    })
}

/// Up to `limit` policies after a name and ARN (empty for the first page), in that order.
pub fn list(
    tx: &mut Tx<'_>,
    account: AccountId,
    filter: &ListFilter<'_>,
    after: (&str, &str),
    limit: usize,
) -> Result<Vec<ManagedPolicyRow>, MetaError> {
    tx.query_all(
        "SELECT arn, id, account, name, path, description, tags, default_version, newest_version, created_at, updated_at
         FROM managed_policies
         WHERE account = $1
           AND (name_key > $2 OR (name_key = $2 AND arn > $3))
           AND substr(path, 1, length($4)) = $4
           AND (NOT $5 OR EXISTS (SELECT 1 FROM attached_policies WHERE policy_arn = arn))
           AND (NOT $6 OR EXISTS (SELECT 1 FROM principals p WHERE p.boundary = managed_policies.arn))
         ORDER BY name_key, arn
         LIMIT $7",
        &[
            &account.as_str(),
            &name_key(after.0),
            &after.1,
            &filter.path_prefix,
            &filter.attached,
            &filter.boundary,
            &limit,
        ],
        policy,
    )
}

/// Puts a policy's tags (JSON) in place of earlier ones.
pub fn set_tags(tx: &mut Tx<'_>, arn: &str, tags: &str) -> Result<(), MetaError> {
    tx.execute("UPDATE managed_policies SET tags = $2 WHERE arn = $1", &[&arn, &tags])?;
    Ok(())
}

/// Makes another version the one that counts.
pub fn set_default(tx: &mut Tx<'_>, arn: &str, version: i64, now: Timestamp) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE managed_policies SET default_version = $2, updated_at = $3 WHERE arn = $1",
        &[&arn, &version, &now.as_micros()],
    )?;
    Ok(())
}

/// Removes a policy and its versions.
pub fn delete(tx: &mut Tx<'_>, arn: &str) -> Result<(), MetaError> {
    tx.execute("DELETE FROM managed_policy_versions WHERE policy_arn = $1", &[&arn])?;
    tx.execute("DELETE FROM managed_policies WHERE arn = $1", &[&arn])?;
    Ok(())
}

/// Adds a version and notes its number as used. Fails with a unique violation if the number is taken.
pub fn insert_version(tx: &mut Tx<'_>, arn: &str, version: &VersionRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO managed_policy_versions (policy_arn, version, document, created_at)
         VALUES ($1, $2, $3, $4)",
        &[&arn, &version.version, &version.document, &version.created_at.as_micros()],
    )?;
    tx.execute(
        "UPDATE managed_policies SET newest_version = $2 WHERE arn = $1 AND newest_version < $2",
        &[&arn, &version.version],
    )?;
    Ok(())
}

/// A version.
pub fn version(tx: &mut Tx<'_>, arn: &str, number: i64) -> Result<Option<VersionRow>, MetaError> {
    tx.query_opt(
        "SELECT version, document, created_at
         FROM managed_policy_versions
         WHERE policy_arn = $1 AND version = $2",
        &[&arn, &number],
        version_row,
    )
}

/// The versions of a policy, the newest first; a quota bounds their number.
pub fn versions(tx: &mut Tx<'_>, arn: &str) -> Result<Vec<VersionRow>, MetaError> {
    tx.query_all(
        "SELECT version, document, created_at
         FROM managed_policy_versions
         WHERE policy_arn = $1
         ORDER BY version DESC",
        &[&arn],
        version_row,
    )
}

/// Removes a version; `false` if there is none.
pub fn delete_version(tx: &mut Tx<'_>, arn: &str, number: i64) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM managed_policy_versions WHERE policy_arn = $1 AND version = $2",
        &[&arn, &number],
    )?;
    Ok(removed == 1)
}

fn policy(row: &Row<'_>) -> Result<ManagedPolicyRow, MetaError> {
    Ok(ManagedPolicyRow {
        arn: row.get(0)?,
        id: row.get(1)?,
        account: account(row, 2)?,
        name: row.get(3)?,
        path: row.get(4)?,
        description: row.get(5)?,
        tags: row.get(6)?,
        default_version: row.get(7)?,
        newest_version: row.get(8)?,
        created_at: Timestamp::from_micros(row.get(9)?),
        updated_at: Timestamp::from_micros(row.get(10)?),
    })
}

fn version_row(row: &Row<'_>) -> Result<VersionRow, MetaError> {
    Ok(VersionRow {
        version: row.get(0)?,
        document: row.get(1)?,
        created_at: Timestamp::from_micros(row.get(2)?),
    })
}
