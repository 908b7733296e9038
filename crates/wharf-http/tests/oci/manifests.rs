//! Pushing, pulling and deleting manifests and tags.

use bytes::Bytes;
use serde_json::json;
use wharf_types::{Digest, Mutability};

use super::wharf::{ACCOUNT, IMAGE, INDEX, REPOSITORY, Wharf, create_repository};

fn target(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

#[tokio::test]
async fn an_image_by_tag_and_by_digest() {
    let wharf = Wharf::start().await;
    let (digest, bytes) = wharf.push_image("v1", b"layer", json!({})).await;
    let digest = digest.to_string();
    for _ in 0..2 {
        for reference in ["v1", &digest] {
            let pulled = wharf.get(&target(reference)).await;
            assert_eq!((pulled.status.as_u16(), &pulled.body), (200, &bytes), "byte for byte");
            assert_eq!(pulled.text("content-type"), IMAGE);
            assert_eq!(pulled.text("docker-content-digest"), digest);
            let head = wharf.send("HEAD", &target(reference), &[], "").await;
            assert_eq!((head.status.as_u16(), head.text("content-length")), (200, &*bytes.len().to_string()));
            assert_eq!(head.text("docker-content-digest"), digest);
            let held =
                wharf.send("GET", &target(reference), &[("if-none-match", pulled.text("etag"))], "").await;
            assert_eq!((held.status.as_u16(), held.body.len()), (304, 0));
        }
    }
    let again = wharf.put_manifest("v1", IMAGE, bytes).await;
    assert_eq!(
        (again.status.as_u16(), again.text("location")),
        (201, &*target(&digest)),
        "pushed again, unchanged"
    );
    for (reference, code) in
        [("v2", "MANIFEST_UNKNOWN"), ("-x", "TAG_INVALID"), ("sha256:x", "DIGEST_INVALID")]
    {
        assert_eq!(wharf.get(&target(reference)).await.code().1, code);
    }
    let missing = wharf.get(&target(Digest::sha256(b""))).await;
    assert_eq!(missing.error(), (404, "MANIFEST_UNKNOWN".into(), "Requested image not found".into()));
}

#[tokio::test]
async fn a_push_by_digest_may_bring_tags() {
    let wharf = Wharf::start().await;
    let (_, bytes) = wharf.push_image("v1", b"layer", json!({})).await;
    for digest in [Digest::sha256(&bytes), Digest::sha512(&bytes)] {
        let put = wharf.put_manifest(&format!("{digest}?tag=a&tag=b.1&tag=a"), IMAGE, bytes.clone()).await;
        assert_eq!((put.status.as_u16(), put.text("oci-tag")), (201, "a, b.1"));
        assert_eq!(put.text("docker-content-digest"), digest.to_string());
        for tag in ["a", "b.1"] {
            assert_eq!(wharf.get(&target(tag)).await.text("docker-content-digest"), digest.to_string());
        }
    }
    let refused = wharf.put_manifest(&format!("{}?tag=-", Digest::sha256(&bytes)), IMAGE, bytes).await;
    assert_eq!(refused.code(), (400, "TAG_INVALID".into()));
}

#[tokio::test]
async fn sparse_manifests_are_taken_where_the_operator_says_so() {
    let wharf = Wharf::start_with(|options| options.sparse_manifests = true).await;
    let (digest, bytes) = wharf.push_image("v1", b"layer", json!({})).await;
    let absent = Digest::sha256(b"absent");
    let mut without = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    without["layers"][0]["digest"] = absent.to_string().into();
    let without = Bytes::from(without.to_string());
    assert_eq!(wharf.put_manifest("v2", IMAGE, without.clone()).await.status, 201);
    assert_eq!(wharf.get(&format!("/v2/{REPOSITORY}/manifests/v2")).await.body, without);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": IMAGE, "digest": absent.to_string(), "size": 7},
        {"mediaType": IMAGE, "digest": digest.to_string(), "size": bytes.len()}]});
    assert_eq!(wharf.put_manifest("all", INDEX, Bytes::from(index.to_string())).await.status, 201);
    let (blob, child) =
        (format!("/v2/{REPOSITORY}/blobs/{absent}"), format!("/v2/{REPOSITORY}/manifests/{absent}"));
    assert_eq!(wharf.get(&blob).await.code(), (404, "BLOB_UNKNOWN".into()));
    assert_eq!(wharf.get(&child).await.code(), (404, "MANIFEST_UNKNOWN".into()));
    wharf.push_blob(REPOSITORY, b"absent").await;
    assert_eq!(wharf.get(&blob).await.body, "absent");
    assert_eq!(wharf.send("DELETE", &blob, &[], "").await.code(), (405, "UNSUPPORTED".into()), "it is named");
}

