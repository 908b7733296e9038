use serde_json::{Value, json};

use crate::context::Context;
use crate::decision::Identity;
use crate::evaluate::{CallerPolicies, NamedPolicy, Principal, Request, evaluate};
use crate::policy::{Policy, PolicyKind};

/// Whether a condition of a 2012-10-17 policy holds in a context.
fn holds(operator: &str, key: &str, values: Value, context: &Value) -> bool {
    let text = json!({
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {key: values}}},
    });
    let policy = Policy::parse(PolicyKind::Identity, &text.to_string()).unwrap();
    let policies = [NamedPolicy { name: "p".into(), policy: policy.into() }];
    let mut keys = Context::new();
    for (key, value) in context.as_object().unwrap() {
        match value {
            Value::Array(values) => {
                keys.set_list(key, values.iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>());
            }
            value => keys.set(key, value.as_str().unwrap()),
        }
    }
    let root = Identity::root("111122223333".parse().unwrap(), "");
    let request =
        Request { action: "ecr:A", resource: "*", resource_account: "444455556666", context: &keys };
    let policies = CallerPolicies { identity: &policies, ..CallerPolicies::default() };
    // A foreign resource whose policy lets everybody in, so that the identity policy decides.
    let open = Policy::parse(
        PolicyKind::Repository,
        r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}"#,
    )
    .unwrap();
    evaluate(Principal::Identity(&root), policies, &[&open], &request).is_allowed()
}

/// Tests an operator against one value of the key `a:k`.
fn one(operator: &str, values: Value, value: &str) -> bool {
    holds(operator, "a:k", values, &json!({"a:k": value, "a:other": "o*", "a:list": ["x"]}))
}

