//! Images: manifests and the tags that point at them.

mod delete;
mod get;
mod list;
mod put;

use std::sync::Arc;

use bytes::Bytes;
use wharf_types::{Digest, MediaType, Tag};

pub use self::delete::{DeletedReference, ForcedDeletion};
pub(crate) use self::delete::{Fate, InUse, delete_digest, untag};
pub use self::put::{PutImage, PutOutcome};
use crate::cache::CoherentCache;
use crate::lists::ListCache;
use crate::{ImageFailure, ImageFailureCode, ImageId, ImageRef};

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// The bytes as pushed, or converted (then `digest` is theirs).
    pub bytes: Bytes,
}

/// What a batch delete removed: one entry per tag, or one without a tag.
pub type Deleted = Vec<ImageRef>;

/// Bytes of manifests kept in memory.
const MANIFEST_BYTES: u64 = 12 << 20;
/// Tags kept in memory.
const TAGS: u64 = 50_000;

/// Manifests by digest (which never change) and tags (which do). Repository ids are never used twice, so entries of a
/// deleted repository cannot be asked for.
pub(crate) struct ImageCaches {
    manifests: CoherentCache<(i64, Digest), Arc<StoredManifest>>,
    tags: CoherentCache<(i64, Tag), Digest>,
    /// Lists of tags and of referrers.
    pub(crate) lists: ListCache,
}

impl ImageCaches {
    pub(crate) fn new() -> Self {
        let weigh = |_: &(i64, Digest), manifest: &Arc<StoredManifest>| {
            u32::try_from(manifest.bytes.len()).unwrap_or(u32::MAX).saturating_add(256)
        };
        Self {
            manifests: CoherentCache::weighed(MANIFEST_BYTES, weigh),
            tags: CoherentCache::new(TAGS),
            lists: ListCache::default(),
        }
    }

    /// Forgets a manifest that has gone, or that must not be served any more.
    pub(crate) fn forget_manifest(&self, repository_id: i64, digest: Digest) {
        self.manifests.invalidate(&(repository_id, digest));
    }

    /// Forgets where a tag points.
    pub(crate) fn forget_tag(&self, repository_id: i64, tag: &Tag) {
        self.tags.invalidate(&(repository_id, tag.clone()));
    }
}

/// An image id that can be looked up.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Digest(Digest),
    Tag(Tag),
    Both(Digest, Tag),
}

/// Reads an image id; what is wrong with it is a failure of that one image, not of the request.
pub(crate) fn asked(id: &ImageId) -> Result<Asked, ImageFailure> {
    let digest = match id.digest.as_deref().map(|text| (text, text.parse::<Digest>())) {
        None => None,
        Some((_, Ok(digest))) => Some(digest),
        Some((text, Err(_))) if looks_like_digest(text) => return Err(not_found(id)),
        Some(_) => {
            let reason = "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
            return Err(failure(id, ImageFailureCode::InvalidImageDigest, reason));
        }
    };
    let tag = match id.tag.as_deref().map(str::parse::<Tag>) {
        None => None,
        Some(Ok(tag)) => Some(tag),
        Some(Err(_)) => {
            let reason = "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'";
            return Err(failure(id, ImageFailureCode::InvalidImageTag, reason));
        }
    };
    match (digest, tag) {
        (Some(digest), Some(tag)) => Ok(Asked::Both(digest, tag)),
        (Some(digest), None) => Ok(Asked::Digest(digest)),
        (None, Some(tag)) => Ok(Asked::Tag(tag)),
        (None, None) => {
            let reason = "Invalid request parameters: both tag and digest cannot be null";
            Err(failure(id, ImageFailureCode::MissingDigestAndTag, reason))
        }
    }
}

/// ECR's pattern, which is wider than what can exist here.
fn looks_like_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
            && !hex.is_empty()
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn failure(id: &ImageId, code: ImageFailureCode, reason: impl Into<String>) -> ImageFailure {
    ImageFailure { id: id.clone(), code, reason: reason.into() }
}

fn not_found(id: &ImageId) -> ImageFailure {
    failure(id, ImageFailureCode::ImageNotFound, "Requested image not found")
}

fn mismatch(id: &ImageId) -> ImageFailure {
    failure(
        id,
        ImageFailureCode::ImageTagDoesNotMatchDigest,
        "Invalid request parameters: image tag does not match the image digest",
    )
}
