//! `wharf import`, from one real server, or an image layout, into another.

mod gate;
pub mod layout;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use self::gate::{Gate, Rule};
use self::layout::{Layout, assorted, bytes};
use crate::server::{Server, outcome, wharf};
use crate::wire::{Answer, AwsKey, Client, basic};

/// A wharf.
struct House {
    data: PathBuf,
    server: Server,
    key: AwsKey,
}

impl House {
    fn new(parent: &tempfile::TempDir, name: &str, arguments: &[&str]) -> Self {
        let data = parent.path().join(name);
        let server = Server::start(&data, arguments);
        let key = AwsKey::of(&data);
        Self { data, server, key }
    }

    fn ecr(&self, operation: &str, input: &Value) -> Value {
        let answer = self.try_ecr(operation, input);
        assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
        answer.json()
    }

    fn try_ecr(&self, operation: &str, input: &Value) -> Answer {
        self.key.call(&mut Client::connect(self.server.host()).unwrap(), operation, input)
    }

    fn password(&self) -> String {
        let command = ["token", "issue", "--account", &self.key.account];
        crate::server::succeeds(&mut wharf(&self.data, &command)).trim_end().to_owned()
    }

    /// The bytes behind a reference.
    fn manifest(&self, repository: &str, reference: &str) -> Answer {
        let mut client = Client::connect(self.server.host()).unwrap().with(&basic(&self.password()));
        client.send("GET", &format!("/v2/{repository}/manifests/{reference}"), &[], &[]).unwrap()
    }

    fn repositories(&self) -> Vec<String> {
        let all = self.ecr("DescribeRepositories", &json!({}));
        let all = all["repositories"].as_array().unwrap();
        all.iter().map(|each| each["repositoryName"].as_str().unwrap().to_owned()).collect()
    }

    /// Tags and digests, in order.
    fn images(&self, repository: &str) -> Vec<(String, String)> {
        let all = self.ecr("ListImages", &json!({"repositoryName": repository}));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let image = |image: &Value| (text(&image["imageTag"]), text(&image["imageDigest"]));
        let mut all: Vec<_> = all["imageIds"].as_array().unwrap().iter().map(image).collect();
        all.sort();
        all
    }

    /// `wharf import` into this house, with the AWS variables of another.
    fn import(&self, from: Option<&House>, arguments: &[&str]) -> Command {
        let mut all = vec!["import", "--to", &self.server.url];
        all.extend(arguments);
        let mut command = wharf(&self.data, &all);
        command.env_clear().env("HOME", self.data.parent().unwrap()).env("PATH", "/usr/bin:/bin");
        if let Some(from) = from {
            command.env("AWS_ACCESS_KEY_ID", &from.key.id);
            command.env("AWS_SECRET_ACCESS_KEY", &from.key.secret);
        }
        command
    }
}

/// Runs an import: exit code and report.
fn report(command: &mut Command) -> (i32, Value) {
    let (code, stdout, stderr) = outcome(command.arg("--json"));
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}")))
}

/// The same, with this password on standard input.
fn report_with(command: &mut Command, input: &str) -> (i32, Value) {
    command.arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let report = serde_json::from_str(&text);
    (
        done.status.code().unwrap(),
        report.unwrap_or_else(|_| panic!("{text}{:?}", String::from_utf8(done.stderr))),
    )
}

fn imports(command: &mut Command) -> Value {
    let (code, report) = report(command);
    assert_eq!((code, &report["identical"]), (0, &json!(true)), "{report:#}");
    report
}

fn fails(command: &mut Command, words: &str) {
    let (code, stdout, stderr) = outcome(command);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.starts_with("wharf: ") && stderr.contains(words), "{words}: {stderr}");
}

