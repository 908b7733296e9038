//! What is pushed: blobs of all sizes, images of them, indexes of images.

use std::sync::Arc;

use serde_json::json;
use wharf_types::Digest;

use crate::wire::random::Random;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A blob and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: String,
    pub content: Arc<[u8]>,
}

impl Blob {
    /// A small one (kept in its row) or one that becomes a file.
    pub fn random(random: &mut Random) -> Self {
        let length =
            if random.percent(50) { random.between(64, 20_000) } else { random.between(65_537, 260_000) };
        Self::sized(random, length)
    }

    pub fn sized(random: &mut Random, length: usize) -> Self {
        let content: Arc<[u8]> = random.bytes(length).into();
        let digest = if random.percent(10) { Digest::sha512(&content) } else { Digest::sha256(&content) };
        Self { digest: digest.to_string(), content }
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.content.len() })
    }
}

/// Blobs that all clients push, mount and reuse.
pub struct Pool {
    pub blobs: Vec<Blob>,
    /// Config of the images that clients contend with.
    pub config: Blob,
}

impl Pool {
    pub fn new(random: &mut Random) -> Self {
        let config = Blob { digest: Digest::sha256(b"{}").to_string(), content: b"{}".as_slice().into() };
        Self { blobs: (0..10).map(|_| Blob::random(random)).collect(), config }
    }
}

/// A manifest, and what it names.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    pub digest: String,
    pub media_type: &'static str,
    pub manifest: Vec<u8>,
    pub blobs: Vec<Blob>,
    pub children: Vec<String>,
}

impl Image {
    /// An image of these blobs, the first being its config; `mark` makes it one of its own.
    pub fn of(blobs: Vec<Blob>, mark: u64) -> Arc<Self> {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<_> = blobs[1..].iter().map(|blob| blob.descriptor(layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE,
            "config": blobs[0].descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": layers, "annotations": { "mark": mark.to_string() },
        });
        Self::made(IMAGE, manifest.to_string(), blobs, Vec::new())
    }

    /// An index of these images.
    pub fn index(children: &[Arc<Self>], mark: u64) -> Arc<Self> {
        let manifests: Vec<_> = children
            .iter()
            .map(|child| {
                json!({ "mediaType": child.media_type, "digest": child.digest, "size": child.manifest.len() })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests,
            "annotations": { "mark": mark.to_string() },
        });
        let digests = children.iter().map(|child| child.digest.clone()).collect();
        Self::made(INDEX, manifest.to_string(), Vec::new(), digests)
    }

    fn made(
        media_type: &'static str,
        manifest: String,
        blobs: Vec<Blob>,
        children: Vec<String>,
    ) -> Arc<Self> {
        let manifest = manifest.into_bytes();
        let digest = Digest::sha256(&manifest).to_string();
        Arc::new(Self { digest, media_type, manifest, blobs, children })
    }
}
