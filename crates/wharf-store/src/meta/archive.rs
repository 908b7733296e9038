//! The archive: the status of images, and which store the content that only archived images need belongs in.

use super::blobs::point_at;
use super::objects::{self, Place, StoredObject};
use super::{MetaError, Tx};
use crate::object::ObjectId;

/// An image by repository and digest.
pub type ImageKey = (i64, String);

/// A blob by key domain and digest.
pub type BlobKey = (i64, String);

/// Whether a repository has an image that is not active. Hardly any has.
pub fn has_inactive(tx: &mut Tx<'_>, repository_id: i64) -> Result<bool, MetaError> {
    let sql = format!(
        "SELECT 1 FROM manifests m{} WHERE m.repository_id = $1 AND m.status <> 'ACTIVE' LIMIT 1",
        tx.dialect().indexed_by_manifests_inactive()
    );
    Ok(tx.query_opt_dynamic(&sql, &[&repository_id], |row| row.get::<i64>(0))?.is_some())
}

/// Whether images of a repository name a blob, and none of them is active.
pub fn is_archived_only(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    if !has_inactive(tx, repository_id)? {
        return Ok(false);
    }
    tx.query_one(
        "SELECT EXISTS (SELECT 1 FROM manifest_blobs e WHERE e.repository_id = $1 AND e.blob = $2)
            AND NOT EXISTS (SELECT 1
                            FROM manifest_blobs e
                            JOIN manifests m ON m.repository_id = e.repository_id AND m.digest = e.manifest
                            WHERE e.repository_id = $1 AND e.blob = $2 AND m.status = 'ACTIVE')",
        &[&repository_id, &digest],
        |row| row.get(0),
    )
}

/// Indexes that name an image and are not archived themselves.
pub fn unarchived_parents(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT c.parent
         FROM manifest_children c
         JOIN manifests m ON m.repository_id = c.repository_id AND m.digest = c.parent
         WHERE c.repository_id = $1 AND c.child = $2 AND m.status <> 'ARCHIVED'
         ORDER BY c.parent
         LIMIT 100",
        &[&repository_id, &digest],
        |row| row.get(0),
    )
}

/// `ARCHIVED → ACTIVATING`. Answers whether it was archived.
pub fn begin_activation(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests SET status = 'ACTIVATING'
         WHERE repository_id = $1 AND digest = $2 AND status = 'ARCHIVED'",
        &[&repository_id, &digest],
    )?;
    Ok(changed == 1)
}

/// `ACTIVATING → ARCHIVED`: the content did not come back. Answers whether it was on its way.
pub fn give_up_activation(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests SET status = 'ARCHIVED'
         WHERE repository_id = $1 AND digest = $2 AND status = 'ACTIVATING'",
        &[&repository_id, &digest],
    )?;
    Ok(changed == 1)
}

/// `ARCHIVED, ACTIVATING → ACTIVE`. Answers whether it was not active before.
pub fn activate(tx: &mut Tx<'_>, repository_id: i64, digest: &str, now: i64) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests SET status = 'ACTIVE', activated_at = $3
         WHERE repository_id = $1 AND digest = $2 AND status <> 'ACTIVE'",
        &[&repository_id, &digest, &now],
    )?;
    Ok(changed == 1)
}

/// Where the content of a blob belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// An image that is active, or on its way, needs it.
    Main,
    /// Only archived images need it.
    Archive,
    /// Only archived images need it, and a repository may still build on it until its grace ends: it was last asked for
    /// at this time.
    Undecided(i64),
    /// No image needs it: it stays where it is.
    Anywhere,
}

/// Where a blob's content belongs, looking at every repository of its domain.
pub fn belongs(tx: &mut Tx<'_>, domain_id: i64, digest: &str) -> Result<Belongs, MetaError> {
    if user_of(tx, domain_id, digest)?.is_some() {
        return Ok(Belongs::Main);
    }
    let (links, unreferenced, asked) = tx.query_one(
        "SELECT COUNT(*), COUNT(unreferenced_since), MAX(unreferenced_since)
         FROM repository_blobs
         WHERE domain_id = $1 AND digest = $2",
        &[&domain_id, &digest],
        |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<Option<i64>>(2)?)),
    )?;
    Ok(match asked {
        _ if links == unreferenced => Belongs::Anywhere,
        Some(asked) => Belongs::Undecided(asked),
        None => Belongs::Archive,
    })
}

/// The live object that holds a blob outside the metadata, locked; `None` for small content, damaged content, and a blob
/// that is gone.
pub fn object_of_blob(
    tx: &mut Tx<'_>,
    domain_id: i64,
    digest: &str,
) -> Result<Option<StoredObject>, MetaError> {
    let sql = format!(
        "SELECT o.id, o.store, o.sealed_as, o.size, o.stored_size
         FROM blobs b
         JOIN objects o ON o.id = b.object_id
         WHERE b.domain_id = $1 AND b.digest = $2 AND o.state = 'live' AND NOT o.inline{}",
        tx.dialect().for_update(),
    );
    tx.query_opt_dynamic(&sql, &[&domain_id, &digest], objects::stored)
}

