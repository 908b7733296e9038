//! Requests signed by botocore (`fixtures/make_botocore_cases.py`), a signer that is not ours.

// Helpers of tests are tests too, but clippy exempts only functions marked as such.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use wharf_iam::sigv4::cases::{self, CasesError};

const KEYS: &str = include_str!("fixtures/botocore.keys.json");
const CASES: &str = include_str!("fixtures/botocore.jsonl");

fn with_key(id: &str, change: impl Fn(&mut Value)) -> String {
    let mut keys: Value = serde_json::from_str(KEYS).unwrap();
    change(&mut keys[id]);
    keys.to_string()
}

fn case(name: &str) -> Value {
    let mut lines = CASES.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|case| case["name"] == name).unwrap()
}

fn code(keys: &str, case: &Value) -> Option<&'static str> {
    cases::run(keys, case.to_string().as_bytes()).unwrap().remove(0).code
}

#[test]
fn every_request_is_accepted_and_the_answer_has_the_documented_form() {
    let results = cases::run(KEYS, CASES.as_bytes()).unwrap();
    assert_eq!(results.len(), 15);
    for result in &results {
        assert!(result.ok, "{result:?}");
    }
    assert_eq!(
        serde_json::to_string(&results[0]).unwrap(),
        r#"{"name":"json post","ok":true,"accessKeyId":"AKIAFIXTURE"}"#
    );
    assert_eq!(results[11].access_key_id.as_deref(), Some("AKIA+FIX=TURE"));
}

#[test]
fn a_refusal_has_the_documented_form() {
    let keys = with_key("AKIAFIXTURE", |key| key["secret"] = "other".into());
    let results = cases::run(&keys, case("query post").to_string().as_bytes()).unwrap();
    assert_eq!(
        serde_json::to_string(&results[0]).unwrap(),
        r#"{"name":"query post","ok":false,"code":"SignatureDoesNotMatch","message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}"#
    );
}

#[test]
fn a_change_of_any_signed_part_is_a_mismatch() {
    for line in CASES.lines() {
        let original: Value = serde_json::from_str(line).unwrap();
        let changes: [fn(&mut Value); 4] = [
            |request| request["method"] = "PUT".into(),
            |request| {
                let target = request["target"].as_str().unwrap();
                request["target"] = format!("/changed{target}").into();
            },
            |request| request["headers"][0][1] = "elsewhere".into(),
            |request| request["body_b64"] = "bW9yZQ==".into(),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut changed = original.clone();
            change(&mut changed["request"]);
            let expected = match original["protocol"].as_str() {
                Some("json") => "InvalidSignatureException",
                _ => "SignatureDoesNotMatch",
            };
            assert_eq!(code(KEYS, &changed), Some(expected), "{} change {index}", original["name"]);
        }
    }
}

#[test]
fn token_rules_follow_the_record_of_the_key() {
    for (name, id) in
        [("json post with token", "ASIAFIXTURE"), ("token under a long-term prefix", "AKIASESSION")]
    {
        let case = case(name);
        assert_eq!(code(KEYS, &case), None);
        let without = with_key(id, |key| key["token"] = Value::Null);
        assert_eq!(code(&without, &case), Some("UnrecognizedClientException"));
        let other = with_key(id, |key| key["token"] = "FQoGZXIvYXdz//+=+".into());
        assert_eq!(code(&other, &case), Some("UnrecognizedClientException"));
        let over = with_key(id, |key| key["expires"] = "2026-03-14T09:26:53Z".into());
        assert_eq!(code(&over, &case), Some("ExpiredTokenException"));
    }
    let demanding = with_key("AKIAFIXTURE", |key| key["token"] = "t".into());
    assert_eq!(code(&demanding, &case("json post")), Some("UnrecognizedClientException"));
    let inactive = with_key("AKIAFIXTURE", |key| key["status"] = "Inactive".into());
    assert_eq!(code(&inactive, &case("query post")), Some("InvalidClientTokenId"));
    assert_eq!(code("{}", &case("query post")), Some("InvalidClientTokenId"));
}

#[test]
fn presigned_requests_live_as_long_as_their_service_says() {
    let at = |name: &str, now: &str| {
        let mut case = case(name);
        case["now"] = now.into();
        code(KEYS, &case)
    };
    // STS: 15 minutes although the request says 60 seconds.
    assert_eq!(at("presigned", "2026-03-14T09:41:53Z"), None);
    assert_eq!(at("presigned", "2026-03-14T09:41:54Z"), Some("SignatureDoesNotMatch"));
    assert_eq!(at("presigned", "2026-03-14T09:11:53Z"), None);
    assert_eq!(at("presigned", "2026-03-14T09:11:52Z"), Some("SignatureDoesNotMatch"));
    // Others: what the request says, here a week.
    assert_eq!(at("presigned encoded path", "2026-03-21T09:26:53Z"), None);
    assert_eq!(at("presigned encoded path", "2026-03-21T09:26:54Z"), Some("InvalidSignatureException"));
    assert_eq!(at("json post", "2026-03-14T09:41:53Z"), None);
    assert_eq!(at("json post", "2026-03-14T09:41:54Z"), Some("InvalidSignatureException"));
}

#[test]
fn input_that_is_no_case_names_its_line() {
    let good = case("json post").to_string();
    let error = |text: &str| {
        let error = cases::run(KEYS, text.as_bytes()).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    };
    assert!(error(&format!("{good}\n\n{{}}")).starts_with("line 3 is not a case: missing field `name`"));
    let text = format!("{{}}\n{good}\nx\n{good}\n");
    let judged: Vec<bool> =
        cases::judged(KEYS, text.as_bytes()).unwrap().map(|verdict| verdict.is_ok()).collect();
    assert_eq!(judged, [false, true, false, true], "a bad line hides no other");
    assert!(error("nonsense").starts_with("line 1 is not a case: "));
    let mut bad = case("json post");
    bad["now"] = "yesterday".into();
    assert_eq!(error(&bad.to_string()), "line 1: `now` is not an RFC 3339 time");
    let mut bad = case("json post");
    bad["request"]["body_b64"] = "*".into();
    assert_eq!(error(&format!("\n{bad}")), "line 2: `request.body_b64` is not base64");
    let mut bad = case("json post");
    bad["protocol"] = "rest".into();
    assert!(error(&bad.to_string()).starts_with("line 1 is not a case: unknown variant `rest`"));

    assert!(matches!(cases::run("[]", "".as_bytes()), Err(CasesError::Keys(_))));
    let keys = with_key("ASIAFIXTURE", |key| key["expires"] = "soon".into());
    assert!(matches!(cases::run(&keys, "".as_bytes()), Err(CasesError::KeyExpires { .. })));
}
