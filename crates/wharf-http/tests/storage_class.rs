//! UpdateImageStorageClass over HTTP, and what archived images answer on both faces.
#![allow(clippy::unwrap_used)]

mod aws_harness;

use aws_harness::{Reply, Wharf};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_types::Digest;

const REPOSITORY: &str = "team/api";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn blob(wharf: &Wharf, content: &[u8]) -> String {
    let root = &wharf.root;
    let upload = root.ecr("InitiateLayerUpload", json!({"repositoryName": REPOSITORY})).await.ok();
    let part = json!({
        "repositoryName": REPOSITORY, "uploadId": upload["uploadId"],
        "partFirstByte": 0, "partLastByte": content.len() - 1, "layerPartBlob": STANDARD.encode(content),
    });
    root.ecr("UploadLayerPart", part).await.ok();
    let digest = Digest::sha256(content).to_string();
    let complete =
        json!({"repositoryName": REPOSITORY, "uploadId": upload["uploadId"], "layerDigests": [digest]});
    root.ecr("CompleteLayerUpload", complete).await.ok();
    digest
}

/// A server with one image: its digest and its layer.
async fn with_image() -> (Wharf, String, String) {
    let wharf = Wharf::start().await;
    wharf.root.ecr("CreateRepository", json!({"repositoryName": REPOSITORY})).await.ok();
    let (config, layer) = (blob(&wharf, b"{}").await, blob(&wharf, b"a layer").await);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 7}],
    });
    let put = json!({"repositoryName": REPOSITORY, "imageManifest": manifest.to_string(), "imageTag": "v1"});
    let put = wharf.root.ecr("PutImage", put).await.ok();
    let digest = put["image"]["imageId"]["imageDigest"].as_str().unwrap().to_owned();
    (wharf, digest, layer)
}

async fn change(wharf: &Wharf, image: Value, class: &str) -> Reply {
    let input = json!({"repositoryName": REPOSITORY, "imageId": image, "targetStorageClass": class});
    wharf.root.ecr("UpdateImageStorageClass", input).await
}

async fn oci(wharf: &Wharf, method: &str, path: &str) -> Reply {
    let token = wharf.root.ecr("GetAuthorizationToken", json!({})).await.ok();
    let basic = format!("Basic {}", token["authorizationData"][0]["authorizationToken"].as_str().unwrap());
    let target = format!("/v2/{REPOSITORY}/{path}");
    wharf.root.send(method, &target, &[("authorization", &basic), ("accept", OCI_MANIFEST)], b"").await
}

async fn availability(wharf: &Wharf, layer: &str) -> Value {
    let check = json!({"repositoryName": REPOSITORY, "layerDigests": [layer]});
    wharf.root.ecr("BatchCheckLayerAvailability", check).await.ok()["layers"][0]["layerAvailability"].clone()
}

