//! From names of users and roles to their unique ids, and back.

use crate::meta::{MetaError, Tx};

/// The unique id of a user or role. `path` is from `/` to `/`. Names are unique ignoring case; what is asked for here
/// is the exact one, as in ARNs.
pub fn find(
    tx: &mut Tx<'_>,
    account: &str,
    kind: &str,
    path: &str,
    name: &str,
) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT id
         FROM principals
         WHERE account = $1 AND kind = $2 AND name_key = $3 AND name = $4 AND path = $5",
        &[&account, &kind, &name.to_ascii_lowercase(), &name, &path],
        |row| row.get(0),
    )
}

/// The ARN of who has a unique id, while they live.
pub fn arn(tx: &mut Tx<'_>, id: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt("SELECT account, kind, path, name FROM principals WHERE id = $1", &[&id], |row| {
        let (account, kind, path, name) = (row.text(0)?, row.text(1)?, row.text(2)?, row.text(3)?);
        Ok(format!("arn:aws:iam::{account}:{kind}{path}{name}"))
    })
}
