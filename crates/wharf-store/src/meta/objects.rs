//! Objects: bytes under a name that is never used twice, and the states their rows move through, each step a
//! compare-and-set: `writing → live → trashed → deleting → gone`, or `quarantined` when found corrupt.

use std::collections::HashSet;

use bytes::Bytes;

use super::dialect::placeholders;
use super::{MetaError, Param, Row, Tx};
use crate::object::ObjectId;

/// What may be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// An upload fills it. Nothing refers to its content.
    Writing,
    /// A blob row points at it.
    Live,
    /// Nothing points at it; it can be restored until the trash window ends.
    Trashed,
    /// Its bytes are being removed; there is no way back.
    Deleting,
    /// Its content does not authenticate. A blob row may point at it until somebody pushes the content again.
    Quarantined,
}

impl ObjectState {
    fn parse(index: usize, text: &str) -> Result<Self, MetaError> {
        match text {
            "writing" => Ok(Self::Writing),
            "live" => Ok(Self::Live),
            "trashed" => Ok(Self::Trashed),
            "deleting" => Ok(Self::Deleting),
            "quarantined" => Ok(Self::Quarantined),
            other => Err(MetaError::column(index, format!("{other:?} is no state of an object"))),
        }
    }

    pub(super) fn of(row: &Row<'_>, index: usize) -> Result<Self, MetaError> {
        Self::parse(index, row.text(index)?)
    }
}

pub(super) fn object_id(row: &Row<'_>, index: usize) -> Result<ObjectId, MetaError> {
    row.text(index)?.parse().map_err(|error| MetaError::column(index, format!("{error}")))
}

/// The content of an object that becomes live.
#[derive(Clone, Debug)]
pub struct Content {
    /// `sha256:…` or `sha512:…` of the plaintext.
    pub digest: String,
    /// Plaintext bytes.
    pub size: u64,
    /// Bytes as stored.
    pub stored_size: u64,
    /// The stored bytes themselves where they are kept in the row, `None` where the object store has them.
    pub inline: Option<Bytes>,
}

/// A live object with what is needed to read it.
#[derive(Clone, Debug)]
pub struct LiveObject {
    /// Its name.
    pub id: ObjectId,
    /// Whose key wraps its keys.
    pub domain_id: i64,
    /// Digest of the plaintext.
    pub digest: String,
    /// Plaintext bytes.
    pub size: u64,
    /// Wrapped content keys; `None` = stored plain.
    pub keys: Option<Vec<u8>>,
    /// The stored bytes of an inline object.
    pub inline: Option<Bytes>,
}

/// An object on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its name.
    pub id: ObjectId,
    /// Whether the row is all there is.
    pub inline: bool,
    /// Bytes that its removal frees.
    pub stored_size: u64,
}

/// Records an object before its first byte is written. `lease_until` is when it counts as abandoned unless an upload
/// names it.
pub fn insert_writing(
    tx: &mut Tx<'_>,
    id: ObjectId,
    domain_id: i64,
    keys: Option<&[u8]>,
    now: i64,
    lease_until: i64,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO objects (id, state, inline, domain_id, size, stored_size, keys, lease_until, created_at)
         VALUES ($1, 'writing', FALSE, $2, 0, 0, $3, $4, $5)",
        &[&id.to_string(), &domain_id, &keys, &lease_until, &now],
    )?;
    Ok(())
}

/// Inserts an object whose content is kept in its row: it is live at once.
pub fn insert_inline(
    tx: &mut Tx<'_>,
    id: ObjectId,
    domain_id: i64,
    keys: Option<&[u8]>,
    content: &Content,
    now: i64,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO objects (id, state, inline, domain_id, digest, size, stored_size, keys, content, created_at)
         VALUES ($1, 'live', TRUE, $2, $3, $4, $5, $6, $7, $8)",
        &[
            &id.to_string(),
            &domain_id,
            &content.digest,
            &content.size,
            &content.stored_size,
            &keys,
            &content.inline,
            &now,
        ],
    )?;
    Ok(())
}

