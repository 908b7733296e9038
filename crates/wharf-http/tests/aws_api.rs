//! The AWS faces by HTTP: signatures, tables, shapes, and what a call does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aws_harness;

use aws_harness::{ACCOUNT, OTHER_ACCOUNT, REGION, Wharf};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;
use wharf_http::aws::tables;
use wharf_iam::sigv4::SignedRequest;
use wharf_types::{Digest, Timestamp};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Uploads a layer by the JSON API and returns its digest.
async fn push_layer(wharf: &Wharf, repository: &str, content: &[u8]) -> String {
    let root = &wharf.root;
    let upload = root.ecr("InitiateLayerUpload", json!({"repositoryName": repository})).await.ok();
    assert!(upload["partSize"].as_u64().unwrap() >= 5 << 20);
    let part = json!({
        "repositoryName": repository, "uploadId": upload["uploadId"],
        "partFirstByte": 0, "partLastByte": content.len() - 1, "layerPartBlob": STANDARD.encode(content),
    });
    let received = root.ecr("UploadLayerPart", part).await.ok();
    assert_eq!(received["lastByteReceived"], content.len() - 1);
    let digest = Digest::sha256(content).to_string();
    let complete =
        json!({"repositoryName": repository, "uploadId": upload["uploadId"], "layerDigests": [digest]});
    assert_eq!(root.ecr("CompleteLayerUpload", complete).await.ok()["layerDigest"], digest);
    digest
}

/// A manifest of one layer.
fn manifest(config: (&str, usize), layer: (&str, usize)) -> String {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.0, "size": layer.1}],
    })
    .to_string()
}

/// Pushes an image under a tag and returns its manifest.
async fn push_image(wharf: &Wharf, repository: &str, tag: &str, layer: &[u8]) -> String {
    let config = push_layer_once(wharf, repository, b"{}").await;
    let blob = push_layer_once(wharf, repository, layer).await;
    let text = manifest((&config, 2), (&blob, layer.len()));
    let put = json!({"repositoryName": repository, "imageManifest": text, "imageTag": tag});
    wharf.root.ecr("PutImage", put).await.ok();
    text
}

async fn push_layer_once(wharf: &Wharf, repository: &str, content: &[u8]) -> String {
    let digest = Digest::sha256(content).to_string();
    let check = json!({"repositoryName": repository, "layerDigests": [digest]});
    let known = wharf.root.ecr("BatchCheckLayerAvailability", check).await.ok();
    match known["layers"][0]["layerAvailability"].as_str().unwrap() {
        "AVAILABLE" => digest,
        _ => push_layer(wharf, repository, content).await,
    }
}

async fn with_repository(name: &str) -> Wharf {
    let wharf = Wharf::start().await;
    wharf.root.ecr("CreateRepository", json!({"repositoryName": name})).await.ok();
    wharf
}

