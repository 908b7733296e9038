//! Pulling, asking for and deleting blobs.

use wharf_store::object::ObjectStore;
use wharf_types::Digest;

use super::wharf::{OTHER_REPOSITORY, REPOSITORY, Wharf};

#[tokio::test]
async fn a_blob_whole_in_ranges_and_by_head() {
    let wharf = Wharf::start().await;
    let content: Vec<u8> = (0..200_000_u32).map(|index| (index / 7) as u8).collect();
    let digest = wharf.push_blob(REPOSITORY, &content).await;
    let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for method in ["HEAD", "GET"] {
        let whole = wharf.send(method, &target, &[], "").await;
        assert_eq!((whole.status.as_u16(), whole.text("content-length")), (200, "200000"), "{method}");
        assert_eq!(whole.text("docker-content-digest"), digest.to_string());
        assert_eq!(whole.text("accept-ranges"), "bytes");
        assert_eq!(whole.body.is_empty(), method == "HEAD");
        let etag = whole.text("etag").to_owned();
        let held = wharf.send(method, &target, &[("if-none-match", &etag)], "").await;
        assert_eq!((held.status.as_u16(), held.text("etag")), (304, &*etag));
    }
    assert_eq!(wharf.get(&target).await.body, content);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=65530-131080", 65_530, 131_080),
        ("bytes=199990-", 199_990, 199_999),
        ("bytes=-10", 199_990, 199_999),
        ("bytes=199000-500000", 199_000, 199_999),
    ] {
        let part = wharf.send("GET", &target, &[("range", range)], "").await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.text("content-range"), format!("bytes {first}-{last}/200000"));
        assert_eq!(part.body, content[first..=last], "{range}");
    }
    for range in ["bytes=200000-", "bytes=500-0"] {
        let refused = wharf.send("GET", &target, &[("range", range)], "").await;
        assert_eq!(
            (refused.status.as_u16(), refused.text("content-range")),
            (416, "bytes */200000"),
            "{range}"
        );
    }
    let several = wharf.send("GET", &target, &[("range", "bytes=0-1,5-6")], "").await;
    assert_eq!((several.status.as_u16(), several.body.len()), (200, 200_000));
}

#[tokio::test]
async fn blobs_belong_to_repositories() {
    let wharf = Wharf::start().await;
    let digest = wharf.push_blob(REPOSITORY, b"layer").await;
    for method in ["GET", "HEAD"] {
        let elsewhere = wharf.send(method, &format!("/v2/{OTHER_REPOSITORY}/blobs/{digest}"), &[], "").await;
        assert_eq!(elsewhere.status, 404);
    }
    let unknown = wharf.get(&format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"unknown"))).await;
    assert_eq!(unknown.code(), (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn a_deleted_blob_is_gone_at_once() {
    let wharf = Wharf::start().await;
    let digest = wharf.push_blob(REPOSITORY, b"layer").await;
    let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
    assert_eq!(wharf.send("HEAD", &target, &[], "").await.status, 200);
    assert_eq!(wharf.send("DELETE", &target, &[], "").await.status, 202);
    assert_eq!(wharf.send("HEAD", &target, &[], "").await.status, 404);
    assert_eq!(wharf.get(&target).await.code(), (404, "BLOB_UNKNOWN".into()));
    assert_eq!(wharf.send("DELETE", &target, &[], "").await.code(), (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn damage_at_the_beginning_is_an_answer_and_not_a_broken_connection() {
    let wharf = Wharf::start().await;
    let content: Vec<u8> = (0..700_000_u32).map(|index| (index / 7) as u8).collect();
    let digest = wharf.push_blob(REPOSITORY, &content).await;
    let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let [(object, _)] = wharf.objects.list(None, 2).await.unwrap()[..] else { panic!("not one object") };
    assert!(wharf.objects.damage(object, |bytes| bytes[1000] ^= 1));
    for attempt in ["first", "second"] {
        let refused = wharf.get(&target).await;
        assert_eq!(refused.status, 500, "{attempt}");
        assert!(refused.text("content-type").starts_with("application/json"), "{attempt}: {refused:?}");
    }
    assert_eq!(wharf.send("HEAD", &target, &[], "").await.status, 404, "so that clients push it again");
    assert_eq!(wharf.push_blob(REPOSITORY, &content).await, digest);
    assert_eq!(wharf.get(&target).await.body, content);
}