#[test]
fn operators_on_one_value() {
    let table: &[(&str, Value, &str, bool)] = &[
        ("StringEquals", json!("a*"), "a*", true),
        ("StringEquals", json!("a*"), "ab", false),
        ("StringEquals", json!("A"), "a", false),
        ("StringEquals", json!(["x", "y"]), "y", true),
        ("StringEquals", json!([]), "y", false),
        ("StringNotEquals", json!([]), "y", true),
        ("StringEquals", json!(300), "300", true),
        ("StringEquals", json!(true), "true", true),
        ("stringEQUALS", json!("a"), "a", true),
        ("StringEquals", json!("${a:other}"), "o*", true),
        ("StringLike", json!("${a:other}"), "ox", false),
        ("StringEquals", json!("${a:list}"), "x", false),
        ("StringNotEquals", json!("${a:none}"), "x", true),
        ("StringNotLike", json!("${a:none}*"), "x", true),
        ("StringNotEqualsIgnoreCase", json!("${a:none}"), "x", true),
        ("StringEquals", json!("${a:none, 'x'}"), "x", true),
        ("StringNotEquals", json!("${a:none, 'x'}"), "x", false),
        ("StringNotEquals", json!(["x", "y"]), "y", false),
        ("StringNotEquals", json!(["x", "y"]), "z", true),
        ("StringEqualsIgnoreCase", json!("TeAm"), "tEaM", true),
        ("StringEqualsIgnoreCase", json!("t*"), "team", false),
        ("StringNotEqualsIgnoreCase", json!("TEAM"), "team", false),
        ("StringLike", json!("a?c*"), "abc:d/e", true),
        ("StringLike", json!("A*"), "abc", false),
        ("StringNotLike", json!(["r*", "b*"]), "blue", false),
        ("NumericEquals", json!(300), "300.0", true),
        ("NumericEquals", json!("abc"), "abc", false),
        ("NumericNotEquals", json!("300"), "301", true),
        ("NumericNotEquals", json!("300"), "abc", false),
        ("NumericLessThan", json!("300"), "299.99", true),
        ("NumericLessThan", json!("300"), "300", false),
        ("NumericLessThanEquals", json!("300"), "300", true),
        ("NumericGreaterThan", json!("9"), "10", true),
        ("NumericGreaterThanEquals", json!("10"), "10", true),
        ("NumericGreaterThan", json!("-1"), "0", true),
        ("NumericEquals", json!("${a:other}"), "0", false),
        ("DateEquals", json!("2026-01-01"), "2026-01-01T00:00:00Z", true),
        ("DateEquals", json!("1767225600"), "2026-01-01T01:00:00+01:00", true),
        ("DateEquals", json!(1_767_225_600), "2026-01-01T00:00:00Z", true),
        ("DateNotEquals", json!("2026-01-01"), "2026-01-02", true),
        ("DateNotEquals", json!("2026-01-01"), "soon", false),
        ("DateLessThan", json!("2026-01-01T00:00:00Z"), "1767225599", true),
        ("DateLessThanEquals", json!("2026-01-01T00:00:00Z"), "1767225600", true),
        ("DateGreaterThan", json!("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.5Z", true),
        ("DateGreaterThanEquals", json!("2026-01-01"), "2025-12-31", false),
        ("Bool", json!("TRUE"), "true", true),
        ("Bool", json!(false), "False", true),
        ("Bool", json!("true"), "false", false),
        ("Bool", json!("yes"), "yes", false),
        ("BinaryEquals", json!("Zm9v"), "Zm9v", true),
        ("BinaryEquals", json!("Zg"), "Zg==", true),
        ("BinaryEquals", json!("Zm9v"), "zm9v", false),
        ("BinaryEquals", json!("!"), "!", false),
        ("IpAddress", json!("10.0.0.0/8"), "10.1.2.3", true),
        ("IpAddress", json!("0.0.0.0/0"), "2001:db8::1", false),
        ("NotIpAddress", json!("0.0.0.0/0"), "2001:db8::1", true),
        ("NotIpAddress", json!("10.0.0.0/8"), "10.1.2.3", false),
        ("IpAddress", json!("2001:db8:0:0:0:0:0:1"), "2001:DB8::1", true),
        ("IpAddress", json!("nonsense"), "10.0.0.1", false),
        ("ArnLike", json!("arn:aws:iam::*:user/*"), "arn:aws:iam::111122223333:user/a/b", true),
        ("ArnEquals", json!("arn:aws:iam::*:user/*"), "arn:aws:iam::111122223333:user/a", true),
        ("ArnLike", json!("arn:aws:*:user/*"), "arn:aws:iam::111122223333:user/a", false),
        ("ArnLike", json!("arn:*"), "arn:aws:iam::111122223333:user/a", false),
        ("ArnLike", json!("arn:aws:iam::1*3:role/*:x"), "arn:aws:iam::111122223333:role/a:x", true),
        ("ArnLike", json!("arn:aws:IAM::*:user/a"), "arn:aws:iam::1:user/a", false),
        ("ArnNotLike", json!("arn:aws:iam::*:user/*"), "arn:aws:iam::111122223333:role/a", true),
        ("ArnNotEquals", json!("arn:aws:iam::*:user/*"), "arn:aws:iam::111122223333:user/a", false),
        ("ArnNotLike", json!("arn:aws:iam::*:user/${a:none}"), "arn:aws:iam::1:user/a", true),
        ("ArnLike", json!("arn:aws:iam::*:user/${a:other}"), "arn:aws:iam::1:user/o*", true),
        ("ArnLike", json!("arn:aws:iam::*:user/${a:other}"), "arn:aws:iam::1:user/oo", false),
        ("Null", json!("false"), "x", true),
        ("Null", json!(true), "x", false),
        ("Null", json!(["true", "false"]), "x", true),
        ("null", json!("FALSE"), "", true),
    ];
    for (operator, values, value, expected) in table {
        assert_eq!(one(operator, values.clone(), value), *expected, "{operator} {values} {value}");
    }
}

#[test]
fn an_absent_key() {
    let table = [
        ("StringEquals", false),
        ("StringNotEquals", true),
        ("StringNotLike", true),
        ("StringEqualsIfExists", true),
        ("STRINGNOTEQUALSIFEXISTS", true),
        ("NumericNotEquals", true),
        ("NumericLessThan", false),
        ("DateNotEquals", true),
        ("Bool", false),
        ("BoolIfExists", true),
        ("NotIpAddress", true),
        ("IpAddressIfExists", true),
        ("ArnNotLike", true),
        ("ArnLike", false),
        ("ForAllValues:StringEquals", true),
        ("ForAllValues:StringNotEquals", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
        ("ForAnyValue:StringEqualsIfExists", true),
    ];
    for (operator, expected) in table {
        assert_eq!(holds(operator, "a:k", json!("true"), &json!({})), expected, "{operator}");
    }
    assert!(holds("Null", "a:k", json!("true"), &json!({})));
    assert!(!holds("Null", "a:k", json!("false"), &json!({})));
}

#[test]
fn lists_of_values() {
    let table: &[(&str, Value, Value, bool)] = &[
        ("ForAllValues:StringEquals", json!(["a", "b"]), json!(["a"]), true),
        ("ForAllValues:StringEquals", json!(["a", "b"]), json!(["a", "c"]), false),
        ("ForAllValues:StringEquals", json!(["a", "b"]), json!([]), true),
        ("ForAllValues:StringEquals", json!("a"), json!("a"), true),
        ("ForAllValues:StringEquals", json!("a"), json!("b"), false),
        ("ForAllValues:StringNotEquals", json!(["a", "b"]), json!(["c", "d"]), true),
        ("ForAllValues:StringNotEquals", json!(["a", "b"]), json!(["c", "a"]), false),
        ("ForAnyValue:StringEquals", json!(["a", "b"]), json!(["c", "b"]), true),
        ("ForAnyValue:StringEquals", json!(["a", "b"]), json!(["c"]), false),
        ("ForAnyValue:StringEquals", json!("a"), json!([]), false),
        ("ForAnyValue:StringNotEquals", json!(["a", "b"]), json!(["a", "c"]), true),
        ("ForAnyValue:StringNotEquals", json!(["a", "b"]), json!(["a", "b"]), false),
        ("forallvalues:STRINGlike", json!("t*"), json!(["team", "tag"]), true),
        ("StringEquals", json!(["a", "b"]), json!(["a"]), true),
        ("StringEquals", json!(["a", "b"]), json!(["a", "b"]), false),
        ("StringNotEquals", json!("z"), json!(["a", "b"]), false),
        ("StringEqualsIfExists", json!("a"), json!(["a", "b"]), false),
        ("Null", json!("false"), json!(["a", "b"]), true),
    ];
    for (operator, values, context, expected) in table {
        let context = json!({"A:K": context});
        assert_eq!(
            holds(operator, "a:k", values.clone(), &context),
            *expected,
            "{operator} {values} {context}"
        );
    }
}
