//! More than there is room for: refused by size, before it is taken in where the size is told.

use serde_json::json;

use crate::target::{IMAGE, REPOSITORY, Target, assert_refused};

#[test]
fn heads_that_are_too_large_are_refused() {
    let target = Target::start(&["--limits-header-bytes", "16KiB"]);
    let long = "a".repeat(20_000);
    let many: Vec<(String, String)> =
        (0..300).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (what, path, headers) in [
        ("a long header", "/v2/".to_owned(), vec![("x-long", long.as_str())]),
        ("a long name", "/v2/".to_owned(), vec![(long.as_str(), "1")]),
        ("a long credential", "/v2/".to_owned(), vec![("authorization", long.as_str())]),
        ("many headers", "/v2/".to_owned(), many),
        ("a long path", format!("/v2/{long}/tags/list"), vec![]),
        ("a long query", format!("/v2/{REPOSITORY}/tags/list?last={long}"), vec![]),
    ] {
        let answer = target.send("GET", &path, &headers, b"");
        assert!(matches!(answer.status, 414 | 431), "{what}: {} {}", answer.status, answer.text());
    }
    // As long as it may be, and of no use all the same.
    let nearly = "a".repeat(7_000);
    assert_refused("a name", &target.send("GET", &format!("/v2/{nearly}/tags/list"), &[], b""));
    assert_refused("a tag", &target.send("GET", &format!("/v2/{REPOSITORY}/manifests/{nearly}"), &[], b""));
    assert_refused(
        "an id",
        &target.send("GET", &format!("/v2/{REPOSITORY}/blobs/uploads/{nearly}"), &[], b""),
    );
    assert_refused(
        "a credential",
        &target.send("GET", "/v2/", &[("authorization", &format!("Basic {nearly}"))], b""),
    );
    target.assert_unharmed();
}

#[test]
fn manifests_and_calls_that_are_too_large_are_refused() {
    let target = Target::start(&["--limits-manifest-bytes", "64KiB"]);
    let mut manifest = target.image("large");
    manifest.insert_str(manifest.len() - 1, &" ".repeat(65_536));
    let place = format!("/v2/{REPOSITORY}/manifests/large");
    let answer = target.send("PUT", &place, &[("content-type", IMAGE)], manifest.as_bytes());
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"), "{}", answer.text());
    let chunked = format!("{:x}\r\n{manifest}\r\n0\r\n\r\n", manifest.len());
    let headers = [("content-type", IMAGE), ("transfer-encoding", "chunked")];
    let answer = target.send("PUT", &place, &headers, chunked.as_bytes());
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"), "{}", answer.text());
    let body = json!({ "repositoryName": REPOSITORY, "imageManifest": manifest, "imageTag": "large" });
    assert_refused("PutImage", &target.call("PutImage", &body));
    let body = format!("{{\"repositoryName\":\"{}\"}}", "a".repeat(30 << 20));
    let mut stranger = target.stranger();
    let answer = target.caller.key.call_raw(&mut stranger, "CreateRepository", body.as_bytes()).unwrap();
    assert_refused("CreateRepository", &answer);
    target.assert_unharmed();
}

#[test]
fn blobs_that_are_too_large_are_refused_before_a_byte_and_leave_nothing() {
    let target = Target::start(&["--limits-blob-bytes", "100KiB"]);
    let begin = || {
        let answer = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
        answer.header("location").unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    // The body never comes: the head is enough.
    for length in ["102401", "9223372036854775807", "18446744073709551614"] {
        let location = begin();
        for (method, place) in [
            ("PATCH", location.clone()),
            ("PUT", format!("{location}?digest={digest}")),
            ("POST", format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}")),
        ] {
            let headers = [("content-length", length), ("expect", "100-continue")];
            let answer = target.send(method, &place, &headers, b"");
            assert!(matches!(answer.status, 413 | 431), "{method} {length}: {}", answer.text());
        }
    }
    // No length is told; the bytes are counted.
    let content = vec![0_u8; 150_000];
    let mut chunked = format!("{:x}\r\n", content.len()).into_bytes();
    chunked.extend_from_slice(&content);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let location = begin();
    let answer = target.send("PATCH", &location, &[("transfer-encoding", "chunked")], &chunked);
    assert_eq!(answer.status, 413, "{}", answer.text());
    let status = target.send("GET", &location, &[], b"");
    assert_eq!((status.status, status.header("range")), (204, Some("0-0")), "refused bytes were kept");
    target.assert_unharmed();
}

#[test]
fn ranges_at_the_end_of_numbers_are_refused_or_ignored() {
    let target = Target::start(&[]);
    let content = vec![7_u8; 100_000];
    let digest = target.push_blob(&target.caller, REPOSITORY, &content);
    let place = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for range in [
        "bytes=0-18446744073709551615",
        "bytes=18446744073709551615-18446744073709551615",
        "bytes=99999999999999999999999-",
        "bytes=-99999999999999999999999",
        "bytes=-0",
        "bytes=5-2",
        "bytes=0-0,1-1,2-2",
        "bytes=--1",
        "bytes=+1-+2",
        "bytes=\u{0661}-",
        "bytes",
        "lines=1-2",
    ] {
        let answer = target.send("GET", &place, &[("range", range)], b"");
        assert!(matches!(answer.status, 200 | 206 | 400 | 416), "{range}: {}", answer.status);
        assert!(answer.status >= 400 || answer.body == content, "{range} is no part of the content");
    }
    let started = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
    let location = started.header("location").unwrap();
    for range in [
        "0-18446744073709551615",
        "18446744073709551615-18446744073709551615",
        "1-0",
        "0-",
        "-1",
        "a-b",
        "0-0",
    ] {
        let answer = target.send("PATCH", location, &[("content-range", range)], b"abc");
        assert_refused(range, &answer);
    }
    assert_eq!(target.send("GET", location, &[], b"").header("range"), Some("0-0"));
    target.assert_unharmed();
}
