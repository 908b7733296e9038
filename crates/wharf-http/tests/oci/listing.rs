//! Tags, repositories and referrers, in pages.

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_types::Digest;

use super::wharf::{Answer, INDEX, OTHER_REPOSITORY, REPOSITORY, Wharf};

/// The target that `Link` leads to.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(rest, "; rel=\"next\"");
    Some(target.to_owned())
}

async fn walk(wharf: &Wharf, first: &str, list: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut target = Some(first.to_owned());
    while let Some(at) = target {
        let page = wharf.get(&at).await;
        assert_eq!(page.status, 200, "{page:?}");
        pages.push(page.json()[list].as_array().unwrap().clone());
        target = next(&page);
    }
    pages
}

async fn push_index(wharf: &Wharf, reference: &str, more: Value) -> Digest {
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
    for (key, value) in more.as_object().unwrap() {
        index[key] = value.clone();
    }
    let bytes = Bytes::from(index.to_string());
    let digest = Digest::sha256(&bytes);
    let reference = if reference.is_empty() { digest.to_string() } else { reference.to_owned() };
    let put = wharf.put_manifest(&reference, INDEX, bytes).await;
    assert_eq!(put.status, 201, "{put:?}");
    if let Some(subject) = more["subject"]["digest"].as_str() {
        assert_eq!(put.text("oci-subject"), subject);
    }
    digest
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let wharf = Wharf::start().await;
    let list = format!("/v2/{REPOSITORY}/tags/list");
    assert_eq!(wharf.get(&list).await.json(), json!({"name": REPOSITORY, "tags": []}));
    for tag in ["t0", "T9", "t1", "t2", "t3"] {
        push_index(&wharf, tag, json!({})).await;
    }
    let all = json!(["T9", "t0", "t1", "t2", "t3"]);
    assert_eq!(wharf.get(&list).await.json()["tags"], all);
    assert_eq!(wharf.get(&format!("{list}?last=t1")).await.json()["tags"], json!(["t2", "t3"]));
    assert_eq!(wharf.get(&format!("{list}?n=0")).await.json()["tags"], json!([]));
    assert_eq!(next(&wharf.get(&format!("{list}?n=5")).await), None);
    assert_eq!(wharf.get(&format!("{list}?n=18446744073709551615")).await.json()["tags"], all);
    let pages = walk(&wharf, &format!("{list}?n=2"), "tags").await;
    assert_eq!(json!(pages), json!([["T9", "t0"], ["t1", "t2"], ["t3"]]));
    assert_eq!(wharf.get(&format!("{list}?n=x")).await.code(), (400, "PAGINATION_NUMBER_INVALID".into()));
}

/// A list that nobody bounds is not made in memory: it is sent page by page, whole and in order.
#[tokio::test]
async fn a_long_list_comes_whole_without_being_asked_for_in_pages() {
    let wharf = Wharf::start().await;
    let (first, list) =
        (push_index(&wharf, "t00000", json!({})).await, format!("/v2/{REPOSITORY}/tags/list"));
    let manifest = wharf.get(&format!("/v2/{REPOSITORY}/manifests/{first}")).await.body;
    // Tags of an image are limited, and there must be more than two pages' worth.
    let mut names = vec!["t00000".to_owned()];
    for image in 0..21 {
        let mut index: Value = serde_json::from_slice(&manifest).unwrap();
        index["annotations"] = json!({"image": image.to_string()});
        let (bytes, from) = (Bytes::from(index.to_string()), 1 + image * 1000);
        let tags: Vec<String> = (from..from + 1000).map(|number| format!("t{number:05}")).collect();
        let digest = Digest::sha256(&bytes);
        let put = wharf.put_manifest(&format!("{digest}?tag={}", tags.join("&tag=")), INDEX, bytes).await;
        assert_eq!(put.status, 201, "{put:?}");
        names.extend(tags);
    }
    let whole = wharf.get(&list).await;
    assert_eq!(whole.status, 200);
    assert!(!whole.headers.contains_key("link") && !whole.headers.contains_key("content-length"));
    assert_eq!(whole.json(), json!({"name": REPOSITORY, "tags": names}));
    assert_eq!(wharf.send("HEAD", &list, &[], "").await.status, 200);
    // What is left after a name may fit an answer with a length.
    let rest = wharf.get(&format!("{list}?last=t11000")).await;
    assert_eq!(rest.json()["tags"], json!(names[11_001..]));
    assert_eq!(rest.text("content-length"), rest.body.len().to_string());
    // Asked for more than an answer takes, there is a way to the rest.
    let pages = walk(&wharf, &format!("{list}?n=1000000"), "tags").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 10_000, 1001]);
    assert_eq!(json!(pages.concat()), json!(names));
}

