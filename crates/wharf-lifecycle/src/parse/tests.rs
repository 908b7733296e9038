//! Every fault with its text.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rule(priority: u64, selection: Value, action: Value) -> Value {
    json!({"rulePriority": priority, "selection": selection, "action": action})
}

fn expire() -> Value {
    json!({"type": "expire"})
}

fn untagged() -> Value {
    json!({"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1})
}

fn parse(rules: Value) -> Result<LifecyclePolicy, PolicyError> {
    LifecyclePolicy::parse(&json!({ "rules": rules }).to_string(), Grammar::Ecr)
}

/// A selection with some members changed; `null` takes one away.
fn with(changes: Value) -> Value {
    let mut selection = untagged();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => selection.as_object_mut().unwrap().remove(name),
            value => selection.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    selection
}

#[track_caller]
fn refused(text: &str, detail: &str) {
    let error = LifecyclePolicy::parse(text, Grammar::Ecr).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), detail, "{text}");
}

#[track_caller]
fn refused_selection(changes: Value, detail: &str) {
    let error = parse(json!([rule(1, with(changes.clone()), expire())])).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), detail, "{changes}");
}

#[test]
fn documents_of_another_shape_are_refused() {
    refused("", "Could not map policyString into LifecyclePolicy.");
    refused("{\"rules\":[],}", "Could not map policyString into LifecyclePolicy.");
    refused("[]", "instance type (array) does not match any allowed primitive type (allowed: [\"object\"])");
    refused("{}", "object has missing required properties ([\"rules\"])");
    refused(
        "{\"rules\":[],\"x\":1}",
        "object instance has properties which are not allowed by the schema: ([\"x\"])",
    );
    refused(
        "{\"rules\":[]}",
        "array is too short: must have at least 1 elements but instance has 0 elements",
    );
    refused(
        "{\"rules\":[{}]}",
        "object has missing required properties ([\"action\",\"rulePriority\",\"selection\"])",
    );
    let many: Vec<Value> = (1..=51).map(|priority| rule(priority, untagged(), expire())).collect();
    let error = parse(json!(many)).unwrap_err().to_string();
    assert_eq!(error, "array is too long: must have at most 50 elements but instance has 51 elements");
    let mut deep = "[".repeat(100_000);
    deep.push_str(&"]".repeat(100_000));
    refused(&deep, "Could not map policyString into LifecyclePolicy.");
}

#[test]
fn members_of_selections_are_checked() {
    let minimum = "numeric instance is lower than the required minimum (minimum: 1, found: 0)";
    refused_selection(json!({"countNumber": 0}), minimum);
    refused_selection(json!({"countNumber": -3}), &minimum.replace("found: 0", "found: -3"));
    refused_selection(
        json!({"countNumber": "7"}),
        "instance type (string) does not match any allowed primitive type (allowed: [\"integer\"])",
    );
    refused_selection(
        json!({"countNumber": 1.5}),
        "instance type (number) does not match any allowed primitive type (allowed: [\"integer\"])",
    );
    refused_selection(
        json!({"countType": null, "tagStatus": null}),
        "object has missing required properties ([\"countType\",\"tagStatus\"])",
    );
    refused_selection(
        json!({"tagStatus": "Any"}),
        "instance value (\"Any\") not found in enum (possible values: [\"any\",\"tagged\",\"untagged\"])",
    );
    refused_selection(
        json!({"countType": "sinceImagePushed", "countUnit": "hours"}),
        "instance value (\"hours\") not found in enum (possible values: [\"days\"])",
    );
    let one_of = "instance failed to match exactly one schema (matched 0 out of 2)";
    refused_selection(json!({"countUnit": "days"}), one_of);
    refused_selection(json!({"countType": "sinceImagePushed"}), one_of);
    refused_selection(
        json!({"wharf": {}}),
        "object instance has properties which are not allowed by the schema: ([\"wharf\"])",
    );
    let list = "Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.";
    refused_selection(json!({"tagStatus": "tagged"}), list);
    refused_selection(
        json!({"tagStatus": "tagged", "tagPrefixList": ["a"], "tagPatternList": ["a"]}),
        "Cannot specify both tagPrefixList and tagPatternList in the same rule.",
    );
    refused_selection(
        json!({"tagPrefixList": ["a"]}),
        "Cannot specify tagPrefixList or tagPatternList when tagStatus=UNTAGGED.",
    );
    refused_selection(
        json!({"tagStatus": "tagged", "tagPrefixList": ["a", "b", "a"]}),
        "array must not contain duplicate elements",
    );
    refused_selection(
        json!({"tagStatus": "tagged", "tagPrefixList": []}),
        "array is too short: must have at least 1 elements but instance has 0 elements",
    );
    refused_selection(
        json!({"tagStatus": "tagged", "tagPrefixList": [""]}),
        "string \"\" is too short (length: 0, required minimum: 1)",
    );
    refused_selection(
        json!({"tagStatus": "tagged", "tagPatternList": ["*a*b*c*d*"]}),
        "tagPatternList entries may contain at most 4 wildcards (*): *a*b*c*d*",
    );
}

