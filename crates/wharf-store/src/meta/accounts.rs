//! Accounts, their access keys, and the deployment they live in.

use wharf_types::{AccountId, Timestamp};

use super::{MetaError, Row, Tx};

/// An access key as it is kept.
#[derive(Clone)]
pub struct AccessKeyRow {
    /// The access key id.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// The user it belongs to; `None` for the account's root user.
    pub principal_id: Option<String>,
    /// The secret access key, sealed.
    pub secret: Vec<u8>,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The deployment's id; `None` before the first start.
pub fn deployment(tx: &mut Tx<'_>) -> Result<Option<String>, MetaError> {
    tx.query_opt("SELECT id FROM deployment", &[], |row| row.get(0))
}

/// Writes the deployment's id. Call it once, when there is none.
pub fn insert_deployment(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> Result<(), MetaError> {
    tx.execute("INSERT INTO deployment (id, created_at) VALUES ($1, $2)", &[&id, &now.as_micros()])?;
    Ok(())
}

/// Whether the account exists.
pub fn account_exists(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, MetaError> {
    let found = tx.query_opt("SELECT 1 FROM accounts WHERE id = $1", &[&account.as_str()], |_| Ok(()))?;
    Ok(found.is_some())
}

/// When an account was made. Fails with `MetaError::Missing` without it.
pub fn created_at(tx: &mut Tx<'_>, account: AccountId) -> Result<Timestamp, MetaError> {
    tx.query_one("SELECT created_at FROM accounts WHERE id = $1", &[&account.as_str()], |row| {
        Ok(Timestamp::from_micros(row.get(0)?))
    })
}

/// Adds an account. Fails with a unique violation if it exists.
pub fn insert_account(tx: &mut Tx<'_>, account: AccountId, now: Timestamp) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO accounts (id, created_at) VALUES ($1, $2)",
        &[&account.as_str(), &now.as_micros()],
    )?;
    Ok(())
}

/// Every account in order of its id, with its time of creation.
pub fn list_accounts(tx: &mut Tx<'_>) -> Result<Vec<(AccountId, Timestamp)>, MetaError> {
    tx.query_all("SELECT id, created_at FROM accounts ORDER BY id", &[], |row| {
        Ok((account(row, 0)?, Timestamp::from_micros(row.get(1)?)))
    })
}

/// Adds an access key. Fails with a foreign-key violation without its account or user, a unique one if the id is taken.
pub fn insert_access_key(tx: &mut Tx<'_>, key: &AccessKeyRow) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO access_keys (id, account, principal_id, secret, active, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &key.id,
            &key.account.as_str(),
            &key.principal_id,
            &key.secret,
            &key.active,
            &key.created_at.as_micros(),
        ],
    )?;
    Ok(())
}

/// The access key with this id.
pub fn find_access_key(tx: &mut Tx<'_>, id: &str) -> Result<Option<AccessKeyRow>, MetaError> {
    tx.query_opt(
        "SELECT id, account, principal_id, secret, active, created_at
         FROM access_keys
         WHERE id = $1",
        &[&id],
        access_key,
    )
}

/// The keys of an account's root user, oldest first.
pub fn list_access_keys(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<AccessKeyRow>, MetaError> {
    tx.query_all(
        "SELECT id, account, principal_id, secret, active, created_at
         FROM access_keys
         WHERE account = $1 AND principal_id IS NULL
         ORDER BY created_at, id",
        &[&account.as_str()],
        access_key,
    )
}

/// Switches a key on or off; `false` if there is none.
pub fn set_access_key_active(tx: &mut Tx<'_>, id: &str, active: bool) -> Result<bool, MetaError> {
    let changed = tx.execute("UPDATE access_keys SET active = $2 WHERE id = $1", &[&id, &active])?;
    Ok(changed == 1)
}

/// Removes a key; `false` if there is none.
pub fn delete_access_key(tx: &mut Tx<'_>, id: &str) -> Result<bool, MetaError> {
    Ok(tx.execute("DELETE FROM access_keys WHERE id = $1", &[&id])? == 1)
}

fn access_key(row: &Row<'_>) -> Result<AccessKeyRow, MetaError> {
    Ok(AccessKeyRow {
        id: row.get(0)?,
        account: account(row, 1)?,
        principal_id: row.get(2)?,
        secret: row.get(3)?,
        active: row.get(4)?,
        created_at: Timestamp::from_micros(row.get(5)?),
    })
}

fn account(row: &Row<'_>, index: usize) -> Result<AccountId, MetaError> {
    row.text(index)?.parse().map_err(|error| MetaError::column(index, format!("{error}")))
}
