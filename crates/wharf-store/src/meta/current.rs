//! What a node asks before it answers from memory, where others change the metadata too: each in one statement.

use wharf_types::RepositoryRef;

use super::objects::{ObjectState, object_id};
use super::repositories::{self, RepositoryRow};
use super::{MetaError, Tx};
use crate::object::ObjectId;

/// An image as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentImage {
    /// The repository that has the name now.
    pub repository_id: i64,
    /// Its digest and status; `None` when it is not there.
    pub image: Option<(String, String)>,
}

/// A blob as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentBlob {
    /// The repository that has the name now.
    pub repository_id: i64,
    /// `None` when the repository is not linked to it.
    pub link: Option<CurrentLink>,
}

/// A repository's link to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLink {
    /// Where the content is.
    pub object: ObjectId,
    /// Whether it may be served.
    pub is_live: bool,
    /// Since when no manifest names it.
    pub unreferenced_since: Option<i64>,
    /// Images of the repository name it, and none of them is active.
    pub archived: bool,
}

/// The image that a digest names in the repository of that name; `None` without the repository.
pub fn image_by_digest(
    tx: &mut Tx<'_>,
    of: &RepositoryRef,
    digest: &str,
) -> Result<Option<CurrentImage>, MetaError> {
    image(
        tx,
        "SELECT r.id, m.digest, m.status
         FROM repositories r
         LEFT JOIN manifests m ON m.repository_id = r.id AND m.digest = $5
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name = $4",
        of,
        digest,
    )
}

/// The image that a tag points at in the repository of that name; `None` without the repository.
pub fn image_by_tag(
    tx: &mut Tx<'_>,
    of: &RepositoryRef,
    tag: &str,
) -> Result<Option<CurrentImage>, MetaError> {
    image(
        tx,
        "SELECT r.id, t.digest, m.status
         FROM repositories r
         LEFT JOIN tags t ON t.repository_id = r.id AND t.name = $5
         LEFT JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name = $4",
        of,
        tag,
    )
}

fn image(
    tx: &mut Tx<'_>,
    sql: &'static str,
    of: &RepositoryRef,
    reference: &str,
) -> Result<Option<CurrentImage>, MetaError> {
    let (account, region) = (of.registry.account, &of.registry.region);
    tx.query_opt(
        sql,
        &[&account.as_str(), &region.as_str(), &of.kind.as_str(), &of.name.as_str(), &reference],
        |row| {
            let (digest, status): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok(CurrentImage { repository_id: row.get(0)?, image: digest.zip(status) })
        },
    )
}

/// What a push of an image finds.
#[derive(Clone, Debug)]
pub struct CurrentTarget {
    /// The repository that has the name now.
    pub repository: RepositoryRow,
    /// The status of the image, if it is there.
    pub status: Option<String>,
    /// What the tag points at.
    pub tag: Option<String>,
}

/// The repository of that name, with what it has of an image and a tag (empty: none); `None` without the repository.
pub fn target(
    tx: &mut Tx<'_>,
    of: &RepositoryRef,
    digest: &str,
    tag: &str,
) -> Result<Option<CurrentTarget>, MetaError> {
    let (account, region) = (of.registry.account, &of.registry.region);
    tx.query_opt(
        "SELECT r.id, r.account, r.region, r.kind, r.name, r.mutability, r.exclusions, r.scan_on_push, r.created_at,
                d.id, d.encryption_type, d.kms_key, m.status, t.digest
         FROM repositories r
         JOIN key_domains d ON d.id = r.domain_id
         LEFT JOIN manifests m ON m.repository_id = r.id AND m.digest = $5
         LEFT JOIN tags t ON t.repository_id = r.id AND t.name = $6
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name = $4",
        &[&account.as_str(), &region.as_str(), &of.kind.as_str(), &of.name.as_str(), &digest, &tag],
        |row| {
            let repository = repositories::row(row)?;
            Ok(CurrentTarget { repository, status: row.get(12)?, tag: row.get(13)? })
        },
    )
}

/// What the repository of that name has of a blob; `None` without the repository.
pub fn blob(tx: &mut Tx<'_>, of: &RepositoryRef, digest: &str) -> Result<Option<CurrentBlob>, MetaError> {
    let (account, region) = (of.registry.account, &of.registry.region);
    tx.query_opt(
        "SELECT r.id, b.object_id, o.state, l.unreferenced_since,
                EXISTS (SELECT 1 FROM manifest_blobs e WHERE e.repository_id = r.id AND e.blob = $5)
                AND NOT EXISTS (SELECT 1
                                FROM manifest_blobs e
                                JOIN manifests m ON m.repository_id = e.repository_id AND m.digest = e.manifest
                                WHERE e.repository_id = r.id AND e.blob = $5 AND m.status = 'ACTIVE')
         FROM repositories r
         LEFT JOIN repository_blobs l ON l.repository_id = r.id AND l.digest = $5
         LEFT JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
         LEFT JOIN objects o ON o.id = b.object_id
         WHERE r.account = $1 AND r.region = $2 AND r.kind = $3 AND r.name = $4",
        &[&account.as_str(), &region.as_str(), &of.kind.as_str(), &of.name.as_str(), &digest],
        |row| {
            let link = match row.get::<Option<String>>(1)? {
                None => None,
                Some(_) => Some(CurrentLink {
                    object: object_id(row, 1)?,
                    is_live: ObjectState::of(row, 2)? == ObjectState::Live,
                    unreferenced_since: row.get(3)?,
                    archived: row.get(4)?,
                }),
            };
            Ok(CurrentBlob { repository_id: row.get(0)?, link })
        },
    )
}
