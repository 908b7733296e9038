//! Conversion between Docker schema 2 and OCI image manifests, for clients that accept only the other form. The
//! content is the same; media types change, and so does the digest. Lists and indexes are never converted.
//! (ECR user guide, "Container image manifest format support".)

use bytes::Bytes;
use serde_json::Value;
use wharf_types::{Digest, MediaType};

use crate::StoredManifest;

/// Media types that mean the same: Docker's, OCI's.
const PAIRS: &[(&str, &str)] = &[
    (MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST),
    (MediaType::DOCKER_CONFIG, MediaType::OCI_CONFIG),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ),
];

/// The manifest in the other form, if its own is not accepted, the other is, and everything in it has an equal there.
pub(crate) fn convert(stored: &StoredManifest, accepted: &[MediaType]) -> Option<StoredManifest> {
    let accepts = |wanted: &str| accepted.iter().any(|media_type| media_type.as_str() == wanted);
    let anything = accepted.is_empty() || accepts("*/*") || accepts("application/*");
    if anything || accepts(stored.media_type.as_str()) {
        return None;
    }
    let to_oci = match stored.media_type.as_str() {
        MediaType::DOCKER_MANIFEST if accepts(MediaType::OCI_MANIFEST) => true,
        MediaType::OCI_MANIFEST if accepts(MediaType::DOCKER_MANIFEST) => false,
        _ => return None,
    };
    let mut manifest: Value = serde_json::from_slice(&stored.bytes).ok()?;
    let media_type = MediaType::parse(translated(stored.media_type.as_str(), to_oci)?)?;
    manifest["mediaType"] = media_type.as_str().into();
    translate(manifest.get_mut("config")?, to_oci)?;
    for layer in manifest.get_mut("layers")?.as_array_mut()? {
        translate(layer, to_oci)?;
    }
    let bytes = Bytes::from(serde_json::to_vec(&manifest).ok()?);
    Some(StoredManifest { digest: Digest::sha256(&bytes), media_type, bytes })
}

fn translate(descriptor: &mut Value, to_oci: bool) -> Option<()> {
    let own = descriptor.get("mediaType")?.as_str()?;
    let other = translated(own, to_oci)?;
    descriptor["mediaType"] = other.into();
    Some(())
}

fn translated(media_type: &str, to_oci: bool) -> Option<&'static str> {
    PAIRS.iter().find_map(|(docker, oci)| match to_oci {
        true => (*docker == media_type || *oci == media_type).then_some(*oci),
        false => (*oci == media_type || *docker == media_type).then_some(*docker),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(media_type: &str, layer: &str) -> StoredManifest {
        let config = translated(MediaType::DOCKER_CONFIG, media_type == MediaType::OCI_MANIFEST).unwrap();
        let bytes = Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"{config}","size":1}},
               "layers":[{{"mediaType":"{layer}","size":2}}]}}"#
        ));
        StoredManifest {
            digest: Digest::sha256(&bytes),
            media_type: MediaType::parse(media_type).unwrap(),
            bytes,
        }
    }

    fn accept(types: &[&str]) -> Vec<MediaType> {
        types.iter().map(|text| MediaType::parse(text).unwrap()).collect()
    }

    #[test]
    fn there_and_back() {
        let docker = stored(MediaType::DOCKER_MANIFEST, PAIRS[2].0);
        let oci = convert(&docker, &accept(&[MediaType::OCI_MANIFEST])).unwrap();
        assert_eq!(oci.media_type.as_str(), MediaType::OCI_MANIFEST);
        assert_ne!(oci.digest, docker.digest);
        assert!(!String::from_utf8_lossy(&oci.bytes).contains("docker"));
        let back = convert(&oci, &accept(&[MediaType::DOCKER_MANIFEST])).unwrap();
        assert!(!String::from_utf8_lossy(&back.bytes).contains("oci"));
    }

    #[test]
    fn left_alone() {
        let docker = stored(MediaType::DOCKER_MANIFEST, PAIRS[2].0);
        assert!(convert(&docker, &[]).is_none());
        assert!(convert(&docker, &accept(&[MediaType::DOCKER_MANIFEST, MediaType::OCI_MANIFEST])).is_none());
        assert!(convert(&docker, &accept(&["text/plain"])).is_none());
        // Docker has no zstd layers.
        let zstd = stored(MediaType::OCI_MANIFEST, "application/vnd.oci.image.layer.v1.tar+zstd");
        assert!(convert(&zstd, &accept(&[MediaType::DOCKER_MANIFEST])).is_none());
    }
}
