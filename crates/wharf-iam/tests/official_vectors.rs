//! The official SigV4 suite, run through the engine of `wharf sigv4 verify`. The suite lies beside the project, not
//! in it; without it these tests say so and pass.

// Helpers of tests are tests too, but clippy exempts only functions marked as such.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use wharf_iam::sigv4::cases::{self, CaseResult};
use wharf_iam::sigv4::{canonical_path, canonical_query};

fn suite() -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/sigv4/aws-suite.jsonl");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()),
        Err(error) => {
            eprintln!("skipped: the official suite is not at {}: {error}", path.display());
            None
        }
    }
}

/// A request in the suite's text form: raw target, headers in order with folds kept, body.
struct Wire {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn wire(text: &str) -> Wire {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let (method, rest) = first.split_once(' ').unwrap();
    let target = rest.strip_suffix(" HTTP/1.1").unwrap_or(rest).to_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with(' ') {
            let (_, value) = headers.last_mut().unwrap();
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.into(), value.into()));
        }
    }
    Wire { method: method.into(), target, headers, body: body.trim_end_matches('\n').into() }
}

fn judge(case: &Value, field: &str) -> CaseResult {
    let context = &case["context"];
    let credentials = &context["credentials"];
    let mut key = json!({"secret": credentials["secret_access_key"], "status": "Active", "principal": "p"});
    if credentials["token"].is_string() {
        key["token"] = credentials["token"].clone();
    }
    let keys = json!({credentials["access_key_id"].as_str().unwrap(): key});
    let wire = wire(case[field].as_str().unwrap());
    let line = json!({
        "name": case["name"], "now": context["timestamp"], "service": context["service"],
        "region": context["region"], "protocol": "json", "a further field": 1,
        "request": {"method": wire.method, "target": wire.target, "headers": wire.headers,
                    "body_b64": BASE64_STANDARD.encode(wire.body)},
    });
    cases::run(&keys.to_string(), line.to_string().as_bytes()).unwrap().remove(0)
}

#[test]
fn every_vector_with_a_signed_or_no_token_verifies_in_both_forms() {
    let Some(suite) = suite() else { return };
    let mut accepted = 0;
    for case in suite.iter().filter(|case| case["context"]["normalize"] == true) {
        for field in ["header-signed-request", "query-signed-request"] {
            let result = judge(case, field);
            if case["name"] == "post-sts-header-after" {
                assert!(!result.ok, "{field}: a token that is not signed was accepted");
            } else {
                assert!(result.ok, "{field}: {result:?}");
                assert_eq!(result.access_key_id.as_deref(), Some("AKIDEXAMPLE"));
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, 2 * 30);
}

#[test]
fn a_changed_vector_is_refused() {
    let Some(suite) = suite() else { return };
    let mut refused = 0;
    for case in suite.iter().filter(|case| case["context"]["normalize"] == true) {
        for field in ["header-signed-request", "query-signed-request"] {
            let mut changed = case.clone();
            changed[field] =
                case[field].as_str().unwrap().replace("example.amazonaws", "exemple.amazonaws").into();
            assert_ne!(changed[field], case[field]);
            assert_eq!(
                judge(&changed, field).code,
                Some(if case["context"]["omit_session_token"] == true && field == "header-signed-request" {
                    "UnrecognizedClientException"
                } else {
                    "InvalidSignatureException"
                })
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 2 * 31);
}

#[test]
fn paths_and_queries_canonicalise_as_the_suite_says() {
    let Some(suite) = suite() else { return };
    let mut without_context = 0;
    for case in suite.iter().filter(|case| case["context"]["normalize"] != false) {
        let wire = wire(case["header-signed-request"].as_str().unwrap());
        let (path, query) = wire.target.split_once('?').unwrap_or((&wire.target, ""));
        let canonical: Vec<&str> = case["header-canonical-request"].as_str().unwrap().lines().collect();
        assert_eq!(canonical_path(path), canonical[1], "{}", case["name"]);
        assert_eq!(canonical_query(query, false), canonical[2], "{}", case["name"]);
        without_context += usize::from(case["context"].is_null());
    }
    assert_eq!(without_context, 2);
}
