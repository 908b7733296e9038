//! Names of accounts; an account has one at most, and no two have the same.

use wharf_types::{AccountId, Timestamp};

use super::account;
use crate::meta::{MetaError, Tx};

/// Whose alias this is.
pub fn owner(tx: &mut Tx<'_>, alias: &str) -> Result<Option<AccountId>, MetaError> {
    tx.query_opt("SELECT account FROM account_aliases WHERE alias = $1", &[&alias], |row| account(row, 0))
}

/// The alias of an account.
pub fn find(tx: &mut Tx<'_>, account: AccountId) -> Result<Option<String>, MetaError> {
    tx.query_opt("SELECT alias FROM account_aliases WHERE account = $1", &[&account.as_str()], |row| {
        row.get(0)
    })
}

/// Gives an account an alias in place of the earlier one. Fails with a unique violation if another has it.
pub fn set(tx: &mut Tx<'_>, account: AccountId, alias: &str, now: Timestamp) -> Result<(), MetaError> {
    tx.execute("DELETE FROM account_aliases WHERE account = $1", &[&account.as_str()])?;
    tx.execute(
        "INSERT INTO account_aliases (alias, account, created_at) VALUES ($1, $2, $3)",
        &[&alias, &account.as_str(), &now.as_micros()],
    )?;
    Ok(())
}

/// Takes the alias away; `false` if the account has another or none.
pub fn delete(tx: &mut Tx<'_>, account: AccountId, alias: &str) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM account_aliases WHERE account = $1 AND alias = $2",
        &[&account.as_str(), &alias],
    )?;
    Ok(removed == 1)
}