#[tokio::test]
async fn a_repository_is_created_described_and_deleted() {
    let wharf = Wharf::start().await;
    let created =
        wharf.root.ecr("CreateRepository", json!({"repositoryName": "team/api", "unknown": [1]})).await;
    assert_eq!(created.headers["x-amzn-requestid"].len(), 36);
    let repository = &created.ok()["repository"];
    assert_eq!(repository["repositoryArn"], format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/api"));
    assert_eq!(repository["repositoryUri"], format!("{}/team/api", wharf.address));
    assert_eq!(repository["registryId"], ACCOUNT);
    assert_eq!(repository["imageTagMutability"], "MUTABLE");
    assert_eq!(repository["imageScanningConfiguration"], json!({"scanOnPush": false}));
    assert_eq!(repository["encryptionConfiguration"], json!({"encryptionType": "AES256"}));
    assert!(repository["createdAt"].is_f64());
    assert!(repository.get("imageTagMutabilityExclusionFilters").is_none());

    let again = wharf.root.ecr("CreateRepository", json!({"repositoryName": "team/api"})).await.error();
    assert_eq!(again.0, "RepositoryAlreadyExistsException");
    assert_eq!(
        again.1,
        format!("The repository with name 'team/api' already exists in the registry with id '{ACCOUNT}'")
    );

    let filters = json!([{"filterType": "WILDCARD", "filter": "dev*"}]);
    let unsaid = json!({"repositoryName": "team/api", "imageTagMutabilityExclusionFilters": filters});
    let unsaid = wharf.root.ecr("PutImageTagMutability", unsaid).await.error();
    assert!(unsaid.1.starts_with("Invalid parameter at 'imageTagMutability' failed"), "{}", unsaid.1);

    let misnamed = wharf.root.ecr("CreateRepository", json!({"repositoryName": "a//b"})).await.error();
    let pattern = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*";
    assert_eq!(
        misnamed.1,
        format!(
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '{pattern}''"
        )
    );

    let all = wharf.root.ecr("DescribeRepositories", json!({})).await.ok();
    assert_eq!(all["repositories"], json!([repository]));
    let elsewhere = wharf.root.in_region("eu-west-1").ecr("DescribeRepositories", json!({})).await.ok();
    assert_eq!(elsewhere["repositories"], json!([]));
    let other = wharf.other.ecr("DescribeRepositories", json!({})).await.ok();
    assert_eq!(other["repositories"], json!([]));

    let missing =
        wharf.root.ecr("DescribeRepositories", json!({"repositoryNames": ["team/api", "nope"]})).await;
    assert_eq!(missing.code(), "RepositoryNotFoundException");
    let deleted = wharf.root.ecr("DeleteRepository", json!({"repositoryName": "team/api"})).await.ok();
    assert_eq!(&deleted["repository"], repository);
    let gone = wharf.root.ecr("DeleteRepository", json!({"repositoryName": "team/api"})).await;
    assert_eq!(gone.code(), "RepositoryNotFoundException");
    wharf.stop().await;
}

#[tokio::test]
async fn listings_are_paged() {
    let wharf = Wharf::start().await;
    for name in ["a1", "a2", "a3"] {
        wharf.root.ecr("CreateRepository", json!({"repositoryName": name})).await.ok();
    }
    let (mut names, mut token) = (Vec::new(), Value::Null);
    for page in 0..3 {
        let input = json!({"maxResults": 2, "nextToken": token});
        let reply = wharf.root.ecr("DescribeRepositories", input).await.ok();
        let found = reply["repositories"].as_array().unwrap().clone();
        names
            .extend(found.iter().map(|repository| repository["repositoryName"].as_str().unwrap().to_owned()));
        match reply.get("nextToken") {
            Some(next) => token = next.clone(),
            None => {
                assert_eq!(page, 1, "two pages");
                break;
            }
        }
    }
    assert_eq!(names, ["a1", "a2", "a3"]);
    let forged = wharf.root.ecr("DescribeRepositories", json!({"nextToken": "abc"})).await;
    assert_eq!(forged.code(), "InvalidParameterException");
    let elsewhere = wharf.root.ecr("ListPullTimeUpdateExclusions", json!({"nextToken": token})).await;
    assert!(["InvalidParameterException", "ValidationException"].contains(&elsewhere.code().as_str()));
    wharf.stop().await;
}

#[tokio::test]
async fn an_image_goes_in_and_comes_out_byte_for_byte() {
    let wharf = with_repository("team/app").await;
    let root = &wharf.root;
    let text = push_image(&wharf, "team/app", "v1", b"layer one").await;
    let digest = Digest::sha256(text.as_bytes()).to_string();

    let same = json!({"repositoryName": "team/app", "imageManifest": text, "imageTag": "v1"});
    let (code, message) = root.ecr("PutImage", same).await.error();
    assert_eq!(code, "ImageAlreadyExistsException");
    assert!(message.contains(&digest) && message.contains("'v1'"), "{message}");

    let ids = json!([{"imageTag": "v1"}, {"imageTag": "v2"}, {}, {"imageDigest": "junk"}]);
    let got = root.ecr("BatchGetImage", json!({"repositoryName": "team/app", "imageIds": ids})).await.ok();
    assert_eq!(got["images"][0]["imageManifest"], text);
    assert_eq!(got["images"][0]["imageId"], json!({"imageDigest": digest, "imageTag": "v1"}));
    assert_eq!(got["images"][0]["imageManifestMediaType"], OCI_MANIFEST);
    let codes: Vec<&str> = got["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["failureCode"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["ImageNotFound", "MissingDigestAndTag", "InvalidImageDigest"]);

    let described = root.ecr("DescribeImages", json!({"repositoryName": "team/app"})).await.ok();
    let detail = &described["imageDetails"][0];
    assert_eq!(detail["imageTags"], json!(["v1"]));
    assert_eq!(detail["imageSizeInBytes"], 2 + "layer one".len());
    assert_eq!(detail["imageStatus"], "ACTIVE");
    assert_eq!(detail["artifactMediaType"], "application/vnd.oci.image.config.v1+json");
    let listed = root
        .ecr("ListImages", json!({"repositoryName": "team/app", "filter": {"tagStatus": "UNTAGGED"}}))
        .await;
    assert_eq!(listed.ok()["imageIds"], json!([]));

    let full = root.ecr("DeleteRepository", json!({"repositoryName": "team/app"})).await;
    assert_eq!(full.code(), "RepositoryNotEmptyException");
    let delete = json!({"repositoryName": "team/app", "imageIds": [{"imageTag": "v1"}, {"imageTag": "v2"}]});
    let deleted = root.ecr("BatchDeleteImage", delete).await.ok();
    assert_eq!(deleted["imageIds"], json!([{"imageDigest": digest, "imageTag": "v1"}]));
    assert_eq!(deleted["failures"][0]["imageId"], json!({"imageTag": "v2"}));
    let gone = root
        .ecr("DescribeImages", json!({"repositoryName": "team/app", "imageIds": [{"imageTag": "v1"}]}))
        .await;
    assert_eq!(gone.code(), "ImageNotFoundException");
    wharf.stop().await;
}

#[tokio::test]
async fn manifests_must_name_what_is_there() {
    let wharf = with_repository("team/app").await;
    let absent = Digest::sha256(b"absent").to_string();
    let text = manifest((&absent, 6), (&absent, 6));
    let put = |text: &str| json!({"repositoryName": "team/app", "imageManifest": text, "imageTag": "v1"});
    let (code, message) = wharf.root.ecr("PutImage", put(&text)).await.error();
    assert_eq!(code, "LayersNotFoundException");
    assert!(message.contains(&absent), "{message}");
    for junk in ["{}", "[]", "nonsense", "{\"schemaVersion\":1}"] {
        assert_eq!(wharf.root.ecr("PutImage", put(junk)).await.code(), "InvalidParameterException", "{junk}");
    }
    let nowhere = json!({"repositoryName": "nowhere", "imageManifest": "junk"});
    assert_eq!(wharf.root.ecr("PutImage", nowhere).await.code(), "RepositoryNotFoundException");
    let mut wrong = put(&text);
    wrong["imageDigest"] = json!(absent);
    assert_eq!(wharf.root.ecr("PutImage", wrong).await.code(), "ImageDigestDoesNotMatchException");
    wharf.stop().await;
}

#[tokio::test]
async fn layers_are_uploaded_in_order_and_downloaded_by_a_signed_url() {
    let wharf = with_repository("team/app").await;
    let root = &wharf.root;
    let upload =
        root.ecr("InitiateLayerUpload", json!({"repositoryName": "team/app"})).await.ok()["uploadId"].clone();
    let part = |first: u64, last: u64, blob: &[u8]| {
        json!({"repositoryName": "team/app", "uploadId": upload, "partFirstByte": first, "partLastByte": last,
               "layerPartBlob": STANDARD.encode(blob)})
    };
    let gap = root.ecr("UploadLayerPart", part(5, 9, b"12345")).await;
    assert_eq!(gap.code(), "InvalidLayerPartException");
    let body: Value = serde_json::from_slice(&gap.body).unwrap();
    assert_eq!((&body["uploadId"], &body["registryId"]), (&upload, &json!(ACCOUNT)));
    let complete = json!({"repositoryName": "team/app", "uploadId": upload,
                          "layerDigests": [Digest::sha256(b"12345").to_string()]});
    assert_eq!(root.ecr("CompleteLayerUpload", complete).await.code(), "EmptyUploadException");
    let unknown = json!({"repositoryName": "team/app", "uploadId": "00000000-0000-4000-8000-000000000000",
                         "layerDigests": [Digest::sha256(b"").to_string()]});
    assert_eq!(root.ecr("CompleteLayerUpload", unknown).await.code(), "UploadNotFoundException");
    let mut bad = part(0, 4, b"");
    bad["layerPartBlob"] = json!("!!!");
    assert_eq!(root.ecr("UploadLayerPart", bad).await.code(), "SerializationException");

    push_image(&wharf, "team/app", "v1", b"content of a layer").await;
    let digest = Digest::sha256(b"content of a layer").to_string();
    let input = json!({"repositoryName": "team/app", "layerDigest": digest});
    let url =
        root.ecr("GetDownloadUrlForLayer", input).await.ok()["downloadUrl"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("http://{}", wharf.address)).unwrap();
    let whole = root.send("GET", path, &[], b"").await;
    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &b"content of a layer"[..]));
    let some = root.send("GET", path, &[("range", "bytes=8-9")], b"").await;
    assert_eq!((some.status.as_u16(), &some.body[..]), (206, &b"of"[..]));
    assert_eq!(some.headers["content-range"], "bytes 8-9/18");
    assert_eq!(root.send("GET", path, &[("range", "bytes=99-")], b"").await.status, 416);
    let head = root.send("HEAD", path, &[], b"").await;
    assert_eq!(
        (head.status.as_u16(), &head.headers["content-length"]),
        (200, &http::HeaderValue::from_static("18"))
    );
    let mut forged = path.to_owned();
    forged.truncate(path.len() - 2);
    assert_eq!(root.send("GET", &forged, &[], b"").await.status, 403);
    wharf.faces.registry().set_access_key_active(&root.access_key_id, false).await.unwrap();
    assert_eq!(root.send("GET", path, &[], b"").await.status, 403);
    wharf.stop().await;
}

