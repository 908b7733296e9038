//! Users, keys and policies: what is made, listed and taken away.

use crate::aws_harness::{ACCOUNT, Client, Wharf};
use crate::calls::{ALLOW, READ_ONLY, element, elements, iam, ok, refusal};

#[tokio::test]
async fn a_user_s_life() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    let created = iam(
        root,
        "CreateUser",
        &[
            ("UserName", "Ann"),
            ("Path", "/team/"),
            ("PermissionsBoundary", READ_ONLY),
            ("Tags.member.1.Key", "Team"),
            ("Tags.member.1.Value", "a b"),
            ("Tags.member.2.Key", "empty"),
            ("Tags.member.2.Value", ""),
        ],
    )
    .await;
    let created = ok(&created);
    assert!(created.starts_with(
        "<CreateUserResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><CreateUserResult><User>"
    ));
    assert_eq!(element(&created, "Arn"), format!("arn:aws:iam::{ACCOUNT}:user/team/Ann"));
    let id = element(&created, "UserId").to_owned();
    assert!(id.starts_with("AIDA") && id.len() == 21, "{id}");
    assert_eq!(element(&created, "PermissionsBoundaryArn"), READ_ONLY);
    assert_eq!(elements(&created, "Value"), ["", "a b"]);
    assert!(element(&created, "CreateDate").ends_with('Z') && element(&created, "CreateDate").len() == 20);

    // Names are the same whatever their case, and keep the one they were made with.
    let same = ok(&iam(root, "GetUser", &[("UserName", "ANN")]).await);
    assert_eq!(element(&same, "User"), element(&created, "User"));
    let listed = ok(&iam(root, "ListUsers", &[("PathPrefix", "/te")]).await);
    assert_eq!(element(&listed, "UserId"), id);
    assert!(!listed.contains("Tags") && !listed.contains("Boundary"), "{listed}");
    assert_eq!(element(&listed, "IsTruncated"), "false");
    assert!(elements(&ok(&iam(root, "ListUsers", &[("PathPrefix", "/x")]).await), "UserId").is_empty());

    let update = [("UserName", "ann"), ("NewUserName", "bob"), ("NewPath", "/")];
    let updated = ok(&iam(root, "UpdateUser", &update).await);
    assert!(!updated.contains("Result"), "an operation without output has no result: {updated}");
    let bob = ok(&iam(root, "GetUser", &[("UserName", "bob")]).await);
    assert_eq!(element(&bob, "UserId"), id, "a renamed user is the same");
    assert_eq!(element(&bob, "Arn"), format!("arn:aws:iam::{ACCOUNT}:user/bob"));
    ok(&iam(root, "DeleteUserPermissionsBoundary", &[("UserName", "bob")]).await);
    ok(&iam(root, "DeleteUser", &[("UserName", "bob")]).await);
    let gone = refusal(&iam(root, "GetUser", &[("UserName", "bob")]).await);
    assert_eq!(gone, (404, "NoSuchEntity".into(), "The user with name bob cannot be found.".into()));

    let again = ok(&iam(root, "CreateUser", &[("UserName", "bob")]).await);
    assert_ne!(element(&again, "UserId"), id, "a unique id is never used twice");
    assert!(!again.contains("Tags"), "{again}");
    wharf.stop().await;
}

#[tokio::test]
async fn the_caller_is_the_default_user() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    let me = ok(&iam(root, "GetUser", &[]).await);
    assert_eq!(element(&me, "Arn"), format!("arn:aws:iam::{ACCOUNT}:root"));
    assert_eq!(element(&me, "UserId"), ACCOUNT);
    let keys = ok(&iam(root, "ListAccessKeys", &[]).await);
    assert_eq!(elements(&keys, "AccessKeyId"), [root.access_key_id.as_str()]);

    let second = ok(&iam(root, "CreateAccessKey", &[]).await);
    let second = element(&second, "AccessKeyId");
    let third = refusal(&iam(root, "CreateAccessKey", &[]).await);
    assert_eq!((third.0, third.1.as_str()), (409, "LimitExceeded"));
    assert_eq!(third.2, "Cannot exceed quota for AccessKeysPerUser: 2");
    ok(&iam(root, "DeleteAccessKey", &[("AccessKeyId", second)]).await);
    assert_eq!(elements(&ok(&iam(root, "ListAccessKeys", &[]).await), "AccessKeyId").len(), 1);
    let other = &wharf.other.access_key_id;
    for operation in ["DeleteAccessKey", "GetAccessKeyLastUsed"] {
        let theirs = refusal(&iam(root, operation, &[("AccessKeyId", other)]).await);
        let message = format!("The Access Key with id {other} cannot be found.");
        assert_eq!(theirs, (404, "NoSuchEntity".into(), message));
    }
    wharf.stop().await;
}

