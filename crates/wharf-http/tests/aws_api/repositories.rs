//! Repositories, their images and layers.

use crate::aws_harness::{ACCOUNT, REGION, Wharf};
use crate::images::{OCI_MANIFEST, manifest, push_image, push_layer, with_repository};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_types::{Digest, Timestamp};

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