#[tokio::test]
async fn a_large_part_passes() {
    let wharf = with_repository("team/app").await;
    let content = vec![7; 20_971_520];
    push_layer(&wharf, "team/app", &content).await;
    wharf.stop().await;
}

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
async fn mutability_and_tags_of_a_repository() {
    let wharf = with_repository("team/api").await;
    let root = &wharf.root;
    let filters = json!([{"filterType": "WILDCARD", "filter": "dev-*"}]);
    let put = json!({"repositoryName": "team/api", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
                     "imageTagMutabilityExclusionFilters": filters});
    let reply = root.ecr("PutImageTagMutability", put.clone()).await.ok();
    let mut expected = put;
    expected["registryId"] = json!(ACCOUNT);
    assert_eq!(reply, expected);
    let bad = root
        .ecr("PutImageTagMutability", json!({"repositoryName": "team/api", "imageTagMutability": "NO"}))
        .await;
    assert_eq!(
        bad.error().1,
        "Invalid parameter at 'imageTagMutability' failed to satisfy constraint: 'Member must satisfy enum value set: \
         [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]'"
    );

    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/api");
    let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]);
    assert_eq!(root.ecr("TagResource", json!({"resourceArn": arn, "tags": tags})).await.ok(), json!({}));
    assert_eq!(
        root.ecr("UntagResource", json!({"resourceArn": arn, "tagKeys": ["a", "zz"]})).await.ok(),
        json!({})
    );
    let listed = root.ecr("ListTagsForResource", json!({"resourceArn": arn})).await.ok();
    assert_eq!(listed["tags"], json!([{"Key": "b", "Value": ""}]));
    let reserved = json!({"resourceArn": arn, "tags": [{"Key": "aws:x", "Value": ""}]});
    assert_eq!(root.ecr("TagResource", reserved).await.code(), "InvalidTagParameterException");
    for bad in ["junk", "arn:aws:s3:::bucket", "arn:aws:ecr:eu-west-1:123456789012:repository/team/api"] {
        let (code, message) = root.ecr("ListTagsForResource", json!({"resourceArn": bad})).await.error();
        assert_eq!(code, "InvalidParameterException");
        assert_eq!(message, "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'");
    }
    wharf.stop().await;
}

