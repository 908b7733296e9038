//! `wharf migrate`, from data directory to data directory.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wharf_types::Digest;

use crate::moving::layout::{assorted, bytes};
use crate::server::{Server, outcome, succeeds, wharf};
use crate::wire::{AwsKey, Client, basic};

/// A data directory with images, a user and something in the trash, which nobody serves.
fn filled(parent: &tempfile::TempDir) -> (PathBuf, Vec<String>) {
    let data = parent.path().join("old");
    let server = Server::start(&data, &[]);
    let (layout, digests) = assorted(&parent.path().join("layout"));
    let arguments = ["import", "--to", &server.url, &layout.source(), "--repository", "team/app"];
    succeeds(wharf(&data, &arguments).env_clear());
    let key = AwsKey::of(&data);
    let mut client = Client::connect(server.host()).unwrap();
    let gone = json!({"repositoryName": "team/app", "imageIds": [{"imageDigest": digests[4].1}]});
    assert_eq!(key.call(&mut client, "BatchDeleteImage", &gone).json()["failures"], json!([]));
    let scan = json!({"repositoryName": "empty"});
    assert_eq!(key.call(&mut client, "CreateRepository", &scan).status, 200);
    server.stop();
    (data, digests.into_iter().map(|(_, digest)| digest).collect())
}

fn migrate(from: &Path, to: &Path, more: &[&str]) -> (i32, Value) {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let arguments = [&["migrate", "--from", from, "--to", to, "--json"], more].concat();
    let (code, stdout, stderr) = outcome(wharf(Path::new(from), &arguments).env_clear());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| json!({"stderr": stderr})))
}

/// Every file below a directory that is not of this moment, with its digest.
fn contents(directory: &Path) -> Vec<(PathBuf, Digest)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), Digest::sha256(&std::fs::read(&path).unwrap())));
        }
    }
    found.sort();
    found
}

#[test]
fn a_deployment_moves_whole_and_serves_on() {
    let parent = tempfile::tempdir().unwrap();
    let (old, digests) = filled(&parent);
    let (objects, before) = (old.join("objects"), contents(&old.join("objects")));
    let new = parent.path().join("new");
    let (code, told) = migrate(&old, &new, &[]);
    assert_eq!((code, &told["identical"], &told["differences"]), (0, &json!(true), &json!([])), "{told:#}");
    assert_eq!(told["rows"], told["rows_copied"], "{told:#}");
    assert!(told["objects"].as_u64().unwrap() >= 2 && told["objects"] == told["objects_copied"], "{told:#}");
    assert_eq!(contents(&objects), before, "the source is as it was");
    let stored = |data: &Path| -> Vec<Digest> {
        let mut all: Vec<Digest> =
            contents(&data.join("objects")).into_iter().map(|(_, digest)| digest).collect();
        all.sort();
        all
    };
    assert_eq!(stored(&new), stored(&old), "as they were stored");

    // The same keys open it, and everything is there; what was deleted can still be restored.
    let server = Server::start(&new, &[]);
    let key = AwsKey::of(&old);
    let mut client = Client::connect(server.host()).unwrap();
    let listed = key.call(&mut client, "ListImages", &json!({"repositoryName": "team/app"})).json();
    assert_eq!(listed["imageIds"].as_array().unwrap().len(), 5, "{listed}");
    succeeds(&mut wharf(&new, &["undelete", "team/app"]));
    let password = succeeds(&mut wharf(&new, &["token", "issue", "--account", &key.account]));
    let mut client = Client::connect(server.host()).unwrap().with(&basic(password.trim_end()));
    for digest in &digests {
        let path = format!("/v2/team/app/manifests/{digest}");
        assert_eq!(client.send("GET", &path, &[], &[]).unwrap().status, 200, "{digest}");
    }
    for layer in [bytes(1, 100_000), bytes(2, 3_000_000)] {
        let path = format!("/v2/team/app/blobs/{}", Digest::sha256(&layer));
        assert!(client.send("GET", &path, &[], &[]).unwrap().body == layer);
    }
    let scrubbed = succeeds(&mut wharf(&new, &["scrub", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&scrubbed).unwrap()["clean"], true, "{scrubbed}");
    server.stop();

    let (code, told) = migrate(&old, &new, &[]);
    assert_eq!((code, &told["already_done"]), (0, &json!(true)), "what is done is not touched: {told:#}");
}

#[test]
fn a_move_goes_on_where_it_was_and_is_not_served_before_its_end() {
    let parent = tempfile::tempdir().unwrap();
    let (old, _) = filled(&parent);
    let new = parent.path().join("new");
    // A blob that is missing stops it before the end.
    let files = contents(&old.join("objects"));
    let large = files.iter().map(|(path, _)| path).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let aside = parent.path().join("aside");
    std::fs::rename(large, &aside).unwrap();
    let (code, told) = migrate(&old, &new, &[]);
    assert!(code == 1 && told["identical"] == false, "{told:#}");
    assert!(
        told["differences"][0].as_str().unwrap().starts_with("the source is damaged: object "),
        "{told:#}"
    );
    let (code, _, stderr) = outcome(&mut wharf(&new, &["account", "list"]));
    assert!(code == 1 && stderr.contains("deployment migrating:"), "{stderr}");

    std::fs::rename(&aside, large).unwrap();
    let (code, told) = migrate(&old, &new, &[]);
    assert_eq!((code, &told["identical"]), (0, &json!(true)), "{told:#}");
    assert_eq!(
        (&told["rows_copied"], &told["objects_copied"]),
        (&json!(0), &json!(1)),
        "only the rest: {told:#}"
    );
    succeeds(&mut wharf(&new, &["account", "list"]));
}

#[test]
fn a_source_that_was_used_meanwhile_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let (old, _) = filled(&parent);
    let new = parent.path().join("new");
    let files = contents(&old.join("objects"));
    let large = files.iter().map(|(path, _)| path).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let aside = parent.path().join("aside");
    std::fs::rename(large, &aside).unwrap();
    assert_eq!(migrate(&old, &new, &[]).0, 1);
    std::fs::rename(&aside, large).unwrap();

    let server = Server::start(&old, &[]);
    let key = AwsKey::of(&old);
    let mut client = Client::connect(server.host()).unwrap();
    let gone = json!({"repositoryName": "empty"});
    assert_eq!(key.call(&mut client, "DeleteRepository", &gone).status, 200);
    let (code, told) = migrate(&old, &new, &[]);
    assert!(code == 1 && told["stderr"].as_str().unwrap().contains("is in use by another wharf"), "{told}");
    server.stop();

    let (code, told) = migrate(&old, &new, &[]);
    assert!(code == 1 && told["differences"].to_string().contains("begin anew with --restart"), "{told:#}");
    let (code, told) = migrate(&old, &new, &["--restart"]);
    assert_eq!((code, &told["identical"]), (0, &json!(true)), "{told:#}");
}

