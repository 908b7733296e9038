//! Manifests: the exact bytes a client pushed, and a parsed view of what they name. Nothing re-serialises them.
//! (OCI image-spec 1.1 "Image Manifest" and "Image Index"; Docker image manifest v2 schema 2; ORAS artifacts.)

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;

use crate::{Digest, DigestAlgorithm, DigestError, MediaType};

/// A descriptor: what is named, its type and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: MediaType,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Set where the content is fetched from elsewhere (a foreign layer) and may be absent here.
    pub foreign: bool,
}

/// What sort of manifest it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// A configuration and layers: OCI image manifest or Docker schema 2.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order.
        layers: Vec<Descriptor>,
    },
    /// A list of manifests: OCI index or Docker manifest list.
    Index {
        /// The children, in order.
        manifests: Vec<Descriptor>,
    },
    /// An artifact manifest (ORAS, OCI 1.1 release candidates): blobs without a configuration.
    Artifact {
        /// The blobs.
        blobs: Vec<Descriptor>,
    },
}

/// A manifest that can be stored.
#[derive(Clone, Debug)]
pub struct Manifest {
    bytes: Bytes,
    media_type: MediaType,
    kind: ManifestKind,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not the JSON a manifest has.
    #[error("manifest is not valid: {0}")]
    Syntax(String),
    /// The `mediaType` inside and the one declared outside differ.
    #[error("manifest says it is {inside}, the request says {outside}")]
    MediaTypeMismatch {
        /// The `mediaType` field.
        inside: String,
        /// The `Content-Type` or `imageManifestMediaType`.
        outside: String,
    },
    /// Neither the manifest nor the request names a media type.
    #[error("manifest has no media type")]
    NoMediaType,
    /// A media type this registry does not store.
    #[error("manifest media type {0} is not supported")]
    Unsupported(String),
    /// Docker schema 1, withdrawn by Docker in 2019.
    #[error("docker image manifest version 2, schema 1 is not supported; push schema 2 or an OCI image")]
    Schema1,
    /// A descriptor names something that is no digest.
    #[error("manifest names an invalid digest: {0}")]
    Digest(#[from] DigestError),
}

/// The fields a registry reads; all others are kept as bytes only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<DescriptorView>,
    layers: Option<Vec<DescriptorView>>,
    manifests: Option<Vec<DescriptorView>>,
    blobs: Option<Vec<DescriptorView>>,
    subject: Option<DescriptorView>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorView {
    media_type: Option<String>,
    digest: String,
    size: u64,
    urls: Option<Vec<String>>,
}

impl Manifest {
    /// Parses `bytes`; `declared` is the media type the request gave.
    ///
    /// # Errors
    /// See [`ManifestError`]; nothing else is checked here, least of all whether what it names exists.
    pub fn parse(bytes: Bytes, declared: Option<&MediaType>) -> Result<Self, ManifestError> {
        let view: View =
            serde_json::from_slice(&bytes).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        // First: schema 1 has no media type inside, and its clients often declare none.
        if view.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        let media_type = media_type(&view, declared)?;
        let kind = kind(&media_type, &view)?;
        let artifact_type = view.artifact_type.filter(|text| !text.is_empty());
        if artifact_type.as_ref().is_some_and(|text| MediaType::parse(text).is_none()) {
            return Err(ManifestError::Syntax("artifactType is not a media type".into()));
        }
        Ok(Self {
            kind,
            subject: view.subject.map(descriptor).transpose()?,
            artifact_type,
            annotations: view.annotations.unwrap_or_default(),
            media_type,
            bytes,
        })
    }

    /// The bytes as pushed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its media type.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// What it names.
    pub fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The manifest it refers to, if it is a referrer.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The annotations, empty where it has none.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The digest of the bytes.
    pub fn digest(&self, algorithm: DigestAlgorithm) -> Digest {
        Digest::of(algorithm, &self.bytes)
    }

