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

/// Which store has the bytes of an object that is not inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The one that uploads go to.
    Main,
    /// The cheaper one, for content that only archived images need.
    Archive,
}

impl Place {
    /// The column's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Archive => "archive",
        }
    }

    pub(super) fn of(row: &Row<'_>, index: usize) -> Result<Self, MetaError> {
        match row.text(index)? {
            "main" => Ok(Self::Main),
            "archive" => Ok(Self::Archive),
            other => Err(MetaError::column(index, format!("{other:?} is no store of objects"))),
        }
    }
}

/// An object outside the metadata, as one who copies it needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name.
    pub id: ObjectId,
    /// Where it is.
    pub place: Place,
    /// The object its content is sealed for: itself, or the one it was copied from.
    pub sealed_as: ObjectId,
    /// Plaintext bytes.
    pub size: u64,
    /// Bytes as stored.
    pub stored_size: u64,
}

pub(super) fn stored(row: &Row<'_>) -> Result<StoredObject, MetaError> {
    let id = object_id(row, 0)?;
    Ok(StoredObject {
        id,
        place: Place::of(row, 1)?,
        sealed_as: sealed_as(row, 2, id)?,
        size: row.get(3)?,
        stored_size: row.get(4)?,
    })
}

/// What an object's content is sealed for: its own name where the column is NULL.
pub(super) fn sealed_as(row: &Row<'_>, index: usize, id: ObjectId) -> Result<ObjectId, MetaError> {
    match row.get::<Option<String>>(index)? {
        None => Ok(id),
        Some(text) => text.parse().map_err(|error| MetaError::column(index, format!("{error}"))),
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
    /// Where it is if it is not inline.
    pub place: Place,
    /// The object its content is sealed for.
    pub sealed_as: ObjectId,
}

/// An object on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its name.
    pub id: ObjectId,
    /// Whether the row is all there is.
    pub inline: bool,
    /// Where its bytes are otherwise.
    pub place: Place,
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

/// Records a copy of an object in another store before its first byte is written. Its content is sealed for whatever the
/// original's is. Answers whether the original is still live.
pub fn insert_copy(
    tx: &mut Tx<'_>,
    id: ObjectId,
    of: &StoredObject,
    place: Place,
    lease_until: i64,
) -> Result<bool, MetaError> {
    let now = tx.now_micros();
    let inserted = tx.execute(
        "INSERT INTO objects (id, state, inline, domain_id, size, stored_size, keys, lease_until, created_at, store,
                              sealed_as)
         SELECT $1, 'writing', FALSE, domain_id, 0, 0, keys, $3, $4, $5, $6
         FROM objects
         WHERE id = $2 AND state = 'live' AND NOT inline",
        &[&id.to_string(), &of.id.to_string(), &lease_until, &now, &place.as_str(), &of.sealed_as.to_string()],
    )?;
    Ok(inserted == 1)
}

/// Trashes a copy that nothing points at. One that is in use stays.
pub fn give_up_copy(tx: &mut Tx<'_>, id: ObjectId) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE objects SET state = 'trashed', trashed_at = 0, lease_until = NULL
         WHERE id = $1 AND state = 'writing'",
        &[&id.to_string()],
    )?;
    Ok(())
}

/// Extends the time after which an unfinished object counts as abandoned.
pub fn extend_writing(tx: &mut Tx<'_>, id: ObjectId, lease_until: i64) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE objects SET lease_until = $2 WHERE id = $1 AND state = 'writing'",
        &[&id.to_string(), &lease_until],
    )?;
    Ok(changed == 1)
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
         RETURNING id, inline, stored_size, store",
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
         RETURNING id, inline, stored_size, store",
        &[&id.to_string()],
        doomed,
    )
}

/// Objects whose removal began, in order of id after `after`: also those of a process that ended meanwhile.
pub fn condemned(tx: &mut Tx<'_>, after: &str, limit: usize) -> Result<Vec<Doomed>, MetaError> {
    tx.query_all(
        "SELECT id, inline, stored_size, store
         FROM objects
         WHERE state = 'deleting' AND id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        doomed,
    )
}

fn doomed(row: &Row<'_>) -> Result<Doomed, MetaError> {
    Ok(Doomed {
        id: object_id(row, 0)?,
        inline: row.get(1)?,
        stored_size: row.get(2)?,
        place: Place::of(row, 3)?,
    })
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
        "SELECT id, domain_id, digest, size, keys, CASE WHEN inline THEN content ELSE NULL END, store, sealed_as
         FROM objects
         WHERE state = 'live' AND id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        live_object,
    )
}

/// A page of the objects outside the metadata whose bytes may still be wanted, in order of id, after `after`
/// (exclusive).
pub fn page_stored(
    tx: &mut Tx<'_>,
    after: &str,
    limit: usize,
) -> Result<Vec<(StoredObject, ObjectState)>, MetaError> {
    tx.query_all(
        "SELECT id, store, sealed_as, size, stored_size, state
         FROM objects
         WHERE state IN ('writing', 'live', 'trashed') AND NOT inline AND id > $1
         ORDER BY id
         LIMIT $2",
        &[&after, &limit],
        |row| Ok((stored(row)?, ObjectState::of(row, 5)?)),
    )
}

/// One object that is live or on its way to be, as [`page_live`] gives it: a copy that is being made is read as the
/// object `of` whose content it shall have.
pub fn find_copy(tx: &mut Tx<'_>, copy: ObjectId, of: ObjectId) -> Result<Option<LiveObject>, MetaError> {
    tx.query_opt(
        "SELECT c.id, o.domain_id, o.digest, o.size, o.keys, NULL, c.store, c.sealed_as
         FROM objects c
         JOIN objects o ON o.id = $2
         WHERE c.id = $1 AND c.state IN ('writing', 'live') AND o.state = 'live' AND NOT o.inline",
        &[&copy.to_string(), &of.to_string()],
        live_object,
    )
}

fn live_object(row: &Row<'_>) -> Result<LiveObject, MetaError> {
    let id = object_id(row, 0)?;
    Ok(LiveObject {
        id,
        domain_id: row.get(1)?,
        digest: row.get(2)?,
        size: row.get(3)?,
        keys: row.get(4)?,
        inline: row.get(5)?,
        place: Place::of(row, 6)?,
        sealed_as: sealed_as(row, 7, id)?,
    })
}

/// The state of an object, if it has a row.
pub fn state(tx: &mut Tx<'_>, id: ObjectId) -> Result<Option<ObjectState>, MetaError> {
    tx.query_opt("SELECT state FROM objects WHERE id = $1", &[&id.to_string()], |row| ObjectState::of(row, 0))
}

/// How many objects are in each state: for reports and tests.
pub fn count(tx: &mut Tx<'_>, state: &str) -> Result<u64, MetaError> {
    tx.query_one("SELECT COUNT(*) FROM objects WHERE state = $1", &[&state], |row| row.get(0))
}