#[tokio::test]
async fn an_archived_image_answers_as_ecr_s_on_both_faces() {
    let (wharf, digest, layer) = with_image().await;
    let archived = change(&wharf, json!({"imageTag": "v1"}), "ARCHIVE").await.ok();
    assert_eq!(
        archived,
        json!({
            "registryId": aws_harness::ACCOUNT, "repositoryName": REPOSITORY, "imageStatus": "ARCHIVED",
            "imageId": {"imageDigest": digest, "imageTag": "v1"},
        })
    );
    for reference in ["v1", &digest] {
        let path = format!("manifests/{reference}");
        let pulled = oci(&wharf, "GET", &path).await;
        assert_eq!(pulled.status, 404, "{}", pulled.text());
        assert!(
            pulled.text().contains("MANIFEST_UNKNOWN") && pulled.text().contains("Requested image not found")
        );
        assert_eq!(oci(&wharf, "HEAD", &path).await.status, 404);
    }
    let pulled = oci(&wharf, "GET", &format!("blobs/{layer}")).await;
    assert!(pulled.status == 404 && pulled.text().contains("BLOB_UNKNOWN"), "{}", pulled.text());
    // Who pushes need not send it again.
    assert_eq!(oci(&wharf, "HEAD", &format!("blobs/{layer}")).await.status, 200);
    assert_eq!(availability(&wharf, &layer).await, "ARCHIVED");
    let input = json!({"repositoryName": REPOSITORY, "layerDigest": layer});
    assert_eq!(wharf.root.ecr("GetDownloadUrlForLayer", input).await.code(), "LayerInaccessibleException");
    let input = json!({"repositoryName": REPOSITORY, "imageIds": [{"imageTag": "v1"}]});
    let batch = wharf.root.ecr("BatchGetImage", input.clone()).await.ok();
    assert_eq!(batch["failures"][0]["failureCode"], "ImageInaccessible");
    let described = wharf.root.ecr("DescribeImages", json!({"repositoryName": REPOSITORY})).await.ok();
    assert_eq!(described["imageDetails"], json!([]));
    let filter = json!({"repositoryName": REPOSITORY, "filter": {"imageStatus": "ARCHIVED"}});
    let described = wharf.root.ecr("DescribeImages", filter.clone()).await.ok();
    assert_eq!(described["imageDetails"][0]["imageStatus"], "ARCHIVED");
    assert!(described["imageDetails"][0]["lastArchivedAt"].is_number());
    assert_eq!(wharf.root.ecr("ListImages", filter).await.ok()["imageIds"][0]["imageTag"], "v1");

    let restoring = change(&wharf, json!({"imageDigest": digest}), "STANDARD").await.ok();
    assert_eq!(
        (&restoring["imageStatus"], &restoring["imageId"]),
        (&"ACTIVATING".into(), &json!({"imageDigest": digest}))
    );
    wharf.faces.registry().run_due_jobs().await.unwrap();
    assert_eq!(oci(&wharf, "GET", "manifests/v1").await.status, 200);
    assert_eq!(oci(&wharf, "GET", &format!("blobs/{layer}")).await.body, "a layer");
    assert_eq!(availability(&wharf, &layer).await, "AVAILABLE");
    let described = wharf.root.ecr("DescribeImages", input).await.ok();
    assert!(described["imageDetails"][0]["lastActivatedAt"].is_number());
    wharf.stop().await;
}

#[tokio::test]
async fn every_bad_input_has_its_own_error_and_changes_nothing() {
    let (wharf, digest, _) = with_image().await;
    let absent = Digest::sha256(b"absent").to_string();
    let input = |change: Value| {
        let mut input = json!({"repositoryName": REPOSITORY, "imageId": {"imageTag": "v1"}, "targetStorageClass": "ARCHIVE"});
        for (name, value) in change.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    };
    for (change, code) in [
        (json!({"targetStorageClass": "GLACIER"}), "ValidationException"),
        (json!({"targetStorageClass": null}), "ValidationException"),
        (json!({"imageId": null}), "ValidationException"),
        (json!({"imageId": {}}), "InvalidParameterException"),
        (json!({"imageId": {"imageDigest": "sha256"}}), "InvalidParameterException"),
        (json!({"imageId": "v1"}), "SerializationException"),
        (json!({"imageId": {"imageTag": "v2"}}), "ImageNotFoundException"),
        (json!({"imageId": {"imageDigest": absent}}), "ImageNotFoundException"),
        (json!({"imageId": {"imageDigest": absent, "imageTag": "v1"}}), "ImageNotFoundException"),
        (json!({"repositoryName": "no/where"}), "RepositoryNotFoundException"),
        (json!({"targetStorageClass": "STANDARD"}), "ImageStorageClassUpdateNotSupportedException"),
    ] {
        let (found, message) = wharf.root.ecr("UpdateImageStorageClass", input(change.clone())).await.error();
        assert_eq!(found, code, "{change}: {message}");
        assert!(!message.is_empty());
    }
    let denied =
        wharf.other.ecr("UpdateImageStorageClass", input(json!({"registryId": aws_harness::ACCOUNT}))).await;
    assert_eq!(denied.code(), "AccessDeniedException");
    let described = wharf.root.ecr("DescribeImages", json!({"repositoryName": REPOSITORY})).await.ok();
    assert_eq!(described["imageDetails"][0]["imageDigest"], digest);
    change(&wharf, json!({"imageTag": "v1"}), "ARCHIVE").await.ok();
    let (code, message) = change(&wharf, json!({"imageTag": "v1"}), "ARCHIVE").await.error();
    assert_eq!(code, "ImageStorageClassUpdateNotSupportedException");
    assert_eq!(
        message,
        "The storage class of the image with imageId {imageDigest:'null', imageTag:'v1'} in the repository with name \
         'team/api' in the registry with id '123456789012' cannot be updated to ARCHIVE: the image is archived already"
    );
    wharf.stop().await;
}
