//! Who gets in, and how the others are turned away.

use std::time::Duration;

use serde_json::Value;
use wharf_http::HttpConfig;
use wharf_http::config::{AuditSink, ThrottleConfig};
use wharf_types::Digest;

use super::wharf::{ACCOUNT, OTHER_ACCOUNT, REGION, REPOSITORY, Wharf, basic};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn without_a_good_credential_every_path_answers_ecrs_challenge() {
    let wharf = Wharf::start().await;
    let password = wharf.password(ACCOUNT, REGION, HOUR).await;
    let credentials = [
        None,
        Some("Basic ".to_owned()),
        Some("Basic Og==".to_owned()),
        Some(basic("AWS", "")),
        Some(basic("AWS", "wrong")),
        Some(basic("aws", &password)),
        Some(basic("root", &password)),
        Some(format!("Bearer {password}")),
    ];
    let paths =
        ["/v2/", "/v2/_catalog", "/v2/team/api/manifests/v1", "/v2/no/such/thing", "/v2/BAD/tags/list"];
    for credential in &credentials {
        for path in paths {
            let headers: Vec<(&str, &str)> =
                credential.iter().map(|text| ("authorization", text.as_str())).collect();
            let refused = wharf.send_raw("GET", path, &headers, "").await;
            assert_eq!(refused.status, 401, "{credential:?} {path}");
            assert_eq!(refused.body, "Not Authorized\n");
            assert_eq!(refused.text("content-type"), "text/plain; charset=utf-8");
            assert_eq!(refused.text("docker-distribution-api-version"), "registry/2.0");
            assert_eq!(
                refused.text("www-authenticate"),
                format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", wharf.addr)
            );
        }
    }
    assert_eq!(wharf.get("/v2/").await.status, 200, "and a good one is let in");
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_caches_and_browsers_away() {
    let wharf = Wharf::start().await;
    let digest = wharf.push_blob(REPOSITORY, b"layer").await;
    let blob = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for (target, status) in
        [("/v2/", 200), ("/v2/none/such/tags/list", 404), ("/v2/nonsense", 404), (&*blob, 200)]
    {
        let answer = wharf.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.text("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(answer.text("cache-control"), "private");
        assert_eq!(answer.text("vary"), "Authorization");
        assert_eq!(answer.text("x-content-type-options"), "nosniff");
    }
    let answer = wharf.get(&blob).await;
    assert_eq!(answer.text("content-type"), "application/octet-stream");
    assert_eq!(answer.text("content-security-policy"), "default-src 'none'; sandbox");
}

#[tokio::test]
async fn an_expired_password_is_told_so() {
    let wharf = Wharf::start().await;
    let credential = basic("AWS", &wharf.password(ACCOUNT, REGION, Duration::from_secs(60)).await);
    let headers = [("authorization", credential.as_str())];
    assert_eq!(wharf.send_raw("GET", "/v2/", &headers, "").await.status, 200);
    wharf.clock.advance(Duration::from_secs(61));
    let refused = wharf.send_raw("GET", "/v2/", &headers, "").await;
    let text = "Your authorization token has expired. Reauthenticate and try again.".to_owned();
    assert_eq!(refused.error(), (403, "DENIED".into(), text));
}

#[tokio::test]
async fn a_password_dies_with_its_access_key() {
    let wharf = Wharf::start().await;
    let credential = wharf.credential().await;
    let headers = [("authorization", credential.as_str())];
    assert_eq!(wharf.send_raw("GET", "/v2/", &headers, "").await.status, 200);
    let key = wharf.registry.list_access_keys(ACCOUNT.parse().unwrap()).await.unwrap().remove(0);
    wharf.registry.set_access_key_active(&key.id, false).await.unwrap();
    assert_eq!(wharf.send_raw("GET", "/v2/", &headers, "").await.status, 401);
    wharf.registry.set_access_key_active(&key.id, true).await.unwrap();
    assert_eq!(wharf.send_raw("GET", "/v2/", &headers, "").await.status, 200);
}

#[tokio::test]
async fn a_host_names_a_registry_and_a_bare_host_is_the_callers_own() {
    let wharf = Wharf::start().await;
    let (digest, _) = wharf.push_image("v1", b"layer", serde_json::json!({})).await;
    let stranger = basic("AWS", &wharf.password(OTHER_ACCOUNT, REGION, HOUR).await);
    let own = wharf.credential().await;
    let pull = async |credential: &str, host: &str| {
        let headers = [("authorization", credential), ("host", host)];
        wharf.send_raw("GET", &format!("/v2/{REPOSITORY}/manifests/v1"), &headers, "").await
    };
    let (here, there) = (
        format!("{ACCOUNT}.dkr.ecr.{REGION}.localhost:5050"),
        format!("{OTHER_ACCOUNT}.dkr.ecr.{REGION}.localhost"),
    );
    for host in ["127.0.0.1", &here] {
        assert_eq!(pull(&own, host).await.text("docker-content-digest"), digest.to_string(), "{host}");
    }
    for host in ["127.0.0.1", &there] {
        assert_eq!(pull(&stranger, host).await.code(), (404, "MANIFEST_UNKNOWN".into()), "{host}");
    }
    let elsewhere = basic("AWS", &wharf.password(ACCOUNT, "eu-west-1", HOUR).await);
    let error = pull(&elsewhere, "127.0.0.1").await.error();
    assert_eq!((error.0, &*error.1), (404, "NAME_UNKNOWN"), "its own registry, in its own region");
}

#[tokio::test]
async fn another_accounts_registry_tells_a_stranger_nothing() {
    let wharf = Wharf::start().await;
    let stranger = basic("AWS", &wharf.password(OTHER_ACCOUNT, REGION, HOUR).await);
    let host = format!("{ACCOUNT}.dkr.ecr.{REGION}.localhost");
    let headers = [("authorization", stranger.as_str()), ("host", host.as_str())];
    let digest = Digest::sha256(b"");
    for (method, rest, action) in [
        ("GET", "manifests/v1".to_owned(), "BatchGetImage"),
        ("PUT", "manifests/v1".into(), "PutImage"),
        ("DELETE", "manifests/v1".into(), "BatchDeleteImage"),
        ("GET", format!("blobs/{digest}"), "GetDownloadUrlForLayer"),
        ("POST", "blobs/uploads/".into(), "InitiateLayerUpload"),
        ("GET", "tags/list".into(), "ListImages"),
        ("GET", format!("referrers/{digest}"), "BatchGetImage"),
    ] {
        for repository in [REPOSITORY, "does/not-exist"] {
            let refused = wharf.send_raw(method, &format!("/v2/{repository}/{rest}"), &headers, "").await;
            let text = format!(
                "User: arn:aws:iam::{OTHER_ACCOUNT}:root is not authorized to perform: ecr:{action} on resource: \
                 arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository} because no resource-based policy allows the \
                 ecr:{action} action"
            );
            assert_eq!(refused.error(), (403, "DENIED".into(), text), "{method} {rest}");
        }
    }
    assert_eq!(wharf.send_raw("GET", "/v2/_catalog", &headers, "").await.code(), (403, "DENIED".into()));
    assert_eq!(
        wharf.send_raw("GET", "/v2/", &headers, "").await.status,
        200,
        "the password is good here too"
    );
}

#[tokio::test]
async fn another_regions_host_refuses_a_password_like_a_bad_one() {
    let wharf = Wharf::start().await;
    let own = wharf.credential().await;
    let host = format!("{ACCOUNT}.dkr.ecr.eu-west-1.localhost");
    let refused = wharf.send_raw("GET", "/v2/", &[("authorization", &own), ("host", &host)], "").await;
    assert_eq!((refused.status.as_u16(), &refused.body[..]), (401, &b"Not Authorized\n"[..]));
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let wharf = Wharf::start().await;
    let digest = Digest::sha256(b"");
    let refused = wharf.send("PATCH", &format!("/v2/{REPOSITORY}/blobs/{digest}"), &[], "").await;
    assert_eq!(refused.code(), (405, "UNSUPPORTED".into()));
    assert_eq!(refused.text("allow"), "GET, HEAD, DELETE");
    assert_eq!(wharf.get("/v2/nonsense").await.code(), (404, "UNSUPPORTED".into()));
    for path in ["/v2/../tags/list", "/v2/UPPER/tags/list", "/v2/a%2Fb/tags/list", "/v2/a%00b/tags/list"] {
        assert_eq!(wharf.get(path).await.code(), (400, "NAME_INVALID".into()), "{path}");
    }
    for path in
        ["/v2/team/api/blobs/sha256:abc", "/v2/team/api/manifests/md5:abc", "/v2/team/api/referrers/x"]
    {
        assert_eq!(wharf.get(path).await.code(), (400, "DIGEST_INVALID".into()), "{path}");
    }
    let missing = wharf.get("/v2/no/such/tags/list").await;
    let text =
        format!("The repository with name 'no/such' does not exist in the registry with id '{ACCOUNT}'");
    assert_eq!(missing.error(), (404, "NAME_UNKNOWN".into(), text));
}

#[tokio::test]
async fn too_many_calls_are_told_to_wait() {
    let rates = [("BatchGetImage".to_owned(), 2.0)].into();
    let throttle = ThrottleConfig { enabled: true, rates, principal_share: 1.0 };
    let wharf = Wharf::start_configured(|_| {}, HttpConfig { throttle, ..HttpConfig::default() }).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(wharf.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await);
    }
    assert_eq!(answers[0].code(), (404, "MANIFEST_UNKNOWN".into()));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.error(), (429, "TOOMANYREQUESTS".into(), "Rate exceeded".into()));
    assert_eq!(refused.text("retry-after"), "1");
    assert_eq!(wharf.get("/v2/").await.status, 200, "other calls pass");
}

#[tokio::test]
async fn every_call_leaves_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = AuditSink::File(path.clone());
    let wharf = Wharf::start_configured(|_| {}, HttpConfig { audit, ..HttpConfig::default() }).await;
    wharf.send_raw("GET", "/v2/", &[], "").await;
    wharf.get(&format!("/v2/{REPOSITORY}/manifests/v1")).await;
    wharf.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[("user-agent", "docker/1")], "").await;
    let records = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if records.len() == 3 {
            break records;
        }
        tokio::task::yield_now().await;
    };
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{REPOSITORY}");
    let facts: Vec<(&str, &str, &str)> = records
        .iter()
        .map(|record| {
            let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (text("/eventName"), text("/errorCode"), text("/userIdentity/accountId"))
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("Ping", "UNAUTHORIZED", ""),
            ("BatchGetImage", "MANIFEST_UNKNOWN", ACCOUNT),
            ("InitiateLayerUpload", "", ACCOUNT),
        ]
    );
    assert_eq!(records[1]["resources"][0]["ARN"], arn);
    assert_eq!(records[2]["userAgent"], "docker/1");
    assert_eq!(records[2]["awsRegion"], REGION);
}