#[tokio::test]
async fn settings_and_exclusions() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    let get = root.ecr("GetAccountSetting", json!({"name": "BLOB_MOUNTING"})).await.ok();
    assert_eq!(get, json!({"name": "BLOB_MOUNTING", "value": "ENABLED"}));
    root.ecr("PutAccountSetting", json!({"name": "BLOB_MOUNTING", "value": "DISABLED"})).await.ok();
    let get = root.ecr("GetAccountSetting", json!({"name": "BLOB_MOUNTING"})).await.ok();
    assert_eq!(get["value"], "DISABLED");
    let (code, message) = root.ecr("GetAccountSetting", json!({"name": ""})).await.error();
    assert_eq!(code, "ValidationException");
    assert!(
        message.starts_with("1 validation error detected: Value '' at 'name' failed to satisfy constraint: "),
        "{message}"
    );
    assert_eq!(root.ecr("GetAccountSetting", json!({"name": "NOPE"})).await.code(), "ValidationException");

    let arn = format!("arn:aws:iam::{ACCOUNT}:role/scanner");
    let registered = root.ecr("RegisterPullTimeUpdateExclusion", json!({"principalArn": arn})).await.ok();
    assert!(registered["createdAt"].is_f64());
    let again = root.ecr("RegisterPullTimeUpdateExclusion", json!({"principalArn": arn})).await;
    assert_eq!(again.code(), "ExclusionAlreadyExistsException");
    let listed = root.ecr("ListPullTimeUpdateExclusions", json!({})).await.ok();
    assert_eq!(listed, json!({"pullTimeUpdateExclusions": [arn]}));
    root.ecr("DeregisterPullTimeUpdateExclusion", json!({"principalArn": arn})).await.ok();
    let gone = root.ecr("DeregisterPullTimeUpdateExclusion", json!({"principalArn": arn})).await;
    assert_eq!(gone.code(), "ExclusionNotFoundException");
    let bad =
        root.ecr("RegisterPullTimeUpdateExclusion", json!({"principalArn": "arn:aws:iam::1:role/x"})).await;
    assert_eq!(bad.code(), "ValidationException");
    wharf.stop().await;
}

