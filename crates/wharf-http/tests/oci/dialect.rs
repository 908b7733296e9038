//! Where ECR refuses what the specification allows.

use bytes::Bytes;
use serde_json::json;
use wharf_registry::Dialect;
use wharf_types::Digest;

use super::wharf::{IMAGE, INDEX, OTHER_REPOSITORY, REPOSITORY, Wharf};

#[tokio::test]
async fn ecr_does_not_do_what_the_specification_leaves_open() {
    let wharf = Wharf::start_in(Dialect::Ecr).await;
    let digest = wharf.push_blob(OTHER_REPOSITORY, b"layer").await;
    let deleted = wharf.send("DELETE", &format!("/v2/{OTHER_REPOSITORY}/blobs/{digest}"), &[], "").await;
    assert_eq!(deleted.code(), (405, "UNSUPPORTED".into()));
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let posted = wharf.send("POST", &format!("{uploads}?digest={}", Digest::sha256(b"x")), &[], "x").await;
    assert_eq!((posted.status.as_u16(), posted.text("oci-chunk-min-length")), (202, "5242880"));
    for query in [format!("mount={digest}&from={OTHER_REPOSITORY}"), format!("mount={digest}")] {
        assert_eq!(wharf.send("POST", &format!("{uploads}?{query}"), &[], "").await.status, 202);
    }
}

#[tokio::test]
async fn ecr_pages_are_bounded_and_opaque() {
    let wharf = Wharf::start_in(Dialect::Ecr).await;
    let index = Bytes::from(json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string());
    for number in 0..3 {
        assert_eq!(wharf.put_manifest(&format!("t{number}"), INDEX, index.clone()).await.status, 201);
    }
    let list = format!("/v2/{REPOSITORY}/tags/list");
    let refused = wharf.get(&format!("{list}?n=1001")).await;
    let text = "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or \
                equal to 1000'";
    assert_eq!(refused.error(), (405, "UNSUPPORTED".into(), text.into()));
    let first = wharf.get(&format!("{list}?n=2")).await;
    let link = first.text("link");
    assert!(link.contains("last=") && !link.contains("last=t1"), "{link}");
    let target = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    assert_eq!(wharf.get(&target).await.json()["tags"], json!(["t2"]));
}

#[tokio::test]
async fn ecr_converts_by_tag_what_the_client_does_not_accept() {
    const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
    for dialect in [Dialect::Spec, Dialect::Ecr] {
        let wharf = Wharf::start_in(dialect).await;
        let (digest, _) = wharf.push_image("v1", b"layer", json!({})).await;
        let pull = async |reference: &str, accept: &[&str]| {
            let headers: Vec<(&str, &str)> =
                accept.iter().map(|media_type| ("accept", *media_type)).collect();
            wharf.send("GET", &format!("/v2/{REPOSITORY}/manifests/{reference}"), &headers, "").await
        };
        let converted =
            pull("v1", &["application/vnd.docker.distribution.manifest.list.v2+json", SCHEMA2]).await;
        let expected = if dialect == Dialect::Ecr { SCHEMA2 } else { IMAGE };
        assert_eq!(converted.text("content-type"), expected, "{dialect:?}");
        assert_eq!(converted.json()["mediaType"], expected);
        assert_eq!(converted.text("docker-content-digest"), Digest::sha256(&converted.body).to_string());
        for accept in [&[SCHEMA2, IMAGE][..], &["*/*"], &[]] {
            assert_eq!(
                pull("v1", accept).await.text("docker-content-digest"),
                digest.to_string(),
                "{accept:?}"
            );
        }
        assert_eq!(
            pull(&digest.to_string(), &[SCHEMA2]).await.text("content-type"),
            IMAGE,
            "never by digest"
        );
    }
}
