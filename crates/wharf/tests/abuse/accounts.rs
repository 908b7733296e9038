//! One account's caller at another's registry: by host name, registry id, ARN, upload, mount, URL and page token.

use serde_json::{Value, json};

use crate::target::{ACCOUNT, Caller, IMAGE, REPOSITORY, Target, assert_refused, manifest};
use crate::wire::Answer;

const OTHER: &str = "210987654321";

/// The victim's registry by name.
fn host(target: &Target) -> String {
    let port = target.address().rsplit_once(':').unwrap().1;
    format!("{ACCOUNT}.dkr.ecr.us-east-1.localhost:{port}")
}

fn call(target: &Target, caller: &Caller, operation: &str, body: &Value) -> Answer {
    caller.key.call(&mut target.stranger(), operation, body)
}

#[test]
fn nothing_can_be_done_in_another_accounts_registry_by_its_host_name() {
    let target = Target::start(&[]);
    let thief = target.other_account(OTHER);
    let config = wharf_types::Digest::sha256(b"{}").to_string();
    let started = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
    let upload = started.header("location").unwrap().to_owned();
    let host = host(&target);
    let digest = &target.digest;
    let stolen = manifest(&config, "stolen");
    for (method, place) in [
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", format!("/v2/{REPOSITORY}/tags/list")),
        ("GET", format!("/v2/{REPOSITORY}/manifests/v1")),
        ("HEAD", format!("/v2/{REPOSITORY}/manifests/{digest}")),
        ("PUT", format!("/v2/{REPOSITORY}/manifests/v1")),
        ("DELETE", format!("/v2/{REPOSITORY}/manifests/v1")),
        ("GET", format!("/v2/{REPOSITORY}/blobs/{config}")),
        ("HEAD", format!("/v2/{REPOSITORY}/blobs/{config}")),
        ("DELETE", format!("/v2/{REPOSITORY}/blobs/{config}")),
        ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/")),
        ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?mount={config}&from={REPOSITORY}")),
        ("PATCH", upload.clone()),
        ("PUT", format!("{upload}?digest={config}")),
        ("DELETE", upload.clone()),
        ("GET", format!("/v2/{REPOSITORY}/referrers/{digest}")),
    ] {
        let body: &[u8] = if place.contains("/manifests/") { stolen.as_bytes() } else { b"" };
        for name in [host.clone(), host.to_uppercase(), host.replace(':', ".:")] {
            let answer = target.client_of(&thief).send(method, &place, &[("host", &name)], body).unwrap();
            assert_eq!(answer.status, 403, "{method} {place} at {name}: {}", answer.text());
        }
        // On a bare host the thief is in its own registry, where there is nothing of all this.
        if place != "/v2/_catalog" {
            assert_eq!(
                target.client_of(&thief).send(method, &place, &[], body).unwrap().status,
                404,
                "{method} {place}"
            );
        }
    }
    let own = target.client_of(&thief).send("GET", "/v2/_catalog", &[], b"").unwrap();
    assert_eq!(own.json()["repositories"], json!([]));
    assert_eq!(target.send("GET", &upload, &[], b"").status, 204, "the upload was touched");
    target.assert_unharmed();
}

