//! OIDC providers: the issuers of identity tokens that an account trusts.

use wharf_types::{AccountId, Timestamp};

use super::account;
use crate::meta::{MetaError, Row, Tx};

/// A provider as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcProviderRow {
    /// `arn:aws:iam::<account>:oidc-provider/<url>`.
    pub arn: String,
    /// Whose.
    pub account: AccountId,
    /// The issuer, without its scheme.
    pub url: String,
    /// Audiences whose tokens are accepted.
    pub client_ids: Vec<String>,
    /// Kept for those who ask; certificates are checked against this machine's authorities.
    pub thumbprints: Vec<String>,
    /// Tags, in order of key.
    pub tags: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds a provider. Fails with a unique violation if the account has it.
pub fn insert(tx: &mut Tx<'_>, row: &OidcProviderRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO oidc_providers (arn, account, url, client_ids, thumbprints, tags, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &row.arn,
            &row.account.as_str(),
            &row.url,
            &json(&row.client_ids)?,
            &json(&row.thumbprints)?,
            &json(&row.tags)?,
            &row.created_at.as_micros(),
        ],
    )?;
    Ok(())
}

/// The provider with this ARN.
pub fn find(tx: &mut Tx<'_>, arn: &str) -> Result<Option<OidcProviderRow>, MetaError> {
    tx.query_opt(
        "SELECT arn, account, url, client_ids, thumbprints, tags, created_at
         FROM oidc_providers
         WHERE arn = $1",
        &[&arn],
        provider,
    )
}

/// The providers of an account in order of URL; their number is bounded by a quota.
pub fn list(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<OidcProviderRow>, MetaError> {
    tx.query_all(
        "SELECT arn, account, url, client_ids, thumbprints, tags, created_at
         FROM oidc_providers
         WHERE account = $1
         ORDER BY url",
        &[&account.as_str()],
        provider,
    )
}

/// Writes what of a provider can change: client ids, thumbprints and tags.
pub fn update(tx: &mut Tx<'_>, row: &OidcProviderRow) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE oidc_providers SET client_ids = $2, thumbprints = $3, tags = $4 WHERE arn = $1",
        &[&row.arn, &json(&row.client_ids)?, &json(&row.thumbprints)?, &json(&row.tags)?],
    )?;
    Ok(())
}

/// Removes a provider; `false` if there is none.
pub fn delete(tx: &mut Tx<'_>, arn: &str) -> Result<bool, MetaError> {
    Ok(tx.execute("DELETE FROM oidc_providers WHERE arn = $1", &[&arn])? == 1)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, MetaError> {
    serde_json::to_string(value).map_err(|error| MetaError::other(error.to_string()))
}

fn provider(row: &Row<'_>) -> Result<OidcProviderRow, MetaError> {
    Ok(OidcProviderRow {
        arn: row.get(0)?,
        account: account(row, 1)?,
        url: row.get(2)?,
        client_ids: parsed(row, 3)?,
        thumbprints: parsed(row, 4)?,
        tags: parsed(row, 5)?,
        created_at: Timestamp::from_micros(row.get(6)?),
    })
}

fn parsed<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T, MetaError> {
    serde_json::from_str(row.text(index)?).map_err(|error| MetaError::column(index, error.to_string()))
}