/// `writing → live`. Answers whether it was still being written.
pub fn make_live(tx: &mut Tx<'_>, id: ObjectId, content: &Content) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE objects
         SET state = 'live', digest = $2, size = $3, stored_size = $4, inline = $5, content = $6, lease_until = NULL
         WHERE id = $1 AND state = 'writing'",
        &[
            &id.to_string(),
            &content.digest,
            &content.size,
            &content.stored_size,
            &content.inline.is_some(),
            &content.inline,
        ],
    )?;
    Ok(changed == 1)
}

/// Trashes what nobody could want back: an unfinished object, or a copy that came second. It is due at once.
pub fn discard(tx: &mut Tx<'_>, id: ObjectId) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE objects
         SET state = 'trashed', digest = NULL, trashed_at = 0, lease_until = NULL
         WHERE id = $1 AND state IN ('writing', 'live')",
        &[&id.to_string()],
    )?;
    Ok(())
}

/// Removes the row of an unfinished object that never had a byte in the object store.
pub fn remove_unwritten(tx: &mut Tx<'_>, id: ObjectId) -> Result<(), MetaError> {
    tx.execute("DELETE FROM objects WHERE id = $1 AND state = 'writing'", &[&id.to_string()])?;
    Ok(())
}

/// Trashes an object no blob row points at any more. Sound content keeps its digest, by which it is restored;
/// quarantined content loses it, so that nobody restores it. Answers its stored bytes.
pub fn trash(tx: &mut Tx<'_>, id: ObjectId, now: i64) -> Result<Option<u64>, MetaError> {
    tx.query_opt(
        "UPDATE objects
         SET digest = CASE WHEN state = 'live' THEN digest ELSE NULL END, state = 'trashed', trashed_at = $2
         WHERE id = $1 AND state IN ('live', 'quarantined')
         RETURNING stored_size",
        &[&id.to_string(), &now],
        |row| row.get(0),
    )
}

/// `live → quarantined`. Answers whether it was live.
pub fn quarantine(tx: &mut Tx<'_>, id: ObjectId) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE objects SET state = 'quarantined' WHERE id = $1 AND state = 'live'",
        &[&id.to_string()],
    )?;
    Ok(changed == 1)
}

/// The newest trashed object with this content, if there is one.
pub fn find_trashed(
    tx: &mut Tx<'_>,
    domain_id: i64,
    digest: &str,
) -> Result<Option<(ObjectId, u64)>, MetaError> {
    let sql = format!(
        "SELECT id, size
         FROM objects
         WHERE domain_id = $1 AND digest = $2 AND state = 'trashed'
         ORDER BY trashed_at DESC
         LIMIT 1{}",
        tx.dialect().for_update(),
    );
    tx.query_opt_dynamic(&sql, &[&domain_id, &digest], |row| Ok((object_id(row, 0)?, row.get(1)?)))
}

/// `trashed → live`. Answers whether it was still in the trash.
pub fn restore(tx: &mut Tx<'_>, id: ObjectId) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE objects
         SET state = 'live', trashed_at = NULL
         WHERE id = $1 AND state = 'trashed' AND digest IS NOT NULL",
        &[&id.to_string()],
    )?;
    Ok(changed == 1)
}

/// `trashed → deleting` for up to `limit` objects trashed at or before `cutoff`. Their bytes may be removed once this
/// is committed.
pub fn condemn(tx: &mut Tx<'_>, cutoff: i64, limit: usize) -> Result<Vec<Doomed>, MetaError> {
    // No blob points at a trashed object; the second look costs little and is the last before bytes go.
    let sql = format!(
        "UPDATE objects
         SET state = 'deleting'
         WHERE state = 'trashed'
           AND id IN (SELECT id
                      FROM objects
                      WHERE state = 'trashed' AND trashed_at <= $1
                      ORDER BY trashed_at
                      LIMIT $2{})
           AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.object_id = objects.id)
           AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.object_id = objects.id)
         RETURNING id, inline, stored_size",
        tx.dialect().for_update_skip_locked(),
    );
    tx.query_all_dynamic(&sql, &[&cutoff, &limit], doomed)
}