#[test]
fn a_wharf_moves_into_another_with_everything() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (House::new(&parent, "old", &[]), House::new(&parent, "new", &[]));
    let (layout, digests) = assorted(&parent.path().join("layout"));
    old.ecr(
        "CreateRepository",
        &json!({"repositoryName": "team/app", "imageScanningConfiguration": {"scanOnPush": true}}),
    );
    let told = imports(&mut old.import(None, &[&layout.source(), "--repository", "team/app"]));
    // Five manifests; configurations, and layers that two of them share.
    assert_eq!(told["total"]["manifests_copied"], 5);
    assert_eq!((&told["total"]["tags_set"], &told["total"]["blobs_copied"]), (&json!(3), &json!(7)));

    let named = json!({"repositoryName": "team/app"});
    let with = |more: Value| {
        let mut input = named.clone();
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let filters = json!([{"filterType": "WILDCARD", "filter": "latest*"}]);
    let mutability = json!({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters});
    old.ecr("PutImageTagMutability", &with(mutability));
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "pull", "Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]
    }]});
    old.ecr("SetRepositoryPolicy", &with(json!({"policyText": policy.to_string()})));
    let rule = json!({"rulePriority": 1, "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan",
        "countNumber": 50}, "action": {"type": "expire"}});
    old.ecr(
        "PutLifecyclePolicy",
        &with(json!({"lifecyclePolicyText": json!({"rules": [rule]}).to_string()})),
    );
    let arn = old.ecr("DescribeRepositories", &json!({}))["repositories"][0]["repositoryArn"].clone();
    old.ecr("TagResource", &json!({"resourceArn": arn, "tags": [{"Key": "team", "Value": "a"}]}));
    old.ecr(
        "CreateRepository",
        &json!({"repositoryName": "empty", "encryptionConfiguration": {"encryptionType": "KMS"}}),
    );

    let source = format!("ecr://{}", old.server.host());
    let (code, told) = report(&mut new.import(Some(&old), &[&source, "--dry-run"]));
    assert_eq!((code, &told["total"]["blobs_copied"]), (1, &json!(7)), "{told:#}");
    assert_eq!(told["repositories"][0]["differences"][0], "the repository is missing");
    assert!(new.repositories().is_empty(), "a dry run changes nothing");

    let told = imports(&mut new.import(Some(&old), &[&source]));
    assert_eq!((&told["total"]["manifests_copied"], &told["total"]["blobs_copied"]), (&json!(5), &json!(7)));
    assert_eq!(new.repositories(), ["empty", "team/app"]);
    assert_eq!(new.images("team/app"), old.images("team/app"));
    assert_eq!(new.images("team/app").len(), 6, "three tags, and three images without one");
    for (_, digest) in &digests {
        let (theirs, ours) = (old.manifest("team/app", digest), new.manifest("team/app", digest));
        assert_eq!((ours.status, &ours.body), (200, &theirs.body));
        assert_eq!(ours.header("content-type"), theirs.header("content-type"));
    }
    let described = |house: &House| {
        let mut all = house.ecr("DescribeRepositories", &json!({}))["repositories"].take();
        for each in all.as_array_mut().unwrap() {
            for own in ["createdAt", "repositoryUri", "repositoryArn", "registryId"] {
                each[own].take();
            }
            each["encryptionConfiguration"]["kmsKey"].take();
        }
        all
    };
    assert_eq!(described(&new), described(&old));
    for (operation, member) in
        [("GetRepositoryPolicy", "policyText"), ("GetLifecyclePolicy", "lifecyclePolicyText")]
    {
        assert_eq!(new.ecr(operation, &named)[member], old.ecr(operation, &named)[member], "{operation}");
    }

    // Again: nothing moves. Only a change does.
    let told = imports(&mut new.import(Some(&old), &[&source]));
    for count in ["manifests_copied", "tags_set", "blobs_copied", "blobs_mounted", "bytes_copied"] {
        assert_eq!(told["total"][count], 0, "{count}");
    }
    new.ecr("DeleteRepositoryPolicy", &named);
    new.ecr("BatchDeleteImage", &with(json!({"imageIds": [{"imageTag": "all"}]})));
    let (code, told) = report(&mut new.import(Some(&old), &[&source, "--dry-run"]));
    let differences = told["repositories"][1]["differences"].as_array().unwrap();
    assert!(code == 1 && differences.contains(&json!("repository policy is missing")), "{told:#}");
    assert!(differences.contains(&json!("tag `all` is missing")), "{told:#}");
    let told = imports(&mut new.import(Some(&old), &[&source]));
    assert_eq!(told["total"]["tags_set"], 1, "{told:#}");
    assert_eq!(new.images("team/app"), old.images("team/app"));
    old.server.stop();
    new.server.stop();
}

