//! Media types the registry knows by name. Any other text is a media type too: layers and artifacts bring their own.

use std::fmt;
use std::sync::Arc;

/// A media type as the client wrote it, without parameters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// OCI image manifest (also artifacts).
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI empty descriptor.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// ORAS / OCI 1.1-rc artifact manifest.
    pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
    /// ORAS artifact manifest, seen in ECR's events.
    pub const ORAS_ARTIFACT: &str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
    /// Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker manifest, version 2 schema 1 (refused).
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker manifest, version 2 schema 1, signed (refused).
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

    /// Takes the text up to a `;`, trimmed. Must be printable ASCII of at most 255 bytes with a `/`.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        let legal = |b: u8| b.is_ascii_graphic() && !b"\"(),:;<=>?@[\\]{}".contains(&b);
        (bare.len() <= 255 && bare.contains('/') && bare.bytes().all(legal)).then(|| Self(bare.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether layers of this type are fetched from elsewhere and never stored here.
    pub fn is_foreign_layer(&self) -> bool {
        self.0.starts_with("application/vnd.docker.image.rootfs.foreign.")
            || self.0.starts_with("application/vnd.oci.image.layer.nondistributable.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped_and_junk_refused() {
        assert_eq!(MediaType::parse("application/json; charset=utf-8").unwrap().as_str(), "application/json");
        for bad in ["", "json", "a/b\r\nX: y", "a/b c", "ä/b"] {
            assert!(MediaType::parse(bad).is_none(), "{bad:?}");
        }
    }
}
