//! The commands that talk to a registry over the network, against the real server.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::{Server, wharf};

/// A server, and a user with a home directory and the root key in their environment.
struct Client {
    home: tempfile::TempDir,
    server: Server,
    key: Value,
}

impl Client {
    fn new(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let server = Server::start(&data, arguments);
        let key = std::fs::read(data.join("root-credentials.json")).unwrap();
        Self { server, key: serde_json::from_slice(&key).unwrap(), home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The program with nothing but this user's environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = wharf(&self.path("data"), arguments);
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.env("AWS_ACCESS_KEY_ID", self.key["access_key_id"].as_str().unwrap());
        command.env("AWS_SECRET_ACCESS_KEY", self.key["secret_access_key"].as_str().unwrap());
        command
    }

    /// Whether a password opens the registry.
    fn accepts(&self, user: &str, password: &str) -> bool {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let answer = self.server.get(&format!("/v2/ HTTP/1.1\r\nauthorization: Basic {basic}\r\nx-rest:"));
        answer.starts_with("HTTP/1.1 200")
    }
}

/// Runs a command with this input: exit code, standard output, standard error.
fn outcome(command: &mut Command, input: &str) -> (i32, String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that wants no input may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn succeeds(command: &mut Command, input: &str) -> String {
    let (code, stdout, stderr) = outcome(command, input);
    assert_eq!(code, 0, "{stdout}{stderr}");
    stdout
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_is_written_where_docker_looks_and_works() {
    let client = Client::new(&[]);
    let host = client.server.host();
    client.write(".docker/config.json", r#"{"auths": {"other": {"auth": "x"}}, "detachKeys": "ctrl-e"}"#);
    let said = succeeds(&mut client.command(&["login", "--registry", host]), "");
    assert!(said.starts_with(&format!("logged in to {host} until ")), "{said}");
    let config = client.read(".docker/config.json");
    assert_eq!((&config["auths"]["other"]["auth"], &config["detachKeys"]), (&json!("x"), &json!("ctrl-e")));
    assert_eq!(mode(&client.path(".docker/config.json")), 0o600);
    let auth = STANDARD.decode(config["auths"][host]["auth"].as_str().unwrap()).unwrap();
    let auth = String::from_utf8(auth).unwrap();
    let (user, password) = auth.split_once(':').unwrap();
    assert!(client.accepts(user, password) && !client.accepts(user, "no"));

    let printed =
        succeeds(client.command(&["login", "--print"]).env("AWS_ENDPOINT_URL", &client.server.url), "");
    assert!(client.accepts("AWS", printed.trim_end()));
    let url = ["login", "--endpoint-url", &client.server.url, "--docker-config", "elsewhere"];
    succeeds(&mut client.command(&url), "");
    assert!(client.read("elsewhere/config.json")["auths"][host]["auth"].is_string());
    client.server.stop();
}

#[test]
fn a_login_that_fails_says_why_and_writes_nothing() {
    let client = Client::new(&[]);
    let host = client.server.host().to_owned();
    let login = ["login", "--registry", &host];
    let fails = |command: &mut Command, words: &str| {
        let (code, stdout, stderr) = outcome(command, "");
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.starts_with("wharf: ") && stderr.contains(words), "{words}: {stderr}");
        assert!(!client.path(".docker").exists());
    };
    fails(
        client.command(&login).env("AWS_SECRET_ACCESS_KEY", "wrong"),
        "InvalidSignatureException: The request",
    );
    fails(client.command(&login).env_remove("AWS_SECRET_ACCESS_KEY"), "has AWS_ACCESS_KEY_ID but no");
    fails(
        client.command(&login).env_remove("AWS_SECRET_ACCESS_KEY").env_remove("AWS_ACCESS_KEY_ID"),
        "no AWS cred",
    );
    fails(&mut client.command(&["login"]), "no endpoint");
    fails(&mut client.command(&["login", "--profile", "none"]), "there is no profile `none`");
    fails(&mut client.command(&["login", "--endpoint-url", "ftp://x"]), "`ftp://x` is no URL of a server");
    fails(&mut client.command(&["login", "--registry", "127.0.0.1:1"]), "cannot reach 127.0.0.1:1");
    let (code, ..) = outcome(&mut client.command(&["login", "--registry", "a b"]), "");
    assert_eq!(code, 2, "no host of a registry");

    client.write(".docker/config.json", "[]");
    let (code, _, stderr) = outcome(&mut client.command(&login), "");
    assert!(code == 1 && stderr.contains("is no configuration of docker's"), "{stderr}");
    assert_eq!(std::fs::read_to_string(client.path(".docker/config.json")).unwrap(), "[]");
    client.server.stop();
}

#[test]
fn tls_is_verified() {
    let client = Client::new(&["--tls", "self-signed"]);
    let host = client.server.host();
    let login = ["login", "--registry", host, "--print"];
    let (code, _, stderr) = outcome(&mut client.command(&login), "");
    assert!(code == 1 && stderr.contains("cannot reach") && stderr.contains("certificate"), "{stderr}");
    let authority = client.path("data/tls/ca.pem");
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        assert!(!succeeds(client.command(&login).env(variable, &authority), "").is_empty(), "{variable}");
    }
    let (code, _, stderr) = outcome(client.command(&login).env("AWS_CA_BUNDLE", "none.pem"), "");
    assert!(code == 1 && stderr.contains("cannot read certificates of none.pem"), "{stderr}");
    client.server.stop();
}

#[test]
fn the_credential_helper_gets_remembers_and_erases() {
    let client = Client::new(&[]);
    let host = client.server.host().to_owned();
    client.write(".docker/config.json", &json!({"credHelpers": {host.as_str(): "wharf"}}).to_string());
    let link = client.path("docker-credential-wharf");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), &link).unwrap();
    let helper = |action: &str, input: &str| {
        let mut command = Command::new(&link);
        let user = client.command(&[]);
        command
            .env_clear()
            .envs(user.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .arg(action);
        outcome(&mut command, input)
    };
    let got = |text: &str| -> Value { serde_json::from_str(text).unwrap() };

    let (code, first, _) = helper("get", &format!("{host}\n"));
    assert_eq!(code, 0, "{first}");
    let first = got(&first);
    assert_eq!((&first["ServerURL"], &first["Username"]), (&json!(host), &json!("AWS")));
    assert!(client.accepts("AWS", first["Secret"].as_str().unwrap()));
    assert_eq!(got(&helper("get", &host).1), first, "it was not remembered");
    assert_eq!(got(&helper("list", "").1), json!({host.as_str(): "AWS"}));
    let passwords = client.path(".cache/wharf/passwords");
    assert_eq!(mode(&passwords), 0o700);
    for entry in std::fs::read_dir(&passwords).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert_eq!(helper("erase", &host), (0, String::new(), String::new()));
    assert_eq!(got(&helper("list", "").1), json!({}));
    assert_ne!(got(&helper("get", &host).1)["Secret"], first["Secret"], "it was still remembered");

    let not_found = (1, "credentials not found in native keychain\n".to_owned(), String::new());
    assert_eq!(helper("get", "registry.example"), not_found);
    assert_eq!(outcome(&mut client.command(&["docker-credential", "get"]), "registry.example"), not_found);
    let subcommand = outcome(&mut client.command(&["docker-credential", "get"]), &host);
    assert_eq!(subcommand, helper("get", &host), "link and command answer alike");
    let (code, said, _) = outcome(
        client.command(&["docker-credential", "get"]).env("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX"),
        &host,
    );
    assert!(code == 1 && said.starts_with("wharf: GetAuthorizationToken was refused: Unrec"), "{said}");
    client.server.stop();
}

#[test]
fn a_login_goes_to_the_helper_that_is_configured() {
    let client = Client::new(&[]);
    let host = client.server.host().to_owned();
    client.write(".docker/config.json", r#"{"credsStore": "test"}"#);
    client.write("bin/docker-credential-test", "#!/bin/sh\n[ $1 = store ] && cat >\"$HOME/stored\"\n");
    let program = client.path("bin/docker-credential-test");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", client.path("bin").display());
    succeeds(client.command(&["login", "--registry", &host]).env("PATH", &path), "");
    let stored = client.read("stored");
    assert_eq!((&stored["ServerURL"], &stored["Username"]), (&json!(host), &json!("AWS")));
    assert!(client.accepts("AWS", stored["Secret"].as_str().unwrap()));
    assert_eq!(
        client.read(".docker/config.json"),
        json!({"credsStore": "test", "auths": {host.as_str(): {}}})
    );

    client.write("bin/docker-credential-test", "#!/bin/sh\necho no room; exit 1\n");
    let (code, _, stderr) = outcome(client.command(&["login", "--registry", &host]).env("PATH", &path), "");
    assert!(code == 1 && stderr.contains("with docker-credential-test: no room"), "{stderr}");
    client.server.stop();
}

/// Whether a value is a CredentialProviderResponse of credentialprovider.kubelet.k8s.io/v1, member by member.
fn is_response(value: &Value) -> bool {
    let object = value.as_object().unwrap();
    let members: Vec<&str> = object.keys().map(String::as_str).collect();
    let seconds = value["cacheDuration"].as_str().and_then(|text| text.strip_suffix('s')).unwrap();
    seconds.parse::<u64>().is_ok()
        && members == ["apiVersion", "auth", "cacheDuration", "cacheKeyType", "kind"]
        && value["apiVersion"] == "credentialprovider.kubelet.k8s.io/v1"
        && value["kind"] == "CredentialProviderResponse"
        && ["Image", "Registry", "Global"].contains(&value["cacheKeyType"].as_str().unwrap())
        && (value["auth"].is_null()
            || value["auth"].as_object().unwrap().values().all(|auth| {
                let members: Vec<&str> = auth.as_object().unwrap().keys().map(String::as_str).collect();
                members == ["password", "username"]
                    && auth["password"].is_string()
                    && auth["username"].is_string()
            }))
}

#[test]
fn a_kubelet_gets_a_password_for_the_images_registry() {
    let client = Client::new(&[]);
    let host = client.server.host().to_owned();
    let request = |image: &str| {
        json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest", "image": image,
            "serviceAccountToken": "", "serviceAccountAnnotations": null
        })
    };
    let provider = || client.command(&["kubelet-credential-provider"]);
    let answer = succeeds(&mut provider(), &request(&format!("{host}/team/app:v1")).to_string());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(is_response(&answer), "{answer}");
    assert_eq!(answer["cacheKeyType"], "Registry");
    let seconds: u64 = answer["cacheDuration"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!((6 * 3600 - 60..=6 * 3600).contains(&seconds), "half of the twelve hours: {seconds}");
    let auth = &answer["auth"][host.as_str()];
    assert!(client.accepts(auth["username"].as_str().unwrap(), auth["password"].as_str().unwrap()));

    let nothing: Value =
        serde_json::from_str(&succeeds(&mut provider(), &request("debian").to_string())).unwrap();
    assert!(is_response(&nothing) && nothing["auth"].is_null(), "{nothing}");
    let mut token = request(&format!("{host}/team/app"));
    token["serviceAccountToken"] = json!("t");
    let (code, stdout, stderr) = outcome(&mut provider(), &token.to_string());
    assert_eq!((code, stdout.as_str()), (1, ""), "a pod's identity is not replaced by the node's");
    assert!(stderr.contains("has no annotation eks.amazonaws.com/role-arn"), "{stderr}");
    client.server.stop();
}

#[test]
fn a_profile_is_written_and_logs_in() {
    let client = Client::new(&[]);
    let url = client.server.url.clone();
    client.write(".aws/config", "[default]\nregion = eu-west-1\n");
    let key = ["key", "create", "--json"];
    let key = succeeds(&mut client.command(&key), "");
    let arguments = ["aws-profile", "--name", "team", "--endpoint", &url, "--credentials", "-"];
    succeeds(&mut client.command(&arguments), &key);
    let config = std::fs::read_to_string(client.path(".aws/config")).unwrap();
    assert!(config.starts_with("[default]\nregion = eu-west-1\n\n[profile team]\n"), "{config}");
    assert_eq!(mode(&client.path(".aws/credentials")), 0o600);
    let mut login = client.command(&["login", "--profile", "team", "--print"]);
    login.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    assert!(client.accepts("AWS", succeeds(&mut login, "").trim_end()));

    let before = std::fs::read_to_string(client.path(".aws/credentials")).unwrap();
    let fails = |arguments: &[&str], input: &str, words: &str| {
        let (code, _, stderr) = outcome(&mut client.command(arguments), input);
        assert!(code == 1 && stderr.contains(words), "{words}: {code} {stderr}");
    };
    fails(&["aws-profile", "--credentials", "-"], "{}", "standard input has no access key");
    fails(&["aws-profile", "--credentials", "-"], "nonsense", "standard input is no JSON");
    fails(&["aws-profile", "--credentials", "none.json"], "", "cannot read none.json");
    fails(&["aws-profile", "--name", "a]b"], "", "`a]b` is no name for a profile");
    fails(&["aws-profile", "--endpoint", "host"], "", "`host` is no URL");
    let printed = succeeds(&mut client.command(&["aws-profile", "--endpoint", &url, "--print"]), "");
    let id = client.key["access_key_id"].as_str().unwrap();
    assert!(printed.contains("[profile wharf]") && printed.contains(&format!("aws_access_key_id = {id}")));
    assert_eq!(std::fs::read_to_string(client.path(".aws/credentials")).unwrap(), before);
    assert_eq!(std::fs::read_to_string(client.path(".aws/config")).unwrap(), config);
    client.server.stop();
}
