//! Malformed policies, generated from the schema: valid ones with every value replaced, every member taken away and strange
//! ones added, one and two changes at a time. A second reading of the reference says which of them are policies after all.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use wharf_lifecycle::{Grammar, LifecyclePolicy};

fn expire(priority: u64, selection: Value) -> Value {
    json!({"rulePriority": priority, "selection": selection, "action": {"type": "expire"}})
}

/// Policies that use every member, action and count type.
fn seeds() -> Vec<Value> {
    let archive = json!({"type": "transition", "targetStorageClass": "archive"});
    vec![
        json!({"rules": [{
            "rulePriority": 1, "description": "one",
            "selection": {"tagStatus": "tagged", "tagPrefixList": ["a", "b"], "countType": "imageCountMoreThan",
                          "countNumber": 3},
            "action": {"type": "expire"},
        }]}),
        json!({"rules": [
            expire(2, json!({"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days",
                             "countNumber": 14})),
            expire(9, json!({"tagStatus": "any", "storageClass": "standard", "countType": "imageCountMoreThan",
                             "countNumber": 100})),
        ]}),
        json!({"rules": [
            {"rulePriority": 5, "action": archive,
             "selection": {"tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days",
                           "countNumber": 30}},
            expire(1, json!({"tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned",
                             "countUnit": "days", "countNumber": 90})),
        ]}),
        json!({"rules": [{
            "rulePriority": 1, "action": archive,
            "selection": {"tagStatus": "tagged", "tagPatternList": ["v*.*.*.*", "x"], "storageClass": "standard",
                          "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1},
        }]}),
    ]
}

/// What a value is replaced by: every type, every word of the schema, numbers around the bounds.
fn replacements() -> Vec<Value> {
    let words = [
        "",
        "a",
        "*",
        "a*b*c*d*e*",
        "any",
        "tagged",
        "untagged",
        "Any",
        "standard",
        "archive",
        "imageCountMoreThan",
        "sinceImagePushed",
        "sinceImagePulled",
        "sinceImageTransitioned",
        "days",
        "hours",
        "expire",
        "transition",
    ];
    let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    for text in ["null", "true", "0", "-1", "1", "2", "89", "90", "1.5", "1e30", "[]", "{}", "[1]", "[\"a\"]"]
    {
        all.push(serde_json::from_str(text).unwrap());
    }
    all.extend([json!(["a", "b"]), json!(["b", "b"]), json!([""]), json!({"rules": []})]);
    all
}

/// The pointers to every value of a document.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| places(member, format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| places(item, format!("{at}/{place}"), found));
        }
        _ => {}
    }
    found.push(at);
}

/// Every document that is one change away.
fn neighbours(document: &Value) -> Vec<Value> {
    let mut at = Vec::new();
    places(document, String::new(), &mut at);
    let mut all = Vec::new();
    for place in &at {
        for replacement in replacements() {
            let mut changed = document.clone();
            *changed.pointer_mut(place).unwrap() = replacement;
            all.push(changed);
        }
        if let Some((parent, name)) = place.rsplit_once('/') {
            let mut changed = document.clone();
            match changed.pointer_mut(parent).unwrap() {
                Value::Object(members) => drop(members.remove(name)),
                Value::Array(items) => drop(items.remove(name.parse().unwrap())),
                _ => unreachable!("values are in objects and arrays"),
            }
            all.push(changed);
        }
        for name in [
            "x",
            "wharf",
            "rules",
            "description",
            "tagPrefixList",
            "tagPatternList",
            "storageClass",
            "countUnit",
            "targetStorageClass",
        ] {
            for value in [json!("days"), json!("archive"), json!(["a"]), json!({})] {
                let mut changed = document.clone();
                let Some(Value::Object(members)) = changed.pointer_mut(place) else { break };
                members.insert(name.to_owned(), value);
                all.push(changed);
            }
        }
        let mut changed = document.clone();
        if let Some(Value::Array(items)) = changed.pointer_mut(place)
            && let Some(last) = items.last().cloned()
        {
            items.push(last);
            all.push(changed);
        }
    }
    all
}

/// The reference, read again: whether a document is a policy.
fn is_policy(document: &Value) -> bool {
    let Some(rules) =
        only(document, &["rules"], &["rules"]).and_then(|document| document["rules"].as_array())
    else {
        return false;
    };
    (1..=50).contains(&rules.len()) && rules.iter().all(is_rule) && agree(rules)
}

/// An object with these members at most, and those at least.
fn only<'a>(value: &'a Value, known: &[&str], required: &[&str]) -> Option<&'a Map<String, Value>> {
    let object = value.as_object()?;
    let fits = object.keys().all(|name| known.contains(&name.as_str()))
        && required.iter().all(|name| object.contains_key(*name));
    fits.then_some(object)
}

fn is_rule(rule: &Value) -> bool {
    let required = ["rulePriority", "selection", "action"];
    let Some(rule) = only(rule, &["rulePriority", "description", "selection", "action"], &required) else {
        return false;
    };
    let Some(action) = only(&rule["action"], &["type", "targetStorageClass"], &["type"]) else {
        return false;
    };
    let target = action.get("targetStorageClass");
    let archives = match (action["type"].as_str(), target.map(|target| target.as_str())) {
        (Some("expire"), None) => false,
        (Some("transition"), Some(Some("archive"))) => true,
        _ => return false,
    };
    positive(&rule["rulePriority"])
        && rule.get("description").is_none_or(Value::is_string)
        && is_selection(&rule["selection"], archives)
}

