//! Lifecycle policies, their previews, and the images they judge.

use super::{MetaError, Row, Tx};

/// A policy as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// As it was put.
    pub document: String,
    /// Moves with every change.
    pub version: i64,
    /// When it was last evaluated.
    pub evaluated_at: Option<i64>,
}

/// A preview as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewRow {
    /// Of this one preview.
    pub id: String,
    /// The policy it is of.
    pub document: String,
    /// `IN_PROGRESS`, `COMPLETE`, `FAILED`.
    pub status: String,
    /// Images it would delete.
    pub expiring: i64,
    /// Images it would archive.
    pub archiving: i64,
    /// When it was asked for.
    pub started_at: i64,
    /// When it was done.
    pub finished_at: Option<i64>,
}

/// An image that a policy would act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewImageRow {
    /// The order in which they would go.
    pub place: i64,
    /// The image.
    pub digest: String,
    /// JSON list.
    pub tags: String,
    /// Whether it has any.
    pub tagged: bool,
    /// When it was pushed.
    pub pushed_at: i64,
    /// `EXPIRE`, `TRANSITION`.
    pub action: String,
    /// The rule that decided.
    pub rule_priority: i64,
    /// `STANDARD`, `ARCHIVE`.
    pub storage_class: String,
}

/// What a policy judges of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// The image.
    pub digest: String,
    /// `ACTIVE`, `ARCHIVED`, `ACTIVATING`.
    pub status: String,
    /// What it refers to.
    pub subject: Option<String>,
    /// First put.
    pub pushed_at: i64,
    /// Last recorded pull.
    pub pulled_at: Option<i64>,
    /// Last archived.
    pub archived_at: Option<i64>,
    /// Last restored.
    pub activated_at: Option<i64>,
}

/// A blob as an image of a repository names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUse {
    /// The image.
    pub manifest: String,
    /// The blob.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Whether another repository holds it, too.
    pub elsewhere: bool,
}

/// Which image of a repository names which blobs.
pub fn blob_uses(tx: &mut Tx<'_>, repository_id: i64) -> Result<Vec<BlobUse>, MetaError> {
    tx.query_all(
        "SELECT u.manifest, u.blob, b.size,
                EXISTS (SELECT 1
                        FROM repository_blobs o
                        WHERE o.domain_id = l.domain_id AND o.digest = l.digest AND o.repository_id <> $1)
         FROM manifest_blobs u
         JOIN repository_blobs l ON l.repository_id = u.repository_id AND l.digest = u.blob
         JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         WHERE u.repository_id = $1
         ORDER BY u.manifest, u.blob",
        &[&repository_id],
        |row| {
            Ok(BlobUse {
                manifest: row.get(0)?,
                digest: row.get(1)?,
                size: row.get(2)?,
                elsewhere: row.get(3)?,
            })
        },
    )
}

/// The policy of a repository.
pub fn find_policy(tx: &mut Tx<'_>, repository_id: i64) -> Result<Option<PolicyRow>, MetaError> {
    tx.query_opt(
        "SELECT document, version, evaluated_at FROM lifecycle_policies WHERE repository_id = $1",
        &[&repository_id],
        |row| Ok(PolicyRow { document: row.get(0)?, version: row.get(1)?, evaluated_at: row.get(2)? }),
    )
}

/// Sets a repository's policy.
pub fn put_policy(tx: &mut Tx<'_>, repository_id: i64, document: &str) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute(
        "INSERT INTO lifecycle_policies (repository_id, document, version, updated_at)
         VALUES ($1, $2, 1, $3)
         ON CONFLICT (repository_id) DO UPDATE
         SET document = excluded.document, version = lifecycle_policies.version + 1, updated_at = excluded.updated_at",
        &[&repository_id, &document, &now],
    )?;
    Ok(())
}

/// Takes a repository's policy away.
pub fn delete_policy(tx: &mut Tx<'_>, repository_id: i64) -> Result<(), MetaError> {
    tx.execute("DELETE FROM lifecycle_policies WHERE repository_id = $1", &[&repository_id])?;
    Ok(())
}

