//! Path traversal, and line breaks where they would become headers.

use serde_json::json;

use crate::target::{REPOSITORY, Target, assert_refused};
use crate::wire::Answer;

/// Names that would lead out of where they belong, or break a line, as they are written in a target.
const HOSTILE: &[&str] = &[
    "..",
    "../..",
    "../../../../etc/passwd",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fmetadata.sqlite",
    "..%2f..%2froot-key",
    "..%5c..%5croot-key",
    "%252e%252e%252f",
    "%c0%ae%c0%ae%c0%af",
    "%e0%80%ae",
    "aa%00",
    "aa%00.json",
    "%0d%0aX-Evil:%201",
    "aa%0d%0aX-Evil:%201",
    "aa%0aX-Evil:%201",
    "aa%0dX-Evil:%201",
    "aa%E2%80%A8X-Evil:1",
    "aa%20HTTP/1.1",
    "%ff%fe",
    "%",
    "%2",
    "%zz",
    "aa;x=1",
    "aa'--",
    "aa\"",
    "-aa",
    "AA",
    "${jndi:ldap://x}",
    "%f0%9f%90%b3",
];

/// No answer may carry what a request tried to put into its head.
#[track_caller]
fn assert_not_injected(what: &str, answer: &Answer) {
    assert!(answer.header("x-evil").is_none() && answer.header("set-cookie").is_none(), "{what}: {answer:?}");
    for (name, value) in &answer.headers {
        assert!(!value.contains(|c: char| c.is_control()), "{what}: {name} is {value:?}");
    }
}

#[test]
fn hostile_names_in_paths_lead_nowhere() {
    let target = Target::start(&[]);
    let digest = target.digest.clone();
    let mut client = target.client();
    for hostile in HOSTILE {
        let places = [
            format!("/v2/{hostile}/tags/list"),
            format!("/v2/team/{hostile}/tags/list"),
            format!("/v2/{hostile}/manifests/v1"),
            format!("/v2/{REPOSITORY}/{hostile}/manifests/v1"),
            format!("/v2/{hostile}/blobs/{digest}"),
            format!("/v2/{REPOSITORY}/blobs/{hostile}"),
            format!("/v2/{REPOSITORY}/blobs/sha256:{hostile}"),
            format!("/v2/{REPOSITORY}/blobs/uploads/{hostile}"),
            format!("/v2/{REPOSITORY}/manifests/{hostile}"),
            format!("/v2/{REPOSITORY}/referrers/{hostile}"),
            format!("/v2/{hostile}/blobs/uploads/"),
            format!("/wharf/download/{hostile}"),
            format!("/{hostile}"),
        ];
        // `AA` and `aa;x=1` are tags like any others where a tag is asked for.
        for place in places {
            for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"] {
                if matches!((method, *hostile), ("PUT", "AA")) {
                    continue;
                }
                let what = format!("{method} {place}");
                let answer =
                    client.send(method, &place, &[], b"").unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_refused(&what, &answer);
                assert_not_injected(&what, &answer);
                if answer.header("connection") == Some("close") {
                    client = target.client();
                }
            }
        }
    }
    target.assert_unharmed();
}

#[test]
fn hostile_parameters_break_no_line_of_an_answer() {
    let target = Target::start(&[]);
    let digest = target.digest.clone();
    let mut client = target.client();
    for hostile in HOSTILE.iter().filter(|hostile| !hostile.contains(['"', ' '])) {
        for (method, place, may_pass) in [
            ("GET", format!("/v2/{REPOSITORY}/tags/list?n=1&last={hostile}"), true),
            ("GET", format!("/v2/{REPOSITORY}/tags/list?n={hostile}"), true),
            ("GET", format!("/v2/_catalog?n=1&last={hostile}"), true),
            ("GET", format!("/v2/{REPOSITORY}/referrers/{digest}?artifactType={hostile}"), true),
            ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?mount={hostile}&from=team/api"), false),
            ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?mount={digest}&from={hostile}"), true),
            ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?digest={hostile}"), false),
            ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?digest-algorithm={hostile}"), false),
            ("GET", format!("/v2/?{hostile}"), true),
        ] {
            let what = format!("{method} {place}");
            let answer =
                client.send(method, &place, &[], b"x").unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(answer.status < 500 && (may_pass || answer.status >= 400), "{what}: {}", answer.status);
            assert_not_injected(&what, &answer);
            if answer.header("connection") == Some("close") {
                client = target.client();
            }
        }
    }
    target.assert_unharmed();
}

#[test]
fn hostile_names_in_api_calls_are_parameters_that_break_their_constraint() {
    let target = Target::start(&[]);
    let upload = "../../../../tmp/x";
    for name in [
        "..",
        "../x",
        "a/../../b",
        "/etc/passwd",
        "aa\0",
        "aa\r\nX-Evil: 1",
        "aa\u{2028}",
        "\u{202e}aa",
        "AA",
        "",
    ] {
        for (operation, body) in [
            ("CreateRepository", json!({ "repositoryName": name })),
            ("DeleteRepository", json!({ "repositoryName": name, "force": true })),
            ("ListImages", json!({ "repositoryName": name })),
            ("InitiateLayerUpload", json!({ "repositoryName": name })),
            ("PutImage", json!({ "repositoryName": name, "imageManifest": "{}", "imageTag": "v1" })),
            ("BatchGetImage", json!({ "repositoryName": name, "imageIds": [{ "imageTag": "v1" }] })),
        ] {
            let answer = target.call(operation, &body);
            let what = format!("{operation} {name:?}");
            assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidParameterException"), "{what}");
            assert_not_injected(&what, &answer);
        }
    }
    let bad = "sha256:../../../../etc/passwd";
    for (operation, body) in [
        (
            "UploadLayerPart",
            json!({ "repositoryName": REPOSITORY, "uploadId": upload, "partFirstByte": 0, "partLastByte": 0, "layerPartBlob": "eA==" }),
        ),
        (
            "CompleteLayerUpload",
            json!({ "repositoryName": REPOSITORY, "uploadId": upload, "layerDigests": [bad] }),
        ),
        ("GetDownloadUrlForLayer", json!({ "repositoryName": REPOSITORY, "layerDigest": bad })),
        (
            "ListTagsForResource",
            json!({ "resourceArn": "arn:aws:ecr:us-east-1:123456789012:repository/../../x" }),
        ),
        ("ListImageReferrers", json!({ "repositoryName": REPOSITORY, "subjectId": { "imageDigest": bad } })),
    ] {
        let answer = target.call(operation, &body);
        assert_eq!(answer.status, 400, "{operation}: {}", answer.text());
        assert_not_injected(operation, &answer);
    }
    target.assert_unharmed();
}
