//! Images that are reported to be running.

use super::{MetaError, Tx};

/// Notes that `holder` runs an image, until `expires_at`.
pub fn put(
    tx: &mut Tx<'_>,
    account: &str,
    digest: &str,
    holder: &str,
    expires_at: i64,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO images_in_use (account, digest, holder, expires_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, digest, holder) DO UPDATE SET expires_at = excluded.expires_at",
        &[&account, &digest, &holder, &expires_at],
    )?;
    Ok(())
}

/// The digests of an account that anybody runs now.
pub fn digests(tx: &mut Tx<'_>, account: &str, now: i64) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT DISTINCT digest FROM images_in_use WHERE account = $1 AND expires_at > $2",
        &[&account, &now],
        |row| row.get(0),
    )
}

/// The digests of an account after `after` that anybody runs now, in order.
pub fn page(
    tx: &mut Tx<'_>,
    account: &str,
    now: i64,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT DISTINCT digest
         FROM images_in_use
         WHERE account = $1 AND digest > $2 AND expires_at > $3
         ORDER BY digest
         LIMIT $4",
        &[&account, &after, &now, &limit],
        |row| row.get(0),
    )
}

/// Forgets that `holder` runs an image; answers whether anybody had said so.
pub fn release(tx: &mut Tx<'_>, account: &str, digest: &str, holder: &str) -> Result<bool, MetaError> {
    let released = tx.execute(
        "DELETE FROM images_in_use WHERE account = $1 AND digest = $2 AND holder = $3",
        &[&account, &digest, &holder],
    )?;
    Ok(released > 0)
}

/// The digests of an account after `after` that `holder` has reported, in order.
pub fn held(
    tx: &mut Tx<'_>,
    account: &str,
    holder: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT digest
         FROM images_in_use
         WHERE account = $1 AND holder = $2 AND digest > $3
         ORDER BY digest
         LIMIT $4",
        &[&account, &holder, &after, &limit],
        |row| row.get(0),
    )
}

/// Who runs an image now, in order of name.
pub fn holders(tx: &mut Tx<'_>, account: &str, digest: &str, now: i64) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT holder
         FROM images_in_use
         WHERE account = $1 AND digest = $2 AND expires_at > $3
         ORDER BY holder",
        &[&account, &digest, &now],
        |row| row.get(0),
    )
}

/// Whether anybody runs any image of an account now.
pub fn any(tx: &mut Tx<'_>, account: &str, now: i64) -> Result<bool, MetaError> {
    let one: Option<i64> = tx.query_opt(
        "SELECT 1 FROM images_in_use WHERE account = $1 AND expires_at > $2 LIMIT 1",
        &[&account, &now],
        |row| row.get(0),
    )?;
    Ok(one.is_some())
}

/// Forgets some reports that are over; answers how many.
pub fn drop_expired(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<u64, MetaError> {
    let mut dropped = 0;
    let over: Vec<(String, String, String)> = tx.query_all(
        "SELECT account, digest, holder FROM images_in_use WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
        &[&now, &limit],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    for (account, digest, holder) in over {
        dropped += tx.execute(
            "DELETE FROM images_in_use WHERE account = $1 AND digest = $2 AND holder = $3 AND expires_at <= $4",
            &[&account, &digest, &holder, &now],
        )?;
    }
    Ok(dropped)
}