    /// `artifactType`, or else the configuration's media type (distribution-spec, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        match (&self.artifact_type, &self.kind) {
            (Some(own), _) => Some(own),
            (None, ManifestKind::Image { config, .. }) => Some(config.media_type.as_str()),
            (None, ManifestKind::Index { .. } | ManifestKind::Artifact { .. }) => None,
        }
    }

    /// Every blob it names, once each: configuration and layers. One that is named as foreign and not is not foreign.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let mut all: Vec<&Descriptor> = match &self.kind {
            ManifestKind::Image { config, layers } => std::iter::once(config).chain(layers).collect(),
            ManifestKind::Index { .. } => Vec::new(),
            ManifestKind::Artifact { blobs } => blobs.iter().collect(),
        };
        all.sort_by_key(|blob| blob.foreign);
        unique(all)
    }

    /// Every child manifest it names, once each.
    pub fn children(&self) -> Vec<&Descriptor> {
        match &self.kind {
            ManifestKind::Index { manifests } => unique(manifests.iter().collect()),
            ManifestKind::Image { .. } | ManifestKind::Artifact { .. } => Vec::new(),
        }
    }

    /// Compressed size of configuration and layers in bytes, each counted once; 0 for an index.
    pub fn content_size(&self) -> u64 {
        self.blobs().iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }
}

fn unique(all: Vec<&Descriptor>) -> Vec<&Descriptor> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|descriptor| seen.insert(descriptor.digest)).collect()
}

fn media_type(view: &View, declared: Option<&MediaType>) -> Result<MediaType, ManifestError> {
    let inside = match &view.media_type {
        Some(text) => Some(MediaType::parse(text).ok_or_else(|| ManifestError::Unsupported(text.clone()))?),
        None => None,
    };
    match (inside, declared) {
        (Some(inside), Some(outside)) if inside != *outside => {
            Err(ManifestError::MediaTypeMismatch { inside: inside.to_string(), outside: outside.to_string() })
        }
        (Some(inside), _) => Ok(inside),
        (None, Some(outside)) => Ok(outside.clone()),
        (None, None) => Err(ManifestError::NoMediaType),
    }
}

fn kind(media_type: &MediaType, view: &View) -> Result<ManifestKind, ManifestError> {
    let lacks = |field: &str| ManifestError::Syntax(format!("`{field}` is missing"));
    // One document must not be an image to one client and an index to another (GHSA-mc8v-mgrf-8f4m).
    let stray = |field: &str| ManifestError::Syntax(format!("`{field}` does not belong in {media_type}"));
    match media_type.as_str() {
        MediaType::OCI_MANIFEST | MediaType::DOCKER_MANIFEST => {
            if view.manifests.is_some() {
                return Err(stray("manifests"));
            }
            let config = view.config.as_ref().ok_or_else(|| lacks("config")).and_then(named)?;
            let layers = view.layers.as_deref().ok_or_else(|| lacks("layers")).and_then(all_named)?;
            Ok(ManifestKind::Image { config, layers })
        }
        MediaType::OCI_INDEX | MediaType::DOCKER_LIST => {
            if view.layers.is_some() || view.config.is_some() {
                return Err(stray("layers"));
            }
            let manifests =
                view.manifests.as_deref().ok_or_else(|| lacks("manifests")).and_then(all_named)?;
            Ok(ManifestKind::Index { manifests })
        }
        MediaType::OCI_ARTIFACT | MediaType::ORAS_ARTIFACT => {
            if view.manifests.is_some() || view.layers.is_some() {
                return Err(stray("manifests"));
            }
            Ok(ManifestKind::Artifact { blobs: all_named(view.blobs.as_deref().unwrap_or_default())? })
        }
        MediaType::DOCKER_SCHEMA1 | MediaType::DOCKER_SCHEMA1_SIGNED => Err(ManifestError::Schema1),
        other => Err(ManifestError::Unsupported(other.into())),
    }
}

fn all_named(views: &[DescriptorView]) -> Result<Vec<Descriptor>, ManifestError> {
    views.iter().map(named).collect()
}

fn named(view: &DescriptorView) -> Result<Descriptor, ManifestError> {
    let text = view.media_type.as_deref().unwrap_or_default();
    let media_type = MediaType::parse(text)
        .ok_or_else(|| ManifestError::Syntax(format!("a descriptor has the media type {text:?}")))?;
    let foreign = media_type.is_foreign_layer() || view.urls.as_ref().is_some_and(|urls| !urls.is_empty());
    Ok(Descriptor { digest: view.digest.parse()?, size: view.size, foreign, media_type })
}

