//! What is pushed: bytes that differ from one push to the next and whose digests cost nothing to know.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

/// At the end of each blob, what makes it different from all others.
const TAIL: usize = 32;
/// OCI's media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A number that was not given out before.
pub fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What all blobs of one size have in common, already hashed.
pub struct Stem {
    bytes: Vec<u8>,
    hash: Sha256,
}

impl Stem {
    /// Blobs made of it have `size` bytes, more than [`TAIL`].
    pub fn new(size: usize) -> Self {
        // xorshift64*: nothing compresses it.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
        let mut bytes = vec![0; size - TAIL];
        for chunk in bytes.chunks_mut(8) {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        let hash = Sha256::new_with_prefix(&bytes);
        Self { bytes, hash }
    }

    /// A blob that nobody has seen.
    pub fn blob(&self) -> Blob<'_> {
        let mut tail = [b'.'; TAIL];
        tail[..8].copy_from_slice(&fresh().to_le_bytes());
        Blob { stem: &self.bytes, tail, digest: named(self.hash.clone().chain_update(tail)) }
    }
}

/// Content to push.
#[derive(Clone)]
pub struct Blob<'a> {
    stem: &'a [u8],
    tail: [u8; TAIL],
    /// `sha256:…`
    pub digest: String,
}

impl Blob<'_> {
    /// Its bytes, in two pieces.
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.stem, &self.tail]
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.stem.len() + TAIL
    }
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    named(Sha256::new_with_prefix(bytes))
}

fn named(hash: Sha256) -> String {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An image that nobody has seen.
#[derive(Clone)]
pub struct Image<'a> {
    /// Its configuration.
    pub config: Vec<u8>,
    /// The configuration's digest.
    pub config_digest: String,
    /// Its layers.
    pub layers: Vec<Blob<'a>>,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// The manifest's digest.
    pub digest: String,
}

impl<'a> Image<'a> {
    /// With so many new layers.
    pub fn new(stem: &'a Stem, layers: usize) -> Self {
        let layers: Vec<_> = (0..layers).map(|_| stem.blob()).collect();
        let ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", layer.digest)).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        )
        .into_bytes();
        let config_digest = digest(&config);
        let described: Vec<_> = layers.iter().map(|layer| (layer.digest.as_str(), layer.len())).collect();
        let manifest = manifest((&config_digest, config.len()), &described, "");
        let digest = digest(&manifest);
        Self { config, config_digest, layers, manifest, digest }
    }

    /// Bytes a pull of it transfers.
    pub fn bytes(&self) -> u64 {
        (self.manifest.len() + self.config.len() + self.layers.iter().map(Blob::len).sum::<usize>()) as u64
    }
}

/// An image manifest. `more` is further members of the object, each with a comma before it.
pub fn manifest(config: (&str, usize), layers: &[(&str, usize)], more: &str) -> Vec<u8> {
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    let described = |kind: &str, (digest, size): (&str, usize)| {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<_> = layers.iter().map(|layer| described(LAYER, *layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]{more}}}"#,
        described(CONFIG, config),
        layers.join(",")
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_bytes_and_no_two_blobs_are_equal() {
        let stem = Stem::new(1000);
        let (one, two) = (stem.blob(), stem.blob());
        assert_eq!(one.parts().concat().len(), 1000);
        assert_eq!(one.digest, digest(&one.parts().concat()));
        assert_ne!(one.digest, two.digest);
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }

    #[test]
    fn manifests_are_json_and_describe_their_blobs() {
        let stem = Stem::new(100);
        let image = Image::new(&stem, 3);
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], image.config_digest);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
        assert_eq!(manifest["layers"][2]["digest"], image.layers[2].digest);
        assert_eq!(manifest["layers"][2]["size"], 100);
    }
}
