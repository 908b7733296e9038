//! What happened: an outbox, written in the transaction in which it happened.

use super::dialect::Dialect;
use super::{MetaError, Tx};

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Grows with time.
    pub id: i64,
    /// Whose registry.
    pub account: String,
    /// Where.
    pub region: String,
    /// What kind, as EventBridge names it.
    pub detail_type: String,
    /// JSON object.
    pub detail: String,
    /// When.
    pub created_at: i64,
}

/// Notes an event.
pub fn insert(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    detail_type: &str,
    detail: &str,
) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute_later(
        "INSERT INTO events (account, region, detail_type, detail, created_at) VALUES ($1, $2, $3, $4, $5)",
        &[&account, &region, &detail_type, &detail, &now],
    )?;
    Ok(())
}

/// Events after `after`, oldest first.
pub fn page(tx: &mut Tx<'_>, after: i64, limit: usize) -> Result<Vec<EventRow>, MetaError> {
    tx.query_all(
        "SELECT id, account, region, detail_type, detail, created_at
         FROM events
         WHERE id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        |row| {
            Ok(EventRow {
                id: row.get(0)?,
                account: row.get(1)?,
                region: row.get(2)?,
                detail_type: row.get(3)?,
                detail: row.get(4)?,
                created_at: row.get(5)?,
            })
        },
    )
}

/// When no transaction is under way any more that has taken a number for its event.
const SETTLED: i64 = 30 * 1_000_000;

/// Events after `after`, oldest first, as far as none can come in between any more: where several write at a time, one may
/// take a number and commit after the next one has.
pub fn settled_page(tx: &mut Tx<'_>, after: i64, limit: usize) -> Result<Vec<EventRow>, MetaError> {
    let mut found = page(tx, after, limit)?;
    if tx.dialect() == Dialect::Postgres {
        let settled = tx.now_micros().saturating_sub(SETTLED);
        let known = found.iter().take_while(|event| event.created_at < settled).count();
        found.truncate(known);
    }
    Ok(found)
}

/// How far `reader` has passed events on: the last one's id, 0 if it has not begun. Kept as a setting of the deployment.
pub fn cursor(tx: &mut Tx<'_>, reader: &str) -> Result<i64, MetaError> {
    let name = format!("events-read-by-{reader}");
    let value: Option<String> = tx.query_opt(
        "SELECT value FROM settings WHERE account = '' AND region = '' AND name = $1",
        &[&name],
        |row| row.get(0),
    )?;
    let number = |value: String| {
        value.parse().map_err(|_| MetaError::other(format!("the setting {name} is `{value}`, no number")))
    };
    value.map_or(Ok(0), number)
}

/// Moves a reader's cursor from where it was; does nothing if somebody else has moved it.
pub fn advance(tx: &mut Tx<'_>, reader: &str, from: i64, to: i64) -> Result<(), MetaError> {
    if cursor(tx, reader)? != from {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO settings (account, region, name, value)
         VALUES ('', '', $1, $2)
         ON CONFLICT (account, region, name) DO UPDATE SET value = excluded.value",
        &[&format!("events-read-by-{reader}"), &to.to_string()],
    )?;
    Ok(())
}

/// Forgets some events that happened before `cutoff`; answers how many.
pub fn drop_old(tx: &mut Tx<'_>, cutoff: i64, limit: usize) -> Result<u64, MetaError> {
    tx.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        &[&cutoff, &limit],
    )
}
