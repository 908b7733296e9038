//! STS and KMS.

use crate::aws_harness::{ACCOUNT, REGION, Wharf};
use crate::images::push_image;
use serde_json::{Value, json};
use std::time::Duration;
use wharf_iam::sigv4::SignedRequest;
use wharf_types::Timestamp;

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
