//! Putting an image that is new to its repository, in as few statements as its client waits for: one that looks, one that
//! holds what the image names, and writes that nobody waits for one by one.

use super::dialect::placeholders;
use super::manifests::{ManifestRow, SealedManifest};
use super::{MetaError, Param, Tx};

/// At most so many blobs; an image with more goes the long way.
pub const MOST_BLOBS: usize = 500;

/// What a put finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Images of the repository.
    pub images: u64,
    /// The repository's setting.
    pub mutability: String,
    /// Its filters, JSON.
    pub exclusions: String,
    /// What the tag points at.
    pub tag: Option<String>,
    /// Nothing is the matter that asks for more than an insertion: the image is not there, nobody waits for it, and no
    /// image of the repository is archived, nor any content.
    pub is_plain: bool,
}

/// Looks at a repository before an image with (or without: an empty one) a tag is put. `None`: it is gone.
pub fn look(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
    tag: &str,
) -> Result<Option<Found>, MetaError> {
    let sql = format!(
        "SELECT r.images, r.mutability, r.exclusions,
                (SELECT t.digest FROM tags t WHERE t.repository_id = r.id AND t.name = $3),
                NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = r.id AND m.digest = $2)
                AND NOT EXISTS (SELECT 1 FROM manifests m{} WHERE m.repository_id = r.id AND m.status <> 'ACTIVE')
                AND NOT EXISTS (SELECT 1 FROM missing_references w
                                WHERE w.repository_id = r.id AND w.digest = $2 AND w.kind = 'manifest')
                AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.store <> 'main')
         FROM repositories r
         WHERE r.id = $1 AND r.kind <> 'deleted'",
        tx.dialect().indexed_by_manifests_inactive()
    );
    tx.query_opt_dynamic(&sql, &[&repository_id, &digest, &tag], |row| {
        Ok(Found {
            images: row.get(0)?,
            mutability: row.get(1)?,
            exclusions: row.get(2)?,
            tag: row.get(3)?,
            is_plain: row.get(4)?,
        })
    })
}

/// Which of these blobs the repository is linked to, held against collection: (digest, whether a manifest names it).
pub fn hold_blobs(
    tx: &mut Tx<'_>,
    repository_id: i64,
    blobs: &[&str],
) -> Result<Vec<(String, bool)>, MetaError> {
    if blobs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT digest, unreferenced_since IS NULL
         FROM repository_blobs
         WHERE repository_id = $1 AND digest IN ({})
         ORDER BY digest{}",
        placeholders(2, blobs.len()),
        tx.dialect().for_key_share(),
    );
    let mut params: Vec<&dyn Param> = vec![&repository_id];
    params.extend(blobs.iter().map(|blob| blob as &dyn Param));
    tx.query_all_dynamic(&sql, &params, |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Inserts an image that is not there, counts it, and adds its edges to `held`.
pub fn insert(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &ManifestRow,
    sealed: &SealedManifest,
    held: &[(String, bool)],
) -> Result<(), MetaError> {
    tx.execute_later("UPDATE repositories SET images = images + 1 WHERE id = $1", &[&repository_id])?;
    super::manifests::insert_alone(tx, repository_id, manifest, sealed)?;
    if held.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO manifest_blobs (repository_id, manifest, blob)
         SELECT repository_id, $2, digest FROM repository_blobs WHERE repository_id = $1 AND digest IN ({})",
        placeholders(3, held.len()),
    );
    let mut params: Vec<&dyn Param> = vec![&repository_id, &manifest.digest];
    params.extend(held.iter().map(|(digest, _)| digest as &dyn Param));
    tx.execute_later_dynamic(&sql, &params)?;
    let unnamed: Vec<&str> =
        held.iter().filter(|(_, named)| !named).map(|(digest, _)| digest.as_str()).collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE repository_blobs SET unreferenced_since = NULL WHERE repository_id = $1 AND digest IN ({})",
        placeholders(2, unnamed.len()),
    );
    let mut params: Vec<&dyn Param> = vec![&repository_id];
    params.extend(unnamed.iter().map(|digest| digest as &dyn Param));
    tx.execute_later_dynamic(&sql, &params)
}

/// Points a tag at the image; what it points at was looked at in this transaction.
pub fn point(tx: &mut Tx<'_>, repository_id: i64, tag: &str, digest: &str) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute_later(
        "INSERT INTO tags (repository_id, name, digest, updated_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at",
        &[&repository_id, &tag, &digest, &now],
    )
}
