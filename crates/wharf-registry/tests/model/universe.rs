//! Everything that the operations of a run are about: a few blobs and manifests, so that they meet often.

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_types::{Digest, Manifest, MediaType};

use super::random::Random;

pub const REPOSITORIES: [&str; 4] = ["app", "team/app", "team/base", "zone/a/b"];
pub const TAGS: [&str; 6] = ["latest", "v1", "v2", "dev-1", "dev-2", "V1"];
const ARTIFACT_TYPES: [&str; 2] = ["application/vnd.example.signature", "application/vnd.example.sbom"];
/// Around what is kept in the metadata, and what needs more than one segment.
const SIZES: [usize; 10] = [0, 1, 40, 41, 3000, 65_535, 65_536, 65_537, 131_072, 200_000];

pub struct Universe {
    pub blobs: Vec<(Digest, Bytes)>,
    pub manifests: Vec<Manifest>,
    /// What referrers name: images, and one that never exists.
    pub subjects: Vec<Digest>,
}

impl Universe {
    pub fn new(random: &mut Random) -> Self {
        let blobs: Vec<(Digest, Bytes)> = SIZES
            .iter()
            .enumerate()
            .map(|(index, size)| {
                let content: Bytes = (0..*size).map(|at| (at * 31 + index * 7 + 1) as u8).collect();
                // One blob is known by its SHA-512.
                let digest = if index == 4 { Digest::sha512(&content) } else { Digest::sha256(&content) };
                (digest, content)
            })
            .collect();
        let absent = Digest::sha256(b"a subject that was never pushed");
        let mut manifests = Vec::new();
        for number in 0..10 {
            let media_type = if number == 3 { MediaType::DOCKER_MANIFEST } else { MediaType::OCI_MANIFEST };
            manifests.push(image(random, &blobs, number, media_type, None));
        }
        let images: Vec<Digest> = manifests.iter().map(digest_of).collect();
        let mut subjects = vec![absent];
        for number in 10..16 {
            let subject = if number == 10 { absent } else { *random.pick(&images[..4]) };
            subjects.push(subject);
            manifests.push(image(random, &blobs, number, MediaType::OCI_MANIFEST, Some(subject)));
        }
        for number in 16..20 {
            let so_far: Vec<(Digest, &'static str)> = manifests
                .iter()
                .map(|manifest| {
                    let index = matches!(manifest.media_type().as_str(), MediaType::OCI_INDEX);
                    (digest_of(manifest), if index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST })
                })
                .collect();
            let children: Vec<Value> = random
                .some(&so_far, 1, 3)
                .iter()
                .map(|(digest, media_type)| json!({"mediaType": media_type, "digest": digest.to_string(), "size": 300}))
                .collect();
            manifests.push(parse(&json!({
                "schemaVersion": 2,
                "mediaType": MediaType::OCI_INDEX,
                "manifests": children,
                "annotations": {"number": number.to_string()},
            })));
        }
        subjects.sort();
        subjects.dedup();
        Self { blobs, manifests, subjects }
    }

    pub fn content(&self, digest: Digest) -> &Bytes {
        &self.blobs.iter().find(|(known, _)| *known == digest).expect("of this universe").1
    }
}

fn digest_of(manifest: &Manifest) -> Digest {
    Digest::sha256(manifest.bytes())
}

fn image(
    random: &mut Random,
    blobs: &[(Digest, Bytes)],
    number: usize,
    media_type: &str,
    subject: Option<Digest>,
) -> Manifest {
    let mut named = random.some(blobs, 1, 3).into_iter();
    let layer = |(digest, content): (Digest, Bytes), foreign: bool| {
        let kind = if foreign { "nondistributable.v1.tar+gzip" } else { "v1.tar" };
        json!({
            "mediaType": format!("application/vnd.oci.image.layer.{kind}"),
            "digest": digest.to_string(),
            "size": content.len(),
        })
    };
    let (config, content) = named.next().expect("at least one");
    let mut layers: Vec<Value> = named.map(|blob| layer(blob, false)).collect();
    if number == 5 {
        layers.push(layer(blobs[9].clone(), true));
    }
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": MediaType::OCI_CONFIG, "digest": config.to_string(), "size": content.len()},
        "layers": layers,
        "annotations": {"number": number.to_string()},
    });
    if let Some(subject) = subject {
        manifest["subject"] =
            json!({"mediaType": MediaType::OCI_MANIFEST, "digest": subject.to_string(), "size": 7});
        manifest["artifactType"] = (*random.pick(&ARTIFACT_TYPES)).into();
    }
    parse(&manifest)
}

fn parse(manifest: &Value) -> Manifest {
    Manifest::parse(Bytes::from(serde_json::to_vec(manifest).unwrap()), None).unwrap()
}