#[tokio::test]
async fn sts_tells_who_calls() {
    let wharf = Wharf::start().await;
    let call = "Action=GetCallerIdentity&Version=2011-06-15";
    let reply = wharf.root.form("sts", call).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["content-type"]),
        (200, &http::HeaderValue::from_static("text/xml"))
    );
    let text = reply.text();
    assert!(
        text.starts_with("<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"),
        "{text}"
    );
    assert!(text.contains(&format!("<Arn>arn:aws:iam::{ACCOUNT}:root</Arn>")), "{text}");
    assert!(text.contains(&format!("<Account>{ACCOUNT}</Account>")), "{text}");

    let host = wharf.address.to_string();
    let headers = [("host", host.as_bytes())];
    let target = format!("/?{call}");
    let request = SignedRequest { method: "GET", target: &target, headers: &headers };
    let target = wharf.root.signer("sts").presign(&request, b"", Timestamp::now(), Duration::from_secs(60));
    let presigned = wharf.root.send("GET", &target, &[], b"").await;
    assert_eq!(presigned.status, 200, "{}", presigned.text());
    assert!(presigned.text().contains("GetCallerIdentityResult"));
    let target = format!("/?{call}");
    let request = SignedRequest { method: "POST", target: &target, headers: &headers };
    let target = wharf.root.signer("sts").presign(&request, b"", Timestamp::now(), Duration::from_secs(60));
    let presigned = wharf.root.send("POST", &target, &[], b"").await;
    assert!(presigned.text().contains("GetCallerIdentityResult"), "{}", presigned.text());

    for (service, form, status, code) in [
        ("sts", "Action=AssumeRoleWithSAML&Version=2011-06-15", 400, "InvalidAction"),
        ("sts", "Action=Nonsense&Version=2011-06-15", 400, "InvalidAction"),
        ("sts", "Action=GetCallerIdentity&Version=1999-01-01", 400, "InvalidAction"),
        (
            "iam",
            "Action=CreateInstanceProfile&Version=2010-05-08&InstanceProfileName=x",
            400,
            "InvalidAction",
        ),
        ("iam", call, 403, "SignatureDoesNotMatch"),
    ] {
        let reply = wharf.root.form(service, form).await;
        assert_eq!(reply.status, status, "{form}: {}", reply.text());
        assert!(reply.text().contains(&format!("<Code>{code}</Code>")), "{form}: {}", reply.text());
    }
    let mut wrong = wharf.root.clone();
    wrong.secret.push('x');
    let refused = wrong.form("sts", call).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("<Code>SignatureDoesNotMatch</Code>"));
    wharf.stop().await;
}

