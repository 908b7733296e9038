//! Images and layers, pushed by the JSON API.

use crate::aws_harness::Wharf;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wharf_types::Digest;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Uploads a layer by the JSON API and returns its digest.
pub async fn push_layer(wharf: &Wharf, repository: &str, content: &[u8]) -> String {
    let root = &wharf.root;
    let upload = root.ecr("InitiateLayerUpload", json!({"repositoryName": repository})).await.ok();
    assert!(upload["partSize"].as_u64().unwrap() >= 5 << 20);
    let part = json!({
        "repositoryName": repository, "uploadId": upload["uploadId"],
        "partFirstByte": 0, "partLastByte": content.len() - 1, "layerPartBlob": STANDARD.encode(content),
    });
    let received = root.ecr("UploadLayerPart", part).await.ok();
    assert_eq!(received["lastByteReceived"], content.len() - 1);
    let digest = Digest::sha256(content).to_string();
    let complete =
        json!({"repositoryName": repository, "uploadId": upload["uploadId"], "layerDigests": [digest]});
    assert_eq!(root.ecr("CompleteLayerUpload", complete).await.ok()["layerDigest"], digest);
    digest
}

/// A manifest of one layer.
pub fn manifest(config: (&str, usize), layer: (&str, usize)) -> String {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.0, "size": layer.1}],
    })
    .to_string()
}

/// Pushes an image under a tag and returns its manifest.
pub async fn push_image(wharf: &Wharf, repository: &str, tag: &str, layer: &[u8]) -> String {
    let config = push_layer_once(wharf, repository, b"{}").await;
    let blob = push_layer_once(wharf, repository, layer).await;
    let text = manifest((&config, 2), (&blob, layer.len()));
    let put = json!({"repositoryName": repository, "imageManifest": text, "imageTag": tag});
    wharf.root.ecr("PutImage", put).await.ok();
    text
}

pub async fn push_layer_once(wharf: &Wharf, repository: &str, content: &[u8]) -> String {
    let digest = Digest::sha256(content).to_string();
    let check = json!({"repositoryName": repository, "layerDigests": [digest]});
    let known = wharf.root.ecr("BatchCheckLayerAvailability", check).await.ok();
    match known["layers"][0]["layerAvailability"].as_str().unwrap() {
        "AVAILABLE" => digest,
        _ => push_layer(wharf, repository, content).await,
    }
}

pub async fn with_repository(name: &str) -> Wharf {
    let wharf = Wharf::start().await;
    wharf.root.ecr("CreateRepository", json!({"repositoryName": name})).await.ok();
    wharf
}