#[tokio::test]
async fn access_keys_of_users_authenticate_while_they_are_active() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    ok(&iam(root, "CreateUser", &[("UserName", "ann"), ("Path", "/a/")]).await);
    let key = ok(&iam(root, "CreateAccessKey", &[("UserName", "ann")]).await);
    let id = element(&key, "AccessKeyId").to_owned();
    assert!(id.starts_with("AKIA") && id.len() == 20);
    assert_eq!((element(&key, "SecretAccessKey").len(), element(&key, "Status")), (40, "Active"));
    let ann = Client {
        access_key_id: id.clone(),
        secret: element(&key, "SecretAccessKey").to_owned(),
        ..root.clone()
    };
    let unused = ok(&iam(root, "GetAccessKeyLastUsed", &[("AccessKeyId", &id)]).await);
    assert_eq!((element(&unused, "ServiceName"), element(&unused, "Region")), ("N/A", "N/A"));
    assert!(!unused.contains("LastUsedDate"));

    let identity = "Action=GetCallerIdentity&Version=2011-06-15";
    let me = ok(&ann.form("sts", identity).await);
    assert_eq!(element(&me, "Arn"), format!("arn:aws:iam::{ACCOUNT}:user/a/ann"));
    assert!(element(&me, "UserId").starts_with("AIDA"));
    let used = ok(&iam(root, "GetAccessKeyLastUsed", &[("AccessKeyId", &id)]).await);
    assert_eq!((element(&used, "ServiceName"), element(&used, "Region")), ("sts", "us-east-1"));
    assert_eq!(element(&used, "UserName"), "ann");
    assert!(used.contains("<LastUsedDate>"));

    // A new name is the key's new name at once.
    ok(&iam(root, "UpdateUser", &[("UserName", "ann"), ("NewUserName", "eve")]).await);
    let me = ok(&ann.form("sts", identity).await);
    assert_eq!(element(&me, "Arn"), format!("arn:aws:iam::{ACCOUNT}:user/a/eve"));
    let denied = refusal(&iam(&ann, "GetUser", &[]).await);
    assert_eq!((denied.0, denied.1.as_str()), (403, "AccessDenied"));
    assert_eq!(
        denied.2,
        format!(
            "User: arn:aws:iam::{ACCOUNT}:user/a/eve is not authorized to perform: iam:GetUser on resource: \
             arn:aws:iam::{ACCOUNT}:user/a/eve because no identity-based policy allows the iam:GetUser action"
        )
    );

    let update = [("UserName", "eve"), ("AccessKeyId", id.as_str()), ("Status", "Inactive")];
    ok(&iam(root, "UpdateAccessKey", &update).await);
    assert_eq!(refusal(&ann.form("sts", identity).await).0, 403);
    let wrong = refusal(&iam(root, "DeleteUser", &[("UserName", "eve")]).await);
    assert_eq!(
        wrong,
        (409, "DeleteConflict".into(), "Cannot delete entity, must delete access keys first.".into())
    );
    ok(&iam(root, "DeleteAccessKey", &[("UserName", "eve"), ("AccessKeyId", &id)]).await);
    assert_eq!(refusal(&ann.form("sts", identity).await).1, "InvalidClientTokenId");
    ok(&iam(root, "DeleteUser", &[("UserName", "eve")]).await);
    wharf.stop().await;
}

#[tokio::test]
async fn existence_does_not_leak() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    for name in ["ann", "bob"] {
        ok(&iam(root, "CreateUser", &[("UserName", name)]).await);
    }
    let key = ok(&iam(root, "CreateAccessKey", &[("UserName", "ann")]).await);
    let (id, secret) = (element(&key, "AccessKeyId").to_owned(), element(&key, "SecretAccessKey").to_owned());
    let ann = Client { access_key_id: id, secret, ..root.clone() };
    let of = |name: &str| {
        format!(
            "User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: iam:DeleteUser on resource: \
             arn:aws:iam::{ACCOUNT}:user/{name} because no identity-based policy allows the iam:DeleteUser action"
        )
    };
    for name in ["bob", "nobody"] {
        let refused = refusal(&iam(&ann, "DeleteUser", &[("UserName", name)]).await);
        assert_eq!(refused, (403, "AccessDenied".into(), of(name)));
    }
    wharf.stop().await;
}

