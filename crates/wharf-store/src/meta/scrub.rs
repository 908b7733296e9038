//! What a scrub reads besides objects: every manifest, and whether the rows agree with each other.

use super::manifests::SealedManifest;
use super::{MetaError, Tx};

/// A manifest as it is stored.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// The repository it is in.
    pub repository_id: i64,
    /// That repository's key domain.
    pub domain_id: i64,
    /// Its digest.
    pub digest: String,
    /// Its sealed bytes.
    pub sealed: SealedManifest,
}

/// A page of all manifests in order of repository and digest, after the given one (exclusive).
pub fn page_manifests(
    tx: &mut Tx<'_>,
    after: (i64, &str),
    limit: usize,
) -> Result<Vec<StoredManifest>, MetaError> {
    tx.query_all(
        "SELECT m.repository_id, r.domain_id, m.digest, m.keys, m.seal_id, m.content
         FROM manifests m
         JOIN repositories r ON r.id = m.repository_id
         WHERE m.repository_id >= $1 AND (m.repository_id > $1 OR m.digest > $2)
         ORDER BY m.repository_id, m.digest
         LIMIT $3",
        &[&after.0, &after.1, &limit],
        |row| {
            Ok(StoredManifest {
                repository_id: row.get(0)?,
                domain_id: row.get(1)?,
                digest: row.get(2)?,
                sealed: SealedManifest { keys: row.get(3)?, seal_id: row.get(4)?, content: row.get(5)? },
            })
        },
    )
}

/// What disagrees between objects, blobs, links and edges, in words; at most `limit` of each kind.
pub fn contradictions(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<String>, MetaError> {
    const CHECKS: [(&str, &str); 6] = [
        (
            "blob points at an object that is neither live nor quarantined",
            "SELECT b.digest FROM blobs b JOIN objects o ON o.id = b.object_id
             WHERE o.state NOT IN ('live', 'quarantined') OR o.digest IS NULL OR o.digest <> b.digest
             LIMIT $1",
        ),
        (
            "live object has no blob",
            "SELECT o.id FROM objects o
             WHERE o.state = 'live' AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.object_id = o.id)
             LIMIT $1",
        ),
        (
            "blob has no link",
            "SELECT b.digest FROM blobs b
             WHERE NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.domain_id = b.domain_id AND l.digest = b.digest)
             LIMIT $1",
        ),
        (
            "link is of another key domain than its repository",
            "SELECT l.digest FROM repository_blobs l JOIN repositories r ON r.id = l.repository_id
             WHERE l.domain_id <> r.domain_id
             LIMIT $1",
        ),
        (
            "link's grace and its edges disagree",
            "SELECT l.digest FROM repository_blobs l
             WHERE (l.unreferenced_since IS NULL) <> EXISTS (
                 SELECT 1 FROM manifest_blobs e WHERE e.repository_id = l.repository_id AND e.blob = l.digest)
             LIMIT $1",
        ),
        (
            "manifest waits for what is there",
            "SELECT w.manifest FROM missing_references w
             WHERE (w.kind = 'blob' AND EXISTS (
                       SELECT 1 FROM repository_blobs l WHERE l.repository_id = w.repository_id AND l.digest = w.digest))
                OR (w.kind = 'manifest' AND EXISTS (
                       SELECT 1 FROM manifests m WHERE m.repository_id = w.repository_id AND m.digest = w.digest))
             LIMIT $1",
        ),
    ];
    let mut found = Vec::new();
    for (what, sql) in CHECKS {
        let names = tx.query_all(sql, &[&limit], |row| row.get::<String>(0))?;
        found.extend(names.into_iter().map(|name| format!("{what}: {name}")));
    }
    Ok(found)
}
