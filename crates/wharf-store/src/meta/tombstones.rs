//! What deleted images were, until the trash window ends: enough to restore them.

use super::manifests::{ManifestRow, SealedManifest};
use super::missing::Missing;
use super::{MetaError, Row, Tx};

/// A deleted image.
#[derive(Clone, Debug)]
pub struct DeletedManifest {
    /// Row id of the repository it was in; that repository may be gone.
    pub repository_id: i64,
    /// Owner of the repository.
    pub account: String,
    /// Where.
    pub region: String,
    /// `private` or `public`.
    pub kind: String,
    /// Name of the repository.
    pub name: String,
    /// Its key domain, in which its blobs are found.
    pub domain_id: i64,
    /// The manifest's row.
    pub manifest: ManifestRow,
    /// Its sealed bytes.
    pub sealed: SealedManifest,
    /// Its tags.
    pub tags: Vec<String>,
    /// Digests of the blobs it had edges to.
    pub blobs: Vec<String>,
    /// Digests of the manifests it had edges to.
    pub children: Vec<String>,
    /// What it named and the repository lacked.
    pub missing: Missing,
}

/// Keeps a deleted image. Called in the transaction that deletes it.
pub fn insert(tx: &mut Tx<'_>, deleted: &DeletedManifest) -> Result<(), MetaError> {
    let (now, manifest) = (tx.now_micros(), &deleted.manifest);
    tx.execute_later(
        "INSERT INTO deleted_manifests
             (repository_id, account, region, kind, name, domain_id, digest, media_type, artifact_type, subject,
              annotations, size, content_size, status, pushed_at, pulled_at, archived_at, activated_at, keys,
              seal_id, content, tags, blobs, children, missing_blobs, missing_children, deleted_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                 $23, $24, $25, $26, $27)",
        &[
            &deleted.repository_id,
            &deleted.account,
            &deleted.region,
            &deleted.kind,
            &deleted.name,
            &deleted.domain_id,
            &manifest.digest,
            &manifest.media_type,
            &manifest.artifact_type,
            &manifest.subject,
            &manifest.annotations,
            &manifest.size,
            &manifest.content_size,
            &manifest.status,
            &manifest.pushed_at,
            &manifest.pulled_at,
            &manifest.archived_at,
            &manifest.activated_at,
            &deleted.sealed.keys,
            &deleted.sealed.seal_id,
            &deleted.sealed.content,
            &json(&deleted.tags)?,
            &json(&deleted.blobs)?,
            &json(&deleted.children)?,
            &json(&deleted.missing.blobs)?,
            &json(&deleted.missing.manifests)?,
            &now,
        ],
    )?;
    Ok(())
}

/// The newest tombstone of an image, with its id.
pub fn find(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    kind: &str,
    name: &str,
    digest: &str,
) -> Result<Option<(i64, DeletedManifest)>, MetaError> {
    tx.query_opt(
        "SELECT id, repository_id, account, region, kind, name, domain_id, digest, media_type, artifact_type, subject,
                annotations, size, content_size, status, pushed_at, pulled_at, archived_at, activated_at, keys,
                seal_id, content, tags, blobs, children, missing_blobs, missing_children
         FROM deleted_manifests
         WHERE account = $1 AND region = $2 AND kind = $3 AND name = $4 AND digest = $5
         ORDER BY id DESC
         LIMIT 1",
        &[&account, &region, &kind, &name, &digest],
        |row| Ok((row.get(0)?, read(row)?)),
    )
}

/// A page of the tombstones of a repository name in the order they were made, after the one with id `after`: id,
/// digest, tags.
pub fn page(
    tx: &mut Tx<'_>,
    account: &str,
    region: &str,
    kind: &str,
    name: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, String, Vec<String>)>, MetaError> {
    tx.query_all(
        "SELECT id, digest, tags
         FROM deleted_manifests
         WHERE account = $1 AND region = $2 AND kind = $3 AND name = $4 AND id > $5
         ORDER BY id
         LIMIT $6",
        &[&account, &region, &kind, &name, &after, &limit],
        |row| Ok((row.get(0)?, row.get(1)?, list(row, 2)?)),
    )
}

/// Removes a tombstone whose image is back.
pub fn remove(tx: &mut Tx<'_>, id: i64) -> Result<(), MetaError> {
    tx.execute_later("DELETE FROM deleted_manifests WHERE id = $1", &[&id])?;
    Ok(())
}

/// Drops up to `limit` tombstones of before `cutoff`; answers how many.
pub fn drop_old(tx: &mut Tx<'_>, cutoff: i64, limit: usize) -> Result<u64, MetaError> {
    tx.execute(
        "DELETE FROM deleted_manifests
         WHERE id IN (SELECT id FROM deleted_manifests WHERE deleted_at <= $1 ORDER BY deleted_at LIMIT $2)",
        &[&cutoff, &limit],
    )
}

fn read(row: &Row<'_>) -> Result<DeletedManifest, MetaError> {
    Ok(DeletedManifest {
        repository_id: row.get(1)?,
        account: row.get(2)?,
        region: row.get(3)?,
        kind: row.get(4)?,
        name: row.get(5)?,
        domain_id: row.get(6)?,
        manifest: ManifestRow {
            digest: row.get(7)?,
            media_type: row.get(8)?,
            artifact_type: row.get(9)?,
            subject: row.get(10)?,
            annotations: row.get(11)?,
            size: row.get(12)?,
            content_size: row.get(13)?,
            status: row.get(14)?,
            pushed_at: row.get(15)?,
            pulled_at: row.get(16)?,
            archived_at: row.get(17)?,
            activated_at: row.get(18)?,
        },
        sealed: SealedManifest { keys: row.get(19)?, seal_id: row.get(20)?, content: row.get(21)? },
        tags: list(row, 22)?,
        blobs: list(row, 23)?,
        children: list(row, 24)?,
        missing: Missing { blobs: list(row, 25)?, manifests: list(row, 26)? },
    })
}

fn json(list: &[String]) -> Result<String, MetaError> {
    serde_json::to_string(list).map_err(|error| MetaError::other(error.to_string()))
}

fn list(row: &Row<'_>, index: usize) -> Result<Vec<String>, MetaError> {
    serde_json::from_str(row.text(index)?).map_err(|error| MetaError::column(index, error.to_string()))
}
