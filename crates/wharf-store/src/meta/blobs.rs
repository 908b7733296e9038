//! Blobs (which object holds a digest, once per key domain) and links (which repository may serve which blob).
//!
//! Whoever adds a link locks the blob row, whoever removes the last link locks it too and looks again in a second
//! statement, so that on PostgreSQL neither acts on what the other is changing. SQLite has one writer.

use bytes::Bytes;

use super::dialect::placeholders;
use super::objects::{self, Content, ObjectState, Place, object_id, sealed_as};
use super::{MetaError, Param, Tx, archive, missing, uploads};
use crate::object::ObjectId;

/// At most this many placeholders for one list; longer lists go in several statements.
const LIST: usize = 500;

/// A blob as a repository sees it.
#[derive(Clone, Debug)]
pub struct LinkedBlob {
    /// Where the content is.
    pub object: ObjectId,
    /// Plaintext bytes.
    pub size: u64,
    /// Whether it may be served.
    pub state: ObjectState,
    /// Wrapped content keys; `None` = stored plain.
    pub keys: Option<Vec<u8>>,
    /// The stored bytes of an inline object.
    pub inline: Option<Bytes>,
    /// Since when no manifest names it; `None` while one does.
    pub unreferenced_since: Option<i64>,
    /// Where the content is if it is not inline.
    pub place: Place,
    /// The object the content is sealed for.
    pub sealed_as: ObjectId,
    /// Images of the repository name it, and none of them is active: it may not be pulled.
    pub archived: bool,
}

/// Content that was received whole and verified, to be kept and linked.
#[derive(Clone, Debug)]
pub struct NewBlob {
    /// Whose link.
    pub repository_id: i64,
    /// The repository's key domain.
    pub domain_id: i64,
    /// The object that holds the content.
    pub object: ObjectId,
    /// Wrapped content keys of an object that has no row yet (inline content); else `None`.
    pub keys: Option<Vec<u8>>,
    /// Whether the object has a row in state `writing`.
    pub has_row: bool,
    /// What it holds.
    pub content: Content,
    /// The time.
    pub now: i64,
}

/// What became of a new blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The repository serves it now.
    Linked {
        /// The repository served it before.
        already: bool,
        /// Our object holds the content; otherwise an earlier one does, and ours is gone.
        ours: bool,
    },
    /// The object is not being written any more: the upload was finished, cancelled or collected.
    Lost,
}

/// A link that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedLink {
    /// Whose.
    pub repository_id: i64,
    /// Of which blob.
    pub digest: String,
    /// Stored bytes of the object that was trashed with its last link.
    pub trashed: Option<u64>,
}

/// Finds a blob that a repository is linked to.
pub fn find_linked(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
) -> Result<Option<LinkedBlob>, MetaError> {
    let found = tx.query_opt(
        "SELECT b.object_id, b.size, o.state, o.keys, CASE WHEN o.inline THEN o.content ELSE NULL END,
                l.unreferenced_since, o.store, o.sealed_as
         FROM repository_blobs l
         JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         JOIN objects o ON o.id = b.object_id
         WHERE l.repository_id = $1 AND l.digest = $2",
        &[&repository_id, &digest],
        |row| {
            let object = object_id(row, 0)?;
            Ok(LinkedBlob {
                object,
                size: row.get(1)?,
                state: ObjectState::of(row, 2)?,
                keys: row.get(3)?,
                inline: row.get(4)?,
                unreferenced_since: row.get(5)?,
                place: Place::of(row, 6)?,
                sealed_as: sealed_as(row, 7, object)?,
                archived: false,
            })
        },
    )?;
    let Some(mut blob) = found else { return Ok(None) };
    blob.archived = archive::is_archived_only(tx, repository_id, digest)?;
    Ok(Some(blob))
}