#[tokio::test]
async fn tags_of_keys_come_in_pages() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    let tags = json!([{"TagKey": "b", "TagValue": "2"}, {"TagKey": "a", "TagValue": "1"}, {"TagKey": "c", "TagValue": ""}]);
    let id = root.kms("CreateKey", json!({"Tags": tags})).await.ok()["KeyMetadata"]["KeyId"].clone();
    let first = root.kms("ListResourceTags", json!({"KeyId": id, "Limit": 2})).await.ok();
    assert_eq!(first["Tags"], json!([{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}]));
    assert_eq!(first["Truncated"], true);
    let rest = json!({"KeyId": id, "Limit": 2, "Marker": first["NextMarker"]});
    let rest = root.kms("ListResourceTags", rest).await.ok();
    assert_eq!(rest, json!({"Tags": [{"TagKey": "c", "TagValue": ""}], "Truncated": false}));
    let other = root.kms("CreateKey", json!({})).await.ok()["KeyMetadata"]["KeyId"].clone();
    for (key, marker) in [(&other, &first["NextMarker"]), (&id, &json!("junk"))] {
        let refused = root.kms("ListResourceTags", json!({"KeyId": key, "Marker": marker})).await;
        assert_eq!(refused.code(), "InvalidMarkerException");
    }
    wharf.stop().await;
}

#[tokio::test]
async fn keys_are_made_named_disabled_and_deleted() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    let created = root
        .kms("CreateKey", json!({"Description": "images", "Tags": [{"TagKey": "a", "TagValue": "b"}]}))
        .await
        .ok();
    let key = &created["KeyMetadata"];
    let id = key["KeyId"].as_str().unwrap();
    assert_eq!(key["Arn"], format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}"));
    assert_eq!(
        (&key["KeyState"], &key["Enabled"], &key["KeyManager"]),
        (&json!("Enabled"), &json!(true), &json!("CUSTOMER"))
    );
    let alias = json!({"AliasName": "alias/images", "TargetKeyId": id});
    assert_eq!(root.kms("CreateAlias", alias.clone()).await.body.len(), 0);
    assert_eq!(root.kms("CreateAlias", alias).await.code(), "AlreadyExistsException");
    let described = root.kms("DescribeKey", json!({"KeyId": "alias/images"})).await.ok();
    assert_eq!(described["KeyMetadata"]["KeyId"], id);
    let aliases = root.kms("ListAliases", json!({"KeyId": id})).await.ok();
    assert_eq!(aliases["Aliases"][0]["AliasName"], "alias/images");
    assert_eq!(aliases["Truncated"], false);
    assert_eq!(root.kms("ListKeys", json!({})).await.ok()["Keys"][0]["KeyId"], id);
    assert_eq!(
        root.kms("ListResourceTags", json!({"KeyId": id})).await.ok()["Tags"],
        json!([{"TagKey": "a", "TagValue": "b"}])
    );
    assert_eq!(
        root.kms("GetKeyRotationStatus", json!({"KeyId": id})).await.ok()["KeyRotationEnabled"],
        false
    );
    let policy = root.kms("GetKeyPolicy", json!({"KeyId": id, "PolicyName": "default"})).await.ok();
    assert!(
        serde_json::from_str::<Value>(policy["Policy"].as_str().unwrap()).unwrap()["Statement"].is_array()
    );

    let encrypted = json!({"repositoryName": "sealed", "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/images"}});
    let repository = root.ecr("CreateRepository", encrypted).await.ok();
    assert_eq!(
        repository["repository"]["encryptionConfiguration"],
        json!({"encryptionType": "KMS", "kmsKey": key["Arn"]})
    );
    let text = push_image(&wharf, "sealed", "v1", b"a secret layer").await;
    root.kms("DisableKey", json!({"KeyId": id})).await.ok();
    let put = json!({"repositoryName": "sealed", "imageManifest": text, "imageTag": "v2"});
    let refused = root.ecr("PutImage", put).await;
    assert_eq!(refused.code(), "KmsException");
    let body: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(body["kmsError"], "DisabledException");
    root.kms("EnableKey", json!({"KeyId": id})).await.ok();

    let scheduled =
        root.kms("ScheduleKeyDeletion", json!({"KeyId": id, "PendingWindowInDays": 7})).await.ok();
    assert_eq!((&scheduled["KeyState"], &scheduled["KeyId"]), (&json!("PendingDeletion"), &key["Arn"]));
    assert_eq!(root.kms("EnableKey", json!({"KeyId": id})).await.code(), "KMSInvalidStateException");
    root.kms("CancelKeyDeletion", json!({"KeyId": id})).await.ok();
    assert_eq!(
        root.kms("DescribeKey", json!({"KeyId": id})).await.ok()["KeyMetadata"]["KeyState"],
        "Disabled"
    );
    assert_eq!(root.kms("DescribeKey", json!({"KeyId": "nope"})).await.code(), "NotFoundException");
    assert_eq!(root.kms("DescribeKey", json!({})).await.code(), "ValidationException");
    assert_eq!(
        root.kms("CreateKey", json!({"KeySpec": "RSA_2048"})).await.code(),
        "UnsupportedOperationException"
    );
    let foreign = wharf.other.kms("DescribeKey", json!({"KeyId": key["Arn"]})).await;
    assert_eq!(foreign.code(), "AccessDeniedException");
    wharf.stop().await;
}