/// Puts a finished copy in place of the object that it was copied from. Answers whether it was done: not if the blob has
/// another object by now, or the copy was given up.
pub fn replace_object(
    tx: &mut Tx<'_>,
    blob: &BlobKey,
    from: &StoredObject,
    copy: ObjectId,
) -> Result<bool, MetaError> {
    let (domain_id, digest) = (blob.0, blob.1.as_str());
    if object_of_blob(tx, domain_id, digest)?.is_none_or(|current| current.id != from.id) {
        return Ok(false);
    }
    // The keys as they are now: they may have been wrapped again meanwhile.
    let live = tx.execute(
        "UPDATE objects
         SET state = 'live', digest = $3, size = $4, stored_size = $5, lease_until = NULL,
             keys = (SELECT o.keys FROM objects o WHERE o.id = $2)
         WHERE id = $1 AND state = 'writing'",
        &[&copy.to_string(), &from.id.to_string(), &digest, &from.size, &from.stored_size],
    )?;
    if live != 1 {
        return Ok(false);
    }
    point_at(tx, domain_id, digest, copy, from.size)?;
    objects::discard(tx, from.id)?;
    Ok(true)
}

/// Blobs of an image that are kept in this store.
pub fn blobs_in(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &str,
    place: Place,
) -> Result<Vec<BlobKey>, MetaError> {
    tx.query_all(
        "SELECT l.domain_id, l.digest
         FROM manifest_blobs e
         JOIN repository_blobs l ON l.repository_id = e.repository_id AND l.digest = e.blob
         JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         JOIN objects o ON o.id = b.object_id
         WHERE e.repository_id = $1 AND e.manifest = $2 AND NOT o.inline AND o.store = $3
         ORDER BY l.digest",
        &[&repository_id, &manifest, &place.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// A page of images that are not active, in order of repository and digest, with their status.
pub fn inactive(
    tx: &mut Tx<'_>,
    after: (i64, &str),
    limit: usize,
) -> Result<Vec<(ImageKey, String)>, MetaError> {
    let sql = format!(
        "SELECT m.repository_id, m.digest, m.status
         FROM manifests m{}
         WHERE m.status <> 'ACTIVE'
           AND m.repository_id >= $1 AND (m.repository_id > $1 OR m.digest > $2)
         ORDER BY m.repository_id, m.digest
         LIMIT $3",
        tx.dialect().indexed_by_manifests_inactive()
    );
    tx.query_all_dynamic(&sql, &[&after.0, &after.1, &limit], |row| {
        Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
    })
}

/// A page of blobs whose content is in the archive, in order of their objects, with these.
pub fn archived_blobs(
    tx: &mut Tx<'_>,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, BlobKey)>, MetaError> {
    tx.query_all(
        "SELECT o.id, b.domain_id, b.digest
         FROM objects o
         JOIN blobs b ON b.object_id = o.id
         WHERE o.store <> 'main' AND o.id > $1 AND o.state = 'live'
         ORDER BY o.id
         LIMIT $2",
        &[&after, &limit],
        |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))),
    )
}

/// An image that needs a blob and is not archived, if there is one.
pub fn user_of(tx: &mut Tx<'_>, domain_id: i64, digest: &str) -> Result<Option<ImageKey>, MetaError> {
    tx.query_opt(
        "SELECT e.repository_id, e.manifest
         FROM repository_blobs l
         JOIN manifest_blobs e ON e.repository_id = l.repository_id AND e.blob = l.digest
         JOIN manifests m ON m.repository_id = e.repository_id AND m.digest = e.manifest
         WHERE l.domain_id = $1 AND l.digest = $2 AND m.status <> 'ARCHIVED'
         LIMIT 1",
        &[&domain_id, &digest],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// An archived image of a repository that names a blob, if there is one.
pub fn archived_user_of(
    tx: &mut Tx<'_>,
    repository_id: i64,
    blob: &str,
) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT e.manifest
         FROM manifest_blobs e
         JOIN manifests m ON m.repository_id = e.repository_id AND m.digest = e.manifest
         WHERE e.repository_id = $1 AND e.blob = $2 AND m.status = 'ARCHIVED'
         LIMIT 1",
        &[&repository_id, &blob],
        |row| row.get(0),
    )
}

/// Whether an object of any state is in the archive: then the archive must be there.
pub fn is_used(tx: &mut Tx<'_>) -> Result<bool, MetaError> {
    let found =
        tx.query_opt("SELECT 1 FROM objects WHERE store <> 'main' LIMIT 1", &[], |row| row.get::<i64>(0))?;
    Ok(found.is_some())
}
