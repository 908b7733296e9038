//! Signatures, constraints, names, limits and records: what holds for every operation.

use crate::aws_harness::{ACCOUNT, OTHER_ACCOUNT, REGION, Wharf};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_http::aws::tables;
use wharf_types::Timestamp;

#[tokio::test]
async fn constraints_come_before_permission_and_permission_before_existence() {
    let wharf = Wharf::start().await;
    let foreign = |name: &str| json!({"registryId": OTHER_ACCOUNT, "repositoryName": name});
    let (code, message) = wharf.root.ecr("ListImages", foreign("No")).await.error();
    assert_eq!(code, "InvalidParameterException");
    assert!(message.starts_with("Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '"), "{message}");
    let (code, message) = wharf.root.ecr("ListImages", foreign("there/is/none")).await.error();
    assert_eq!(code, "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: ecr:ListImages on resource: \
             arn:aws:ecr:{REGION}:{OTHER_ACCOUNT}:repository/there/is/none because no resource-based policy allows \
             the ecr:ListImages action"
        )
    );
    let own = wharf.root.ecr("ListImages", json!({"repositoryName": "there/is/none"})).await;
    assert_eq!(own.code(), "RepositoryNotFoundException");
    wharf.stop().await;
}

#[tokio::test]
async fn every_operation_answers_junk_with_an_error_of_its_own() {
    let wharf = Wharf::start().await;
    for service in tables().iter().filter(|service| service.target_prefix.is_some()) {
        let prefix = service.target_prefix.unwrap().trim_end_matches('.');
        for operation in service.operations {
            for body in [
                "[]",
                "{",
                "{\"repositoryName\": 7, \"KeyId\": 7, \"resourceArn\": {}}",
                "{\"maxResults\": \"x\"}",
            ] {
                let reply = wharf.root.json(service.name, prefix, operation.name, body.as_bytes()).await;
                assert!(!reply.status.is_server_error(), "{} {body}: {}", operation.name, reply.text());
            }
            let (code, message) = wharf.root.json(service.name, prefix, operation.name, b"[").await.error();
            assert_eq!(code, "SerializationException", "{}: {message}", operation.name);
            if !operation.is_built() {
                let (code, message) =
                    wharf.root.json(service.name, prefix, operation.name, b"{}").await.error();
                assert_eq!(code, "NotImplementedException");
                assert!(message.contains(operation.name), "{message}");
            }
        }
        let reply = wharf.root.json(service.name, prefix, "Nonsense", b"{}").await;
        let expected = if service.complete { "UnknownOperationException" } else { "NotImplementedException" };
        assert_eq!(reply.code(), expected, "{}", service.name);
    }
    assert_eq!(
        wharf.root.json("ecr", "Nobody_V1", "PutImage", b"{}").await.code(),
        "UnknownOperationException"
    );
    wharf.stop().await;
}

#[tokio::test]
async fn bad_signatures_are_refused() {
    let wharf = Wharf::start().await;
    let target = ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.DescribeRegistry");
    let unsigned = wharf.root.send("POST", "/", &[target], b"{}").await;
    assert_eq!(unsigned.code(), "MissingAuthenticationTokenException");

    let mut wrong = wharf.root.clone();
    wrong.secret.push('x');
    assert_eq!(wrong.ecr("DescribeRegistry", json!({})).await.code(), "InvalidSignatureException");
    let mut unknown = wharf.root.clone();
    unknown.access_key_id = "AKIAUNKNOWN".into();
    let (code, message) = unknown.ecr("DescribeRegistry", json!({})).await.error();
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("UnrecognizedClientException", "The security token included in the request is invalid.")
    );
    let service =
        wharf.root.json("kms", "AmazonEC2ContainerRegistry_V20150921", "DescribeRegistry", b"{}").await;
    assert_eq!(service.error().1, "Credential should be scoped to correct service: 'ecr'. ");
    // The whole of a large body is taken off the wire, so that the client can read the answer.
    let large = vec![b' '; 20 << 20];
    let refused =
        unknown.json("ecr", "AmazonEC2ContainerRegistry_V20150921", "UploadLayerPart", &large).await;
    assert_eq!(refused.code(), "UnrecognizedClientException");
    // Not built, but not told to strangers either.
    assert_eq!(wrong.ecr("StartImageScan", json!({})).await.code(), "InvalidSignatureException");

    wharf.root.ecr("DescribeRegistry", json!({})).await.ok();
    wharf.faces.registry().set_access_key_active(&wharf.root.access_key_id, false).await.unwrap();
    assert_eq!(wharf.root.ecr("DescribeRegistry", json!({})).await.code(), "UnrecognizedClientException");
    wharf.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_long_are_not_read() {
    let wharf = Wharf::start().await;
    let long = vec![b' '; (1 << 20) + 1];
    let reply =
        wharf.root.json("ecr", "AmazonEC2ContainerRegistry_V20150921", "DescribeRegistry", &long).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    wharf.stop().await;
}

