//! Upload sessions. A row moves forward by compare-and-set on (generation, received), so of two writers, in one
//! process or in two, one wins.
//!
//! A session whose id says when it was [issued](UploadId::issued) needs no row before its first byte. So that it does
//! not begin again when it is over, its id stays until it is too old for that.

use wharf_types::UploadId;

use super::objects::{self, object_id};
use super::{MetaError, Row, Tx, repositories};
use crate::object::ObjectId;

/// An upload to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Its id.
    pub id: UploadId,
    /// Where it goes.
    pub repository_id: i64,
    /// The repository's key domain.
    pub domain_id: i64,
    /// The object to be filled.
    pub object: ObjectId,
    /// Its wrapped content keys; `None` = stored plain.
    pub keys: Option<Vec<u8>>,
    /// The time.
    pub now: i64,
    /// When it is given up unless it moves.
    pub expires_at: i64,
}

/// How far an upload has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Acknowledged bytes.
    pub received: u64,
    /// Parts they came in.
    pub parts: u64,
    /// Size of the newest part.
    pub last_part: u64,
    /// A part that was not the last was too small.
    pub short_part: bool,
}

/// An upload as it stands.
#[derive(Clone, Debug)]
pub struct UploadRow {
    /// Its id.
    pub id: UploadId,
    /// Where it goes.
    pub repository_id: i64,
    /// The object being filled.
    pub object: ObjectId,
    /// The object's wrapped content keys.
    pub keys: Option<Vec<u8>>,
    /// How far it has come.
    pub progress: Progress,
    /// Counts its steps.
    pub generation: u64,
    /// Sealed: what is needed to go on. `None` before the first byte.
    pub state: Option<Vec<u8>>,
    /// When it is given up.
    pub expires_at: i64,
}

/// What became of an upload that should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has its rows.
    Begun,
    /// The repository is gone.
    NoRepository,
    /// The upload had begun before, or is over.
    NotFresh,
}

/// Records an upload and its object before the first byte.
pub fn start(tx: &mut Tx<'_>, new: &NewUpload) -> Result<Start, MetaError> {
    if !repositories::hold(tx, new.repository_id)? {
        return Ok(Start::NoRepository);
    }
    if !is_fresh(tx, new.id)? {
        return Ok(Start::NotFresh);
    }
    objects::insert_writing(tx, new.object, new.domain_id, new.keys.as_deref(), new.now, new.expires_at)?;
    tx.execute(
        "INSERT INTO uploads (id, repository_id, object_id, received, generation, parts, last_part, short_part,
                              started_at, expires_at)
         VALUES ($1, $2, $3, 0, 0, 0, 0, FALSE, $4, $5)",
        &[&new.id.to_string(), &new.repository_id, &new.object.to_string(), &new.now, &new.expires_at],
    )?;
    Ok(Start::Begun)
}

/// Whether an upload has no row and is not over. One with a random id is known to its maker only.
pub fn is_fresh(tx: &mut Tx<'_>, id: UploadId) -> Result<bool, MetaError> {
    if id.issued_at().is_none() {
        return Ok(true);
    }
    tx.query_one(
        "SELECT NOT (EXISTS (SELECT 1 FROM uploads WHERE id = $1)
                     OR EXISTS (SELECT 1 FROM ended_uploads WHERE id = $1))",
        &[&id.to_string()],
        |row| row.get(0),
    )
}

/// Whether an upload without a row was cancelled or finished.
pub fn is_over(tx: &mut Tx<'_>, id: UploadId) -> Result<bool, MetaError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM ended_uploads WHERE id = $1)";
    tx.query_one(sql, &[&id.to_string()], |row| row.get(0))
}

/// Notes that an upload is over. One with a random id cannot begin again without a row.
pub fn remember_end(tx: &mut Tx<'_>, id: UploadId) -> Result<(), MetaError> {
    if id.issued_at().is_some() {
        let sql = "INSERT INTO ended_uploads (id) VALUES ($1) ON CONFLICT (id) DO NOTHING";
        tx.execute(sql, &[&id.to_string()])?;
    }
    Ok(())
}

/// Whether any upload that is over was issued before `seconds` after the epoch.
pub fn ended_before(tx: &mut Tx<'_>, seconds: u32) -> Result<bool, MetaError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM ended_uploads WHERE id < $1)";
    tx.query_one(sql, &[&earliest(seconds)], |row| row.get(0))
}

/// Forgets up to `limit` uploads that are over and were issued before `seconds` after the epoch, so that their ids can
/// begin nothing any more. Answers how many.
pub fn forget_ended(tx: &mut Tx<'_>, seconds: u32, limit: usize) -> Result<u64, MetaError> {
    tx.execute(
        "DELETE FROM ended_uploads
         WHERE id IN (SELECT id FROM ended_uploads WHERE id < $1 ORDER BY id LIMIT $2)",
        &[&earliest(seconds), &limit],
    )
}

/// What no id that was issued then comes before.
fn earliest(seconds: u32) -> String {
    UploadId::issued(seconds, 0, |_| [0; 8]).to_string()
}

/// Finds an upload of a repository.
pub fn find(tx: &mut Tx<'_>, repository_id: i64, id: UploadId) -> Result<Option<UploadRow>, MetaError> {
    tx.query_opt(
        "SELECT u.repository_id, u.object_id, o.keys, u.received, u.parts, u.last_part, u.short_part, u.generation,
                u.state, u.expires_at
         FROM uploads u
         JOIN objects o ON o.id = u.object_id
         WHERE u.id = $1 AND u.repository_id = $2",
        &[&id.to_string(), &repository_id],
        |row| read(row, id),
    )
}

