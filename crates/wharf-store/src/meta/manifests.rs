//! Manifests and what they name. Content is sealed by the caller; here it is bytes.

use super::dialect::placeholders;
use super::{MetaError, Param, Row, Tx, missing};

/// At most this many placeholders for one list; longer lists go in several statements.
const LIST: usize = 500;

/// A manifest row without its content.
#[derive(Clone, Debug)]
pub struct ManifestRow {
    /// `sha256:…`.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// `artifactType`, or the configuration's media type.
    pub artifact_type: Option<String>,
    /// What it refers to.
    pub subject: Option<String>,
    /// JSON object; referrers only.
    pub annotations: Option<String>,
    /// Bytes of the manifest.
    pub size: i64,
    /// Bytes of what it names.
    pub content_size: i64,
    /// `ACTIVE`, `ARCHIVED`, `ACTIVATING`.
    pub status: String,
    /// First put.
    pub pushed_at: i64,
    /// Last recorded pull.
    pub pulled_at: Option<i64>,
    /// Last archived.
    pub archived_at: Option<i64>,
    /// Last restored.
    pub activated_at: Option<i64>,
}

/// The sealed bytes of a manifest.
#[derive(Clone, Debug)]
pub struct SealedManifest {
    /// Wrapped content keys; `None` = stored plain.
    pub keys: Option<Vec<u8>>,
    /// The object id the content is sealed for.
    pub seal_id: String,
    /// The bytes as stored.
    pub content: Vec<u8>,
}

fn row(row: &Row<'_>) -> Result<ManifestRow, MetaError> {
    Ok(ManifestRow {
        digest: row.get(0)?,
        media_type: row.get(1)?,
        artifact_type: row.get(2)?,
        subject: row.get(3)?,
        annotations: row.get(4)?,
        size: row.get(5)?,
        content_size: row.get(6)?,
        status: row.get(7)?,
        pushed_at: row.get(8)?,
        pulled_at: row.get(9)?,
        archived_at: row.get(10)?,
        activated_at: row.get(11)?,
    })
}