/// Notes that a policy was evaluated, unless it was changed since.
pub fn set_evaluated(tx: &mut Tx<'_>, repository_id: i64, version: i64, at: i64) -> Result<(), MetaError> {
    tx.execute(
        "UPDATE lifecycle_policies SET evaluated_at = $3 WHERE repository_id = $1 AND version = $2",
        &[&repository_id, &version, &at],
    )?;
    Ok(())
}

/// Repositories that have a policy, in order of their ids, after `after`.
pub fn repositories_with_policy(tx: &mut Tx<'_>, after: i64, limit: usize) -> Result<Vec<i64>, MetaError> {
    tx.query_all(
        "SELECT repository_id FROM lifecycle_policies WHERE repository_id > $1 ORDER BY repository_id LIMIT $2",
        &[&after, &limit],
        |row| row.get(0),
    )
}

/// Every manifest of a repository, in order of digest, without its content.
pub fn images(tx: &mut Tx<'_>, repository_id: i64) -> Result<Vec<ImageRow>, MetaError> {
    tx.query_all(
        "SELECT digest, status, subject, pushed_at, pulled_at, archived_at, activated_at
         FROM manifests
         WHERE repository_id = $1
         ORDER BY digest",
        &[&repository_id],
        image,
    )
}

/// One manifest as [`images`] gives it.
pub fn find_image(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Option<ImageRow>, MetaError> {
    tx.query_opt(
        "SELECT digest, status, subject, pushed_at, pulled_at, archived_at, activated_at
         FROM manifests
         WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
        image,
    )
}

fn image(row: &Row<'_>) -> Result<ImageRow, MetaError> {
    Ok(ImageRow {
        digest: row.get(0)?,
        status: row.get(1)?,
        subject: row.get(2)?,
        pushed_at: row.get(3)?,
        pulled_at: row.get(4)?,
        archived_at: row.get(5)?,
        activated_at: row.get(6)?,
    })
}

/// Every tag of a repository as (digest, name, when it was set), in that order.
pub fn tags(tx: &mut Tx<'_>, repository_id: i64) -> Result<Vec<(String, String, i64)>, MetaError> {
    tx.query_all(
        "SELECT digest, name, updated_at FROM tags WHERE repository_id = $1 ORDER BY digest, name",
        &[&repository_id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// The tags of one image as (name, when it was set), in order of name.
pub fn tags_of(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Vec<(String, i64)>, MetaError> {
    tx.query_all(
        "SELECT name, updated_at FROM tags WHERE repository_id = $1 AND digest = $2 ORDER BY name",
        &[&repository_id, &digest],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Which index names which manifest: (child, parent), in that order.
pub fn edges(tx: &mut Tx<'_>, repository_id: i64) -> Result<Vec<(String, String)>, MetaError> {
    tx.query_all(
        "SELECT child, parent FROM manifest_children WHERE repository_id = $1 ORDER BY child, parent",
        &[&repository_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// The referrers of a manifest that are there, in order of digest.
pub fn referrers(tx: &mut Tx<'_>, repository_id: i64, subject: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT digest FROM manifests WHERE repository_id = $1 AND subject = $2 ORDER BY digest",
        &[&repository_id, &subject],
        |row| row.get(0),
    )
}

/// Whether an image of this repository was deleted lately, by the tombstone it left.
pub fn was_deleted(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let found = tx.query_opt(
        "SELECT 1
         FROM deleted_manifests d
         JOIN repositories r
           ON r.account = d.account AND r.region = d.region AND r.kind = d.kind AND r.name = d.name
         WHERE r.id = $1 AND d.repository_id = $1 AND d.digest = $2
         LIMIT 1",
        &[&repository_id, &digest],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

/// The preview of a repository.
pub fn find_preview(tx: &mut Tx<'_>, repository_id: i64) -> Result<Option<PreviewRow>, MetaError> {
    tx.query_opt(
        "SELECT id, document, status, expiring, archiving, started_at, finished_at
         FROM lifecycle_previews
         WHERE repository_id = $1",
        &[&repository_id],
        |row| {
            Ok(PreviewRow {
                id: row.get(0)?,
                document: row.get(1)?,
                status: row.get(2)?,
                expiring: row.get(3)?,
                archiving: row.get(4)?,
                started_at: row.get(5)?,
                finished_at: row.get(6)?,
            })
        },
    )
}

/// Begins a preview of a repository that has none.
pub fn insert_preview(
    tx: &mut Tx<'_>,
    repository_id: i64,
    id: &str,
    document: &str,
) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute(
        "INSERT INTO lifecycle_previews (repository_id, id, document, status, expiring, archiving, started_at)
         VALUES ($1, $2, $3, 'IN_PROGRESS', 0, 0, $4)",
        &[&repository_id, &id, &document, &now],
    )?;
    Ok(())
}

/// Ends a preview; `false` if it is gone, or was ended already.
pub fn finish_preview(
    tx: &mut Tx<'_>,
    id: &str,
    status: &str,
    (expiring, archiving): (u64, u64),
) -> Result<bool, MetaError> {
    let now = tx.now_micros();
    let changed = tx.execute(
        "UPDATE lifecycle_previews
         SET status = $2, expiring = $3, archiving = $4, finished_at = $5
         WHERE id = $1 AND status = 'IN_PROGRESS'",
        &[&id, &status, &expiring, &archiving, &now],
    )?;
    Ok(changed == 1)
}

/// Takes a repository's preview away and answers its id; what it found is dropped with [`drop_preview_images`].
pub fn delete_preview(tx: &mut Tx<'_>, repository_id: i64) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "DELETE FROM lifecycle_previews WHERE repository_id = $1 RETURNING id",
        &[&repository_id],
        |row| row.get(0),
    )
}

/// Adds what a preview found. Adding the same place again changes nothing: a preview may be taken over.
pub fn insert_preview_image(
    tx: &mut Tx<'_>,
    preview: &str,
    image: &PreviewImageRow,
) -> Result<(), MetaError> {
    tx.execute(
        "INSERT INTO lifecycle_preview_images
             (preview_id, place, digest, tags, tagged, pushed_at, action, rule_priority, storage_class)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (preview_id, place) DO UPDATE
         SET digest = excluded.digest, tags = excluded.tags, tagged = excluded.tagged,
             pushed_at = excluded.pushed_at, action = excluded.action, rule_priority = excluded.rule_priority,
             storage_class = excluded.storage_class",
        &[
            &preview,
            &image.place,
            &image.digest,
            &image.tags,
            &image.tagged,
            &image.pushed_at,
            &image.action,
            &image.rule_priority,
            &image.storage_class,
        ],
    )?;
    Ok(())
}

/// A page of what a preview found, in order of place, after `after`. `tagged` narrows it.
pub fn preview_images(
    tx: &mut Tx<'_>,
    preview: &str,
    after: i64,
    tagged: Option<bool>,
    limit: usize,
) -> Result<Vec<PreviewImageRow>, MetaError> {
    let only = match tagged {
        None => "",
        Some(true) => "AND tagged",
        Some(false) => "AND NOT tagged",
    };
    let sql = format!(
        "SELECT place, digest, tags, tagged, pushed_at, action, rule_priority, storage_class
         FROM lifecycle_preview_images
         WHERE preview_id = $1 AND place > $2 {only}
         ORDER BY place
         LIMIT $3"
    );
    tx.query_all_dynamic(&sql, &[&preview, &after, &limit], |row| {
        Ok(PreviewImageRow {
            place: row.get(0)?,
            digest: row.get(1)?,
            tags: row.get(2)?,
            tagged: row.get(3)?,
            pushed_at: row.get(4)?,
            action: row.get(5)?,
            rule_priority: row.get(6)?,
            storage_class: row.get(7)?,
        })
    })
}

/// Drops some of what a preview found; answers how many rows.
pub fn drop_preview_images(tx: &mut Tx<'_>, preview: &str, limit: usize) -> Result<u64, MetaError> {
    tx.execute(
        "DELETE FROM lifecycle_preview_images
         WHERE preview_id = $1 AND place IN
             (SELECT place FROM lifecycle_preview_images WHERE preview_id = $1 ORDER BY place LIMIT $2)",
        &[&preview, &limit],
    )
}
