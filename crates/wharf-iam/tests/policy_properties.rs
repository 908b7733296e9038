//! What holds of every policy: no text makes the evaluator panic, a deny wins, adding one never grants, and a decision
//! costs no more than the policies are long.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_iam::context::Context;
use wharf_iam::decision::Identity;
use wharf_iam::evaluate::{CallerPolicies, NamedPolicy, Outcome, Principal, Request, evaluate, simulate};
use wharf_iam::policy::{Policy, PolicyKind, validate_for_write};

const ACCOUNT: &str = "111122223333";
const KINDS: [PolicyKind; 7] = [
    PolicyKind::Identity,
    PolicyKind::Boundary,
    PolicyKind::Session,
    PolicyKind::Repository,
    PolicyKind::Registry { v1_scope: false },
    PolicyKind::Registry { v1_scope: true },
    PolicyKind::Trust,
];

/// Words that policies are made of, and a few that they are not.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "Version",
        "2012-10-17",
        "2008-10-17",
        "Id",
        "Statement",
        "Sid",
        "Effect",
        "Allow",
        "Deny",
        "Principal",
        "NotPrincipal",
        "AWS",
        "Service",
        "Federated",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
        "*",
        "ecr:*",
        "ecr:BatchGetImage",
        "sts:AssumeRole",
        "111122223333",
        "arn:aws:iam::111122223333:user/erin",
        "arn:aws:ecr:us-east-1:111122223333:repository/*",
        "arn:aws:ecr:*:*:repository/${aws:username}",
        "StringEquals",
        "StringNotLike",
        "ForAnyValue:ArnLikeIfExists",
        "NumericLessThan",
        "DateEquals",
        "IpAddress",
        "BinaryEquals",
        "Null",
        "aws:username",
        "aws:TagKeys",
        "aws:CurrentTime",
        "${aws:username, 'x'}",
        "${",
        "}",
        "a.amazonaws.com",
        "10.0.0.0/8",
        "true",
        "7.5",
        "2026-01-01T00:00:00Z",
    ];
    prop_oneof![9 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        word().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_map(|n| json!(n)),
        Just(Value::Null),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((word(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let operators = [
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringNotLikeIfExists",
        "StringEqualsIgnoreCase",
        "ForAllValues:StringEquals",
        "ForAnyValue:StringNotEquals",
        "NumericGreaterThan",
        "NumericNotEquals",
        "DateLessThan",
        "DateNotEquals",
        "Bool",
        "BinaryEquals",
        "IpAddress",
        "NotIpAddress",
        "ArnLike",
        "ArnNotLike",
        "Null",
    ];
    let keys =
        ["aws:username", "aws:TagKeys", "aws:SourceIp", "aws:CurrentTime", "aws:PrincipalArn", "aws:absent"];
    let values = [
        "erin",
        "e*",
        "${aws:username}",
        "${aws:absent}",
        "${aws:absent, 'erin'}",
        "10.0.0.0/8",
        "2026-01-01",
        "5",
        "true",
        "false",
        "arn:aws:iam::*:user/*",
        "a",
        "",
    ];
    let values = proptest::collection::vec(proptest::sample::select(values.to_vec()), 0..3);
    (proptest::sample::select(operators.to_vec()), proptest::sample::select(keys.to_vec()), values)
        .prop_map(|(operator, key, values)| json!({operator: {key: values}}))
}

/// A sound statement of an identity policy.
fn statement(effect: &'static str) -> impl Strategy<Value = Value> {
    let actions =
        ["*", "ecr:*", "ecr:Batch*", "ecr:BatchGetImage", "ECR:batchget?mage", "s3:*", "ecr:PutImage"];
    let resources = [
        "*",
        "arn:aws:ecr:*",
        "arn:aws:ecr:*:*:repository/erin/*",
        "arn:aws:ecr:*:*:repository/${aws:username}/*",
        "arn:aws:ecr:*:*:repository/${aws:absent}",
        "arn:aws:ecr:us-east-1:111122223333:repository/other",
    ];
    let parts = (
        any::<(bool, bool)>(),
        proptest::collection::vec(proptest::sample::select(actions.to_vec()), 1..3),
        proptest::collection::vec(proptest::sample::select(resources.to_vec()), 1..3),
        proptest::option::of(condition()),
    );
    parts.prop_map(move |((not_action, not_resource), actions, resources, condition)| {
        let mut statement = json!({
            "Effect": effect,
            if not_action { "NotAction" } else { "Action" }: actions,
            if not_resource { "NotResource" } else { "Resource" }: resources,
        });
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    })
}

fn statements() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(prop_oneof![3 => statement("Allow"), 1 => statement("Deny")], 1..5)
}

fn policy(kind: PolicyKind, statements: &[Value]) -> NamedPolicy {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    NamedPolicy { name: "p".into(), policy: Policy::parse(kind, &text).unwrap().into() }
}

fn context() -> Context<'static> {
    let mut context = Context::new();
    context.set("aws:username", "erin");
    context.set("aws:SourceIp", "10.1.2.3");
    context.set("aws:CurrentTime", "2026-01-15T00:00:00Z");
    context.set("aws:PrincipalArn", "arn:aws:iam::111122223333:user/erin");
    context.set_list("aws:TagKeys", vec!["a".to_owned(), "b".to_owned()]);
    context
}

fn erin() -> Identity {
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/erin");
    Identity::user(ACCOUNT.parse().unwrap(), "AKIA", arn, "erin", "AIDAERIN")
}

fn outcome(identity: &[NamedPolicy], boundary: &[NamedPolicy], session: Option<&[NamedPolicy]>) -> Outcome {
    let (erin, context) = (erin(), context());
    let request = Request {
        action: "ecr:BatchGetImage",
        resource: "arn:aws:ecr:us-east-1:111122223333:repository/erin/app",
        resource_account: ACCOUNT,
        context: &context,
    };
    evaluate(Principal::Identity(&erin), CallerPolicies { identity, boundary, session }, &[], &request)
        .outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_json_makes_it_panic(document in any_json(), wrapped in any_json()) {
        let inside = json!({"Version": "2012-10-17", "Statement": [wrapped]});
        let condition = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringLike": wrapped},
        }]});
        let (erin, context) = (erin(), context());
        for text in [document.to_string(), inside.to_string(), condition.to_string()] {
            for kind in KINDS {
                let _ = validate_for_write(kind, &text);
                let Ok(policy) = Policy::parse(kind, &text) else { continue };
                let request = Request { action: "ecr:X", resource: "*", resource_account: "", context: &context };
                let policy = NamedPolicy { name: "p".into(), policy: policy.into() };
                let set = std::slice::from_ref(&policy);
                let policies = CallerPolicies { identity: set, boundary: set, session: Some(set) };
                for principal in [Principal::Anonymous, Principal::Service("a.b"), Principal::Identity(&erin)] {
                    simulate(principal, policies, &[&policy.policy], &request);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        for kind in KINDS {
            let _ = Policy::parse(kind, &text);
        }
    }

    #[test]
    fn adding_a_deny_never_grants(
        identity in statements(),
        boundary in proptest::option::of(statements()),
        session in proptest::option::of(statements()),
        added in statement("Deny"),
        place in 0..3_usize,
    ) {
        let build = |identity: &[Value], boundary: &Option<Vec<Value>>, session: &Option<Vec<Value>>| {
            let identity = [policy(PolicyKind::Identity, identity)];
            let boundary: Vec<_> = boundary.iter().map(|b| policy(PolicyKind::Boundary, b)).collect();
            let session = session.as_ref().map(|s| vec![policy(PolicyKind::Session, s)]);
            outcome(&identity, &boundary, session.as_deref())
        };
        let before = build(&identity, &boundary, &session);
        let (mut identity, mut boundary, mut session) = (identity, boundary, session);
        // At any place; a limit that was not there would be one more reason to deny, so it is not made up.
        match (place, &mut boundary, &mut session) {
            (1, Some(boundary), _) => boundary.insert(0, added),
            (2, _, Some(session)) => session.push(added),
            _ => identity.insert(0, added),
        }
        let after = build(&identity, &boundary, &session);
        prop_assert!(after == before || after == Outcome::ExplicitlyDenied, "{before:?} {after:?}");
    }

    #[test]
    fn a_deny_wins_over_every_allow(allows in proptest::collection::vec(statement("Allow"), 0..6), at in 0..6_usize) {
        let mut all = allows;
        all.insert(at.min(all.len()), json!({"Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*"}));
        prop_assert_eq!(outcome(&[policy(PolicyKind::Identity, &all)], &[], None), Outcome::ExplicitlyDenied);
    }

    #[test]
    fn the_order_of_statements_does_not_matter(statements in statements()) {
        let forwards = outcome(&[policy(PolicyKind::Identity, &statements)], &[], None);
        let backwards: Vec<Value> = statements.into_iter().rev().collect();
        prop_assert_eq!(outcome(&[policy(PolicyKind::Identity, &backwards)], &[], None), forwards);
    }
}