#[tokio::test]
async fn policies_are_answered_percent_encoded() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    ok(&iam(root, "CreateUser", &[("UserName", "ann")]).await);
    let put = [("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", ALLOW)];
    ok(&iam(root, "PutUserPolicy", &put).await);
    let got = ok(&iam(root, "GetUserPolicy", &put[..2]).await);
    let encoded = element(&got, "PolicyDocument");
    assert!(encoded.starts_with("%7B%22Version%22%3A%222012-10-17%22"), "{encoded}");
    let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap();
    assert_eq!(decoded, ALLOW, "as it was written, byte for byte");

    let name =
        [("PolicyName", "shared"), ("Path", "/x/"), ("PolicyDocument", ALLOW), ("Description", "<a & b>")];
    let policy = ok(&iam(root, "CreatePolicy", &name).await);
    let arn = format!("arn:aws:iam::{ACCOUNT}:policy/x/shared");
    assert_eq!(
        (element(&policy, "Arn"), element(&policy, "Description")),
        (arn.as_str(), "&lt;a &amp; b&gt;")
    );
    assert_eq!((element(&policy, "DefaultVersionId"), element(&policy, "AttachmentCount")), ("v1", "0"));
    let version = [("PolicyArn", arn.as_str()), ("VersionId", "v1")];
    let version = ok(&iam(root, "GetPolicyVersion", &version).await);
    assert_eq!(element(&version, "Document"), encoded);
    assert_eq!(element(&version, "IsDefaultVersion"), "true");
    let managed = [("PolicyArn", READ_ONLY), ("VersionId", "v3")];
    let managed = ok(&iam(root, "GetPolicyVersion", &managed).await);
    assert!(element(&managed, "Document").contains("ecr%3ABatchGetImage"), "{managed}");
    wharf.stop().await;
}

#[tokio::test]
async fn listings_have_pages() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    for name in ["Delta", "alpha", "Charlie", "bravo", "echo"] {
        ok(&iam(root, "CreateUser", &[("UserName", name)]).await);
    }
    let mut names = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut parameters = vec![("MaxItems", "2")];
        parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let page = ok(&iam(root, "ListUsers", &parameters).await);
        names.extend(elements(&page, "UserName").into_iter().map(str::to_owned));
        if element(&page, "IsTruncated") == "false" {
            assert!(!page.contains("<Marker>"));
            break;
        }
        assert_eq!(elements(&page, "UserName").len(), 2);
        marker = Some(element(&page, "Marker").to_owned());
    }
    assert_eq!(names, ["alpha", "bravo", "Charlie", "Delta", "echo"]);
    let stolen = marker.unwrap();
    for (operation, marker) in [("ListGroups", stolen.as_str()), ("ListUsers", "junk")] {
        let refused = refusal(&iam(root, operation, &[("Marker", marker)]).await);
        assert_eq!((refused.0, refused.1.as_str()), (400, "ValidationError"), "{operation}");
    }
    // AWS's own policies and the account's are one list.
    ok(&iam(root, "CreatePolicy", &[("PolicyName", "Amazing"), ("PolicyDocument", ALLOW)]).await);
    let all = ok(&iam(root, "ListPolicies", &[]).await);
    let all = elements(&all, "PolicyName").into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        all.contains(&"Amazing".to_owned()) && all.contains(&"AdministratorAccess".to_owned()),
        "{all:?}"
    );
    let mut paged = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut parameters = vec![("MaxItems", "1")];
        parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let page = ok(&iam(root, "ListPolicies", &parameters).await);
        paged.extend(elements(&page, "PolicyName").into_iter().map(str::to_owned));
        match page.contains("<Marker>") {
            true => marker = Some(element(&page, "Marker").to_owned()),
            false => break,
        }
    }
    assert_eq!(paged, all);
    wharf.stop().await;
}
