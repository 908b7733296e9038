//! References of sparse manifests to what their repository does not hold. A reference becomes an edge in the
//! transaction in which what it names arrives: what is reachable is never collected, however late it came.

use super::{MetaError, Tx, manifests};

/// What a sparse manifest names and its repository lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Digests of blobs.
    pub blobs: Vec<String>,
    /// Digests of manifests.
    pub manifests: Vec<String>,
}

impl Missing {
    /// Whether the manifest is not sparse.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.manifests.is_empty()
    }
}

/// Whether the reference is to a blob or to a manifest: one digest can be both.
#[derive(Clone, Copy)]
enum Kind {
    Blob,
    Manifest,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Manifest => "manifest",
        }
    }
}

/// Links a manifest to those of `expected` that the repository holds by now and records the others. Answers the
/// largest content size of the manifests that it holds; 0 for none.
pub fn link_or_record(
    tx: &mut Tx<'_>,
    repository_id: i64,
    manifest: &str,
    expected: &Missing,
) -> Result<i64, MetaError> {
    if expected.is_empty() {
        return Ok(0);
    }
    lock_out_arrivals(tx, repository_id)?;
    let blobs = manifests::link_blobs(tx, repository_id, manifest, &expected.blobs)?;
    let (children, largest) = manifests::link_children(tx, repository_id, manifest, &expected.manifests)?;
    for (kind, digests) in [(Kind::Blob, blobs), (Kind::Manifest, children)] {
        for digest in digests {
            tx.execute_later(
                "INSERT INTO missing_references (repository_id, manifest, digest, kind) VALUES ($1, $2, $3, $4)",
                &[&repository_id, &manifest, &digest, &kind.as_str()],
            )?;
        }
    }
    Ok(largest)
}

/// Between the look for what is there and the record of what is not, nothing may arrive: on PostgreSQL neither side
/// would see the other. Whoever inserts a link or a manifest shares this row by its foreign key.
fn lock_out_arrivals(tx: &mut Tx<'_>, repository_id: i64) -> Result<(), MetaError> {
    let sql = format!("SELECT id FROM repositories WHERE id = $1{}", tx.dialect().for_update());
    tx.query_opt_dynamic(&sql, &[&repository_id], |row| row.get::<i64>(0))?;
    Ok(())
}

/// Gives a blob that has just been linked the edges of those who waited for it.
pub(super) fn blob_arrived(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<(), MetaError> {
    let blobs = [digest.to_owned()];
    for manifest in take_waiting(tx, repository_id, digest, Kind::Blob)? {
        manifests::link_blobs(tx, repository_id, &manifest, &blobs)?;
    }
    Ok(())
}

/// Gives a manifest that has just been inserted the edges of those who waited for it, which are as large as their
/// largest child.
pub(super) fn manifest_arrived(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
    content_size: i64,
) -> Result<(), MetaError> {
    for parent in take_waiting(tx, repository_id, digest, Kind::Manifest)? {
        tx.execute_later(
            "INSERT INTO manifest_children (repository_id, parent, child) VALUES ($1, $2, $3)",
            &[&repository_id, &parent, &digest],
        )?;
        manifests::raise_content_size(tx, repository_id, &parent, content_size)?;
    }
    Ok(())
}

/// Removes the references to what has arrived; answers whose they were.
fn take_waiting(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digest: &str,
    kind: Kind,
) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "DELETE FROM missing_references
         WHERE repository_id = $1 AND digest = $2 AND kind = $3
         RETURNING manifest",
        &[&repository_id, &digest, &kind.as_str()],
        |row| row.get(0),
    )
}

/// Removes the references of a manifest that is to be deleted, and answers them, in order. Called before its edges are
/// looked at: what arrived until now has its edge, and what arrives later finds nobody waiting.
pub fn take(tx: &mut Tx<'_>, repository_id: i64, manifest: &str) -> Result<Missing, MetaError> {
    let mut taken: Vec<(String, String)> = tx.query_all(
        "DELETE FROM missing_references WHERE repository_id = $1 AND manifest = $2 RETURNING digest, kind",
        &[&repository_id, &manifest],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    taken.sort();
    let mut missing = Missing::default();
    for (digest, kind) in taken {
        let list = if kind == Kind::Blob.as_str() { &mut missing.blobs } else { &mut missing.manifests };
        list.push(digest);
    }
    Ok(missing)
}