#[test]
fn tags_that_are_asked_for_come_with_what_they_need_and_what_signs_them() {
    let parent = tempfile::tempdir().unwrap();
    // A registry that wants tokens.
    let old = House::new(&parent, "old", &["--anonymous-hosts", "127.0.0.1"]);
    let new = House::new(&parent, "new", &[]);
    let (mut layout, digests) = assorted(&parent.path().join("layout"));
    let digest = |name: &str| digests.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let signature = layout.image("by tag", &[b"signed by tag"], None);
    let signature_tag = format!("{}.sig", digest("list").replace(':', "-"));
    layout.list(Some(&signature_tag), &signature);
    imports(&mut old.import(None, &[&layout.source(), "--repository", "team/app"]));

    let source = format!("oci://{}/team", old.server.host());
    let arguments = [&*source, "--tags", "al*", "--prefix", "mirror", "--username", "AWS"];
    let (code, told) = report_with(&mut new.import(None, &arguments), &old.password());
    assert_eq!((code, &told["identical"]), (0, &json!(true)), "{told:#}");
    assert_eq!(new.repositories(), ["mirror/team/app"]);
    let mut expected = vec![
        ("all".to_owned(), digest("list")),
        (signature_tag, signature.digest.clone()),
        (String::new(), digest("one")),
        (String::new(), digest("two")),
        (String::new(), digest("signature")),
    ];
    expected.sort();
    assert_eq!(new.images("mirror/team/app"), expected);

    // The same content in another repository is mounted, and a login of docker's is as good.
    let config = format!("AWS:{}", old.password());
    let config = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(config)
    };
    let config = json!({"auths": {old.server.host(): {"auth": config}}});
    std::fs::create_dir(parent.path().join(".docker")).unwrap();
    std::fs::write(parent.path().join(".docker/config.json"), config.to_string()).unwrap();
    let source = format!("oci://{}", old.server.host());
    let told = imports(&mut new.import(None, &[&source]));
    assert_eq!(new.repositories(), ["mirror/team/app", "team/app"]);
    assert_eq!(told["repositories"][0]["tags"], 4);
    old.server.stop();
    new.server.stop();
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (House::new(&parent, "old", &[]), House::new(&parent, "new", &[]));
    let mut layout = Layout::new(parent.path().join("layout"));
    for name in 0..6_u8 {
        let image =
            layout.image(&format!("config {name}"), &[&bytes(name, 200_000 + usize::from(name))], None);
        layout.list(Some(&format!("v{name}")), &image);
    }
    imports(&mut old.import(None, &[&layout.source(), "--repository", "team/app"]));

    let gate = Gate::before(old.server.host(), Rule::HoldAfter(5));
    let source = format!("ecr://{}", gate.host);
    let arguments = [&*source, "--jobs", "2"];
    let mut child =
        new.import(Some(&old), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    gate.wait_held();
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = gate.take().len();
    assert!((6..=7).contains(&asked), "two at a time: {asked}");
    // Whatever is there already is whole.
    for (tag, digest) in new.images("team/app") {
        assert_eq!(new.manifest("team/app", &digest).status, 200, "{tag}");
    }

    gate.set(Rule::Pass);
    let told = imports(&mut new.import(Some(&old), &arguments));
    let again = gate.take().len();
    assert!(again <= 12 - 4, "of the five that came, only one may have been on its way: {again}");
    assert_eq!(told["total"]["blobs_copied"], again, "{told:#}");
    assert_eq!(new.images("team/app"), old.images("team/app"));
    old.server.stop();
    new.server.stop();
}

#[test]
fn what_is_lost_on_the_way_is_asked_for_again_and_no_more_than_that() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (House::new(&parent, "old", &[]), House::new(&parent, "new", &[]));
    let mut layout = Layout::new(parent.path().join("layout"));
    // More than two chunks.
    let large = bytes(7, 17_000_001);
    let image = layout.image("config", &[&large, b"small"], None);
    layout.list(Some("v1"), &image);
    imports(&mut old.import(None, &[&layout.source(), "--repository", "team/app"]));

    let gate = Gate::before(old.server.host(), Rule::CutFirst(9_000_000));
    let source = format!("ecr://{}", gate.host);
    imports(&mut new.import(Some(&old), &[&source]));
    let asked = gate.take();
    let resumed: Vec<_> = asked.iter().filter_map(|(_, range)| range.as_deref()).collect();
    assert_eq!((asked.len(), resumed.len()), (4, 1), "{asked:?}");
    let from: u64 = resumed[0].strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
    assert!((8_900_000..9_000_000).contains(&from), "{from}");
    assert_eq!(new.images("team/app"), old.images("team/app"));

    let other = House::new(&parent, "other", &[]);
    gate.set(Rule::BusyEverySecond);
    imports(&mut other.import(Some(&old), &[&source, "--jobs", "1"]));
    assert_eq!(other.images("team/app"), old.images("team/app"));
    for house in [old, new, other] {
        house.server.stop();
    }
}