#[tokio::test]
async fn referrers_are_listed() {
    let wharf = with_repository("team/app").await;
    let subject = push_image(&wharf, "team/app", "v1", b"subject layer").await;
    let digest = Digest::sha256(subject.as_bytes()).to_string();
    let mut referrer: Value = serde_json::from_str(&subject).unwrap();
    referrer["artifactType"] = json!("application/vnd.example.sbom");
    referrer["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": subject.len()});
    referrer["annotations"] = json!({"made": "by a test"});
    let put = json!({"repositoryName": "team/app", "imageManifest": referrer.to_string()});
    wharf.root.ecr("PutImage", put).await.ok();
    let list = |filter: Value| json!({"repositoryName": "team/app", "subjectId": {"imageDigest": digest}, "filter": filter});
    let found = wharf.root.ecr("ListImageReferrers", list(json!({}))).await.ok();
    assert_eq!(found["referrers"][0]["artifactType"], "application/vnd.example.sbom");
    assert_eq!(found["referrers"][0]["annotations"], json!({"made": "by a test"}));
    assert_eq!(found["referrers"][0]["artifactStatus"], "ACTIVE");
    let none =
        wharf.root.ecr("ListImageReferrers", list(json!({"artifactTypes": ["other/type"]}))).await.ok();
    assert_eq!(none["referrers"], json!([]));
    let missing = wharf.root.ecr("ListImageReferrers", json!({"repositoryName": "team/app"})).await;
    assert_eq!(
        missing.error().1,
        "Invalid parameter at 'subjectId' failed to satisfy constraint: 'Member must not be null'"
    );
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