#[tokio::test]
async fn tokens_are_for_every_registry_and_name_it_reachably() {
    let wharf = Wharf::start().await;
    let own = wharf.root.ecr("GetAuthorizationToken", json!({})).await.ok();
    let data = own["authorizationData"].as_array().unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(data[0]["proxyEndpoint"], format!("http://{}", wharf.address));
    let token =
        String::from_utf8(STANDARD.decode(data[0]["authorizationToken"].as_str().unwrap()).unwrap()).unwrap();
    assert!(token.starts_with("AWS:") && token.len() > 40);
    let hours = (data[0]["expiresAt"].as_f64().unwrap() - Timestamp::now().as_epoch_seconds()) / 3600.0;
    assert!((11.9..12.1).contains(&hours), "{hours}");

    let both =
        wharf.root.ecr("GetAuthorizationToken", json!({"registryIds": [ACCOUNT, OTHER_ACCOUNT]})).await.ok();
    let port = wharf.address.port();
    let expected = format!("http://{OTHER_ACCOUNT}.dkr.ecr.{REGION}.localhost:{port}");
    assert_eq!(both["authorizationData"][1]["proxyEndpoint"], expected);
    for bad in [json!([]), json!(["1"]), json!(vec![ACCOUNT; 11])] {
        let reply = wharf.root.ecr("GetAuthorizationToken", json!({"registryIds": bad})).await;
        assert_eq!(reply.code(), "InvalidParameterException");
    }
    wharf.stop().await;
}

#[tokio::test]
async fn a_domain_names_registries() {
    let wharf = Wharf::start_with(|config| {
        config.hosts.domain = Some("reg.corp".into());
        config.secure = true;
    })
    .await;
    let created = wharf.root.ecr("CreateRepository", json!({"repositoryName": "team/api"})).await.ok();
    let port = wharf.address.port();
    let host = format!("{ACCOUNT}.dkr.ecr.{REGION}.reg.corp:{port}");
    assert_eq!(created["repository"]["repositoryUri"], format!("{host}/team/api"));
    let token = wharf.root.ecr("GetAuthorizationToken", json!({})).await.ok();
    assert_eq!(token["authorizationData"][0]["proxyEndpoint"], format!("https://{host}"));
    wharf.stop().await;
}

#[tokio::test]
async fn rates_are_limited_when_told() {
    let wharf = Wharf::start_with(|config| {
        config.throttle.enabled = true;
        config.throttle.rates = [("DescribeRegistry".to_owned(), 0.01)].into();
    })
    .await;
    wharf.root.ecr("DescribeRegistry", json!({})).await.ok();
    let refused = wharf.root.ecr("DescribeRegistry", json!({})).await;
    assert_eq!(refused.error(), ("ThrottlingException".into(), "Rate exceeded".into()));
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 1);
    wharf.other.ecr("DescribeRegistry", json!({})).await.ok();
    wharf.stop().await;
}

#[tokio::test]
async fn health_metrics_and_audit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let file = path.clone();
    let wharf =
        Wharf::start_with(move |config| config.audit = wharf_http::config::AuditSink::File(file)).await;
    let root = wharf.root.clone();
    root.ecr("CreateRepository", json!({"repositoryName": "team/api"})).await.ok();
    let request = root.ecr("DescribeImages", json!({"repositoryName": "gone"})).await;
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/nothing", 404), ("/wharf/download/x", 403)]
    {
        assert_eq!(root.send("GET", path, &[], b"").await.status, status, "{path}");
    }
    assert_eq!(root.send("DELETE", "/healthz", &[], b"").await.status, 405);
    let metrics = root.send("GET", "/metrics", &[], b"").await.text();
    for line in [
        "wharf_requests_total{face=\"ecr\",operation=\"CreateRepository\",status=\"200\"} 1",
        "wharf_requests_total{face=\"ecr\",operation=\"DescribeImages\",status=\"400\"} 1",
        "wharf_request_duration_seconds_count{face=\"ecr\",operation=\"CreateRepository\"} 1",
        "wharf_requests_in_flight 1",
        "wharf_uploads_started_total 0",
        "wharf_blob_received_bytes_total 0",
        "wharf_store_errors_total 0",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in {metrics}");
    }
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let misnamed = families.filter(|name| name.matches("wharf_").count() != 1).collect::<Vec<_>>();
    assert!(misnamed.is_empty(), "{misnamed:?}");
    wharf.faces.begin_shutdown();
    assert_eq!(root.send("GET", "/readyz", &[], b"").await.status, 503);
    let id = request.headers["x-amzn-requestid"].to_str().unwrap().to_owned();
    wharf.stop().await;

    let text = std::fs::read_to_string(path).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = records.iter().map(|record| record["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["CreateRepository", "DescribeImages", "DownloadLayer"]);
    let created = &records[0];
    assert_eq!(created["eventSource"], "ecr.amazonaws.com");
    assert_eq!(created["awsRegion"], REGION);
    assert_eq!(created["userIdentity"]["accessKeyId"], root.access_key_id);
    assert_eq!(created["resources"][0]["ARN"], format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/api"));
    assert!(created.get("errorCode").is_none());
    assert_eq!(records[1]["errorCode"], "RepositoryNotFoundException");
    assert_eq!(records[1]["requestID"], id);
    assert!(!text.contains(&root.secret));
}
