//! The server that is abused, and what must still hold of it afterwards.

use std::path::PathBuf;

use serde_json::{Value, json};
use wharf_types::Digest;

use crate::server::{Server, succeeds, wharf};
use crate::wire::{Answer, AwsKey, Client, basic};

pub const ACCOUNT: &str = "123456789012";
pub const REPOSITORY: &str = "team/api";
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Somebody with an access key and a registry password.
#[derive(Clone)]
pub struct Caller {
    pub key: AwsKey,
    pub credential: String,
}

/// A server with one account, one repository and one image `v1`.
pub struct Target {
    server: Server,
    pub data: PathBuf,
    pub parent: tempfile::TempDir,
    pub caller: Caller,
    pub digest: String,
}

impl Target {
    pub fn start(settings: &[&str]) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let server = Server::start(&data, &[settings, &["--log-level", "error"]].concat());
        let key = AwsKey::of(&data);
        let credential = password(&data, ACCOUNT);
        let caller = Caller { key, credential };
        let mut target = Self { server, data, parent, caller, digest: String::new() };
        target.create_repository(&target.caller, REPOSITORY, "MUTABLE");
        let manifest = target.image("v1");
        let answer = target.put_manifest("v1", &manifest);
        assert_eq!(answer.status, 201, "{}", answer.text());
        target.digest = Digest::sha256(manifest.as_bytes()).to_string();
        target
    }

    pub fn address(&self) -> &str {
        self.server.host()
    }

    pub fn create_repository(&self, caller: &Caller, name: &str, mutability: &str) {
        let body = json!({ "repositoryName": name, "imageTagMutability": mutability });
        let answer = caller.key.call(&mut self.stranger(), "CreateRepository", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Another account with its own root key.
    pub fn other_account(&self, id: &str) -> Caller {
        let made = succeeds(&mut wharf(&self.data, &["account", "create", "--id", id, "--json"]));
        let key = AwsKey::from_json(&serde_json::from_str(&made).unwrap());
        Caller { key, credential: password(&self.data, id) }
    }

    /// A connection without a credential.
    pub fn stranger(&self) -> Client {
        Client::connect(self.address()).unwrap()
    }

    pub fn client(&self) -> Client {
        self.client_of(&self.caller)
    }

    pub fn client_of(&self, caller: &Caller) -> Client {
        self.stranger().with(&caller.credential)
    }

    /// A request of its own connection.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.client()
            .send(method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    pub fn call(&self, operation: &str, body: &Value) -> Answer {
        self.caller.key.call(&mut self.stranger(), operation, body)
    }

    pub fn push_blob(&self, caller: &Caller, repository: &str, content: &[u8]) -> String {
        let digest = Digest::sha256(content).to_string();
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.client_of(caller).send("POST", &target, &[], content).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    pub fn put_manifest(&self, reference: &str, manifest: &str) -> Answer {
        let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
        self.send("PUT", &target, &[("content-type", IMAGE)], manifest.as_bytes())
    }

    /// The manifest of an image without layers, its config pushed.
    pub fn image(&self, mark: &str) -> String {
        let config = self.push_blob(&self.caller, REPOSITORY, b"{}");
        manifest(&config, mark)
    }

    /// Nothing was changed by what was refused: the one image with its one tag is there, and all is sound.
    pub fn assert_unharmed(&self) {
        let mut client = self.client();
        let tags = client.send("GET", &format!("/v2/{REPOSITORY}/tags/list"), &[], b"").unwrap();
        assert_eq!(tags.json()["tags"], json!(["v1"]));
        let catalog = client.send("GET", "/v2/_catalog", &[], b"").unwrap();
        assert_eq!(catalog.json()["repositories"], json!([REPOSITORY]));
        let body = json!({ "repositoryName": REPOSITORY });
        let images = self.call("ListImages", &body).json();
        assert_eq!(images["imageIds"], json!([{ "imageDigest": self.digest, "imageTag": "v1" }]));
        let report = succeeds(&mut wharf(&self.data, &["scrub", "--json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["clean"], &report["manifests"]), (&json!(true), &json!(1)), "{report}");
        let beside: Vec<_> =
            std::fs::read_dir(self.parent.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(
            beside,
            std::slice::from_ref(&self.data),
            "something was written outside of the data directory"
        );
    }
}

pub fn manifest(config: &str, mark: &str) -> String {
    let config =
        json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 });
    let annotations = json!({ "mark": mark });
    json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [], "annotations": annotations })
        .to_string()
}

fn password(data: &std::path::Path, account: &str) -> String {
    basic(succeeds(&mut wharf(data, &["token", "issue", "--account", account])).trim())
}

/// A refusal that is the client's fault.
#[track_caller]
pub fn assert_refused(what: &str, answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
}
