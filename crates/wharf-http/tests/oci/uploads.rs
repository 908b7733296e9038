//! Every way a blob can be pushed.

use wharf_types::Digest;

use super::wharf::{Answer, OTHER_REPOSITORY, REPOSITORY, Wharf};

const UPLOADS: &str = "/v2/team/api/blobs/uploads/";

async fn start(wharf: &Wharf) -> String {
    let started = wharf.send("POST", UPLOADS, &[], "").await;
    assert_eq!(started.status, 202);
    assert_eq!(started.text("range"), "0-0");
    let location = started.text("location");
    assert_eq!(location, format!("{UPLOADS}{}", started.text("docker-upload-uuid")));
    location.to_owned()
}

async fn is_there(wharf: &Wharf, pushed: &Answer, digest: &Digest, content: &[u8]) {
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert_eq!(pushed.text("docker-content-digest"), digest.to_string());
    let location = format!("/v2/{REPOSITORY}/blobs/{digest}");
    assert_eq!(pushed.text("location"), location);
    assert_eq!(wharf.get(&location).await.body, content);
}

#[tokio::test]
async fn a_blob_in_one_post() {
    let wharf = Wharf::start().await;
    for content in [&b"layer"[..], b"", &vec![7; 300_000]] {
        for digest in [Digest::sha256(content), Digest::sha512(content)] {
            let pushed =
                wharf.send("POST", &format!("{UPLOADS}?digest={digest}"), &[], content.to_vec()).await;
            is_there(&wharf, &pushed, &digest, content).await;
            let again =
                wharf.send("POST", &format!("{UPLOADS}?digest={digest}"), &[], content.to_vec()).await;
            assert_eq!(again.status, 201, "a second push changes nothing");
        }
    }
    let wrong = Digest::sha256(b"other");
    let refused = wharf.send("POST", &format!("{UPLOADS}?digest={wrong}"), &[], "layer").await;
    assert_eq!(refused.code(), (400, "DIGEST_INVALID".into()));
    let junk = wharf.send("POST", &format!("{UPLOADS}?digest=md5:00"), &[], "layer").await;
    assert_eq!(junk.code(), (400, "DIGEST_INVALID".into()));
    let session = wharf.send("POST", &format!("{UPLOADS}?digest={wrong}"), &[], "").await;
    assert_eq!(session.status, 202, "a digest without content begins a session");
}

#[tokio::test]
async fn a_blob_by_post_and_put() {
    let wharf = Wharf::start().await;
    for digest in [Digest::sha256(b"layer"), Digest::sha512(b"layer")] {
        let location = start(&wharf).await;
        let pushed = wharf.send("PUT", &format!("{location}?digest={digest}"), &[], "layer").await;
        is_there(&wharf, &pushed, &digest, b"layer").await;
    }
    let location = start(&wharf).await;
    let refused = wharf.send("PUT", &format!("{location}?digest={}", Digest::sha256(b"x")), &[], "y").await;
    assert_eq!(refused.code(), (400, "DIGEST_INVALID".into()));
    let none = wharf.send("PUT", &start(&wharf).await, &[], "y").await;
    assert_eq!(none.code(), (400, "DIGEST_INVALID".into()), "no digest at all");
}

#[tokio::test]
async fn a_blob_as_a_stream() {
    let wharf = Wharf::start().await;
    let content = vec![3; 200_000];
    let digest = Digest::sha256(&content);
    let location = start(&wharf).await;
    let sent = wharf.send("PATCH", &location, &[], content.clone()).await;
    assert_eq!((sent.status.as_u16(), sent.text("range")), (202, "0-199999"));
    let pushed = wharf.send("PUT", &format!("{}?digest={digest}", sent.text("location")), &[], "").await;
    is_there(&wharf, &pushed, &digest, &content).await;
}

