//! Users, groups and roles. Names are unique in their account and kind, ignoring case, and are looked up so.

use wharf_types::{AccountId, Timestamp};

use super::account;
use crate::meta::{MetaError, Row, Tx};

/// The kinds of principals that have rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// A user.
    User,
    /// A group of users.
    Group,
    /// A role.
    Role,
}

impl PrincipalKind {
    /// The word in ARNs and in the metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Role => "role",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Group, Self::Role].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A principal as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRow {
    /// `AIDA…`, `AGPA…` or `AROA…`; never used twice.
    pub id: String,
    /// Whose.
    pub account: AccountId,
    /// What.
    pub kind: PrincipalKind,
    /// As it was written.
    pub name: String,
    /// From `/` to `/`.
    pub path: String,
    /// The ARN of the permissions boundary; users and roles.
    pub boundary: Option<String>,
    /// Who may assume it, its principals bound to unique ids; roles.
    pub trust_policy: Option<String>,
    /// Free text; roles.
    pub description: Option<String>,
    /// Longest session in seconds; roles.
    pub max_session: Option<i64>,
    /// When it was last assumed; roles.
    pub last_used_at: Option<Timestamp>,
    /// In which region.
    pub last_used_region: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The form of a name that is unique.
pub fn name_key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Adds a principal. Fails with a unique violation if the name is taken.
pub fn insert(tx: &mut Tx<'_>, row: &PrincipalRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO principals
             (id, account, kind, name, name_key, path, boundary, trust_policy, description, max_session,
              last_used_at, last_used_region, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        &[
            &row.id,
            &row.account.as_str(),
            &row.kind.as_str(),
            &row.name,
            &name_key(&row.name),
            &row.path,
            &row.boundary,
            &row.trust_policy,
            &row.description,
            &row.max_session,
            &row.last_used_at.map(Timestamp::as_micros),
            &row.last_used_region,
            &row.created_at.as_micros(),
        ],
    )?;
    Ok(())
}

/// The principal of this name.
pub fn find(
    tx: &mut Tx<'_>,
    account: AccountId,
    kind: PrincipalKind,
    name: &str,
) -> Result<Option<PrincipalRow>, MetaError> {
    tx.query_opt(
        "SELECT id, account, kind, name, path, boundary, trust_policy, description, max_session,
                last_used_at, last_used_region, created_at
         FROM principals
         WHERE account = $1 AND kind = $2 AND name_key = $3",
        &[&account.as_str(), &kind.as_str(), &name_key(name)],
        principal,
    )
}

/// The principal with this id.
pub fn find_by_id(tx: &mut Tx<'_>, id: &str) -> Result<Option<PrincipalRow>, MetaError> {
    tx.query_opt(
        "SELECT id, account, kind, name, path, boundary, trust_policy, description, max_session,
                last_used_at, last_used_region, created_at
         FROM principals
         WHERE id = $1",
        &[&id],
        principal,
    )
}

/// Up to `limit` principals whose path begins with `path_prefix`, after the name `after` (empty for the first page),
/// in order of name.
pub fn list(
    tx: &mut Tx<'_>,
    account: AccountId,
    kind: PrincipalKind,
    path_prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<PrincipalRow>, MetaError> {
    tx.query_all(
        "SELECT id, account, kind, name, path, boundary, trust_policy, description, max_session,
                last_used_at, last_used_region, created_at
         FROM principals
         WHERE account = $1 AND kind = $2 AND name_key > $3 AND substr(path, 1, length($4)) = $4
         ORDER BY name_key
         LIMIT $5",
        &[&account.as_str(), &kind.as_str(), &name_key(after), &path_prefix, &limit],
        principal,
    )
}

/// How many principals of a kind an account has.
pub fn count(tx: &mut Tx<'_>, account: AccountId, kind: PrincipalKind) -> Result<usize, MetaError> {
    tx.query_one(
        "SELECT COUNT(*) FROM principals WHERE account = $1 AND kind = $2",
        &[&account.as_str(), &kind.as_str()],
        |row| row.get(0),
    )
}

/// Gives a principal another name and path. Fails with a unique violation if the name is taken.
pub fn rename(tx: &mut Tx<'_>, id: &str, name: &str, path: &str) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE principals SET name = $2, name_key = $3, path = $4 WHERE id = $1",
        &[&id, &name, &name_key(name), &path],
    )?;
    Ok(())
}

/// Puts a permissions boundary in place of an earlier one, or takes it away.
pub fn set_boundary(tx: &mut Tx<'_>, id: &str, policy_arn: Option<&str>) -> Result<(), MetaError> {
    tx.execute("UPDATE principals SET boundary = $2 WHERE id = $1", &[&id, &policy_arn])?;
    Ok(())
}

/// Removes a principal and its tags. Fails with a foreign-key violation while anything else belongs to it.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<(), MetaError> {
    tx.execute("DELETE FROM principal_tags WHERE principal_id = $1", &[&id])?;
    tx.execute("DELETE FROM principals WHERE id = $1", &[&id])?;
    Ok(())
}

pub(super) fn principal(row: &Row<'_>) -> Result<PrincipalRow, MetaError> {
    let kind =
        PrincipalKind::parse(row.text(2)?).ok_or_else(|| MetaError::column(2, "no kind of principal"))?;
    Ok(PrincipalRow {
        id: row.get(0)?,
        account: account(row, 1)?,
        kind,
        name: row.get(3)?,
        path: row.get(4)?,
        boundary: row.get(5)?,
        trust_policy: row.get(6)?,
        description: row.get(7)?,
        max_session: row.get(8)?,
        last_used_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_micros),
        last_used_region: row.get(10)?,
        created_at: Timestamp::from_micros(row.get(11)?),
    })
}
