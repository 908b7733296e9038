//! Reports of what Kubernetes runs, asked of an API server that is made for the test: TLS, tokens, client certificates.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use wharf_types::Digest;

use crate::server::{Server, outcome, succeeds, wharf};

const TOKEN: &str = "service-account-token";

/// What the API server was asked.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    token: Option<String>,
    certificate: bool,
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.path.split_once('?')?;
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }
}

type Answer = (u16, Vec<u8>);

/// An API server on loopback, with an authority of its own.
struct ApiServer {
    port: u16,
    ca: String,
    client: (String, String),
    log: Arc<Mutex<Vec<Asked>>>,
    /// Ends when the listener is connected to after `over` was set.
    over: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let ca = params.self_signed(&authority).unwrap();
        let issuer = Issuer::new(params, authority);
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            (certificate, key)
        };
        let (certificate, key) = issue("127.0.0.1");
        let (client, client_key) = issue("agent");
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(false)));
        let (config, answer) = (Arc::new(config), Arc::new(answer));
        let thread = std::thread::spawn({
            let (log, over) = (Arc::clone(&log), Arc::clone(&over));
            move || {
                for stream in listener.incoming() {
                    if *over.lock().unwrap() {
                        return;
                    }
                    let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                    let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                    let stream = StreamOwned::new(connection, stream.unwrap());
                    std::thread::spawn(move || serve(stream, &log, &*answer));
                }
            }
        });
        let client = (client.pem(), client_key.serialize_pem());
        Self { port, ca: ca.pem(), client, log, over, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Writes a kubeconfig as kubectl does; returns its path.
    fn kubeconfig(&self, directory: &Path, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {}\n  \
             name: here\ncontexts:\n- context:\n    cluster: here\n    user: agent\n  name: agent@here\n\
             current-context: agent@here\npreferences: {{}}\nusers:\n- name: agent\n  user:\n{user}",
            STANDARD.encode(&self.ca),
            self.url(),
        );
        let path = directory.join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        *self.over.lock().unwrap() = true;
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

/// Answers one request after the other on a connection.
fn serve(
    stream: StreamOwned<ServerConnection, TcpStream>,
    log: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Answer,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let path = lines[0].split(' ').nth(1).unwrap().to_owned();
        let token = lines.iter().find_map(|line| line.strip_prefix("authorization: Bearer "));
        let certificate = stream.get_ref().conn.peer_certificates().is_some();
        let asked = Asked { path, token: token.map(str::to_owned), certificate };
        log.lock().unwrap().push(asked.clone());
        let (status, body) = answer(&asked);
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = stream.get_mut();
        // A client that has seen enough hangs up.
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

fn digest(number: usize) -> String {
    Digest::sha256(number.to_string().as_bytes()).to_string()
}

/// A pod with an image of its number.
fn pod(number: usize) -> Value {
    let image = format!("registry.example/team/app@{}", digest(number));
    json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "default"},
        "spec": {"containers": [{"name": "app", "image": "registry.example/team/app:v1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "imageID": image}]},
    })
}

/// A page of `total` pods, of the length that was asked for.
fn page(asked: &Asked, total: usize) -> Answer {
    let from: usize = asked.parameter("continue").map_or(0, |token| token.parse().unwrap());
    let to = (from + asked.parameter("limit").unwrap().parse::<usize>().unwrap()).min(total);
    let next = if to < total { to.to_string() } else { String::new() };
    let items: Vec<Value> = (from..to).map(pod).collect();
    let body = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": next}, "items": items});
    (200, body.to_string().into_bytes())
}

fn refusal(status: u16, message: &str) -> Answer {
    (status, json!({"kind": "Status", "code": status, "message": message}).to_string().into_bytes())
}

/// `wharf in-use report --kubernetes` of a machine that has no other configuration.
fn report(data: &Path, arguments: &[&str]) -> Command {
    let mut all = vec!["in-use", "report", "--holder", "cluster", "--kubernetes", "--json"];
    all.extend(arguments);
    let mut command = wharf(data, &all);
    for name in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
        command.env_remove(name);
    }
    command.env("HOME", data.parent().unwrap());
    command
}

fn listed(data: &Path) -> Vec<String> {
    let text = succeeds(&mut wharf(data, &["in-use", "list", "--json"]));
    let images: Value = serde_json::from_str(&text).unwrap();
    images.as_array().unwrap().iter().map(|image| image["digest"].as_str().unwrap().to_owned()).collect()
}

fn sorted(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let mut digests: Vec<String> = numbers.into_iter().map(digest).collect();
    digests.sort();
    digests
}

#[test]
fn a_kubeconfig_with_a_token_reads_page_by_page() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let api = ApiServer::start(|asked| match asked.token.as_deref() {
        Some(TOKEN) => page(asked, 600),
        Some(_) => refusal(401, "Unauthorized"),
        None => refusal(403, "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\""),
    });
    let config = api.kubeconfig(parent.path(), &format!("    token: \"{TOKEN}\"\n"));
    let config = config.to_str().unwrap();
    let told = succeeds(&mut report(&data, &["--kubeconfig", config]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["images"], &told["ignored"]), (&json!(600), &json!(0)));
    assert_eq!(listed(&data), sorted(0..600));
    let asked = api.log();
    let tokens: Vec<Option<String>> = asked.iter().map(|asked| asked.parameter("continue")).collect();
    assert_eq!(tokens, [None, Some("250".to_owned()), Some("500".to_owned())]);
    assert!(
        asked.iter().all(|asked| asked.path.starts_with("/api/v1/pods?limit=250&") && !asked.certificate)
    );

    // The same by the environment, of one namespace.
    let told = succeeds(report(&data, &["--pods-in", "prod"]).env("KUBECONFIG", config));
    assert!(told.contains("\"images\":600") || told.contains("\"images\": 600"), "{told}");
    assert!(api.log()[3].path.starts_with("/api/v1/namespaces/prod/pods?"), "{:?}", api.log()[3]);

    for (user, status, words) in [
        ("    token: wrong\n", 401, "Unauthorized"),
        ("    {}\n", 403, "cannot list resource \"pods\""),
        ("    tokenFile: token.txt\n", 401, "Unauthorized"),
    ] {
        std::fs::write(parent.path().join("token.txt"), "also wrong\n").unwrap();
        let user = user.replace("    {}\n", "    token: null\n");
        let config = api.kubeconfig(parent.path(), &user);
        let (code, _, stderr) = outcome(&mut report(&data, &["--kubeconfig", config.to_str().unwrap()]));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("cannot ask Kubernetes") && stderr.contains(words), "{status}: {stderr}");
        assert!(stderr.contains(&format!("answers {status}")), "{stderr}");
    }
    server.stop();
}