#[test]
fn a_repository_of_the_same_name_is_another_one() {
    let target = Target::start(&[]);
    let thief = target.other_account(OTHER);
    target.create_repository(&thief, REPOSITORY, "MUTABLE");
    let secret = target.push_blob(&target.caller, REPOSITORY, b"the victim's secret layer");
    let started = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
    let upload = started.header("location").unwrap().to_owned();
    assert_eq!(target.send("PATCH", &upload, &[], b"half of it").status, 202);

    let send = |method: &str, place: &str, body: &[u8]| {
        target.client_of(&thief).send(method, place, &[], body).unwrap()
    };
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(send(method, &upload, b"mine").status, 404, "{method} of another's upload");
    }
    assert_eq!(send("PUT", &format!("{upload}?digest={secret}"), b"x").status, 404);
    assert_eq!(send("GET", &format!("/v2/{REPOSITORY}/blobs/{secret}"), b"").status, 404);
    assert_eq!(send("HEAD", &format!("/v2/{REPOSITORY}/blobs/{secret}"), b"").status, 404);
    for mount in [format!("mount={secret}&from={REPOSITORY}"), format!("mount={secret}")] {
        let answer = send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/?{mount}"), b"");
        assert_eq!(answer.status, 202, "{mount}: only an upload may begin");
    }
    // To know a digest is not to have the content.
    let stolen = manifest(&secret, "stolen").replace("\"size\":2", "\"size\":25");
    let place = format!("/v2/{REPOSITORY}/manifests/stolen");
    assert_eq!(send("PUT", &place, stolen.as_bytes()).code(), "MANIFEST_BLOB_UNKNOWN");

    let id = upload.rsplit_once('/').unwrap().1;
    for (operation, body, code) in [
        (
            "UploadLayerPart",
            json!({ "repositoryName": REPOSITORY, "uploadId": id, "partFirstByte": 10, "partLastByte": 10, "layerPartBlob": "eA==" }),
            "UploadNotFoundException",
        ),
        (
            "CompleteLayerUpload",
            json!({ "repositoryName": REPOSITORY, "uploadId": id, "layerDigests": [secret] }),
            "UploadNotFoundException",
        ),
        (
            "GetDownloadUrlForLayer",
            json!({ "repositoryName": REPOSITORY, "layerDigest": secret }),
            "LayersNotFoundException",
        ),
    ] {
        assert_eq!(call(&target, &thief, operation, &body).code(), code, "{operation}");
    }
    let body = json!({ "repositoryName": REPOSITORY, "layerDigests": [secret] });
    let layers = call(&target, &thief, "BatchCheckLayerAvailability", &body).json();
    assert!(!layers.to_string().contains("\"AVAILABLE\""), "{layers}");

    let status = target.send("GET", &upload, &[], b"");
    assert_eq!((status.status, status.header("range")), (204, Some("0-9")));
    target.assert_unharmed();
}

#[test]
fn registry_ids_and_arns_of_another_account_are_refused() {
    let target = Target::start(&[]);
    let thief = target.other_account(OTHER);
    let ids = json!([{ "imageTag": "v1" }]);
    for (operation, mut body) in [
        ("DescribeRepositories", json!({})),
        ("DeleteRepository", json!({ "repositoryName": REPOSITORY, "force": true })),
        ("ListImages", json!({ "repositoryName": REPOSITORY })),
        ("DescribeImages", json!({ "repositoryName": REPOSITORY })),
        ("BatchGetImage", json!({ "repositoryName": REPOSITORY, "imageIds": ids })),
        ("BatchDeleteImage", json!({ "repositoryName": REPOSITORY, "imageIds": ids })),
        ("PutImage", json!({ "repositoryName": REPOSITORY, "imageManifest": "{}", "imageTag": "v1" })),
        ("InitiateLayerUpload", json!({ "repositoryName": REPOSITORY })),
        ("GetDownloadUrlForLayer", json!({ "repositoryName": REPOSITORY, "layerDigest": target.digest })),
        (
            "BatchCheckLayerAvailability",
            json!({ "repositoryName": REPOSITORY, "layerDigests": [target.digest] }),
        ),
        ("PutImageTagMutability", json!({ "repositoryName": REPOSITORY, "imageTagMutability": "IMMUTABLE" })),
        (
            "ListImageReferrers",
            json!({ "repositoryName": REPOSITORY, "subjectId": { "imageDigest": target.digest } }),
        ),
    ] {
        body["registryId"] = json!(ACCOUNT);
        let answer = call(&target, &thief, operation, &body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "AccessDeniedException"), "{operation}");
        // Whether what is asked about exists must make no difference.
        if body["repositoryName"].is_string() {
            body["repositoryName"] = json!("there/is-none");
            assert_eq!(
                call(&target, &thief, operation, &body).code(),
                "AccessDeniedException",
                "{operation}"
            );
        }
    }
    let arn = format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{REPOSITORY}");
    for (operation, body) in [
        ("ListTagsForResource", json!({ "resourceArn": arn })),
        ("TagResource", json!({ "resourceArn": arn, "tags": [{ "Key": "owner", "Value": "thief" }] })),
        ("UntagResource", json!({ "resourceArn": arn, "tagKeys": ["owner"] })),
    ] {
        assert_eq!(call(&target, &thief, operation, &body).code(), "AccessDeniedException", "{operation}");
    }
    let tags = target.call("ListTagsForResource", &json!({ "resourceArn": arn })).json();
    assert_eq!(tags["tags"], json!([]));
    target.assert_unharmed();
}