/// Lists are kept in memory: each change is in the next answer all the same.
#[tokio::test]
async fn a_list_shows_what_was_just_changed() {
    let wharf = Wharf::start().await;
    let list = format!("/v2/{REPOSITORY}/tags/list?n=2");
    let index = push_index(&wharf, "a", json!({})).await;
    let pages = async || json!(walk(&wharf, &list, "tags").await);
    for _ in 0..2 {
        assert_eq!(pages().await, json!([["a"]]));
    }
    push_index(&wharf, "b", json!({})).await;
    push_index(&wharf, "c", json!({})).await;
    for _ in 0..2 {
        assert_eq!(pages().await, json!([["a", "b"], ["c"]]));
    }
    let gone = wharf.send("DELETE", &format!("/v2/{REPOSITORY}/manifests/b"), &[], "").await;
    assert_eq!(gone.status, 202);
    assert_eq!(pages().await, json!([["a", "c"]]));

    let referrers = format!("/v2/{REPOSITORY}/referrers/{index}?artifactType=a/b");
    let named = json!({"mediaType": INDEX, "digest": index.to_string(), "size": 7});
    for count in 0..3 {
        let answers = [wharf.get(&referrers).await, wharf.get(&referrers).await];
        for answer in &answers {
            assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), count);
            assert_eq!(answer.text("content-type"), INDEX);
            assert_eq!(answer.text("oci-filters-applied"), "artifactType");
        }
        let referrer =
            json!({"subject": named, "artifactType": "a/b", "annotations": {"n": count.to_string()}});
        push_index(&wharf, "", referrer).await;
    }
}

/// Whatever answers GET answers HEAD (RFC 9110 §9.1).
#[tokio::test]
async fn lists_can_be_asked_for_by_head() {
    let wharf = Wharf::start().await;
    let subject = push_index(&wharf, "t0", json!({})).await;
    let lists = [
        format!("/v2/{REPOSITORY}/tags/list"),
        "/v2/_catalog?n=1".to_owned(),
        format!("/v2/{REPOSITORY}/referrers/{subject}"),
    ];
    for list in lists {
        let (get, head) = (wharf.get(&list).await, wharf.send("HEAD", &list, &[], "").await);
        assert_eq!(head.status, 200, "{list}");
        assert!(head.body.is_empty());
        for name in ["content-length", "content-type", "link"] {
            assert_eq!(head.headers.get(name), get.headers.get(name), "{list}: {name}");
        }
    }
}

#[tokio::test]
async fn the_catalog_lists_the_callers_registry() {
    let wharf = Wharf::start().await;
    let pages = walk(&wharf, "/v2/_catalog?n=1", "repositories").await;
    assert_eq!(json!(pages), json!([[REPOSITORY], [OTHER_REPOSITORY]]));
    assert_eq!(
        wharf.get("/v2/_catalog").await.json(),
        json!({"repositories": [REPOSITORY, OTHER_REPOSITORY]})
    );
}

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let wharf = Wharf::start().await;
    let subject = Digest::sha256(b"a subject that is not there yet");
    let list = format!("/v2/{REPOSITORY}/referrers/{subject}");
    let empty = wharf.get(&list).await;
    assert_eq!(empty.text("content-type"), INDEX);
    assert_eq!(empty.json(), json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));

    let named = json!({"mediaType": INDEX, "digest": subject.to_string(), "size": 7});
    let sbom =
        json!({"subject": named, "artifactType": "application/vnd.example+sbom", "annotations": {"k": "v"}});
    let sbom = push_index(&wharf, "", sbom).await;
    push_index(&wharf, "", json!({"subject": named})).await;
    let both = wharf.get(&list).await;
    assert_eq!(both.json()["manifests"].as_array().unwrap().len(), 2);
    assert!(!both.headers.contains_key("oci-filters-applied"));

    for filter in ["application%2Fvnd.example%2Bsbom", "application/vnd.example+sbom"] {
        let filtered = wharf.get(&format!("{list}?artifactType={filter}")).await;
        assert_eq!(filtered.text("oci-filters-applied"), "artifactType");
        let manifests = &filtered.json()["manifests"];
        assert_eq!(manifests.as_array().unwrap().len(), 1, "{filter}");
        assert_eq!(manifests[0]["digest"], sbom.to_string());
        assert_eq!(manifests[0]["artifactType"], "application/vnd.example+sbom");
        assert_eq!(manifests[0]["annotations"], json!({"k": "v"}));
    }

    for index in 0..120 {
        push_index(&wharf, "", json!({"subject": named, "annotations": {"index": index.to_string()}})).await;
    }
    let pages = walk(&wharf, &list, "manifests").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 22]);
    let mut digests: Vec<String> = pages.concat().iter().map(|entry| entry["digest"].to_string()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 122, "each once");
}