/// Numbers without a fraction are integers, however they are written.
fn positive(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| number >= 1.0 && number.fract() == 0.0)
}

fn is_selection(selection: &Value, archives: bool) -> bool {
    let known = [
        "tagStatus",
        "tagPatternList",
        "tagPrefixList",
        "storageClass",
        "countType",
        "countUnit",
        "countNumber",
    ];
    let Some(selection) = only(selection, &known, &["tagStatus", "countType", "countNumber"]) else {
        return false;
    };
    let lists = (selection.get("tagPrefixList"), selection.get("tagPatternList"));
    let tags = match (selection["tagStatus"].as_str(), lists) {
        (Some("tagged"), (Some(list), None)) => is_list(list),
        (Some("tagged"), (None, Some(list))) => {
            let few = |entry: &Value| entry.as_str().is_some_and(|entry| entry.matches('*').count() <= 4);
            is_list(list) && list.as_array().unwrap().iter().all(few)
        }
        (Some("untagged" | "any"), (None, None)) => true,
        _ => false,
    };
    let class = match selection.get("storageClass") {
        None => "standard",
        Some(class) => class.as_str().unwrap_or_default(),
    };
    let unit = selection.get("countUnit").map(|unit| unit.as_str() == Some("days"));
    let count = match (selection["countType"].as_str(), class, unit, archives) {
        (Some("imageCountMoreThan"), "standard", None, _)
        | (Some("sinceImagePushed"), "standard", Some(true), _)
        | (Some("sinceImagePulled"), "standard", Some(true), true) => true,
        (Some("sinceImageTransitioned"), "archive", Some(true), false) => {
            selection["countNumber"].as_f64().is_some_and(|days| days >= 90.0)
        }
        _ => false,
    };
    tags && count && positive(&selection["countNumber"])
}

fn is_list(list: &Value) -> bool {
    let Some(entries) = list.as_array() else { return false };
    let texts: BTreeSet<&str> = entries.iter().filter_map(Value::as_str).collect();
    !entries.is_empty() && texts.len() == entries.len() && !texts.contains("")
}

/// What rules may not say together, for each storage class.
fn agree(rules: &[Value]) -> bool {
    let priority = |rule: &Value| rule["rulePriority"].as_u64().unwrap_or(u64::MAX);
    let priorities: BTreeSet<u64> = rules.iter().map(priority).collect();
    let class = |rule: &Value| rule["selection"]["storageClass"].as_str() == Some("archive");
    let agrees = |archive: bool| {
        let of: Vec<&Value> = rules.iter().filter(|rule| class(rule) == archive).collect();
        let with = |status: &str| of.iter().filter(|rule| rule["selection"]["tagStatus"] == status).count();
        let last = of.iter().max_by_key(|rule| priority(rule));
        let any_is_last = last.is_none_or(|last| with("any") == 0 || last["selection"]["tagStatus"] == "any");
        let list = |rule: &&&Value| {
            let selection = &rule["selection"];
            let list =
                selection.get("tagPrefixList").or_else(|| selection.get("tagPatternList"))?.as_array()?;
            Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<String>>())
        };
        let lists: Vec<BTreeSet<String>> = of.iter().filter_map(|rule| list(&rule)).collect();
        let different: BTreeSet<&BTreeSet<String>> = lists.iter().collect();
        with("any") <= 1 && with("untagged") <= 1 && any_is_last && different.len() == lists.len()
    };
    priorities.len() == rules.len() && agrees(false) && agrees(true)
}

/// Compares both readings; answers whether it is a policy.
fn compare(document: &Value) -> bool {
    let text = document.to_string();
    let outcome = LifecyclePolicy::parse(&text, Grammar::Ecr);
    assert_eq!(
        outcome.is_ok(),
        is_policy(document),
        "{text}: {:?}",
        outcome.err().map(|error| error.to_string())
    );
    if let Err(error) = &outcome {
        assert!(!error.to_string().is_empty(), "{text}");
    }
    outcome.is_ok()
}

#[test]
fn every_document_one_change_from_a_policy_is_judged_as_the_reference_does() {
    let (mut good, mut bad) = (0, 0);
    for seed in seeds() {
        assert!(compare(&seed), "{seed}");
        for document in neighbours(&seed) {
            *if compare(&document) { &mut good } else { &mut bad } += 1;
        }
    }
    assert!(good > 50 && bad > 3000, "{good} policies and {bad} others");
}

#[test]
fn documents_two_changes_from_a_policy_are_judged_as_the_reference_does() {
    let seeds = seeds();
    let mut compared = 0;
    // Some of the first changes with some of the second, others each time: all pairs would take minutes.
    for (number, first) in neighbours(&seeds[2]).iter().step_by(11).enumerate() {
        for second in neighbours(first).iter().skip(number % 19).step_by(19) {
            compare(second);
            compared += 1;
        }
    }
    assert!(compared > 4_000, "{compared}");
}