#[test]
fn urls_and_page_tokens_open_nothing_else() {
    let target = Target::start(&[]);
    let thief = target.other_account(OTHER);
    target.create_repository(&thief, REPOSITORY, "MUTABLE");
    let secret = target.push_blob(&target.caller, REPOSITORY, b"the victim's secret layer");
    let own = target.push_blob(&thief, REPOSITORY, b"the thief's own layer");
    for (caller, digest, size) in [(&target.caller, &secret, 25), (&thief, &own, 21)] {
        let image = manifest(digest, "v2").replace("\"size\":2", &format!("\"size\":{size}"));
        let place = format!("/v2/{REPOSITORY}/manifests/v2");
        let answer = target
            .client_of(caller)
            .send("PUT", &place, &[("content-type", IMAGE)], image.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let url = |caller: &Caller, digest: &str| {
        let body = json!({ "repositoryName": REPOSITORY, "layerDigest": digest });
        let answer = call(&target, caller, "GetDownloadUrlForLayer", &body).json();
        let url = answer["downloadUrl"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        format!("/{}", url.splitn(4, '/').nth(3).unwrap())
    };
    let (victims, thiefs) = (url(&target.caller, &secret), url(&thief, &own));
    let got = target.stranger().send("GET", &thiefs, &[], b"").unwrap();
    assert_eq!((got.status, got.body.as_slice()), (200, b"the thief's own layer".as_slice()));
    // What is spoilt, joined from two, or cut opens nothing.
    let half = thiefs.len() / 2;
    let mut forged = vec![
        format!("{}{}", &thiefs[..half], &victims[half.min(victims.len())..]),
        thiefs[..half].to_owned(),
    ];
    let token_at = thiefs.rfind('/').unwrap() + 1;
    for at in (token_at..thiefs.len()).step_by(7) {
        let mut spoilt = thiefs.clone().into_bytes();
        spoilt[at] = if spoilt[at] == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(spoilt).unwrap());
    }
    for place in forged {
        let answer = target.stranger().send("GET", &place, &[], b"").unwrap();
        assert_refused(&place, &answer);
    }

    // A password is no URL, and a URL's token no password.
    let token = victims.rsplit('/').next().unwrap();
    let answer =
        target.stranger().send("GET", "/v2/", &[("authorization", &crate::wire::basic(token))], b"").unwrap();
    assert_eq!(answer.status, 401);

    for tag in ["a", "b", "c"] {
        assert_eq!(target.put_manifest(tag, &target.image(tag)).status, 201);
    }
    let page = json!({ "repositoryName": REPOSITORY, "maxResults": 1 });
    let next = target.call("ListImages", &page).json()["nextToken"].as_str().unwrap().to_owned();
    let follow = json!({ "repositoryName": REPOSITORY, "maxResults": 1, "nextToken": next });
    assert_eq!(target.call("ListImages", &follow).status, 200, "the token is good where it was made");
    let stolen = call(&target, &thief, "ListImages", &follow);
    if stolen.status == 200 {
        assert_eq!(stolen.json()["imageIds"], json!([]), "another account's page");
    } else {
        assert_eq!(stolen.code(), "InvalidParameterException");
    }
    for token in ["", "x", "../..", "AAAA", &next[1..], &format!("{next}A"), &"A".repeat(5_000)] {
        let body = json!({ "repositoryName": REPOSITORY, "nextToken": token });
        let answer = target.call("ListImages", &body);
        assert!(answer.status < 500, "{token:?}: {}", answer.text());
        assert!(answer.status == 400 || token.is_empty(), "{token:?} is a page token: {}", answer.text());
    }
}