#[tokio::test]
async fn manifests_that_are_refused() {
    let wharf = Wharf::start().await;
    let (_, bytes) = wharf.push_image("v1", b"layer", json!({})).await;
    let absent = Digest::sha256(b"absent");
    let mut without = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    without["layers"][0]["digest"] = absent.to_string().into();
    let refused = wharf.put_manifest("v2", IMAGE, Bytes::from(without.to_string())).await;
    let text = format!(
        "Layers with digests '[{absent}]' required for pushing image into repository with name '{REPOSITORY}' in the \
         registry with id '{ACCOUNT}' do not exist"
    );
    assert_eq!(refused.error(), (400, "MANIFEST_BLOB_UNKNOWN".into(), text));

    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": IMAGE, "digest": absent.to_string(), "size": 7}]});
    let refused = wharf.put_manifest("v2", INDEX, Bytes::from(index.to_string())).await;
    assert_eq!(refused.code(), (400, "MANIFEST_BLOB_UNKNOWN".into()));

    for (reference, media_type, body, code) in [
        ("v2", IMAGE, Bytes::from_static(b"{"), "MANIFEST_INVALID"),
        ("v2", IMAGE, Bytes::new(), "MANIFEST_INVALID"),
        ("v2", INDEX, bytes.clone(), "MANIFEST_INVALID"),
        ("v2", "application/vnd.example+json", bytes.clone(), "MANIFEST_INVALID"),
        (&*absent.to_string(), IMAGE, bytes.clone(), "DIGEST_INVALID"),
        ("sha256:baddigeststring", IMAGE, bytes.clone(), "DIGEST_INVALID"),
    ] {
        let refused = wharf.put_manifest(reference, media_type, body).await;
        assert_eq!(refused.code(), (400, code.into()), "{reference} {media_type}");
    }
    assert_eq!(wharf.get(&target("v2")).await.status, 404, "and none left anything behind");
}

#[tokio::test]
async fn manifests_up_to_four_mebibytes() {
    let wharf = Wharf::start().await;
    let (_, bytes) = wharf.push_image("v1", b"layer", json!({})).await;
    let padded = |length: usize| {
        let mut bytes = bytes.to_vec();
        bytes.resize(length, b' ');
        Bytes::from(bytes)
    };
    assert_eq!(wharf.put_manifest("large", IMAGE, padded(4 << 20)).await.status, 201);
    assert_eq!(wharf.get(&target("large")).await.body.len(), 4 << 20);
    let refused = wharf.put_manifest("larger", IMAGE, padded((4 << 20) + 1)).await;
    assert_eq!(refused.code(), (413, "SIZE_INVALID".into()));
}

#[tokio::test]
async fn an_immutable_tag_does_not_move() {
    let wharf = Wharf::start().await;
    create_repository(&wharf.registry, ACCOUNT, "fixed", Mutability::Immutable).await;
    let index = |text: &str| {
        Bytes::from(
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"a": text}})
                .to_string(),
        )
    };
    let put = async |text: &str| {
        wharf.send("PUT", "/v2/fixed/manifests/v1", &[("content-type", INDEX)], index(text)).await
    };
    assert_eq!(put("one").await.status, 201);
    assert_eq!(put("one").await.status, 201, "the same again");
    let text = "The image tag 'v1' already exists in the 'fixed' repository and cannot be overwritten because the tag is \
                immutable.";
    assert_eq!(put("two").await.error(), (400, "TAG_INVALID".into(), text.into()));
}

#[tokio::test]
async fn tags_and_images_are_deleted() {
    let wharf = Wharf::start().await;
    let (digest, _) = wharf.push_image("v1", b"layer", json!({})).await;
    assert_eq!(wharf.send("DELETE", &target("v1"), &[], "").await.status, 202);
    assert_eq!(wharf.get(&target("v1")).await.status, 404);
    assert_eq!(wharf.get(&target(digest)).await.status, 200, "the image stays");
    assert_eq!(wharf.send("DELETE", &target(digest), &[], "").await.status, 202);
    assert_eq!(wharf.get(&target(digest)).await.status, 404);
    assert_eq!(wharf.send("DELETE", &target(digest), &[], "").await.code(), (404, "MANIFEST_UNKNOWN".into()));

    let (child, bytes) = wharf.push_image("", b"layer", json!({})).await;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": IMAGE, "digest": child.to_string(), "size": bytes.len()}]});
    let index = Bytes::from(index.to_string());
    assert_eq!(wharf.put_manifest("all", INDEX, index.clone()).await.status, 201);
    let held = wharf.send("DELETE", &target(child), &[], "").await;
    let text = format!("Requested image referenced by manifest list: [{}]", Digest::sha256(&index));
    assert_eq!(held.error(), (405, "UNSUPPORTED".into(), text));
}
