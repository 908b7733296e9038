use serde_json::{Value, json};

use super::*;

const REGISTRY: PolicyKind = PolicyKind::Registry { v1_scope: false };
const REGISTRY_V1: PolicyKind = PolicyKind::Registry { v1_scope: true };

/// A sound statement of a kind.
fn statement(kind: PolicyKind) -> Value {
    let action = if kind == PolicyKind::Trust { "sts:AssumeRole" } else { "ecr:CreateRepository" };
    let mut statement = json!({"Effect": "Allow", "Action": action});
    if !kind.is_identity_type() {
        statement["Principal"] = json!({"AWS": "111122223333"});
    }
    if kind.is_identity_type() || matches!(kind, PolicyKind::Registry { .. }) {
        statement["Resource"] = json!("*");
    }
    statement
}

/// The sound statement with members replaced; null removes one.
fn changed(kind: PolicyKind, changes: &Value) -> String {
    let mut statement = statement(kind);
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(statement.as_object_mut().unwrap().remove(name)),
            value => statement[name] = value.clone(),
        }
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn message(kind: PolicyKind, text: &str) -> String {
    validate_for_write(kind, text).map(|_| "fine".into()).unwrap_or_else(|error| error.message())
}

const KINDS: [PolicyKind; 7] = [
    PolicyKind::Identity,
    PolicyKind::Boundary,
    PolicyKind::Session,
    PolicyKind::Repository,
    REGISTRY,
    REGISTRY_V1,
    PolicyKind::Trust,
];

#[test]
fn sound_documents_of_every_kind() {
    for kind in KINDS {
        let statement = statement(kind);
        for text in [
            json!({"Version": "2012-10-17", "Statement": statement}),
            json!({"Statement": [statement], "Version": "2012-10-17"}),
        ] {
            let policy = validate_for_write(kind, &text.to_string()).unwrap();
            assert_eq!((policy.text(), policy.kind()), (text.to_string().as_str(), kind));
        }
        for version in [json!("2008-10-17"), Value::Null] {
            let mut text = json!({"Version": version, "Statement": [statement]});
            if version.is_null() {
                text.as_object_mut().unwrap().remove("Version");
            }
            assert!(Policy::parse(kind, &text.to_string()).is_ok());
            let ecr = matches!(kind, PolicyKind::Repository | PolicyKind::Registry { .. });
            assert_eq!(validate_for_write(kind, &text.to_string()).is_ok(), ecr);
        }
    }
}

#[test]
fn grammar_that_holds_for_every_kind() {
    for kind in KINDS {
        let sound = statement(kind).to_string();
        let document = |text: &str| text.replace("SOUND", &sound);
        for text in [
            "",
            "[]",
            "null",
            "\"text\"",
            "{}",
            r#"{"Version":"2012-10-17"}"#,
            r#"{"Version":"2012-10-17","Statement":[]}"#,
            r#"{"Version":"2012-10-17","Statement":"x"}"#,
            r#"{"Version":"2012-10-17","Statement":[[]]}"#,
            r#"{"Version":"2012-10-17","Statement":[SOUND,]}"#,
            r#"{"Version":"2012-10-17","Statement":[SOUND]} x"#,
            r#"{"Version":"2012-10-17","Statement":[SOUND] /* why */}"#,
            r#"{"Version":"2012-10-17","Statement":SOUND,"Statement":SOUND}"#,
            r#"{"Version":"2012-10-18","Statement":SOUND}"#,
            r#"{"Version":20121017,"Statement":SOUND}"#,
            r#"{"version":"2012-10-17","Statement":SOUND}"#,
            r#"{"Version":"2012-10-17","Statement":SOUND,"Comment":"x"}"#,
            r#"{"Version":"2012-10-17","Statement":SOUND,"Id":7}"#,
        ] {
            assert!(Policy::parse(kind, &document(text)).is_err(), "{kind:?} {text}");
        }
        for changes in [
            json!({"Effect": "allow"}),
            json!({"Effect": "Permit"}),
            json!({"Effect": null}),
            json!({"Effect": true}),
            json!({"Action": null}),
            json!({"Action": []}),
            json!({"Action": {}}),
            json!({"Action": 7}),
            json!({"Action": ["ecr:CreateRepository", 7]}),
            json!({"Action": "ecr"}),
            json!({"Action": ""}),
            json!({"Action": "ecr:Get:Image"}),
            json!({"Action": "e*r:GetImage"}),
            json!({"Action": "*:*"}),
            json!({"NotAction": "ecr:CreateRepository"}),
            json!({"Sid": "a-b"}),
            json!({"Sid": 1}),
            json!({"Unknown": 1}),
            json!({"action": "ecr:CreateRepository"}),
            json!({"Condition": []}),
            json!({"Condition": "x"}),
            json!({"Condition": {"StringEquals": "x"}}),
            json!({"Condition": {"StringEquals": ["x"]}}),
            json!({"Condition": {"StringEquals": {"aws:a": {}}}}),
            json!({"Condition": {"StringEquals": {"aws:a": ["x", null]}}}),
            json!({"Condition": {"StringEquals": {"aws:a": [["x"]]}}}),
            json!({"Condition": {"StringEquals": {"noprefix": "x"}}}),
            json!({"Condition": {"StringMatches": {"aws:a": "x"}}}),
            json!({"Condition": {"NullIfExists": {"aws:a": "true"}}}),
            json!({"Condition": {"ForSomeValues:StringEquals": {"aws:a": "x"}}}),
            json!({"Condition": {"ForAllValues:ForAnyValue:StringEquals": {"aws:a": "x"}}}),
            json!({"Condition": {"IfExists": {"aws:a": "x"}}}),
            json!({"Condition": {"": {"aws:a": "x"}}}),
        ] {
            assert!(Policy::parse(kind, &changed(kind, &changes)).is_err(), "{kind:?} {changes}");
        }
        for changes in [
            json!({"Sid": "Abc019"}),
            json!({"Sid": ""}),
            json!({"Condition": {}}),
            json!({"Condition": {"stringequalsIFEXISTS": {"aws:a": ["x", 1, 1.5, true]}}}),
            json!({"Condition": {"ForAllValues:StringEquals": {}, "Null": {"aws:a": false}}}),
        ] {
            assert!(Policy::parse(kind, &changed(kind, &changes)).is_ok(), "{kind:?} {changes}");
        }
        let repeated = changed(kind, &json!({})).replacen("\"Effect\"", "\"Effect\":\"Deny\",\"Effect\"", 1);
        assert!(Policy::parse(kind, &repeated).is_err());
    }
}

