//! Reports of what runs, and what they protect.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use wharf_types::Digest;

use crate::server::{Server, outcome, succeeds, wharf};

fn with_input(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn listed(data: &Path, account: &str) -> Value {
    json_of(&succeeds(&mut wharf(data, &["in-use", "list", "--account", account, "--json"])))
}

#[test]
fn what_standard_input_names_is_reported_and_listed() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let (one, two) = (Digest::sha256(b"1").to_string(), Digest::sha256(b"2").to_string());
    let input = format!("127.0.0.1:5050/team/app:v1@{one}\n\nteam/app:v2\n{two}\n{one}\nnot a reference");
    let report = ["in-use", "report", "--holder", "laptop", "--stdin", "--json"];
    let output = with_input(&mut wharf(&data, &report), &input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = json_of(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(
        (&told["holder"], &told["images"], &told["ignored"]),
        (&json!("laptop"), &json!(2), &json!(2))
    );
    assert!(told["expires_at"].as_str().unwrap().ends_with('Z'), "{told}");
    let mut digests = [one, two];
    digests.sort();
    let images: Vec<Value> =
        digests.iter().map(|digest| json!({"digest": digest, "holders": ["laptop"]})).collect();
    assert_eq!(listed(&data, "123456789012"), Value::Array(images));
    assert_eq!(listed(&data, "111122223333"), json!([]), "each account has its own");

    // More than one call holds.
    let many: String =
        (0..1200).map(|n| format!("{}\n", Digest::sha256(format!("{n}").as_bytes()))).collect();
    let report = ["in-use", "report", "--holder", "cluster", "--stdin", "--account", "111122223333"];
    let output = with_input(&mut wharf(&data, &report), &many);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(listed(&data, "111122223333").as_array().unwrap().len(), 1200);
    server.stop();
}

#[test]
fn wrong_uses_are_told_and_report_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    for (arguments, status, told) in [
        (&["--stdin", "--lifetime", "31d"][..], 1, "1 second to 30 days"),
        (&[][..], 2, "--stdin"),
        (&["--stdin", "--every", "5m"][..], 2, "cannot be used with"),
        (&["--containerd", "none.sock", "--every", "20m"][..], 1, "--every must be shorter than --lifetime"),
        (&["--containerd", "none.sock"][..], 1, "cannot ask containerd on none.sock"),
        (&["--stdin", "--namespace", "default"][..], 2, "--containerd"),
    ] {
        let mut all = vec!["in-use", "report", "--holder", "x"];
        all.extend(arguments);
        let output = with_input(&mut wharf(&data, &all), &Digest::sha256(b"1").to_string());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    assert_eq!(listed(&data, "123456789012"), json!([]));
    let delete = ["image", "delete", "--repository", "team/none", "--force", "v1"];
    let (code, _, stderr) = outcome(&mut wharf(&data, &delete));
    assert_eq!(code, 1);
    assert!(stderr.contains("'team/none' does not exist"), "{stderr}");
    server.stop();
}

#[test]
fn a_server_far_away_is_told_with_the_credentials_of_the_environment() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let key = json_of(&std::fs::read_to_string(data.join("root-credentials.json")).unwrap());
    let elsewhere = parent.path().join("elsewhere");
    let command = |arguments: &[&str], secret: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--endpoint", &server.url]);
        let mut command = wharf(&elsewhere, &all);
        command.env("HOME", parent.path()).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_ACCESS_KEY_ID", key["access_key_id"].as_str().unwrap());
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"] {
            command.env_remove(name);
        }
        command
    };
    let secret = key["secret_access_key"].as_str().unwrap();
    let digest = Digest::sha256(b"1").to_string();
    let report = ["in-use", "report", "--holder", "node-1", "--stdin", "--json", "--lifetime", "10m"];
    let output = with_input(&mut command(&report, secret), &digest);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = json_of(std::str::from_utf8(&output.stdout).unwrap());
    assert!(told["expires_at"].as_str().unwrap().ends_with('Z'), "{told}");
    let there = json_of(&succeeds(&mut command(&["in-use", "list", "--json"], secret)));
    assert_eq!(there, json!([{"digest": digest, "holders": ["node-1"]}]));
    assert_eq!(there, listed(&data, "123456789012"));
    let more: String =
        (0..1001).map(|n| format!("{}\n", Digest::sha256(format!("{n}").as_bytes()))).collect();
    let cluster = ["in-use", "report", "--holder", "cluster", "--stdin", "--json"];
    assert!(with_input(&mut command(&cluster, secret), &more).status.success());
    let there = json_of(&succeeds(&mut command(&["in-use", "list", "--json"], secret)));
    assert_eq!(there.as_array().unwrap().len(), 1001, "it comes in pages; one was there");
    let release = |arguments: &[&str]| {
        let all = [&["in-use", "release", "--json", "--holder"], arguments].concat();
        json_of(&succeeds(&mut command(&all, secret)))["released"].clone()
    };
    assert_eq!((release(&["cluster", &digest]), release(&["cluster"])), (json!(1), json!(1000)));
    assert_eq!(listed(&data, "123456789012"), json!([{"digest": digest, "holders": ["node-1"]}]));
    let here = succeeds(&mut wharf(&data, &["in-use", "release", "--holder", "node-1", "--json"]));
    assert_eq!(json_of(&here), json!({"holder": "node-1", "released": 1}));
    assert_eq!(listed(&data, "123456789012"), json!([]));
    assert!(!elsewhere.exists(), "no data directory is made");
    let refused = with_input(&mut command(&report, "wrong"), &digest);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("ReportImagesInUse was refused"), "{stderr}");
    server.stop();
}
