//! Jobs that outlive a process: leased for a time, taken over when the lease runs out, fenced against holders who come
//! back late.

use super::{MetaError, Tx};

/// When a job is due that somebody does and nobody has asked for since.
const NOT_DUE: i64 = i64::MAX;

/// A job somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What kind of work.
    pub kind: &'static str,
    /// On what.
    pub key: String,
    /// The lease's number; a later one ends it.
    pub fence: i64,
    /// How often it was tried since it last succeeded, this time included.
    pub attempts: i64,
}

/// Makes sure that a job is there and due at `due_at` or, if it is there already, at the earlier of both times. One that
/// is being done stays as it is, and is due again afterwards.
pub fn put(tx: &mut Tx<'_>, kind: &'static str, key: &str, due_at: i64) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO jobs (kind, key, due_at, fence, attempts)
         VALUES ($1, $2, $3, 0, 0)
         ON CONFLICT (kind, key) DO UPDATE
         SET due_at = CASE WHEN excluded.due_at < jobs.due_at THEN excluded.due_at ELSE jobs.due_at END",
        &[&kind, &key, &due_at],
    )?;
    Ok(())
}

/// Takes a job away; who holds it learns that with his next step.
pub fn remove(tx: &mut Tx<'_>, kind: &'static str, key: &str) -> Result<(), MetaError> {
    tx.execute("DELETE FROM jobs WHERE kind = $1 AND key = $2", &[&kind, &key])?;
    Ok(())
}

/// Whether a job of this kind waits to be done.
pub fn is_due(tx: &mut Tx<'_>, kind: &'static str, now: i64) -> Result<bool, MetaError> {
    Ok(oldest_due(tx, kind, now)?.is_some())
}

/// The key of the job that has been due for longest, those first whose holders were lost.
fn oldest_due(tx: &mut Tx<'_>, kind: &'static str, now: i64) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT key
         FROM jobs
         WHERE kind = $1 AND ((lease_until IS NULL AND due_at <= $2) OR lease_until <= $2)
         ORDER BY due_at
         LIMIT 1",
        &[&kind, &now],
        |row| row.get(0),
    )
}

/// Leases the job that has been due for longest, for `lease` microseconds. While it is leased it is not due, so that
/// whoever asks for it meanwhile ([`put`]) is not forgotten when the lease is given back.
pub fn claim(tx: &mut Tx<'_>, kind: &'static str, lease: i64) -> Result<Option<Job>, MetaError> {
    let now = tx.now_micros();
    let until = now.saturating_add(lease);
    let Some(key) = oldest_due(tx, kind, now)? else { return Ok(None) };
    tx.query_opt(
        "UPDATE jobs
         SET lease_until = $4, due_at = $5, fence = fence + 1, attempts = attempts + 1
         WHERE kind = $1 AND key = $2 AND ((lease_until IS NULL AND due_at <= $3) OR lease_until <= $3)
         RETURNING key, fence, attempts",
        &[&kind, &key, &now, &until, &NOT_DUE],
        |row| Ok(Job { kind, key: row.get(0)?, fence: row.get(1)?, attempts: row.get(2)? }),
    )
}

/// Leases a thing that nobody waits to have done, for `lease` microseconds: only one holder has its turn. `None` while
/// somebody else has it. Given back by [`give_turn`], or when the lease runs out. The first fence is the time, so that
/// none is used twice.
pub fn take_turn(
    tx: &mut Tx<'_>,
    kind: &'static str,
    key: &str,
    lease: i64,
) -> Result<Option<Job>, MetaError> {
    let now = tx.now_micros();
    tx.query_opt(
        "INSERT INTO jobs (kind, key, due_at, fence, attempts, lease_until)
         VALUES ($1, $2, $3, $5, 0, $4)
         ON CONFLICT (kind, key) DO UPDATE
         SET lease_until = excluded.lease_until, fence = jobs.fence + 1
         WHERE jobs.lease_until IS NULL OR jobs.lease_until <= $5
         RETURNING fence",
        &[&kind, &key, &NOT_DUE, &now.saturating_add(lease), &now],
        |row| Ok(Job { kind, key: key.to_owned(), fence: row.get(0)?, attempts: 0 }),
    )
}

/// Gives a turn back, unless somebody else has it by now.
pub fn give_turn(tx: &mut Tx<'_>, turn: &Job) -> Result<(), MetaError> {
    tx.execute(
        "DELETE FROM jobs WHERE kind = $1 AND key = $2 AND fence = $3",
        &[&turn.kind, &turn.key, &turn.fence],
    )?;
    Ok(())
}

/// Forgets up to `limit` turns whose leases ran out before `before`: their holders died. Answers how many.
pub fn forget_turns(
    tx: &mut Tx<'_>,
    kind: &'static str,
    before: i64,
    limit: usize,
) -> Result<u64, MetaError> {
    tx.execute(
        "DELETE FROM jobs
         WHERE kind = $1 AND lease_until <= $2
           AND key IN (SELECT key FROM jobs WHERE kind = $1 AND lease_until <= $2 LIMIT $3)",
        &[&kind, &before, &limit],
    )
}

/// Extends a lease; `false` if it was lost.
pub fn hold(tx: &mut Tx<'_>, job: &Job, lease: i64) -> Result<bool, MetaError> {
    let until = tx.now_micros().saturating_add(lease);
    let changed = tx.execute(
        "UPDATE jobs SET lease_until = $4 WHERE kind = $1 AND key = $2 AND fence = $3",
        &[&job.kind, &job.key, &job.fence, &until],
    )?;
    Ok(changed == 1)
}

/// Gives a lease back. `due_at`: when the job is to be done again; `None`: it is done for good, unless somebody has asked
/// for it meanwhile. `succeeded` forgets earlier attempts.
pub fn release(tx: &mut Tx<'_>, job: &Job, due_at: Option<i64>, succeeded: bool) -> Result<(), MetaError> {
    if due_at.is_none() {
        tx.execute(
            "DELETE FROM jobs WHERE kind = $1 AND key = $2 AND fence = $3 AND due_at = $4",
            &[&job.kind, &job.key, &job.fence, &NOT_DUE],
        )?;
    }
    let (due_at, attempts) = (due_at.unwrap_or(NOT_DUE), if succeeded { 0 } else { job.attempts });
    tx.execute(
        "UPDATE jobs
         SET lease_until = NULL, attempts = $5, due_at = CASE WHEN due_at < $4 THEN due_at ELSE $4 END
         WHERE kind = $1 AND key = $2 AND fence = $3",
        &[&job.kind, &job.key, &job.fence, &due_at, &attempts],
    )?;
    Ok(())
}