#[test]
fn what_each_kind_requires_and_forbids() {
    use PolicyKind::{Identity, Repository, Session, Trust};
    let star = json!("*");
    let table: &[(PolicyKind, Value, bool)] = &[
        (Identity, json!({"Principal": star}), false),
        (Identity, json!({"NotPrincipal": {"AWS": "111122223333"}}), false),
        (Identity, json!({"Resource": null}), false),
        (Identity, json!({"Resource": []}), false),
        (Identity, json!({"Resource": 7}), false),
        (Identity, json!({"NotResource": "*"}), false),
        (Identity, json!({"Resource": null, "NotResource": "*"}), true),
        (Identity, json!({"Action": "s3:GetObject"}), true),
        (Identity, json!({"Action": "ecr:NoSuchAction"}), true),
        (Identity, json!({"Action": null, "NotAction": ["iam:*", "sts:?"]}), true),
        (Identity, json!({"Sid": "with space"}), false),
        (Session, json!({"Principal": star}), false),
        (Repository, json!({"Resource": "*"}), false),
        (Repository, json!({"NotResource": "*"}), false),
        (Repository, json!({"Principal": null}), false),
        (Repository, json!({"Action": "s3:GetObject"}), false),
        (Repository, json!({"Action": ["ecr:*", "iam:*"]}), false),
        (Repository, json!({"Action": "*"}), true),
        (Repository, json!({"Action": "ECR:getfoo*"}), true),
        (Repository, json!({"Sid": "ECR Repository Policy"}), true),
        (Repository, json!({"NotPrincipal": {"AWS": "111122223333"}}), false),
        (Repository, json!({"Principal": null, "NotPrincipal": {"AWS": "111122223333"}}), false),
        (
            Repository,
            json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "111122223333"}}),
            true,
        ),
        (REGISTRY, json!({"Resource": null}), false),
        (REGISTRY, json!({"Action": "ecr:BatchGetImage"}), true),
        (REGISTRY, json!({"Resource": "arn:aws:ecr:*"}), false),
        (REGISTRY_V1, json!({"Action": "ecr:BatchGetImage"}), false),
        (
            REGISTRY_V1,
            json!({"Action": ["ecr:replicateimage", "ecr:*", "ecr:BatchImportUpstreamImage"]}),
            true,
        ),
        (Trust, json!({"Resource": "*"}), false),
        (Trust, json!({"Principal": null}), false),
        (Trust, json!({"Action": "ecr:GetImage"}), false),
        (Trust, json!({"Action": "*"}), false),
        (
            Trust,
            json!({"Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]}),
            true,
        ),
        (Trust, json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": "111122223333"}}), false),
        (
            Trust,
            json!({"Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/token.example.com"}}),
            true,
        ),
    ];
    for (kind, changes, legal) in table {
        assert_eq!(Policy::parse(*kind, &changed(*kind, changes)).is_ok(), *legal, "{kind:?} {changes}");
    }
    let with_id = |kind| json!({"Id": "x", "Statement": statement(kind)}).to_string();
    assert!(Policy::parse(Identity, &with_id(Identity)).is_err());
    assert!(Policy::parse(Repository, &with_id(Repository)).is_ok());
}