#[test]
fn client_certificates_and_service_accounts_are_used() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let api = ApiServer::start(|asked| {
        if asked.certificate || asked.token.as_deref() == Some(TOKEN) {
            page(asked, if asked.certificate { 2 } else { 3 })
        } else {
            refusal(401, "Unauthorized")
        }
    });
    let (certificate, key) = &api.client;
    let inline = format!(
        "    client-certificate-data: {}\n    client-key-data: {}\n",
        STANDARD.encode(certificate),
        STANDARD.encode(key)
    );
    let config = api.kubeconfig(parent.path(), &inline);
    succeeds(&mut report(&data, &["--kubeconfig", config.to_str().unwrap(), "--context", "agent@here"]));
    assert_eq!(listed(&data), sorted(0..2));
    std::fs::write(parent.path().join("agent.pem"), certificate).unwrap();
    std::fs::write(parent.path().join("agent.key"), key).unwrap();
    let config =
        api.kubeconfig(parent.path(), "    client-certificate: agent.pem\n    client-key: agent.key\n");
    succeeds(&mut report(&data, &["--kubeconfig", config.to_str().unwrap()]));
    assert!(api.log().iter().all(|asked| asked.certificate && asked.token.is_none()));

    let account = parent.path().join("service-account");
    std::fs::create_dir(&account).unwrap();
    std::fs::write(account.join("token"), format!("{TOKEN}\n")).unwrap();
    std::fs::write(account.join("ca.crt"), &api.ca).unwrap();
    let in_pod = |directory: &Path| {
        let mut command = report(&data, &["--service-account", directory.to_str().unwrap()]);
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        command.env("KUBERNETES_SERVICE_PORT", api.port.to_string());
        command
    };
    succeeds(&mut in_pod(&account));
    assert_eq!(listed(&data), sorted(0..3));
    let (code, _, stderr) = outcome(&mut in_pod(&parent.path().join("none")));
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot read") && stderr.contains("none/ca.crt"), "{stderr}");
    // A server whose certificate somebody else has signed learns nothing.
    let before = api.log().len();
    let other = ApiServer::start(|asked| page(asked, 1));
    std::fs::write(account.join("ca.crt"), &other.ca).unwrap();
    let (code, _, stderr) = outcome(&mut in_pod(&account));
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot reach the API server"), "{stderr}");
    assert_eq!(api.log().len(), before);
    server.stop();
}