/// Whether a repository is linked to a blob whose content may be served.
pub fn link_exists(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let found = tx.query_opt(
        "SELECT 1
         FROM repository_blobs l
         JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         JOIN objects o ON o.id = b.object_id
         WHERE l.repository_id = $1 AND l.digest = $2 AND o.state = 'live'",
        &[&repository_id, &digest],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

/// The size of a blob that a repository is linked to, if its content may be served.
pub fn linked_size(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Option<u64>, MetaError> {
    tx.query_opt(
        "SELECT b.size
         FROM repository_blobs l
         JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         JOIN objects o ON o.id = b.object_id
         WHERE l.repository_id = $1 AND l.digest = $2 AND o.state = 'live'",
        &[&repository_id, &digest],
        |row| row.get(0),
    )
}

/// The object and size of a live blob of a domain, locked against collection.
pub fn hold(tx: &mut Tx<'_>, domain_id: i64, digest: &str) -> Result<Option<(ObjectId, u64)>, MetaError> {
    let found = locked(tx, domain_id, digest)?;
    Ok(found.filter(|blob| blob.state == ObjectState::Live).map(|blob| (blob.object, blob.size)))
}

struct Locked {
    object: ObjectId,
    size: u64,
    state: ObjectState,
    place: Place,
}

fn locked(tx: &mut Tx<'_>, domain_id: i64, digest: &str) -> Result<Option<Locked>, MetaError> {
    let sql = format!(
        "SELECT b.object_id, b.size, o.state, o.store
         FROM blobs b
         JOIN objects o ON o.id = b.object_id
         WHERE b.domain_id = $1 AND b.digest = $2{}",
        tx.dialect().for_update(),
    );
    tx.query_opt_dynamic(&sql, &[&domain_id, &digest], |row| {
        Ok(Locked {
            object: object_id(row, 0)?,
            size: row.get(1)?,
            state: ObjectState::of(row, 2)?,
            place: Place::of(row, 3)?,
        })
    })
}

/// Keeps new content and links it, in the caller's transaction. Equal content that is live already wins, and our
/// object goes; equal content in quarantine or in the archive is replaced by ours.
pub fn keep(tx: &mut Tx<'_>, new: &NewBlob) -> Result<Kept, MetaError> {
    let ours = match locked(tx, new.domain_id, &new.content.digest)? {
        Some(Locked { state: ObjectState::Live, place: Place::Main, .. }) => {
            give_way(tx, new)?;
            false
        }
        Some(other) => {
            if !bring_to_life(tx, new)? {
                return Ok(Kept::Lost);
            }
            point_at(tx, new.domain_id, &new.content.digest, new.object, new.content.size)?;
            match other.state {
                ObjectState::Live => objects::discard(tx, other.object)?,
                _ => drop(objects::trash(tx, other.object, new.now)?),
            }
            true
        }
        None => {
            if !bring_to_life(tx, new)? {
                return Ok(Kept::Lost);
            }
            let inserted = insert(tx, new.domain_id, &new.content.digest, new.content.size, new.object)?;
            if !inserted {
                // PostgreSQL: another transaction inserted it after our look. Its row is committed; lock it.
                locked(tx, new.domain_id, &new.content.digest)?.ok_or(MetaError::Missing)?;
                objects::discard(tx, new.object)?;
            }
            inserted
        }
    };
    let already = link(tx, new.repository_id, new.domain_id, &new.content.digest, new.now)?;
    Ok(Kept::Linked { already, ours })
}

fn bring_to_life(tx: &mut Tx<'_>, new: &NewBlob) -> Result<bool, MetaError> {
    if new.has_row {
        return objects::make_live(tx, new.object, &new.content);
    }
    objects::insert_inline(tx, new.object, new.domain_id, new.keys.as_deref(), &new.content, new.now)?;
    Ok(true)
}

/// An equal copy came first: ours is not needed. Content that was to be inline has no bytes in the object store.
fn give_way(tx: &mut Tx<'_>, new: &NewBlob) -> Result<(), MetaError> {
    match (new.has_row, &new.content.inline) {
        (false, _) => Ok(()),
        (true, Some(_)) => objects::remove_unwritten(tx, new.object),
        (true, None) => objects::discard(tx, new.object),
    }
}

pub(super) fn point_at(
    tx: &mut Tx<'_>,
    domain_id: i64,
    digest: &str,
    object: ObjectId,
    size: u64,
) -> Result<(), MetaError> {
    tx.execute_later(
        "UPDATE blobs SET object_id = $3, size = $4 WHERE domain_id = $1 AND digest = $2",
        &[&domain_id, &digest, &object.to_string(), &size],
    )?;
    Ok(())
}

fn insert(
    tx: &mut Tx<'_>,
    domain_id: i64,
    digest: &str,
    size: u64,
    object: ObjectId,
) -> Result<bool, MetaError> {
    let inserted = tx.execute(
        "INSERT INTO blobs (domain_id, digest, size, object_id)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (domain_id, digest) DO NOTHING",
        &[&domain_id, &digest, &size, &object.to_string()],
    )?;
    Ok(inserted == 1)
}

/// Links a repository to a blob that is locked, or renews the link's grace. Answers whether it was linked before. The
/// only place where links come to be, so that sparse manifests that name the blob get their edges.
pub fn link(
    tx: &mut Tx<'_>,
    repository_id: i64,
    domain_id: i64,
    digest: &str,
    now: i64,
) -> Result<bool, MetaError> {
    if refresh(tx, repository_id, digest, now)? {
        return Ok(true);
    }
    tx.execute_later(
        "INSERT INTO repository_blobs (repository_id, digest, domain_id, linked_at, unreferenced_since)
         VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (repository_id, digest) DO NOTHING",
        &[&repository_id, &digest, &domain_id, &now],
    )?;
    missing::blob_arrived(tx, repository_id, digest)?;
    Ok(false)
}

/// Counts the grace of a link from now on, unless a manifest names it. Answers whether there is a link. Where a manifest
/// names it nothing is written: an update that changes nothing would cost its page in the log.
pub fn refresh(tx: &mut Tx<'_>, repository_id: i64, digest: &str, now: i64) -> Result<bool, MetaError> {
    let sql = format!(
        "SELECT unreferenced_since FROM repository_blobs WHERE repository_id = $1 AND digest = $2{}",
        tx.dialect().for_update(),
    );
    let found = tx.query_opt_dynamic(&sql, &[&repository_id, &digest], |row| row.get::<Option<i64>>(0))?;
    if let Some(Some(_)) = found {
        tx.execute(
            "UPDATE repository_blobs SET unreferenced_since = $3 WHERE repository_id = $1 AND digest = $2",
            &[&repository_id, &digest, &now],
        )?;
    }
    Ok(found.is_some())
}

/// Whether a manifest of the repository names the blob.
pub fn is_referenced(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let found = tx.query_opt(
        "SELECT 1 FROM manifest_blobs WHERE repository_id = $1 AND blob = $2 LIMIT 1",
        &[&repository_id, &digest],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

/// Whether a link is there, locked against whoever would add an edge to it or drop it.
fn lock_link(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Option<i64>, MetaError> {
    let sql = format!(
        "SELECT domain_id FROM repository_blobs WHERE repository_id = $1 AND digest = $2{}",
        tx.dialect().for_update(),
    );
    tx.query_opt_dynamic(&sql, &[&repository_id, &digest], |row| row.get(0))
}

/// What became of a link that was to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// It is gone, with the blob where this was its last link.
    Dropped(DroppedLink),
    /// A manifest names the blob.
    Referenced,
    /// There was none.
    Missing,
}

/// Drops a link that no manifest needs; with the last link goes the blob, and its object is trashed.
pub fn unlink(tx: &mut Tx<'_>, repository_id: i64, digest: &str, now: i64) -> Result<Unlinked, MetaError> {
    let Some(domain_id) = lock_link(tx, repository_id, digest)? else {
        return Ok(Unlinked::Missing);
    };
    if is_referenced(tx, repository_id, digest)? {
        return Ok(Unlinked::Referenced);
    }
    drop_link(tx, repository_id, domain_id, digest, now).map(Unlinked::Dropped)
}

/// Removes a locked link, then the blob if nothing links to it any more.
fn drop_link(
    tx: &mut Tx<'_>,
    repository_id: i64,
    domain_id: i64,
    digest: &str,
    now: i64,
) -> Result<DroppedLink, MetaError> {
    let blob = locked(tx, domain_id, digest)?.ok_or(MetaError::Missing)?;
    tx.execute_later(
        "DELETE FROM repository_blobs WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
    )?;
    // A statement of its own, after the lock: it sees every link committed before.
    let removed = tx.execute(
        "DELETE FROM blobs
         WHERE domain_id = $1 AND digest = $2
           AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.domain_id = $1 AND l.digest = $2)",
        &[&domain_id, &digest],
    )?;
    let trashed = match removed {
        0 => None,
        _ => objects::trash(tx, blob.object, now)?,
    };
    Ok(DroppedLink { repository_id, digest: digest.to_owned(), trashed })
}

/// Drops up to `limit` links that no manifest has named since `cutoff`.
pub fn drop_unreferenced(
    tx: &mut Tx<'_>,
    cutoff: i64,
    now: i64,
    limit: usize,
) -> Result<Vec<DroppedLink>, MetaError> {
    let due: Vec<(i64, String)> = tx.query_all(
        "SELECT repository_id, digest
         FROM repository_blobs
         WHERE unreferenced_since IS NOT NULL AND unreferenced_since <= $1
         ORDER BY unreferenced_since
         LIMIT $2",
        &[&cutoff, &limit],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut dropped = Vec::with_capacity(due.len());
    for (repository_id, digest) in due {
        let sql = format!(
            "SELECT domain_id
             FROM repository_blobs
             WHERE repository_id = $1 AND digest = $2
               AND unreferenced_since IS NOT NULL AND unreferenced_since <= $3{}",
            tx.dialect().for_update(),
        );
        let params: [&dyn Param; 3] = [&repository_id, &digest, &cutoff];
        let Some(domain_id) = tx.query_opt_dynamic(&sql, &params, |row| row.get::<i64>(0))? else { continue };
        if is_referenced(tx, repository_id, &digest)? {
            // Cannot be, since edges clear the mark in their own transaction; mended all the same.
            tx.execute_later(
                "UPDATE repository_blobs SET unreferenced_since = NULL WHERE repository_id = $1 AND digest = $2",
                &[&repository_id, &digest],
            )?;
            continue;
        }
        dropped.push(drop_link(tx, repository_id, domain_id, &digest, now)?);
    }
    Ok(dropped)
}

/// Removes the edges from a manifest to its blobs. Answers the blobs that no manifest names any more: their grace
/// begins, and the caller has its caches forget them.
pub fn unlink_manifest_blobs(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &str,
    now: i64,
) -> Result<Vec<String>, MetaError> {
    let sql = format!(
        "SELECT l.digest
         FROM repository_blobs l
         WHERE l.repository_id = $1
           AND l.digest IN (SELECT e.blob FROM manifest_blobs e WHERE e.repository_id = $1 AND e.manifest = $2)
         ORDER BY l.digest{}",
        tx.dialect().for_update(),
    );
    // Locked first: of two manifests that go at once, the second must see that the first one's edges are gone.
    let blobs: Vec<String> = tx.query_all_dynamic(&sql, &[&repository_id, &manifest], |row| row.get(0))?;
    tx.execute_later(
        "DELETE FROM manifest_blobs WHERE repository_id = $1 AND manifest = $2",
        &[&repository_id, &manifest],
    )?;
    let mut unreferenced = Vec::new();
    for part in blobs.chunks(LIST) {
        let sql = format!(
            "UPDATE repository_blobs
             SET unreferenced_since = $2
             WHERE repository_id = $1 AND digest IN ({})
               AND NOT EXISTS (SELECT 1
                               FROM manifest_blobs e
                               WHERE e.repository_id = $1 AND e.blob = repository_blobs.digest)
             RETURNING digest",
            placeholders(3, part.len()),
        );
        let mut params: Vec<&dyn Param> = vec![&repository_id, &now];
        params.extend(part.iter().map(|digest| digest as &dyn Param));
        unreferenced.extend(tx.query_all_dynamic(&sql, &params, |row| row.get::<String>(0))?);
    }
    Ok(unreferenced)
}

/// Drops up to `limit` uploads and links of a repository whose manifests are gone. Answers how many; 0 = none is left.
pub fn drop_some_links_of_repository(
    tx: &mut Tx<'_>,
    repository_id: i64,
    now: i64,
    limit: usize,
) -> Result<u64, MetaError> {
    let ended = uploads::drop_some_of_repository(tx, repository_id, limit)?;
    let some: Vec<String> = tx.query_all(
        "SELECT digest FROM repository_blobs WHERE repository_id = $1 ORDER BY digest LIMIT $2",
        &[&repository_id, &limit],
        |row| row.get(0),
    )?;
    for digest in &some {
        if let Some(domain_id) = lock_link(tx, repository_id, digest)? {
            drop_link(tx, repository_id, domain_id, digest, now)?;
        }
    }
    Ok(ended + some.len() as u64)
}

/// Names of the private repositories of a domain that serve a blob, in order.
pub fn holders(
    tx: &mut Tx<'_>,
    domain_id: i64,
    digest: &str,
    except: i64,
    limit: usize,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT r.name
         FROM repository_blobs l
         JOIN repositories r ON r.id = l.repository_id
         WHERE l.domain_id = $1 AND l.digest = $2 AND l.repository_id <> $3 AND r.kind = 'private'
         ORDER BY r.name
         LIMIT $4",
        &[&domain_id, &digest, &except, &limit],
        |row| row.get(0),
    )
}

/// Links a repository to content that was deleted but is still in the trash, or was pushed again meanwhile. Answers
/// whether it is there.
pub fn relink(
    tx: &mut Tx<'_>,
    repository_id: i64,
    domain_id: i64,
    digest: &str,
    now: i64,
) -> Result<bool, MetaError> {
    match locked(tx, domain_id, digest)? {
        Some(Locked { state: ObjectState::Live, .. }) => {}
        // A damaged copy: the trash may have a sound one.
        Some(damaged) => {
            let Some((object, size)) = revive(tx, domain_id, digest)? else { return Ok(false) };
            point_at(tx, domain_id, digest, object, size)?;
            objects::trash(tx, damaged.object, now)?;
        }
        None => {
            let Some((object, size)) = revive(tx, domain_id, digest)? else { return Ok(false) };
            if !insert(tx, domain_id, digest, size, object)? {
                return Err(MetaError::Busy);
            }
        }
    }
    link(tx, repository_id, domain_id, digest, now)?;
    Ok(true)
}

fn revive(tx: &mut Tx<'_>, domain_id: i64, digest: &str) -> Result<Option<(ObjectId, u64)>, MetaError> {
    let Some((object, size)) = objects::find_trashed(tx, domain_id, digest)? else { return Ok(None) };
    Ok(objects::restore(tx, object)?.then_some((object, size)))
}
