//! What is done while the disk is watched: one client at a time, so that each answer has its place in the trace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::check::World;
use crate::content::{Blob, Image};
use crate::server::{eventually, succeeds, wharf};
use crate::trace::{CALLS, Event, parse};
use crate::wire::random::Random;
use crate::wire::{Answer, AwsKey, Client, basic};

/// How an acknowledgement is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The server's first line.
    Listening,
    /// A response.
    Response,
    /// The end of a command that the server ran.
    Command,
}

impl Told {
    /// What these bytes tell, if anything.
    pub fn by(bytes: &[u8]) -> Option<Self> {
        match bytes {
            _ if bytes.starts_with(b"listening on ") => Some(Self::Listening),
            _ if bytes.starts_with(b"HTTP/1.1 ") && !bytes.starts_with(b"HTTP/1.1 100") => {
                Some(Self::Response)
            }
            _ if bytes.starts_with(br#"{"ok":"#) => Some(Self::Command),
            _ => None,
        }
    }
}

/// Something that was acknowledged, and what clients know from then on.
pub struct Acknowledged {
    pub what: String,
    pub told: Told,
    pub world: World,
}

/// All that was done and seen.
pub struct Recording {
    pub parent: PathBuf,
    pub traces: Vec<Vec<(usize, Event)>>,
    pub acknowledged: Vec<Acknowledged>,
    pub uploaded: BTreeMap<String, Vec<u8>>,
}

/// Why nothing can be watched here, if so.
pub fn obstacle() -> Option<String> {
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Err(error) => Some(format!("strace cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("strace cannot trace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// A server under observation.
struct Watched {
    child: Child,
    stdout: BufReader<ChildStdout>,
    trace: PathBuf,
    address: String,
}

impl Watched {
    fn start(data: &Path, trace: PathBuf, settings: &[&str]) -> Self {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "error"];
        arguments.extend(settings);
        let plain = wharf(data, &arguments);
        let mut command = Command::new("strace");
        // The server stays our child; texts are whole.
        command.args(["-D", "-f", "-y", "-xx", "-s", "16000000", "-e", &format!("trace={CALLS}"), "-o"]);
        command.arg(&trace).arg(plain.get_program()).args(plain.get_args());
        command.current_dir(data.parent().unwrap()).stdin(Stdio::null()).stdout(Stdio::piped());
        for (name, _) in plain.get_envs() {
            command.env_remove(name);
        }
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address =
            line.trim_end().strip_prefix("listening on http://").expect("the server listens").to_owned();
        Self { child, stdout, trace, address }
    }

    /// Ends the server with a signal and reads its trace.
    fn end(mut self, signal: &str) -> Vec<(usize, Event)> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let whole = eventually("the end of the trace", || {
            let text = std::fs::read_to_string(&self.trace).unwrap();
            let ended = |line: &str| line.starts_with(&format!("{pid} ")) && line.contains(" +++ ");
            text.lines().rev().take(200).any(ended).then_some(text)
        });
        parse(&whole)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does everything once.
pub fn record(parent: &Path) -> Recording {
    let data = parent.join("data");
    let mut script = Script::new(&data);
    let server = Watched::start(&data, parent.with_extension("first"), &["--gc-interval", "1h"]);
    script.first_life(&server.address);
    let first = server.end("-TERM");
    let windows =
        ["--storage-trash-window", "0s", "--storage-unreferenced-grace", "0s", "--gc-interval", "1h"];
    let server = Watched::start(&data, parent.with_extension("second"), &windows);
    script.second_life(&server.address);
    let second = server.end("-KILL");
    Recording {
        parent: parent.to_owned(),
        traces: vec![first, second],
        acknowledged: script.acknowledged,
        uploaded: script.uploaded,
    }
}

const APP: &str = "team/app";
const WEB: &str = "team/web";

struct Script {
    data: PathBuf,
    client: Option<Client>,
    credential: String,
    random: Random,
    world: World,
    acknowledged: Vec<Acknowledged>,
    uploaded: BTreeMap<String, Vec<u8>>,
}

impl Script {
    fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            client: None,
            credential: String::new(),
            random: Random::new(7),
            world: World::default(),
            acknowledged: Vec::new(),
            uploaded: BTreeMap::new(),
        }
    }

    fn first_life(&mut self, address: &str) {
        self.listening(address);
        self.repository(APP);
        self.repository(WEB);
        let (config, layer) = (self.blob(700), self.blob(150_000));
        self.post_blob(APP, &config);
        self.stream_blob(APP, &layer, &[70_000, 50_000]);
        let first = Image::of(vec![config.clone(), layer.clone()], 1);
        self.put(APP, &first, "v1");
        self.mount(WEB, &layer, APP);
        self.post_blob(WEB, &config);
        self.put(WEB, &first, "v1");
        let other = self.blob(90_000);
        self.stream_blob(APP, &other, &[]);
        let second = Image::of(vec![config.clone(), other.clone()], 2);
        self.put(APP, &second, "v1");
        self.put(APP, &first, "old");
        let index = Image::index(&[first.clone(), second.clone()], 3);
        self.put(APP, &index, "all");
        self.leave_upload(APP, 200_000, &[100_000, 30_000]);
        self.delete(APP, "all", None);
        self.delete(APP, &index.digest, Some(&index));
        self.delete(APP, &first.digest, Some(&first));
        self.undelete(APP, &first, "old");
        self.delete(APP, &first.digest, Some(&first));
        let lonely = self.blob(80_000);
        self.post_blob(APP, &lonely);
        self.delete_blob(APP, &lonely);
        self.command(&["key-ring", "rotate", "--json"]);
        self.account();
        let third = Image::of(vec![config, self.blob(100_000)], 4);
        self.stream_blob(APP, &third.blobs[1], &[20_000]);
        self.put(APP, &third, "v3");
    }

    fn second_life(&mut self, address: &str) {
        self.listening(address);
        self.collect();
        let image = Image::of(vec![self.blob(400), self.blob(70_000)], 5);
        self.post_blob(WEB, &image.blobs[0]);
        self.stream_blob(WEB, &image.blobs[1], &[65_000]);
        self.put(WEB, &image, "v2");
        self.delete_repository(APP);
        self.command(&["key-ring", "rotate", "--json"]);
        self.collect();
        self.put(WEB, &image, "v3");
    }

    fn blob(&mut self, length: usize) -> Blob {
        let mut blob = Blob::sized(&mut self.random, length);
        blob.digest = wharf_types::Digest::sha256(&blob.content).to_string();
        blob
    }

    fn acknowledge(&mut self, told: Told, what: String) {
        self.acknowledged.push(Acknowledged { what, told, world: self.world.clone() });
    }

    fn listening(&mut self, address: &str) {
        self.acknowledge(Told::Listening, "start".to_owned());
        if self.credential.is_empty() {
            let password = self.command(&["token", "issue", "--account", "123456789012"]);
            self.credential = basic(password.trim());
        }
        self.client = Some(Client::connect(address).unwrap().with(&self.credential));
    }

    /// Has the running server do what changes nothing that clients see.
    fn command(&mut self, arguments: &[&str]) -> String {
        let answer = succeeds(&mut wharf(&self.data, arguments));
        self.acknowledge(Told::Command, arguments.join(" "));
        answer
    }

    fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        status: u16,
    ) -> Answer {
        let answer = self.client.as_mut().unwrap().send(method, target, headers, body).unwrap();
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        answer
    }

    fn sent(&mut self, method: &str, target: &str) {
        self.acknowledge(Told::Response, format!("{method} {target}"));
    }

    fn call(&mut self, operation: &str, body: &Value) {
        let key = AwsKey::of(&self.data);
        assert_eq!(key.call(self.client.as_mut().unwrap(), operation, body).status, 200);
    }

    fn contents(&mut self, repository: &str) -> &mut crate::check::Contents {
        self.world.repositories.get_mut(repository).unwrap()
    }

    fn repository(&mut self, name: &str) {
        self.call("CreateRepository", &json!({ "repositoryName": name }));
        self.world.repositories.insert(name.to_owned(), Default::default());
        self.sent("CreateRepository", name);
    }

    fn delete_repository(&mut self, name: &str) {
        self.call("DeleteRepository", &json!({ "repositoryName": name, "force": true }));
        self.world.repositories.remove(name);
        self.sent("DeleteRepository", name);
    }

    fn arrived(&mut self, repository: &str, blob: &Blob) {
        self.contents(repository).blobs.insert(blob.digest.clone(), blob.content.to_vec());
    }

    fn post_blob(&mut self, repository: &str, blob: &Blob) {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
        self.send("POST", &target, &[], &blob.content, 201);
        self.arrived(repository, blob);
        self.sent("POST", &target);
    }

    fn mount(&mut self, repository: &str, blob: &Blob, from: &str) {
        let target = format!("/v2/{repository}/blobs/uploads/?mount={}&from={from}", blob.digest);
        self.send("POST", &target, &[], b"", 201);
        self.arrived(repository, blob);
        self.sent("POST", &target);
    }

    fn start_upload(&mut self, repository: &str) -> (String, String) {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.send("POST", &target, &[], b"", 202);
        self.sent("POST", &target);
        let location = answer.header("location").unwrap().to_owned();
        let id = answer.header("docker-upload-uuid").unwrap().to_owned();
        (location, id)
    }

    /// Sends pieces of a content, each acknowledged; says how much that was.
    fn pieces(&mut self, repository: &str, content: &[u8], pieces: &[usize]) -> (String, String, usize) {
        let (location, id) = self.start_upload(repository);
        self.uploaded.insert(id.clone(), content.to_vec());
        let mut at = 0;
        for piece in pieces {
            self.send("PATCH", &location, &[], &content[at..at + piece], 202);
            at += piece;
            self.contents(repository).uploads.insert(id.clone(), at as u64);
            self.sent("PATCH", &location);
        }
        (location, id, at)
    }

    fn stream_blob(&mut self, repository: &str, blob: &Blob, pieces: &[usize]) {
        let (location, id, at) = self.pieces(repository, &blob.content, pieces);
        let target = format!("{location}?digest={}", blob.digest);
        self.send("PUT", &target, &[], &blob.content[at..], 201);
        self.contents(repository).uploads.remove(&id);
        self.arrived(repository, blob);
        self.sent("PUT", &target);
    }

    fn leave_upload(&mut self, repository: &str, length: usize, pieces: &[usize]) {
        let content = self.random.bytes(length);
        self.pieces(repository, &content, pieces);
    }

    fn put(&mut self, repository: &str, image: &Arc<Image>, tag: &str) {
        let target = format!("/v2/{repository}/manifests/{tag}");
        self.send("PUT", &target, &[("content-type", image.media_type)], &image.manifest, 201);
        let contents = self.contents(repository);
        contents.manifests.insert(image.digest.clone(), image.manifest.clone());
        contents.tags.insert(tag.to_owned(), image.digest.clone());
        self.sent("PUT", &target);
    }

    /// Deletes a tag, or an image with its tags.
    fn delete(&mut self, repository: &str, reference: &str, image: Option<&Image>) {
        let target = format!("/v2/{repository}/manifests/{reference}");
        self.send("DELETE", &target, &[], b"", 202);
        let contents = self.contents(repository);
        match image {
            None => contents.tags.retain(|tag, _| tag != reference),
            Some(image) => {
                contents.manifests.remove(&image.digest);
                contents.tags.retain(|_, digest| *digest != image.digest);
            }
        }
        self.sent("DELETE", &target);
    }

    fn delete_blob(&mut self, repository: &str, blob: &Blob) {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        self.send("DELETE", &target, &[], b"", 202);
        self.contents(repository).blobs.remove(&blob.digest);
        self.sent("DELETE", &target);
    }

    fn undelete(&mut self, repository: &str, image: &Image, tag: &str) {
        let report = succeeds(&mut wharf(&self.data, &["undelete", repository, &image.digest, "--json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["restored"][0], image.digest, "{report}");
        let contents = self.contents(repository);
        contents.manifests.insert(image.digest.clone(), image.manifest.clone());
        contents.tags.insert(tag.to_owned(), image.digest.clone());
        self.acknowledge(Told::Command, "undelete".to_owned());
    }

    /// A new account, whose key is then disabled.
    fn account(&mut self) {
        let made = succeeds(&mut wharf(&self.data, &["account", "create", "--json"]));
        let key = AwsKey::from_json(&serde_json::from_str(&made).unwrap());
        self.world.keys.insert(key.id.clone(), (key.secret.clone(), true));
        self.acknowledge(Told::Command, "account create".to_owned());
        succeeds(&mut wharf(&self.data, &["key", "disable", &key.id]));
        self.world.keys.insert(key.id.clone(), (key.secret, false));
        self.acknowledge(Told::Command, "key disable".to_owned());
    }

    /// Collects everything that no manifest names.
    fn collect(&mut self) {
        succeeds(&mut wharf(&self.data, &["gc", "--json"]));
        for contents in self.world.repositories.values_mut() {
            let named =
                contents.manifests.values().map(|manifest| String::from_utf8_lossy(manifest).into_owned());
            let named: Vec<String> = named.collect();
            contents
                .blobs
                .retain(|digest, _| named.iter().any(|manifest| manifest.contains(digest.as_str())));
        }
        self.acknowledge(Told::Command, COLLECTED.to_owned());
    }
}

/// What a collection is called in the recording.
pub const COLLECTED: &str = "gc";