fn read(row: &Row<'_>, id: UploadId) -> Result<UploadRow, MetaError> {
    Ok(UploadRow {
        id,
        repository_id: row.get(0)?,
        object: object_id(row, 1)?,
        keys: row.get(2)?,
        progress: Progress {
            received: row.get(3)?,
            parts: row.get(4)?,
            last_part: row.get(5)?,
            short_part: row.get(6)?,
        },
        generation: row.get(7)?,
        state: row.get(8)?,
        expires_at: row.get(9)?,
    })
}

/// Moves an upload forward. Answers whether it stood where `from` says.
pub fn advance(
    tx: &mut Tx<'_>,
    from: &UploadRow,
    to: &Progress,
    state: &[u8],
    expires_at: i64,
) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE uploads
         SET received = $4, parts = $5, last_part = $6, short_part = $7, state = $8, expires_at = $9,
             generation = generation + 1
         WHERE id = $1 AND generation = $2 AND received = $3",
        &[
            &from.id.to_string(),
            &from.generation,
            &from.progress.received,
            &to.received,
            &to.parts,
            &to.last_part,
            &to.short_part,
            &state,
            &expires_at,
        ],
    )?;
    Ok(changed == 1)
}

/// Makes every step that began where `from` says, and may still be under way, fail. Answers whether the upload stood
/// there.
pub fn fence(tx: &mut Tx<'_>, from: &UploadRow) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE uploads SET generation = generation + 1 WHERE id = $1 AND generation = $2 AND received = $3",
        &[&from.id.to_string(), &from.generation, &from.progress.received],
    )?;
    Ok(changed == 1)
}

/// Ends an upload that is being finished. Answers whether it stood where `from` says.
pub fn take(tx: &mut Tx<'_>, from: &UploadRow) -> Result<bool, MetaError> {
    let removed = tx.execute(
        "DELETE FROM uploads WHERE id = $1 AND repository_id = $2 AND generation = $3 AND received = $4",
        &[&from.id.to_string(), &from.repository_id, &from.generation, &from.progress.received],
    )?;
    if removed == 1 {
        remember_end(tx, from.id)?;
    }
    Ok(removed == 1)
}

/// Ends an upload and trashes what it wrote. Answers its object, if it was there.
pub fn cancel(tx: &mut Tx<'_>, repository_id: i64, id: UploadId) -> Result<Option<ObjectId>, MetaError> {
    let object = tx.query_opt(
        "DELETE FROM uploads WHERE id = $1 AND repository_id = $2 RETURNING object_id",
        &[&id.to_string(), &repository_id],
        |row| object_id(row, 0),
    )?;
    if let Some(object) = object {
        objects::discard(tx, object)?;
        remember_end(tx, id)?;
    }
    Ok(object)
}

/// Gives an upload that has acknowledged nothing in storage a fresh object, because the old one's bytes are unknown.
/// Answers whether the upload stood where `from` says.
pub fn replace_object(
    tx: &mut Tx<'_>,
    from: &UploadRow,
    domain_id: i64,
    object: ObjectId,
    keys: Option<&[u8]>,
    now: i64,
) -> Result<bool, MetaError> {
    objects::insert_writing(tx, object, domain_id, keys, now, from.expires_at)?;
    let changed = tx.execute(
        "UPDATE uploads
         SET object_id = $4, generation = generation + 1
         WHERE id = $1 AND generation = $2 AND received = $3",
        &[&from.id.to_string(), &from.generation, &from.progress.received, &object.to_string()],
    )?;
    match changed {
        1 => objects::discard(tx, from.object)?,
        _ => objects::remove_unwritten(tx, object)?,
    }
    Ok(changed == 1)
}

/// Uploads that were given up, the oldest first.
pub fn expired(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<Vec<UploadId>, MetaError> {
    let ids = tx.query_all(
        "SELECT id FROM uploads WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
        &[&now, &limit],
        |row| row.get::<String>(0),
    )?;
    ids.into_iter().map(|id| id.parse().map_err(|error| MetaError::column(0, format!("{error}")))).collect()
}

/// Ends an upload that is still expired. Answers whether it was.
pub fn expire(tx: &mut Tx<'_>, id: UploadId, now: i64) -> Result<bool, MetaError> {
    let object = tx.query_opt(
        "DELETE FROM uploads WHERE id = $1 AND expires_at <= $2 RETURNING object_id",
        &[&id.to_string(), &now],
        |row| object_id(row, 0),
    )?;
    if let Some(object) = object {
        objects::discard(tx, object)?;
    }
    Ok(object.is_some())
}

/// Ends up to `limit` uploads of a repository that is being deleted; answers how many.
pub(super) fn drop_some_of_repository(
    tx: &mut Tx<'_>,
    repository_id: i64,
    limit: usize,
) -> Result<u64, MetaError> {
    let objects: Vec<ObjectId> = tx.query_all(
        "DELETE FROM uploads
         WHERE id IN (SELECT id FROM uploads WHERE repository_id = $1 LIMIT $2)
         RETURNING object_id",
        &[&repository_id, &limit],
        |row| object_id(row, 0),
    )?;
    for object in &objects {
        objects::discard(tx, *object)?;
    }
    Ok(objects.len() as u64)
}

/// How many uploads are open.
pub fn count(tx: &mut Tx<'_>) -> Result<u64, MetaError> {
    tx.query_one("SELECT COUNT(*) FROM uploads", &[], |row| row.get(0))
}