#[test]
fn a_damaged_blob_keeps_its_images_out_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let new = House::new(&parent, "new", &[]);
    let mut layout = Layout::new(parent.path().join("layout"));
    let (good, large) = (bytes(1, 1000), bytes(2, 9_000_000));
    let fine = layout.image("fine", &[&good], None);
    let damaged = layout.image("damaged", &[&good, &large], None);
    let sibling = layout.image("sibling", &[b"sibling"], None);
    let short = layout.image("short", &[b"short layer"], None);
    let list = layout.index(&[&sibling, &damaged]);
    let signature = layout.image("signature", &[b"signature"], Some(&list));
    for (tag, image) in [("fine", &fine), ("list", &list), ("short", &short), ("signature", &signature)] {
        layout.list(Some(tag), image);
    }
    let path = layout.path_of(&wharf_types::Digest::sha256(&large).to_string());
    let mut bytes = large;
    bytes[8_999_999] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::write(layout.path_of(&wharf_types::Digest::sha256(b"short layer").to_string()), b"short")
        .unwrap();

    let arguments = [&*layout.source(), "--repository", "team/app"];
    let (code, told) = report(&mut new.import(None, &arguments));
    assert_eq!((code, &told["identical"]), (1, &json!(false)), "{told:#}");
    assert_eq!(new.images("team/app"), [("fine".to_owned(), fine.digest.clone())]);
    let text = told["repositories"][0]["failures"].to_string();
    for words in
        ["is damaged: its content has digest", "it has 5 bytes instead of 11", "tag `list` was not imported"]
    {
        assert!(text.contains(words), "{words}: {told:#}");
    }
    let differences = told["repositories"][0]["differences"].to_string();
    assert!(differences.contains("tag `signature` is missing"), "{told:#}");

    // A manifest that is damaged too.
    std::fs::write(layout.path_of(&fine.digest), b"{}").unwrap();
    let elsewhere = [&*layout.source(), "--repository", "team/other"];
    let (code, told) = report(&mut new.import(None, &elsewhere));
    assert_eq!(code, 1);
    assert!(told.to_string().contains(&format!("manifest {} is damaged", fine.digest)), "{told:#}");
    assert!(new.images("team/other").is_empty());
    new.server.stop();
}

#[test]
fn a_tag_that_is_immutable_there_is_told_and_the_rest_comes() {
    let parent = tempfile::tempdir().unwrap();
    let new = House::new(&parent, "new", &[]);
    new.ecr("CreateRepository", &json!({"repositoryName": "team/app", "imageTagMutability": "IMMUTABLE"}));
    let mut layout = Layout::new(parent.path().join("one"));
    let old = layout.image("old", &[b"old"], None);
    layout.list(Some("v1"), &old);
    imports(&mut new.import(None, &[&layout.source(), "--repository", "team/app"]));
    let mut layout = Layout::new(parent.path().join("two"));
    let moved = layout.image("moved", &[b"moved"], None);
    layout.list(Some("v1"), &moved);
    layout.list(Some("v2"), &moved);
    let (code, told) = report(&mut new.import(None, &[&layout.source(), "--repository", "team/app"]));
    assert_eq!(code, 1);
    let told = &told["repositories"][0];
    assert!(told["failures"].to_string().contains("tag `v1` was not set"), "{told:#}");
    assert_eq!(
        told["differences"],
        json!([format!("tag `v1` is {} instead of {}", old.digest, moved.digest)])
    );
    assert_eq!(new.images("team/app"), [("v1".to_owned(), old.digest), ("v2".to_owned(), moved.digest)]);
    new.server.stop();
}

#[test]
fn what_cannot_begin_says_why_and_changes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (House::new(&parent, "old", &[]), House::new(&parent, "new", &[]));
    let host = old.server.host();
    let ecr = format!("ecr://{host}");
    fails(new.import(Some(&old), &[&ecr]).env("AWS_SECRET_ACCESS_KEY", "wrong"), "InvalidSignatureException");
    fails(&mut new.import(None, &[&ecr]), "no AWS credentials");
    fails(&mut new.import(Some(&old), &[&format!("{ecr}/team/none")]), "no repository `team/none`");
    fails(&mut new.import(Some(&old), &["ecr://127.0.0.1:1"]), "cannot reach 127.0.0.1:1");
    fails(&mut new.import(None, &["oci://127.0.0.1:1/app"]), "cannot reach 127.0.0.1:1");
    fails(&mut new.import(None, &[&format!("oci://{host}/team/app")]), "401 Unauthorized");
    let mut wrong = new.import(None, &[&format!("oci://{host}/team/app"), "--username", "AWS"]);
    wrong.stdin(Stdio::from(std::fs::File::open(old.data.join("root-credentials.json")).unwrap()));
    fails(&mut wrong, "401 Unauthorized");
    fails(&mut new.import(None, &["layout:nowhere", "--repository", "a/b"]), "nowhere is no image layout");
    let layout = Layout::new(parent.path().join("layout"));
    fails(&mut new.import(None, &[&layout.source()]), "say --repository NAME");
    let mut elsewhere =
        wharf(&new.data, &["import", "--to", "http://127.0.0.1:1", &layout.source(), "--repository", "a/b"]);
    fails(elsewhere.env_clear(), "cannot reach 127.0.0.1:1");
    let (code, ..) = outcome(&mut new.import(None, &["docker://registry.example/app"]));
    assert_eq!(code, 2, "used wrongly");
    assert!(new.repositories().is_empty());
    old.server.stop();
    new.server.stop();
}