#[test]
fn lists_that_are_forgotten_too_long_or_no_lists_are_met() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let forgotten = Mutex::new(0);
    let api = ApiServer::start(move |asked| {
        let (limit, token) = (asked.parameter("limit").unwrap(), asked.parameter("continue"));
        match asked.path.split('/').nth(2).unwrap() {
            // The second page is gone once, or always.
            "once" | "always" if token.is_some() => {
                *forgotten.lock().unwrap() += 1;
                match asked.path.contains("always") || *forgotten.lock().unwrap() == 1 {
                    true => refusal(410, "The provided continue parameter is too old"),
                    false => page(asked, 300),
                }
            }
            "once" | "always" => page(asked, 300),
            "large" if limit.parse::<usize>().unwrap() > 31 => (200, vec![b' '; (32 << 20) + 1]),
            "large" => page(asked, 40),
            "garbage" => (200, b"<html>".to_vec()),
            "noise" => (500, [b"\x1b[31m".as_slice(), &[b'x'; 70_000]].concat()),
            _ => refusal(404, "the server could not find the requested resource"),
        }
    });
    let at = |place: &str| {
        let path = api.kubeconfig(parent.path(), &format!("    token: {TOKEN}\n"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&api.url(), &format!("{}/{place}/", api.url()))).unwrap();
        report(&data, &["--kubeconfig", path.to_str().unwrap()])
    };
    for (place, words) in [
        ("k8s/garbage", "is no list of pods"),
        ("k8s/noise", "answers 500"),
        ("k8s/nowhere", "answers 404: the server could not find the requested resource"),
    ] {
        let (code, _, stderr) = outcome(&mut at(place));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(words) && !stderr.contains('\x1b') && stderr.len() < 2000, "{stderr}");
    }
    assert_eq!(listed(&data), sorted([]), "what failed reported nothing");
    assert!(succeeds(&mut at("k8s/large")).contains("40"));
    assert_eq!(listed(&data), sorted(0..40));
    assert!(succeeds(&mut at("k8s/once")).contains("300"));
    let (code, _, stderr) = outcome(&mut at("k8s/always"));
    assert_eq!(code, 1);
    assert!(stderr.contains("has changed too much to be read, 3 times"), "{stderr}");
    server.stop();
}

#[test]
fn what_a_kubeconfig_has_that_we_cannot_do_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let path = parent.path().join("config");
    let config = |cluster: &str, user: &str| {
        format!(
            "clusters:\n- name: c\n  cluster:\n    {cluster}\ncontexts:\n- name: x\n  context:\n    cluster: c\n    \
             user: u\ncurrent-context: x\nusers:\n- name: u\n  user:\n    {user}\n"
        )
    };
    let here = "server: https://127.0.0.1:1";
    for (text, words) in [
        (config(here, "exec: {\"command\": \"aws\"}"), "asks for an exec plugin, which is not supported"),
        (config(here, "username: me"), "a user name and password"),
        (
            config(&format!("{here}\n    insecure-skip-tls-verify: true"), "token: t"),
            "insecure-skip-tls-verify",
        ),
        (config(&format!("{here}\n    proxy-url: http://p"), "token: t"), "a proxy"),
        (config("server: http://10.0.0.1", "token: t"), "`http://10.0.0.1` is no https:// URL"),
        (config(here, "client-certificate-data: '%'"), "is not in PEM form"),
        (config(here, "client-key-data: aGVsbG8="), "is not in PEM form"),
        (config(here, "tokenFile: none"), "none"),
        (config(here, "token: t").replace("context: x", "context: y"), "has no context `y`"),
        (
            config(here, "token: t").replace("cluster: c\n    user", "cluster: d\n    user"),
            "has no cluster `d`",
        ),
        (config(here, "token: t").replace("user: u", "user: v"), "has no user `v`"),
        ("a: |\n  b\n".to_owned(), "kubectl config view --raw --minify -o json"),
        ("clusters: 7\n".to_owned(), "has not the form"),
        (config(here, "token: t"), "cannot reach the API server 127.0.0.1:1"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let (code, _, stderr) = outcome(&mut report(&data, &["--kubeconfig", path.to_str().unwrap()]));
        assert_eq!(code, 1, "{text}: {stderr}");
        assert!(stderr.contains(words), "{text}: {stderr}");
    }
    let (code, _, stderr) = outcome(&mut report(&data, &[]));
    assert_eq!((code, stderr.contains("there is no kubeconfig")), (1, true), "{stderr}");
    let (code, _, stderr) =
        outcome(&mut wharf(&data, &["in-use", "report", "--holder", "x", "--stdin", "--context", "y"]));
    assert_eq!((code, stderr.contains("--kubernetes")), (2, true), "{stderr}");
}

#[test]
fn an_agent_outlives_failures_and_renews_what_runs() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let rounds = Mutex::new(0);
    let api = ApiServer::start(move |asked| {
        let mut rounds = rounds.lock().unwrap();
        *rounds += 1;
        if *rounds % 2 == 1 { refusal(503, "the API server is being replaced") } else { page(asked, *rounds) }
    });
    let config = api.kubeconfig(parent.path(), &format!("    token: {TOKEN}\n"));
    let mut agent = report(&data, &["--kubeconfig", config.to_str().unwrap(), "--every", "10ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(agent.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&out.next().unwrap().unwrap()).unwrap();
    let second: Value = serde_json::from_str(&out.next().unwrap().unwrap()).unwrap();
    assert_eq!((&first["images"], &second["images"]), (&json!(2), &json!(4)));
    assert!(first["expires_at"].as_str().unwrap() < second["expires_at"].as_str().unwrap());
    let pid = agent.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut agent.stderr.take().unwrap(), &mut stderr).unwrap();
    drop(out);
    assert_eq!(agent.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(stderr.contains("answers 503: the API server is being replaced"), "{stderr}");
    assert!(listed(&data).len() >= 4);
    server.stop();
}