#[test]
fn what_holds_something_else_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let (old, _) = filled(&parent);
    let other = parent.path().join("other");
    succeeds(&mut wharf(&other, &["account", "create"]));
    let before = contents(&other.join("objects"));
    let (code, told) = migrate(&old, &other, &[]);
    assert!(code == 1 && told["stderr"].as_str().unwrap().contains("holds another deployment"), "{told}");
    assert_eq!(contents(&other.join("objects")), before);
    let none = parent.path().join("none");
    let (code, told) = migrate(&none, &parent.path().join("new"), &[]);
    assert!(code == 1 && told["stderr"].as_str().unwrap().contains("holds no data of wharf's"), "{told}");
    assert!(!none.exists() && !parent.path().join("new").exists());
    let (code, told) = migrate(&old, &old, &[]);
    assert!(code == 1 && told["stderr"].as_str().unwrap().contains("are the same"), "{told}");
}

#[test]
fn a_deployment_moves_to_postgres_and_back() {
    let Some(database) = wharf_testing::postgres::Database::create() else { return };
    let parent = tempfile::tempdir().unwrap();
    let (old, digests) = filled(&parent);
    let (blobs, new) = (parent.path().join("blobs"), parent.path().join("new"));
    let (url, old_text, blobs, new_text) =
        (database.url(), old.to_str().unwrap(), blobs.to_str().unwrap(), new.to_str().unwrap());
    let run = |arguments: &[&str]| {
        let (code, stdout, stderr) = outcome(wharf(&old, arguments).env_clear());
        let told: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        assert_eq!((code, &told["identical"]), (0, &json!(true)), "{told:#}");
        told
    };
    let there = run(&["migrate", "--from", old_text, "--to", &url, blobs, "--json"]);
    assert!(there["next"].as_str().unwrap().contains("the same root key"), "{there:#}");
    let back = run(&["migrate", "--from", &url, blobs, "--to", new_text, "--json"]);
    assert_eq!((&back["rows_copied"], &back["objects"]), (&there["rows_copied"], &there["objects"]));

    std::fs::copy(old.join("root-key"), new.join("root-key")).unwrap();
    let server = Server::start(&new, &[]);
    let mut client = Client::connect(server.host()).unwrap();
    let input = json!({"repositoryName": "team/app"});
    let listed = AwsKey::of(&old).call(&mut client, "ListImages", &input).json();
    assert!(listed.to_string().contains(&digests[0]), "{listed}");
    let scrubbed = succeeds(&mut wharf(&new, &["scrub", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&scrubbed).unwrap()["clean"], true, "{scrubbed}");
    server.stop();
}
