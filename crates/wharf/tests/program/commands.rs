//! Commands beside a running server and without one.

use std::path::Path;

use serde_json::Value;
use wharf_iam::sigv4::Signer;

use crate::server::{Server, outcome, succeeds, wharf};

fn json(data: &Path, arguments: &[&str]) -> Value {
    let text = succeeds(&mut wharf(data, arguments));
    assert_eq!(text.trim_end().lines().count(), 1, "JSON is one line: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn accounts_and_keys_are_made_while_the_server_runs_and_are_there_without_it() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let created = json(&data, &["account", "create", "--id", "111122223333", "--json"]);
    assert_eq!(created["account_id"], "111122223333");
    let (code, _, stderr) = outcome(&mut wharf(&data, &["account", "create", "--id", "111122223333"]));
    assert_eq!(code, 1, "an account is created once");
    assert!(stderr.contains("111122223333"), "{stderr}");
    let random = json(&data, &["account", "create", "--json"]);
    assert_eq!(random["account_id"].as_str().unwrap().len(), 12);

    let key = json(&data, &["key", "create", "--account", "111122223333", "--json"]);
    let id = key["access_key_id"].as_str().unwrap();
    succeeds(&mut wharf(&data, &["key", "disable", id]));
    server.stop();

    let accounts = succeeds(&mut wharf(&data, &["account", "list"]));
    for account in ["123456789012", "111122223333", random["account_id"].as_str().unwrap()] {
        assert!(accounts.contains(account), "{accounts}");
    }
    let status = |id: &str| {
        let keys = json(&data, &["key", "list", "--account", "111122223333", "--json"]);
        let key = keys.as_array().unwrap().iter().find(|key| key["access_key_id"] == id).cloned();
        key.map(|key| key["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status(id).as_deref(), Some("Inactive"));
    succeeds(&mut wharf(&data, &["key", "enable", id]));
    assert_eq!(status(id).as_deref(), Some("Active"));
    succeeds(&mut wharf(&data, &["key", "delete", id]));
    assert_eq!(status(id), None);
}

#[test]
fn a_token_is_printed_bare() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let token = succeeds(&mut wharf(&data, &["token", "issue", "--account", "123456789012", "--ttl", "1h"]));
    let token = token.strip_suffix('\n').unwrap();
    assert!(token.len() > 40 && !token.contains(char::is_whitespace), "{token:?}");
    let (code, ..) = outcome(&mut wharf(&data, &["token", "issue", "--account", "999999999999"]));
    assert_eq!(code, 1, "an account that does not exist has no passwords");
    server.stop();
}

#[test]
fn collection_and_scrub_report_in_json() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (code, _, stderr) = outcome(&mut wharf(&data, &["gc"]));
    assert_eq!(code, 1, "there is nothing to collect where nothing is: {stderr}");
    assert!(!data.exists(), "a mistyped directory was created");
    let server = Server::start(&data, &[]);
    for running in [true, false] {
        assert_eq!(json(&data, &["gc", "--json"])["objects_deleted"], 0, "running: {running}");
        assert_eq!(json(&data, &["scrub", "--json"])["clean"], true, "running: {running}");
        if running {
            server.signal("TERM");
        }
    }
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn signatures_are_explained_and_refusals_fail() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let headers: [(&str, &[u8]); 1] = [("host", b"localhost")];
    let request = wharf_iam::sigv4::SignedRequest { method: "POST", target: "/", headers: &headers };
    let signer = Signer::new("AKIATEST", "secret", "us-east-1", "ecr");
    let mut signed: Vec<(String, String)> = vec![("host".to_owned(), "localhost".to_owned())];
    let at = wharf_types::Timestamp::from_micros(1_767_323_045_000_000); // 2026-01-02T03:04:05Z
    signed.extend(signer.sign(&request, b"{}", at).into_iter().map(|(name, value)| (name.to_owned(), value)));
    let case = |name: &str, body: &str| {
        serde_json::json!({
            "name": name, "now": "2026-01-02T03:05:00Z", "service": "ecr", "region": "us-east-1", "protocol": "json",
            "request": {"method": "POST", "target": "/", "headers": signed, "body_b64": body}
        })
    };
    let keys = serde_json::json!({"AKIATEST": {"secret": "secret", "status": "Active", "principal": "p"}});
    std::fs::write(path("keys.json"), keys.to_string()).unwrap();
    std::fs::write(path("good.jsonl"), format!("{}\n", case("good", "e30="))).unwrap();
    std::fs::write(path("mixed.jsonl"), format!("{}\n{}\n", case("good", "e30="), case("bad", "e30K")))
        .unwrap();
    let verify = |cases: &str| {
        let (keys, cases) = (path("keys.json"), path(cases));
        outcome(&mut wharf(
            &directory.path().join("data"),
            &["sigv4", "verify", "--keys", &keys, &cases, "--json"],
        ))
    };
    let (code, stdout, stderr) = verify("good.jsonl");
    assert_eq!(
        (code, stdout.trim_end()),
        (0, r#"{"name":"good","ok":true,"accessKeyId":"AKIATEST"}"#),
        "{stderr}"
    );
    let (code, stdout, _) = verify("mixed.jsonl");
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (1, 2));
    assert_eq!(
        (&lines[1]["ok"], &lines[1]["code"]),
        (&Value::Bool(false), &Value::from("InvalidSignatureException"))
    );
    std::fs::write(path("broken.jsonl"), format!("{{\"name\":\"x\"}}\n{}\n", case("good", "e30="))).unwrap();
    let (code, stdout, stderr) = verify("broken.jsonl");
    assert_eq!((code, stdout.lines().count()), (1, 1), "the good line is judged all the same: {stdout}");
    assert_eq!(stderr.matches("line 1 is not a case").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("missing field").count(), 1, "told once: {stderr}");
    assert_eq!(verify("missing.jsonl").0, 1);
}

#[test]
fn decision_cases_need_no_server_and_differences_fail() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let published = include_str!("../../../wharf-iam/tests/data/cases.jsonl");
    let test = |name: &str, cases: &str| {
        std::fs::write(path(name), cases).unwrap();
        outcome(&mut wharf(&data, &["policy", "test", &path(name)]))
    };
    let (code, stdout, stderr) = test("good.jsonl", published);
    assert_eq!((code, &*stdout), (0, "80 passed, 0 failed\n"), "{stderr}");
    let (code, stdout, _) =
        test("wrong.jsonl", &published.replacen("\"Allowed\"", "\"ExplicitlyDenied\"", 1));
    assert_eq!((code, stdout.lines().count()), (1, 2), "{stdout}");
    assert!(stdout.ends_with("79 passed, 1 failed\n"), "{stdout}");
    let (code, _, stderr) = test("broken.jsonl", &format!("{published}{{\n"));
    assert_eq!(code, 2);
    assert!(stderr.contains("broken.jsonl, line 81"), "{stderr}");
    assert_eq!(outcome(&mut wharf(&data, &["policy", "test", &path("missing.jsonl")])).0, 2);
    assert!(!data.exists(), "no data directory is made");
}

#[test]
fn decisions_are_explained_with_and_without_a_server() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let root = ["--principal", "123456789012"];
    let explain = |more: &[&str]| {
        let (code, stdout, stderr) = outcome(&mut wharf(&data, &[&["explain"][..], more].concat()));
        (code, stdout, stderr)
    };
    let allowed = [&root[..], &["--action", "ECR:putimage", "--resource", "team/app", "--json"]].concat();
    let (code, stdout, stderr) = explain(&allowed);
    assert_eq!(code, 0, "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["decision"], "Allowed");
    assert_eq!((&answer["action"], &answer["message"]), (&Value::from("ecr:PutImage"), &Value::Null));
    assert_eq!(answer["resource"], "arn:aws:ecr:us-east-1:123456789012:repository/team/app");

    let foreign = "arn:aws:ecr:us-east-1:111122223333:repository/team/app";
    let denied = [&root[..], &["--action", "ecr:PutImage", "--resource", foreign]].concat();
    let (code, stdout, _) = explain(&denied);
    assert_eq!(code, 1);
    assert!(
        stdout.starts_with("ImplicitlyDenied: no resource-based policy allows the action\nmissing: "),
        "{stdout}"
    );
    assert!(
        stdout.contains("told the client: User: arn:aws:iam::123456789012:root is not authorized"),
        "{stdout}"
    );
    server.stop();
    assert_eq!(explain(&allowed).0, 0, "without a server");

    for (arguments, words) in [
        (
            &["--principal", "erin", "--action", "ecr:PutImage", "--resource", "a1"][..],
            "`erin` is no principal",
        ),
        (
            &["--principal", "999999999999", "--action", "ecr:PutImage", "--resource", "a1"],
            "there is no 9999",
        ),
        (
            &[
                "--principal",
                "arn:aws:iam::123456789012:user/erin",
                "--action",
                "ecr:PutImage",
                "--resource",
                "a1",
            ],
            "there is no arn:aws:iam::123456789012:user/erin",
        ),
        (
            &["--principal", "123456789012", "--action", "s3:Get", "--resource", "a1"],
            "`s3:Get` is no action of ECR, IAM, STS or KMS that can be explained",
        ),
        (&["--principal", "123456789012", "--action", "ecr:PutImage"], "ecr:PutImage acts on a repository"),
        (
            &["--principal", "123456789012", "--action", "ecr:PutImage", "--resource", "A B"],
            "`A B` is neither",
        ),
    ] {
        let (code, stdout, stderr) = explain(arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert_eq!(explain(&["--principal", "x", "--action", "y", "--context", "nothing"]).0, 2);
}
