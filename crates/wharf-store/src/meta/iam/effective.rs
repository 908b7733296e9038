//! What decides over a user or role: who they are, and every policy that speaks of them, in one snapshot.

use wharf_types::AccountId;

use crate::meta::{MetaError, Row, Tx};

/// A user or role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRow {
    /// `AIDA…` or `AROA…`.
    pub id: String,
    /// The account.
    pub account: AccountId,
    /// `user` or `role`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// From `/` to `/`.
    pub path: String,
    /// ARN of the policy that bounds its permissions.
    pub boundary: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// A policy of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// The name of an inline policy, the ARN of a managed one.
    pub name: String,
    /// Its text; `None` for AWS's own managed policies, which have no row.
    pub document: Option<String>,
}

/// A user or role by its unique id.
pub fn principal(tx: &mut Tx<'_>, id: &str) -> Result<Option<PrincipalRow>, MetaError> {
    let found = tx.query_opt(
        "SELECT id, account, kind, name, path, boundary
         FROM principals
         WHERE id = $1 AND kind <> 'group'",
        &[&id],
        |row| {
            let account = row.text(1)?.parse().map_err(|error| MetaError::column(1, format!("{error}")))?;
            Ok(PrincipalRow {
                id: row.get(0)?,
                account,
                kind: row.get(2)?,
                name: row.get(3)?,
                path: row.get(4)?,
                boundary: row.get(5)?,
                tags: Vec::new(),
            })
        },
    )?;
    let Some(mut principal) = found else { return Ok(None) };
    principal.tags = tx.query_all(
        "SELECT key, value
         FROM principal_tags
         WHERE principal_id = $1
         ORDER BY tag_key",
        &[&id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(Some(principal))
}

/// Every policy of a user or role: its own inline and attached ones, and those of its groups.
pub fn policies(tx: &mut Tx<'_>, id: &str) -> Result<Vec<EffectivePolicy>, MetaError> {
    let mut policies = tx.query_all(
        "SELECT name, document
         FROM inline_policies
         WHERE principal_id = $1
            OR principal_id IN (SELECT group_id FROM group_members WHERE user_id = $1)
         ORDER BY principal_id, name",
        &[&id],
        policy,
    )?;
    policies.extend(tx.query_all(
        "SELECT DISTINCT attached.policy_arn, version.document
         FROM attached_policies AS attached
         LEFT JOIN managed_policies AS managed ON managed.arn = attached.policy_arn
         LEFT JOIN managed_policy_versions AS version
           ON version.policy_arn = managed.arn AND version.version = managed.default_version
         WHERE attached.principal_id = $1
            OR attached.principal_id IN (SELECT group_id FROM group_members WHERE user_id = $1)
         ORDER BY attached.policy_arn",
        &[&id],
        policy,
    )?);
    Ok(policies)
}

/// The default version of a customer-managed policy.
pub fn managed_document(tx: &mut Tx<'_>, arn: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT version.document
         FROM managed_policies AS managed
         JOIN managed_policy_versions AS version
           ON version.policy_arn = managed.arn AND version.version = managed.default_version
         WHERE managed.arn = $1",
        &[&arn],
        |row| row.get(0),
    )
}

fn policy(row: &Row<'_>) -> Result<EffectivePolicy, MetaError> {
    Ok(EffectivePolicy { name: row.get(0)?, document: row.get(1)? })
}