#[test]
fn resources() {
    let table = [
        ("*", true),
        ("arn:aws:ecr:us-east-1:111122223333:repository/a", true),
        ("arn:aws:ecr:us-east-1:111122223333:a:b:c", true),
        ("arn:aws:ecr", true),
        ("arn:aws:ecr:*", true),
        ("arn:*:ecr:*:*:*", true),
        ("arn:aws:s3:::${aws:username}/*", true),
        ("**", false),
        ("", false),
        ("repository/a", false),
        ("arn", false),
        ("arn:aws", false),
        ("arn:*", false),
        ("arn:aws::x:y:z", false),
        ("arn:aws:*:us-east-1:111122223333:repository/a", false),
        ("arn:aws:e?r:us-east-1:111122223333:repository/a", false),
        ("urn:aws:ecr:us-east-1:111122223333:repository/a", false),
    ];
    for (resource, legal) in table {
        let text = changed(PolicyKind::Identity, &json!({"Resource": resource}));
        assert_eq!(Policy::parse(PolicyKind::Identity, &text).is_ok(), legal, "{resource}");
    }
}

#[test]
fn principals() {
    let id = "111122223333";
    let table: &[(Value, bool)] = &[
        (json!("*"), true),
        (json!({"AWS": "*"}), true),
        (json!({"AWS": ["*", id]}), true),
        (json!({"AWS": format!("arn:aws:iam::{id}:root")}), true),
        (json!({"AWS": format!("arn:aws:iam::{id}:user/erin")}), true),
        (json!({"AWS": format!("arn:aws:iam::{id}:user/a/b/erin@x.y")}), true),
        (json!({"AWS": format!("arn:aws-cn:iam::{id}:role/path/r")}), true),
        (json!({"AWS": format!("arn:aws:sts::{id}:assumed-role/r/s")}), true),
        (json!({"AWS": format!("arn:aws:sts::{id}:federated-user/bob")}), true),
        (json!({"AWS": "AIDAEXAMPLEEXAMPLE123"}), true),
        (json!({"AWS": "AROAEXAMPLEEXAMPLE123"}), true),
        (json!({"Service": "replication.ecr.amazonaws.com", "AWS": id}), true),
        (json!(id), false),
        (json!([id]), false),
        (json!({}), false),
        (json!({"AWS": []}), false),
        (json!({"AWS": 111_122_223_333_u64}), false),
        (json!({"AWS": "11112222333"}), false),
        (json!({"aws": id}), false),
        (json!({"CanonicalUser": "x"}), false),
        (json!({"Federated": "accounts.example.com"}), false),
        (json!({"Service": "*"}), false),
        (json!({"Service": "*.amazonaws.com"}), false),
        (json!({"Service": "ecr"}), false),
        (json!({"AWS": format!("arn:aws:iam::{id}:user/*")}), false),
        (json!({"AWS": format!("arn:aws:iam::{id}:*")}), false),
        (json!({"AWS": "arn:aws:iam::*:root"}), false),
        (json!({"AWS": format!("arn:aws:sts::{id}:assumed-role/r/*")}), false),
        (json!({"AWS": format!("arn:aws:sts::{id}:assumed-role/r")}), false),
        (json!({"AWS": format!("arn:aws:sts::{id}:assumed-role/path/r/s")}), false),
        (json!({"AWS": format!("arn:aws:iam::{id}:group/g")}), false),
        (json!({"AWS": format!("arn:aws:iam::{id}:user/")}), false),
        (json!({"AWS": format!("arn:aws:iam::{id}:user")}), false),
        (json!({"AWS": format!("arn:aws:iam:us-east-1:{id}:user/erin")}), false),
        (json!({"AWS": format!("arn:aws:ecr::{id}:user/erin")}), false),
        (json!({"AWS": "erin"}), false),
    ];
    for (principal, legal) in table {
        let text = changed(PolicyKind::Repository, &json!({"Principal": principal}));
        assert_eq!(Policy::parse(PolicyKind::Repository, &text).is_ok(), *legal, "{principal}");
    }
    let text = changed(PolicyKind::Repository, &json!({"Principal": {"AWS": ["*", id], "Service": "a.b"}}));
    let policy = Policy::parse(PolicyKind::Repository, &text).unwrap();
    let named: Vec<_> = policy.principals().cloned().collect();
    let account = PolicyPrincipal::Account(id.parse().unwrap());
    assert_eq!(named, [PolicyPrincipal::Everyone, account, PolicyPrincipal::Service("a.b".into())]);
}