#[tokio::test]
async fn a_blob_in_chunks_with_some_out_of_order() {
    let wharf = Wharf::start().await;
    let content: Vec<u8> = (0..3000_u32).map(|index| index as u8).collect();
    let digest = Digest::sha256(&content);
    for last_by_put in [false, true] {
        let location = start(&wharf).await;
        for first in [0, 1000, 2000] {
            let wrong = (first + 1000) % 3000;
            let range = format!("{wrong}-{}", wrong + 999);
            let refused = wharf
                .send("PATCH", &location, &[("content-range", &range)], content[wrong..wrong + 1000].to_vec())
                .await;
            assert_eq!(refused.code(), (416, "BLOB_UPLOAD_INVALID".into()), "{range} at {first}");
            assert_eq!(refused.text("location"), location);

            let status = wharf.get(&location).await;
            assert_eq!((status.status.as_u16(), status.text("location")), (204, &*location));
            assert_eq!(status.text("range"), format!("0-{}", first.saturating_sub(1)));
            if last_by_put && first == 2000 {
                break;
            }
            let range = format!("{first}-{}", first + 999);
            let taken = wharf
                .send("PATCH", &location, &[("content-range", &range)], content[first..first + 1000].to_vec())
                .await;
            assert_eq!((taken.status.as_u16(), taken.text("range")), (202, &*format!("0-{}", first + 999)));
        }
        let target = format!("{location}?digest={digest}");
        let pushed = if last_by_put {
            let refused =
                wharf.send("PUT", &target, &[("content-range", "0-999")], content[2000..].to_vec()).await;
            assert_eq!(refused.status, 416);
            wharf.send("PUT", &target, &[("content-range", "2000-2999")], content[2000..].to_vec()).await
        } else {
            wharf.send("PUT", &target, &[], "").await
        };
        is_there(&wharf, &pushed, &digest, &content).await;
    }
}

#[tokio::test]
async fn chunks_that_are_not_what_they_say() {
    let wharf = Wharf::start().await;
    let location = start(&wharf).await;
    let send = async |range: &'static str| {
        wharf.send("PATCH", &location, &[("content-range", range)], "12345").await
    };
    assert_eq!(send("0-9").await.code(), (400, "SIZE_INVALID".into()));
    assert_eq!(send("4-0").await.code(), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(send("all").await.code(), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(send("0-4").await.status, 202);
}

#[tokio::test]
async fn uploads_end() {
    let wharf = Wharf::start().await;
    let location = start(&wharf).await;
    assert_eq!(wharf.send("DELETE", &location, &[], "").await.status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(wharf.send(method, &location, &[], "x").await.code(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    }
    let odd = wharf.get(&format!("{UPLOADS}not-an-id")).await;
    assert_eq!(odd.code(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let location = start(&wharf).await.replace(REPOSITORY, OTHER_REPOSITORY);
    assert_eq!(
        wharf.get(&location).await.code(),
        (404, "BLOB_UPLOAD_UNKNOWN".into()),
        "of another repository"
    );
    let missing = wharf.send("POST", "/v2/no/such/blobs/uploads/", &[], "").await;
    assert_eq!(missing.code(), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn blobs_are_mounted_from_where_the_caller_may_read() {
    let wharf = Wharf::start().await;
    let digest = wharf.push_blob(OTHER_REPOSITORY, b"shared").await;
    let named =
        wharf.send("POST", &format!("{UPLOADS}?mount={digest}&from={OTHER_REPOSITORY}"), &[], "").await;
    is_there(&wharf, &named, &digest, b"shared").await;

    let digest = wharf.push_blob(OTHER_REPOSITORY, b"found").await;
    let found = wharf.send("POST", &format!("{UPLOADS}?mount={digest}"), &[], "").await;
    is_there(&wharf, &found, &digest, b"found").await;

    let absent = Digest::sha256(b"absent");
    for query in [
        format!("mount={absent}&from={OTHER_REPOSITORY}"),
        format!("mount={absent}&from=no/such"),
        format!("mount={absent}&from=NOT%20A%20NAME"),
        format!("mount={absent}"),
        format!("mount={absent}&origin=example.com"),
    ] {
        let session = wharf.send("POST", &format!("{UPLOADS}?{query}"), &[], "").await;
        assert_eq!(session.status, 202, "{query}");
        assert!(session.headers.contains_key("location"), "{query}");
    }
    let junk = wharf.send("POST", &format!("{UPLOADS}?mount=junk"), &[], "").await;
    assert_eq!(junk.code(), (400, "DIGEST_INVALID".into()));
}