#[tokio::test]
async fn images_in_use_are_reported_listed_and_where_configured_kept() {
    let wharf = Wharf::start_configured(|options| options.protect_in_use = true, |_| {}).await;
    wharf.root.ecr("CreateRepository", json!({"repositoryName": "team/api"})).await.ok();
    let digest = Digest::sha256(push_image(&wharf, "team/api", "v1", b"layer").await.as_bytes()).to_string();
    assert_eq!(wharf.root.wharf("ListImagesInUse", json!({})).await.ok(), json!({"images": []}));
    let report = json!({"holder": "node-1", "imageDigests": [digest], "lifetimeSeconds": 600});
    let answer = wharf.root.wharf("ReportImagesInUse", report.clone()).await.ok();
    assert_eq!(answer["holder"], "node-1");
    let ahead = answer["expiresAt"].as_f64().unwrap() - Timestamp::now().as_micros() as f64 / 1e6;
    assert!((500.0..=600.5).contains(&ahead), "{ahead}");
    let listed = wharf.root.wharf("ListImagesInUse", json!({})).await.ok();
    assert_eq!(listed, json!({"images": [{"imageDigest": digest, "holders": ["node-1"]}]}));
    let more = Digest::sha256(b"more").to_string();
    let other = json!({"holder": "node-2", "imageDigests": [digest, more], "lifetimeSeconds": 600});
    wharf.root.wharf("ReportImagesInUse", other).await.ok();
    let first = wharf.root.wharf("ListImagesInUse", json!({"maxResults": 1})).await.ok();
    assert_eq!(first["images"].as_array().unwrap().len(), 1);
    let rest = json!({"maxResults": 1, "nextToken": first["nextToken"]});
    let rest = wharf.root.wharf("ListImagesInUse", rest).await.ok();
    assert_eq!((rest["images"].as_array().unwrap().len(), &rest["nextToken"]), (1, &Value::Null));
    let stranger = wharf.other.wharf("ReleaseImagesInUse", json!({"holder": "node-2"})).await.ok();
    assert_eq!(stranger["releasedImageCount"], 0, "each account has its own");
    let one = json!({"holder": "node-2", "imageDigests": [more]});
    let released = wharf.root.wharf("ReleaseImagesInUse", one).await.ok();
    assert_eq!(released, json!({"holder": "node-2", "releasedImageCount": 1}));
    let released = wharf.root.wharf("ReleaseImagesInUse", json!({"holder": "node-2"})).await.ok();
    assert_eq!(released["releasedImageCount"], 1);
    for (bad, member) in [
        (json!({}), "holder"),
        (json!({"holder": "x", "imageDigests": []}), "imageDigests"),
        (json!({"holder": "x", "imageDigests": ["sha256:1"]}), "imageDigests"),
    ] {
        let (code, text) = wharf.root.wharf("ReleaseImagesInUse", bad).await.error();
        assert_eq!(code, "ValidationException");
        assert!(text.contains(member), "{text}");
    }
    assert_eq!(
        wharf.root.wharf("ListImagesInUse", json!({"maxResults": 1001})).await.error().0,
        "ValidationException"
    );
    let others = wharf.other.wharf("ListImagesInUse", json!({})).await.ok();
    assert_eq!(others, json!({"images": []}), "each account has its own");

    let delete = json!({"repositoryName": "team/api", "imageIds": [{"imageTag": "v1"}]});
    let kept = wharf.root.ecr("BatchDeleteImage", delete).await.ok();
    assert_eq!(kept["imageIds"], json!([]));
    assert_eq!(kept["failures"][0]["failureCode"], "ImageInaccessible");
    let reason = kept["failures"][0]["failureReason"].as_str().unwrap();
    assert!(reason.ends_with("run by node-1"), "{reason}");

    for (member, bad) in [
        ("holder", json!("")),
        ("holder", json!("a\nb")),
        ("imageDigests", json!([])),
        ("imageDigests", json!(["sha256:1"])),
        ("lifetimeSeconds", json!(0)),
        ("lifetimeSeconds", json!(31 * 86_400)),
        ("lifetimeSeconds", Value::Null),
    ] {
        let mut spoiled = report.clone();
        spoiled[member] = bad;
        let (code, text) = wharf.root.wharf("ReportImagesInUse", spoiled).await.error();
        assert_eq!(code, "ValidationException");
        assert!(text.contains(member), "{text}");
    }
    let unknown = wharf.root.wharf("FormatDisk", json!({})).await;
    assert_eq!(unknown.code(), "UnknownOperationException");
    let wrong_scope = wharf.root.json("ecr", "Wharf_V20261101", "ListImagesInUse", b"{}").await;
    assert_ne!(wrong_scope.status, 200, "the signature is for another service");
    wharf.stop().await;
}