/// As [`condemn`], for one object whatever its age.
pub fn condemn_one(tx: &mut Tx<'_>, id: ObjectId) -> Result<Option<Doomed>, MetaError> {
    tx.query_opt(
        "UPDATE objects
         SET state = 'deleting'
         WHERE id = $1 AND state = 'trashed'
           AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.object_id = objects.id)
           AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.object_id = objects.id)
         RETURNING id, inline, stored_size",
        &[&id.to_string()],
        doomed,
    )
}

/// Objects whose removal began, in order of id after `after`: also those of a process that ended meanwhile.
pub fn condemned(tx: &mut Tx<'_>, after: &str, limit: usize) -> Result<Vec<Doomed>, MetaError> {
    tx.query_all(
        "SELECT id, inline, stored_size
         FROM objects
         WHERE state = 'deleting' AND id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        doomed,
    )
}

fn doomed(row: &Row<'_>) -> Result<Doomed, MetaError> {
    Ok(Doomed { id: object_id(row, 0)?, inline: row.get(1)?, stored_size: row.get(2)? })
}

/// Removes the rows of objects whose bytes are gone.
pub fn remove_condemned(tx: &mut Tx<'_>, ids: &[ObjectId]) -> Result<(), MetaError> {
    for id in ids {
        tx.execute("DELETE FROM objects WHERE id = $1 AND state = 'deleting'", &[&id.to_string()])?;
    }
    Ok(())
}

/// Trashes up to `limit` unfinished objects whose lease ran out and that no upload names.
pub fn discard_abandoned(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<u64, MetaError> {
    let sql = format!(
        "UPDATE objects
         SET state = 'trashed', trashed_at = 0, lease_until = NULL
         WHERE state = 'writing'
           AND id IN (SELECT o.id
                      FROM objects o
                      WHERE o.state = 'writing' AND o.lease_until <= $1
                        AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.object_id = o.id)
                      ORDER BY o.lease_until
                      LIMIT $2{})",
        tx.dialect().for_update_skip_locked(),
    );
    tx.execute_dynamic(&sql, &[&now, &limit])
}

/// Which of these names have a row, in any state.
pub fn named(tx: &mut Tx<'_>, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, MetaError> {
    let mut found = HashSet::with_capacity(ids.len());
    for part in ids.chunks(500) {
        let texts: Vec<String> = part.iter().map(ObjectId::to_string).collect();
        let params: Vec<&dyn Param> = texts.iter().map(|text| text as &dyn Param).collect();
        let sql = format!("SELECT id FROM objects WHERE id IN ({})", placeholders(1, part.len()));
        found.extend(tx.query_all_dynamic(&sql, &params, |row| object_id(row, 0))?);
    }
    Ok(found)
}

/// A page of live objects in order of id, after `after` (exclusive).
pub fn page_live(tx: &mut Tx<'_>, after: &str, limit: usize) -> Result<Vec<LiveObject>, MetaError> {
    tx.query_all(
        "SELECT id, domain_id, digest, size, keys, CASE WHEN inline THEN content ELSE NULL END
         FROM objects
         WHERE state = 'live' AND id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        |row| {
            Ok(LiveObject {
                id: object_id(row, 0)?,
                domain_id: row.get(1)?,
                digest: row.get(2)?,
                size: row.get(3)?,
                keys: row.get(4)?,
                inline: row.get(5)?,
            })
        },
    )
}

/// The state of an object, if it has a row.
pub fn state(tx: &mut Tx<'_>, id: ObjectId) -> Result<Option<ObjectState>, MetaError> {
    tx.query_opt("SELECT state FROM objects WHERE id = $1", &[&id.to_string()], |row| ObjectState::of(row, 0))
}

/// How many objects are in each state: for reports and tests.
pub fn count(tx: &mut Tx<'_>, state: &str) -> Result<u64, MetaError> {
    tx.query_one("SELECT COUNT(*) FROM objects WHERE state = $1", &[&state], |row| row.get(0))
}