#[test]
fn counts_go_with_classes_and_actions() {
    let transition = || json!({"type": "transition", "targetStorageClass": "archive"});
    let since = |kind: &str, class: &str, days: u64| {
        with(json!({"countType": kind, "storageClass": class, "countUnit": "days", "countNumber": days}))
    };
    let cases = [
        (untagged(), transition(), Ok(())),
        (since("sinceImagePushed", "standard", 1), transition(), Ok(())),
        (since("sinceImagePulled", "standard", 1), transition(), Ok(())),
        (since("sinceImageTransitioned", "archive", 90), expire(), Ok(())),
        (
            since("sinceImagePulled", "standard", 1),
            expire(),
            Err("countType=sinceImagePulled is not allowed for action type expire."),
        ),
        (
            since("sinceImageTransitioned", "archive", 89),
            expire(),
            Err("countNumber must be at least 90 when countType=sinceImageTransitioned."),
        ),
        (
            since("sinceImageTransitioned", "standard", 90),
            expire(),
            Err("countType=sinceImageTransitioned is not allowed for storageClass=standard."),
        ),
        (
            since("sinceImageTransitioned", "archive", 90),
            transition(),
            Err("countType=sinceImageTransitioned is not allowed for action type transition."),
        ),
        (
            since("sinceImagePushed", "archive", 100),
            expire(),
            Err("countType=sinceImagePushed is not allowed for storageClass=archive."),
        ),
        (
            untagged(),
            json!({"type": "transition"}),
            Err("targetStorageClass must be specified if and only if the action type is transition."),
        ),
        (
            untagged(),
            json!({"type": "expire", "targetStorageClass": "archive"}),
            Err("targetStorageClass must be specified if and only if the action type is transition."),
        ),
    ];
    for (selection, action, expected) in cases {
        let outcome = parse(json!([rule(1, selection.clone(), action.clone())]));
        let outcome = outcome.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{selection} {action}");
    }
}

#[test]
fn rules_must_not_contradict_each_other() {
    let any = || with(json!({"tagStatus": "any"}));
    let prefixes = |list: Value| with(json!({"tagStatus": "tagged", "tagPrefixList": list}));
    let detail = |rules: Value| parse(rules).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        detail(json!([rule(2, untagged(), expire()), rule(2, any(), expire())])),
        "Rule priorities must be unique. Duplicate rulePriority: 2"
    );
    assert_eq!(
        detail(json!([rule(1, any(), expire()), rule(2, untagged(), expire())])),
        "Rule for tagStatus=ANY must have the lowest priority per storage class"
    );
    assert_eq!(
        detail(json!([rule(1, untagged(), expire()), rule(2, untagged(), expire())])),
        "Only one rule can select Untagged images per storage class"
    );
    assert_eq!(
        detail(json!([rule(1, any(), expire()), rule(2, any(), expire())])),
        "Only one rule can select Any images per storage class"
    );
    let twice =
        [rule(1, prefixes(json!(["a", "b"])), expire()), rule(9, prefixes(json!(["b", "a"])), expire())];
    assert_eq!(detail(json!(twice)), "tagPrefixList and tagPatternList must be unique per storage class");
    // Other storage classes are other images.
    let archived = with(json!({
        "tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned",
        "countUnit": "days", "countNumber": 90
    }));
    let both = parse(json!([rule(7, any(), expire()), rule(3, archived, expire())])).unwrap();
    assert_eq!(both.rules().iter().map(|rule| rule.priority).collect::<Vec<_>>(), [3, 7]);
}

#[test]
fn extensions_are_taken_where_allowed() {
    let parse = |wharf: Value| {
        let selection = with(json!({"tagStatus": "tagged", "wharf": wharf}));
        let text = json!({"rules": [rule(1, selection, expire())]}).to_string();
        LifecyclePolicy::parse(&text, Grammar::Extended).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(
        parse(json!({"tagRegexAnyOf": ["^v\\d+$"], "groupBy": "^(\\d+)\\.", "order": "semver"})),
        Ok(())
    );
    assert!(parse(json!({"groupBy": "("})).unwrap_err().starts_with("\"(\" is not a regular expression: "));
    assert!(parse(json!({"tagRegexAnyOf": ["a{9999}{9999}"]})).is_err());
    assert_eq!(
        parse(json!({"keep": 3})).unwrap_err(),
        "object instance has properties which are not allowed by the schema: ([\"keep\"])"
    );
    assert_eq!(
        parse(json!({"notInUse": "yes"})).unwrap_err(),
        "instance type (string) does not match any allowed primitive type (allowed: [\"boolean\"])"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "rules",
        "rulePriority",
        "selection",
        "action",
        "type",
        "tagStatus",
        "any",
        "tagged",
        "untagged",
        "countType",
        "imageCountMoreThan",
        "sinceImagePushed",
        "countUnit",
        "days",
        "countNumber",
        "expire",
        "wharf",
        "a*",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_parser_panic(rules in any_json()) {
        let text = json!({ "rules": [rules] }).to_string();
        let _ = LifecyclePolicy::parse(&text, Grammar::Ecr);
        let _ = LifecyclePolicy::parse(&text, Grammar::Extended);
    }
}

#[test]
fn the_days_in_the_archive_are_settable() {
    let policy = |days: u64| {
        json!({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "storageClass": "archive",
            "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": days},
            "action": {"type": "expire"}}]})
        .to_string()
    };
    let parse = |days, least| LifecyclePolicy::parse_with(&policy(days), Grammar::Ecr, least).map(|_| ());
    assert_eq!(parse(7, 7), Ok(()));
    assert_eq!(parse(6, 7), Err(PolicyError::ArchivedDays(7)));
    assert_eq!(
        LifecyclePolicy::parse(&policy(89), Grammar::Ecr).map(|_| ()),
        Err(PolicyError::ArchivedDays(90))
    );
}
