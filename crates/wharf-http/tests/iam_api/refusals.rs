//! Input that is refused, with everything left as it was.

use crate::aws_harness::{ACCOUNT, Wharf};
use crate::calls::{ALLOW, READ_ONLY, iam, ok, refusal, state};

#[tokio::test]
async fn bad_input_gets_the_field_s_own_error_and_changes_nothing() {
    let wharf = Wharf::start().await;
    let root = &wharf.root;
    ok(&iam(root, "CreateUser", &[("UserName", "ann")]).await);
    ok(&iam(root, "CreateGroup", &[("GroupName", "ops")]).await);
    ok(&iam(root, "AddUserToGroup", &[("UserName", "ann"), ("GroupName", "ops")]).await);
    ok(&iam(root, "PutUserPolicy", &[("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", ALLOW)])
        .await);
    ok(&iam(root, "AttachUserPolicy", &[("UserName", "ann"), ("PolicyArn", READ_ONLY)]).await);
    ok(&iam(root, "CreatePolicy", &[("PolicyName", "mine"), ("PolicyDocument", ALLOW)]).await);
    let mine = format!("arn:aws:iam::{ACCOUNT}:policy/mine");
    let foreign = "arn:aws:iam::999999999999:policy/theirs";
    let slr = "arn:aws:iam::aws:policy/aws-service-role/ECRReplicationServiceRolePolicy";
    let long = "x".repeat(65);
    let big = ALLOW.replace("ecr:*", &format!("ecr:{}", "x".repeat(2048)));
    let before = state(root).await;

    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, u16, &'a str, &'a str);
    let null = "Member must not be null";
    let name =
        "The specified value for userName is invalid. It must contain only alphanumeric characters and/or";
    let cases: Vec<Case<'_>> = vec![
        (
            "CreateUser",
            vec![],
            400,
            "ValidationError",
            "Value null at 'userName' failed to satisfy constraint: Member",
        ),
        ("CreateUser", vec![("UserName", "a b")], 400, "ValidationError", name),
        ("CreateUser", vec![("UserName", &long)], 400, "ValidationError", "at 'userName' failed"),
        ("CreateUser", vec![("UserName", "")], 400, "ValidationError", "length greater than or equal to 1"),
        (
            "CreateUser",
            vec![("UserName", "x"), ("Path", "x/")],
            400,
            "ValidationError",
            "The specified value for path",
        ),
        (
            "CreateUser",
            vec![("UserName", "ANN")],
            409,
            "EntityAlreadyExists",
            "User with name ANN already exists.",
        ),
        (
            "CreateUser",
            vec![("UserName", "x"), ("PermissionsBoundary", foreign)],
            404,
            "NoSuchEntity",
            "Policy",
        ),
        (
            "CreateUser",
            vec![("UserName", "x"), ("PermissionsBoundary", slr)],
            400,
            "PolicyNotAttachable",
            "Cannot",
        ),
        (
            "CreateUser",
            vec![("UserName", "x"), ("Tags.member.1.Key", "k")],
            400,
            "ValidationError",
            "'tags.1.member.value'",
        ),
        (
            "CreateUser",
            vec![
                ("UserName", "x"),
                ("Tags.member.1.Key", "k"),
                ("Tags.member.1.Value", "1"),
                ("Tags.member.2.Key", "K"),
                ("Tags.member.2.Value", "2"),
            ],
            400,
            "InvalidInput",
            "Duplicate tag keys",
        ),
        (
            "TagUser",
            vec![("UserName", "ann"), ("Tags.member.1.Key", "aws:x"), ("Tags.member.1.Value", "1")],
            400,
            "InvalidInput",
            "aws:",
        ),
        (
            "TagUser",
            vec![("UserName", "ann"), ("Tags.member.1.Key", "a*b"), ("Tags.member.1.Value", "1")],
            400,
            "ValidationError",
            r"'tags.1.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}",
        ),
        ("TagUser", vec![("UserName", "ann")], 400, "ValidationError", null),
        ("TagUser", vec![("UserName", "ann"), ("Tags", "x")], 400, "MalformedInput", ""),
        (
            "TagUser",
            vec![("UserName", "ann"), ("Tags", ""), ("Tags.member.1.Key", "x")],
            400,
            "MalformedInput",
            "",
        ),
        ("UpdateUser", vec![("UserName", "nobody"), ("NewUserName", "x")], 404, "NoSuchEntity", "nobody"),
        ("ListUsers", vec![("MaxItems", "0")], 400, "ValidationError", "value greater than or equal to 1"),
        ("ListUsers", vec![("MaxItems", "1001")], 400, "ValidationError", "value less than or equal to 1000"),
        ("ListUsers", vec![("MaxItems", "x")], 400, "MalformedInput", ""),
        (
            "CreateAccessKey",
            vec![("UserName", "nobody")],
            404,
            "NoSuchEntity",
            "The user with name nobody cannot be found.",
        ),
        (
            "UpdateAccessKey",
            vec![("UserName", "ann"), ("AccessKeyId", "AKIAAAAAAAAAAAAAAAAA"), ("Status", "Off")],
            400,
            "ValidationError",
            "[Active, Inactive]",
        ),
        (
            "DeleteAccessKey",
            vec![("UserName", "ann"), ("AccessKeyId", "AKIAAAAAAAAAAAAAAAAA")],
            404,
            "NoSuchEntity",
            "The Access Key with id",
        ),
        (
            "PutUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q"), ("PolicyDocument", "{")],
            400,
            "MalformedPolicyDocument",
            "Syntax errors in policy.",
        ),
        (
            "PutUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q"), ("PolicyDocument", &big)],
            409,
            "LimitExceeded",
            "Maximum policy size of 2048 bytes exceeded for user ann",
        ),
        (
            "PutUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q/r"), ("PolicyDocument", ALLOW)],
            400,
            "ValidationError",
            "policyName",
        ),
        (
            "GetUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q")],
            404,
            "NoSuchEntity",
            "The user policy with name q cannot be found.",
        ),
        (
            "DeleteUserPolicy",
            vec![("UserName", "ann"), ("PolicyName", "q")],
            404,
            "NoSuchEntity",
            "The user policy with name q cannot be found.",
        ),
        (
            "AttachUserPolicy",
            vec![("UserName", "ann"), ("PolicyArn", foreign)],
            404,
            "NoSuchEntity",
            "does not exist or is not attachable.",
        ),
        (
            "AttachUserPolicy",
            vec![("UserName", "ann"), ("PolicyArn", "arn:aws:s3:::a-bucket-of-mine")],
            400,
            "InvalidInput",
            "is not valid.",
        ),
        (
            "AttachUserPolicy",
            vec![("UserName", "ann"), ("PolicyArn", "short")],
            400,
            "ValidationError",
            "'policyArn'",
        ),
        (
            "DetachUserPolicy",
            vec![("UserName", "ann"), ("PolicyArn", &mine)],
            404,
            "NoSuchEntity",
            "was not found.",
        ),
        (
            "DeleteUser",
            vec![("UserName", "ann")],
            409,
            "DeleteConflict",
            "must remove users from group first.",
        ),
        (
            "DeleteGroup",
            vec![("GroupName", "ops")],
            409,
            "DeleteConflict",
            "must remove users from group first.",
        ),
        (
            "AddUserToGroup",
            vec![("GroupName", "ops"), ("UserName", "nobody")],
            404,
            "NoSuchEntity",
            "The user with name nobody",
        ),
        (
            "AddUserToGroup",
            vec![("GroupName", "none"), ("UserName", "ann")],
            404,
            "NoSuchEntity",
            "The group with name none",
        ),
        (
            "CreatePolicy",
            vec![("PolicyName", "MINE"), ("PolicyDocument", ALLOW)],
            409,
            "EntityAlreadyExists",
            "A policy called MINE already exists. Duplicate names are not allowed.",
        ),
        (
            "CreatePolicy",
            vec![("PolicyName", "x"), ("PolicyDocument", ALLOW), ("Path", "/a//b/")],
            400,
            "ValidationError",
            "path",
        ),
        (
            "GetPolicyVersion",
            vec![("PolicyArn", &mine), ("VersionId", "1")],
            400,
            "ValidationError",
            "'versionId'",
        ),
        ("GetPolicyVersion", vec![("PolicyArn", &mine), ("VersionId", "v2")], 404, "NoSuchEntity", "v2"),
        (
            "DeletePolicyVersion",
            vec![("PolicyArn", &mine), ("VersionId", "v1")],
            409,
            "DeleteConflict",
            "Cannot delete the default version of a policy.",
        ),
        ("DeletePolicy", vec![("PolicyArn", READ_ONLY)], 403, "AccessDenied", "outside your own account"),
        (
            "CreatePolicyVersion",
            vec![("PolicyArn", &mine), ("PolicyDocument", ALLOW), ("SetAsDefault", "maybe")],
            400,
            "MalformedInput",
            "",
        ),
        (
            "GetPolicy",
            vec![("PolicyArn", "arn:aws:iam::aws:policy/NoSuchPolicy")],
            404,
            "NoSuchEntity",
            "was not found.",
        ),
        ("GetPolicy", vec![("PolicyArn", foreign)], 403, "AccessDenied", "because no resource-based policy"),
        (
            "ListInstanceProfilesForRole",
            vec![("RoleName", "none")],
            404,
            "NoSuchEntity",
            "The role with name none cannot be found.",
        ),
        (
            "PutRolePolicy",
            vec![("RoleName", "none"), ("PolicyName", "p"), ("PolicyDocument", ALLOW)],
            404,
            "NoSuchEntity",
            "The role with name none",
        ),
        ("CreateInstanceProfile", vec![("InstanceProfileName", "x")], 400, "InvalidAction", ""),
        (
            "NoSuchOperation",
            vec![],
            400,
            "InvalidAction",
            "Could not find operation NoSuchOperation for version 2010-05-08",
        ),
    ];
    for (operation, parameters, status, code, text) in &cases {
        let refused = refusal(&iam(root, operation, parameters).await);
        assert_eq!(
            (refused.0, refused.1.as_str()),
            (*status, *code),
            "{operation} {parameters:?}: {}",
            refused.2
        );
        assert!(refused.2.contains(text), "{operation} {parameters:?}: {}", refused.2);
    }
    assert_eq!(state(root).await, before, "what is refused changes nothing");
    wharf.stop().await;
}
