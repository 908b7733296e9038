//! Content under a digest that is not its own, and things taken for what they are not.

use wharf_types::Digest;

use crate::target::{IMAGE, REPOSITORY, Target, assert_refused, manifest};

#[test]
fn content_is_kept_under_its_own_digest_only() {
    let target = Target::start(&[]);
    for content in [b"content".to_vec(), vec![9; 200_000]] {
        let (right256, right512) =
            (Digest::sha256(&content).to_string(), Digest::sha512(&content).to_string());
        let (hex256, hex512) = (&right256[7..], &right512[7..]);
        let wrong = [
            Digest::sha256(b"another").to_string(),
            Digest::sha512(b"another").to_string(),
            format!("sha512:{hex256}"),
            format!("sha256:{hex512}"),
            format!("sha256:{}", hex256.to_uppercase()),
            format!("SHA256:{hex256}"),
            format!("sha256:{hex256}0"),
            format!("sha256:{}", &hex256[..63]),
            format!("sha256:{hex256}%20"),
            format!("sha256:{hex256}%0a"),
            format!("%20sha256:{hex256}"),
            format!("sha256%3a%3a{hex256}"),
            format!("sha256+b64:{hex256}"),
            format!("md5:{}", "0".repeat(32)),
            hex256.to_owned(),
            String::new(),
        ];
        for digest in &wrong {
            let started = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
            let place = format!("{}?digest={digest}", started.header("location").unwrap());
            let whole = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}");
            for (method, place) in [("PUT", place), ("POST", whole)] {
                // A POST without a digest begins an upload.
                if digest.is_empty() && method == "POST" {
                    continue;
                }
                let answer = target.send(method, &place, &[], &content);
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (400, "DIGEST_INVALID"),
                    "{method} {digest}"
                );
            }
            if !digest.is_empty() && !digest.contains('%') {
                let got = target.send("GET", &format!("/v2/{REPOSITORY}/blobs/{digest}"), &[], b"");
                assert_refused(digest, &got);
            }
        }
        for digest in [&right256, &right512] {
            let got = target.send("GET", &format!("/v2/{REPOSITORY}/blobs/{digest}"), &[], b"");
            assert_eq!(got.status, 404, "what was refused under other digests is there as {digest}");
        }
        // Two digests, one of them right: whichever is meant, nothing is kept under the wrong one.
        let two = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}&digest={right256}", wrong[0]);
        target.send("POST", &two, &[], &content);
        let got = target.send("GET", &format!("/v2/{REPOSITORY}/blobs/{}", wrong[0]), &[], b"");
        assert_eq!(got.status, 404);
    }
    target.assert_unharmed();
}

#[test]
fn a_manifest_is_put_under_its_own_digest_only() {
    let target = Target::start(&[]);
    let manifest = target.image("confused");
    let right = Digest::sha256(manifest.as_bytes()).to_string();
    for wrong in [
        Digest::sha256(b"another").to_string(),
        Digest::sha512(b"another").to_string(),
        format!("sha256:{}", right[7..].to_uppercase()),
        format!("sha512:{}", &right[7..]),
    ] {
        assert_eq!(target.put_manifest(&wrong, &manifest).status, 400, "{wrong}");
        assert_refused(&wrong, &target.send("GET", &format!("/v2/{REPOSITORY}/manifests/{wrong}"), &[], b""));
    }
    assert_eq!(target.send("GET", &format!("/v2/{REPOSITORY}/manifests/{right}"), &[], b"").status, 404);
    let body = serde_json::json!({
        "repositoryName": REPOSITORY, "imageManifest": manifest, "imageTag": "confused", "imageDigest": target.digest,
    });
    assert_eq!(target.call("PutImage", &body).code(), "ImageDigestDoesNotMatchException");
    target.assert_unharmed();
}

#[test]
fn blobs_are_no_manifests_and_manifests_no_blobs() {
    let target = Target::start(&[]);
    let config = target.push_blob(&target.caller, REPOSITORY, b"{}");
    let lurking = manifest(&config, "lurking");
    let blob = target.push_blob(&target.caller, REPOSITORY, lurking.as_bytes());
    let as_manifest =
        target.send("GET", &format!("/v2/{REPOSITORY}/manifests/{blob}"), &[("accept", IMAGE)], b"");
    assert_eq!((as_manifest.status, as_manifest.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    let as_blob = target.send("GET", &format!("/v2/{REPOSITORY}/blobs/{}", target.digest), &[], b"");
    assert_eq!((as_blob.status, as_blob.code().as_str()), (404, "BLOB_UNKNOWN"));
    let as_child = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": IMAGE, "digest": blob, "size": lurking.len() }],
    });
    let place = format!("/v2/{REPOSITORY}/manifests/index");
    let index = [("content-type", "application/vnd.oci.image.index.v1+json")];
    assert_refused(
        "an index of a blob",
        &target.send("PUT", &place, &index, as_child.to_string().as_bytes()),
    );
    // Bytes that are an image must not be taken for an index, whichever way they are declared.
    assert_refused("an image called an index", &target.send("PUT", &place, &index, lurking.as_bytes()));
    target.assert_unharmed();
}