fn descriptor(view: DescriptorView) -> Result<Descriptor, ManifestError> {
    named(&view)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(text: &str) -> String {
        Digest::sha256(text.as_bytes()).to_string()
    }

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":3}},
               "layers":[{{"mediaType":"application/x","digest":"{}","size":5}},
                         {{"mediaType":"application/x","digest":"{}","size":5}}]{extra}}}"#,
            MediaType::OCI_MANIFEST,
            MediaType::OCI_CONFIG,
            digest("c"),
            digest("l"),
            digest("l"),
        )
    }

    fn parse(text: &str, declared: Option<&str>) -> Result<Manifest, ManifestError> {
        let declared = declared.map(|text| MediaType::parse(text).unwrap());
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), declared.as_ref())
    }

    #[test]
    fn an_image_names_each_blob_once() {
        let manifest = parse(&image(""), None).unwrap();
        assert_eq!(manifest.blobs().len(), 2);
        assert_eq!(manifest.content_size(), 8);
        assert_eq!(manifest.artifact_type(), Some(MediaType::OCI_CONFIG));
        assert_eq!(manifest.bytes().as_ref(), image("").as_bytes());
    }

    #[test]
    fn media_types_must_agree() {
        assert!(parse(&image(""), Some(MediaType::OCI_MANIFEST)).is_ok());
        let error = parse(&image(""), Some(MediaType::DOCKER_MANIFEST)).unwrap_err();
        assert!(matches!(error, ManifestError::MediaTypeMismatch { .. }));
        assert_eq!(parse(r#"{"schemaVersion":2}"#, None).unwrap_err(), ManifestError::NoMediaType);
        assert!(matches!(parse("{}", Some("text/plain")), Err(ManifestError::Unsupported(_))));
    }

    #[test]
    fn what_is_no_manifest() {
        let both = image(r#","manifests":[]"#);
        let deep = "[".repeat(10_000);
        for bad in ["", "{", "[]", "null", &both, &deep, r#"{"schemaVersion":2,"mediaType":5}"#] {
            assert!(
                matches!(parse(bad, Some(MediaType::OCI_MANIFEST)), Err(ManifestError::Syntax(_))),
                "{bad:.60}"
            );
        }
        let negative = image("").replace("\"size\":3", "\"size\":-3");
        assert!(matches!(parse(&negative, None), Err(ManifestError::Syntax(_))));
        let short = image("").replace(&digest("c"), "sha256:abc");
        assert!(matches!(parse(&short, None), Err(ManifestError::Digest(_))));
        for declared in [Some(MediaType::DOCKER_SCHEMA1), Some(MediaType::OCI_MANIFEST), None] {
            assert_eq!(parse(r#"{"schemaVersion":1}"#, declared).unwrap_err(), ManifestError::Schema1);
        }
    }

    #[test]
    fn foreign_layers_are_marked() {
        let text = image("").replace(r#""size":5}"#, r#""size":5,"urls":["https://example.com/l"]}"#);
        let manifest = parse(&text, None).unwrap();
        assert_eq!(manifest.blobs().iter().filter(|blob| blob.foreign).count(), 1);
    }

    #[test]
    fn a_blob_named_as_foreign_and_not_must_be_there() {
        let foreign = format!(
            r#"{{"mediaType":"application/x","digest":"{}","size":3,"urls":["https://example.com/c"]}},"#,
            digest("c")
        );
        let text = image("").replace(r#""layers":["#, &format!(r#""layers":[{foreign}"#));
        let text = text.replace(r#""config":{"#, r#""config":{"urls":["https://example.com/c"],"#);
        assert!(parse(&text, None).unwrap().blobs()[1].foreign, "{text}");
        let plain = image("").replace(r#""layers":["#, &format!(r#""layers":[{foreign}"#));
        assert!(parse(&plain, None).unwrap().blobs().iter().all(|blob| !blob.foreign));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Manifest::parse(bytes.into(), MediaType::parse(MediaType::OCI_MANIFEST).as_ref());
        }
    }
}