#[test]
fn iam_texts_in_iams_order() {
    use PolicyKind::{Identity, Trust};
    let table = [
        (Identity, "{", "Syntax errors in policy."),
        (Identity, &changed(Identity, &json!({"Effect": "x"})), "Syntax errors in policy."),
        (Identity, &changed(Identity, &json!({"Condition": {"X": {}}})), "Invalid Condition type : X."),
        (
            Identity,
            &changed(Identity, &json!({"Principal": "*", "Action": "x"})).replace("2012", "2008"),
            "Policy document must be version 2012-10-17 or greater.",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Sid": "a b", "Principal": "*"})),
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Principal": "*", "Action": []})),
            "Policy document should not specify a principal.",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Action": [], "Resource": "x"})),
            "Policy statement must contain actions.",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Action": "x", "Resource": null})),
            "Policy statement must contain resources.",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Action": "x", "Resource": "x"})),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Action": "a:b:c"})),
            "Actions/Condition can contain only one colon.",
        ),
        (Identity, &changed(Identity, &json!({"Action": "a b:c"})), "Vendor a b is not valid"),
        (
            Identity,
            &changed(Identity, &json!({"Resource": "x"})),
            "Resource x must be in ARN format or \"*\".",
        ),
        (
            Identity,
            &changed(Identity, &json!({"Resource": "arn:aws:*:::x"})),
            "Resource vendor must be fully qualified and cannot contain regexes.",
        ),
        (Trust, &changed(Trust, &json!({"Resource": "*"})), "Has prohibited field Resource"),
        (
            Trust,
            &changed(Trust, &json!({"Principal": {"AWS": "arn:aws:iam::1:user/x"}})),
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::1:user/x\"",
        ),
        (
            Trust,
            &changed(Trust, &json!({"Action": "s3:GetObject"})),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
    ];
    for (kind, text, expected) in table {
        assert_eq!(message(kind, text), expected, "{text}");
        assert_eq!(validate_for_write(kind, text).unwrap_err().code(), "MalformedPolicyDocument");
    }
    let twice = json!({"Version": "2012-10-17", "Statement": [{"Sid": "a", "Effect": "Deny", "Action": "*", "Resource": "*"}, {"Sid": "a", "Effect": "Deny", "Action": "*", "Resource": "*"}]});
    assert_eq!(
        message(Identity, &twice.to_string()),
        "Statement IDs (SID) in a single policy must be unique."
    );
    let unnamed = twice.to_string().replace("\"a\"", "\"\"");
    assert_eq!(message(Identity, &unnamed), "fine");
    for text in [" ".repeat(MAX_IAM_CHARACTERS + 1), "{\u{2028}}".into(), String::new()] {
        assert_eq!(validate_for_write(Identity, &text).unwrap_err().code(), "ValidationError");
    }
}

#[test]
fn ecr_texts() {
    let broken = validate_for_write(PolicyKind::Repository, "{").unwrap_err();
    assert_eq!(broken.code(), "InvalidParameterException");
    assert_eq!(
        broken.to_string(),
        "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
    );
    assert_eq!(
        message(REGISTRY, "{}"),
        "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid registry policy provided'"
    );
    let sound = changed(PolicyKind::Repository, &json!({}));
    let longest = sound.clone() + &" ".repeat(MAX_ECR_CHARACTERS - sound.len());
    assert_eq!(message(PolicyKind::Repository, &longest), "fine");
    let too_long = validate_for_write(PolicyKind::Repository, &(longest + " ")).unwrap_err();
    assert_eq!(too_long.code(), "InvalidParameterException");
}

#[test]
fn the_keys_a_policy_asks_for() {
    let text = changed(
        PolicyKind::Identity,
        &json!({
            "Resource": "arn:aws:ecr:*:*:repository/${aws:username}/*",
            "Condition": {"StringEquals": {"aws:ResourceTag/a": "${aws:PrincipalTag/b}"}, "ArnLike": {"aws:SourceArn": "arn:aws:s3:::${aws:userid}"}},
        }),
    );
    let policy = Policy::parse(PolicyKind::Identity, &text).unwrap();
    let mut keys: Vec<_> = policy.context_keys().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["aws:PrincipalTag/b", "aws:ResourceTag/a", "aws:SourceArn", "aws:userid", "aws:username"]
    );
}

#[test]
fn deep_and_huge_documents_are_refused_or_read_in_time() {
    let deep = format!("{}{}", "{\"a\":".repeat(60_000), "}".repeat(60_000));
    assert!(validate_for_write(PolicyKind::Identity, &deep[..MAX_IAM_CHARACTERS]).is_err());
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let text = changed(PolicyKind::Identity, &json!({"Condition": {"NumericEquals": {"aws:a": values}}}));
    assert!(Policy::parse(PolicyKind::Identity, &text).is_ok());
    assert!(validate_for_write(PolicyKind::Identity, &text).is_err());
}