/// Finds a manifest.
pub fn find(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Option<ManifestRow>, MetaError> {
    tx.query_opt(
        "SELECT digest, media_type, artifact_type, subject, annotations, size, content_size, status, pushed_at,
                pulled_at, archived_at, activated_at
         FROM manifests
         WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
        row,
    )
}

/// Whether a manifest is there.
pub fn exists(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<bool, MetaError> {
    let found = tx.query_opt(
        "SELECT 1 FROM manifests WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

/// A manifest with its sealed bytes.
pub fn find_sealed(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
) -> Result<Option<(ManifestRow, SealedManifest)>, MetaError> {
    tx.query_opt(
        "SELECT digest, media_type, artifact_type, subject, annotations, size, content_size, status, pushed_at,
                pulled_at, archived_at, activated_at, keys, seal_id, content
         FROM manifests
         WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
        |found| {
            let sealed = SealedManifest { keys: found.get(12)?, seal_id: found.get(13)?, content: found.get(14)? };
            Ok((row(found)?, sealed))
        },
    )
}

/// Puts sound content in place of what is damaged, with its annotations, which are sealed under the same keys.
pub fn replace_content(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &ManifestRow,
    sealed: &SealedManifest,
) -> Result<(), MetaError> {
    tx.execute_later(
        "UPDATE manifests SET annotations = $3, keys = $4, seal_id = $5, content = $6
         WHERE repository_id = $1 AND digest = $2",
        &[
            &repository_id,
            &manifest.digest,
            &manifest.annotations,
            &sealed.keys,
            &sealed.seal_id,
            &sealed.content,
        ],
    )?;
    Ok(())
}

/// Inserts a manifest, with the edges of sparse manifests that name it. The transaction fails with a unique
/// violation if it is there.
pub fn insert(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &ManifestRow,
    sealed: &SealedManifest,
) -> Result<(), MetaError> {
    insert_alone(tx, repository_id, manifest, sealed)?;
    missing::manifest_arrived(tx, repository_id, &manifest.digest, manifest.content_size)
}

/// As [`insert`], where nobody waits for the manifest.
pub(super) fn insert_alone(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &ManifestRow,
    sealed: &SealedManifest,
) -> Result<(), MetaError> {
    tx.execute_later(
        "INSERT INTO manifests
             (repository_id, digest, media_type, artifact_type, subject, annotations, size, content_size, status,
              pushed_at, pulled_at, archived_at, activated_at, keys, seal_id, content)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        &[
            &repository_id,
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
            &sealed.keys,
            &sealed.seal_id,
            &sealed.content,
        ],
    )
}

/// Adds the edges from a manifest to those of `blobs` that the repository holds, marks those as referenced, and
/// answers which it does not hold.
pub fn link_blobs(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &str,
    blobs: &[String],
) -> Result<Vec<String>, MetaError> {
    let mut missing = Vec::new();
    for part in blobs.chunks(LIST) {
        // Locked in digest order, so that a collector cannot take a link between this look and the edge.
        let sql = format!(
            "SELECT digest FROM repository_blobs WHERE repository_id = $1 AND digest IN ({}) ORDER BY digest{}",
            placeholders(2, part.len()),
            tx.dialect().for_key_share(),
        );
        let held: Vec<String> =
            tx.query_all_dynamic(&sql, &with_list(&[&repository_id], part), |row| row.get(0))?;
        missing.extend(part.iter().filter(|digest| held.binary_search(digest).is_err()).cloned());
        if held.is_empty() {
            continue;
        }
        let sql = format!(
            "INSERT INTO manifest_blobs (repository_id, manifest, blob)
             SELECT repository_id, $2, digest FROM repository_blobs WHERE repository_id = $1 AND digest IN ({})",
            placeholders(3, held.len()),
        );
        tx.execute_later_dynamic(&sql, &with_list(&[&repository_id, &manifest], &held))?;
        let sql = format!(
            "UPDATE repository_blobs
             SET unreferenced_since = NULL
             WHERE repository_id = $1 AND unreferenced_since IS NOT NULL AND digest IN ({})",
            placeholders(2, held.len()),
        );
        tx.execute_later_dynamic(&sql, &with_list(&[&repository_id], &held))?;
    }
    Ok(missing)
}

/// Adds the edges from an index to those of `children` that are there; answers which are not, and the largest
/// content size of those that are.
pub fn link_children(
    tx: &mut Tx<'_>,
    repository_id: i64,
    parent: &str,
    children: &[String],
) -> Result<(Vec<String>, i64), MetaError> {
    let (mut missing, mut largest) = (Vec::new(), 0);
    for part in children.chunks(LIST) {
        let sql = format!(
            "SELECT digest, content_size FROM manifests
             WHERE repository_id = $1 AND digest IN ({}) ORDER BY digest{}",
            placeholders(2, part.len()),
            tx.dialect().for_key_share(),
        );
        let held: Vec<(String, i64)> =
            tx.query_all_dynamic(&sql, &with_list(&[&repository_id], part), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        largest = held.iter().map(|(_, size)| *size).chain([largest]).max().unwrap_or(largest);
        missing.extend(
            part.iter()
                .filter(|digest| held.binary_search_by(|(held, _)| held.cmp(digest)).is_err())
                .cloned(),
        );
        for (child, _) in &held {
            tx.execute_later(
                "INSERT INTO manifest_children (repository_id, parent, child) VALUES ($1, $2, $3)",
                &[&repository_id, &parent, child],
            )?;
        }
    }
    Ok((missing, largest))
}

/// Says that an index holds a child of this content size: it is as large as its largest, and so are those that name it.
pub fn raise_content_size(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
    size: i64,
) -> Result<(), MetaError> {
    let mut larger = vec![digest.to_owned()];
    while let Some(index) = larger.pop() {
        let raised = tx.execute(
            "UPDATE manifests SET content_size = $3 WHERE repository_id = $1 AND digest = $2 AND content_size < $3",
            &[&repository_id, &index, &size],
        )?;
        if raised == 1 {
            larger.extend(tx.query_all(
                "SELECT parent FROM manifest_children WHERE repository_id = $1 AND child = $2",
                &[&repository_id, &index],
                |row| row.get::<String>(0),
            )?);
        }
    }
    Ok(())
}

/// The indexes that name a manifest, in order of digest.
pub fn parents(tx: &mut Tx<'_>, repository_id: i64, child: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT parent FROM manifest_children WHERE repository_id = $1 AND child = $2 ORDER BY parent LIMIT 100",
        &[&repository_id, &child],
        |row| row.get(0),
    )
}

/// The children an index is linked to.
pub fn children(tx: &mut Tx<'_>, repository_id: i64, parent: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT child FROM manifest_children WHERE repository_id = $1 AND parent = $2 ORDER BY child",
        &[&repository_id, &parent],
        |row| row.get(0),
    )
}

/// The blobs a manifest is linked to.
pub fn blobs(tx: &mut Tx<'_>, repository_id: i64, manifest: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT blob FROM manifest_blobs WHERE repository_id = $1 AND manifest = $2 ORDER BY blob",
        &[&repository_id, &manifest],
        |row| row.get(0),
    )
}

/// Removes a manifest whose tags, blob edges, missing references and parents are gone, and its edges to children.
pub fn remove(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<(), MetaError> {
    tx.execute_later(
        "DELETE FROM manifest_children WHERE repository_id = $1 AND parent = $2",
        &[&repository_id, &digest],
    )?;
    tx.execute_later(
        "DELETE FROM manifests WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
    )?;
    Ok(())
}

/// Puts an active image into the archive; `false` if it is not there, or not active.
pub fn archive(tx: &mut Tx<'_>, repository_id: i64, digest: &str, now: i64) -> Result<bool, MetaError> {
    let changed = tx.execute(
        "UPDATE manifests
         SET status = 'ARCHIVED', archived_at = $3
         WHERE repository_id = $1 AND digest = $2 AND status = 'ACTIVE'",
        &[&repository_id, &digest, &now],
    )?;
    Ok(changed == 1)
}

/// A page of manifests in order of digest, after `after` (exclusive). `tagged` and `status` narrow it.
pub fn page(
    tx: &mut Tx<'_>,
    repository_id: i64,
    after: &str,
    tagged: Option<bool>,
    status: Option<&str>,
    limit: usize,
) -> Result<Vec<ManifestRow>, MetaError> {
    const COLUMNS: &str =
        "m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, m.size, m.content_size,
         m.status, m.pushed_at, m.pulled_at, m.archived_at, m.activated_at";
    const HAS_TAG: &str = "EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = m.digest)";
    let tagged = match tagged {
        Some(true) => format!("AND {HAS_TAG}"),
        Some(false) => format!("AND NOT {HAS_TAG}"),
        None => String::new(),
    };
    let sql = format!(
        "SELECT {COLUMNS}
         FROM manifests m
         WHERE m.repository_id = $1 AND m.digest > $2 AND (CAST($3 AS TEXT) IS NULL OR m.status = $3) {tagged}
         ORDER BY m.digest
         LIMIT $4"
    );
    tx.query_all_dynamic(&sql, &[&repository_id, &after, &status, &limit], row)
}

/// A referrer: its row, and what opens its annotations.
pub struct ReferrerRow {
    /// The row.
    pub row: ManifestRow,
    /// The wrapped keys of its content and annotations; `None` where they are stored plain.
    pub keys: Option<Vec<u8>>,
    /// What they are sealed as.
    pub seal_id: String,
}

/// A page of referrers of a subject in order of digest, after `after` (exclusive). No types = all types.
pub fn page_referrers(
    tx: &mut Tx<'_>,
    repository_id: i64,
    subject: &str,
    artifact_types: &[String],
    status: Option<&str>,
    after: &str,
    limit: usize,
) -> Result<Vec<ReferrerRow>, MetaError> {
    let types = match artifact_types.len() {
        0 => String::new(),
        count => format!("AND artifact_type IN ({})", placeholders(6, count)),
    };
    let sql = format!(
        "SELECT digest, media_type, artifact_type, subject, annotations, size, content_size, status, pushed_at,
                pulled_at, archived_at, activated_at, keys, seal_id
         FROM manifests
         WHERE repository_id = $1 AND subject = $2 AND digest > $3 AND (CAST($4 AS TEXT) IS NULL OR status = $4) {types}
         ORDER BY digest
         LIMIT $5"
    );
    let fixed: [&dyn Param; 5] = [&repository_id, &subject, &after, &status, &limit];
    tx.query_all_dynamic(&sql, &with_list(&fixed, artifact_types), |found| {
        Ok(ReferrerRow { keys: found.get(12)?, seal_id: found.get(13)?, row: row(found)? })
    })
}

/// Some manifests of a repository that no index names, so that they can be deleted, with their sizes in bytes.
pub fn some_deletable(
    tx: &mut Tx<'_>,
    repository_id: i64,
    limit: usize,
) -> Result<Vec<(String, u64)>, MetaError> {
    tx.query_all(
        "SELECT m.digest, m.size
         FROM manifests m
         WHERE m.repository_id = $1
           AND NOT EXISTS (SELECT 1 FROM manifest_children c WHERE c.repository_id = $1 AND c.child = m.digest)
         ORDER BY m.digest
         LIMIT $2",
        &[&repository_id, &limit],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

fn with_list<'a>(fixed: &[&'a dyn Param], list: &'a [String]) -> Vec<&'a dyn Param> {
    fixed.iter().copied().chain(list.iter().map(|text| text as &dyn Param)).collect()
}
