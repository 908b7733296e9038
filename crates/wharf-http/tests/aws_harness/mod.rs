//! A whole server on loopback, and clients that sign.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharf_http::server::{Drained, Server, ServerLimits};
use wharf_http::{Faces, HttpConfig};
use wharf_iam::sigv4::{SignedRequest, Signer};
use wharf_registry::{Clock, Options, Registry};
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::DiskObjects;
use wharf_store::seal::key_ring::{DataKey, RootKey};
use wharf_types::Timestamp;

pub const ACCOUNT: &str = "123456789012";
pub const OTHER_ACCOUNT: &str = "210987654321";
pub const REGION: &str = "us-east-1";

/// A server with an empty registry and two accounts.
pub struct Wharf {
    pub faces: Faces,
    pub address: SocketAddr,
    pub root: Client,
    pub other: Client,
    shutdown: CancellationToken,
    serving: JoinHandle<Drained>,
    _directory: tempfile::TempDir,
}

/// An account's root user.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub access_key_id: String,
    pub secret: String,
    pub region: String,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Wharf {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(configure: impl FnOnce(&mut HttpConfig)) -> Self {
        Self::start_configured(|_| {}, configure).await
    }

    pub async fn start_configured(
        decide: impl FnOnce(&mut Options),
        configure: impl FnOnce(&mut HttpConfig),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let meta =
            Meta::open_sqlite(&directory.path().join("metadata.sqlite"), SqliteOptions::default()).unwrap();
        let objects = DiskObjects::open_dir(directory.path().join("objects")).unwrap();
        let root_key = RootKey::from_key(&DataKey::generate().unwrap());
        let mut options = Options::new(ACCOUNT.parse().unwrap(), REGION.parse().unwrap());
        decide(&mut options);
        let registry =
            Registry::open(options, Clock::System, meta, Arc::new(objects), root_key).await.unwrap();
        let root = registry.ensure_default_account().await.unwrap().unwrap();
        let other = registry.create_account(Some(OTHER_ACCOUNT.parse().unwrap())).await.unwrap();

        let mut config = HttpConfig::default();
        configure(&mut config);
        let faces = Faces::new(registry, config).unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), ServerLimits::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.serve(Arc::new(faces.clone()), shutdown.clone()));
        let client = |key: wharf_registry::NewAccessKey| Client {
            address,
            access_key_id: key.access_key_id,
            secret: key.secret_access_key.to_string(),
            region: REGION.into(),
        };
        let (root, other) = (client(root), client(other));
        Self { faces, address, root, other, shutdown, serving, _directory: directory }
    }

    /// Stops the server, and closes what it wrote.
    pub async fn stop(self) {
        self.shutdown.cancel();
        assert_eq!(self.serving.await.unwrap(), Drained::Clean);
        self.faces.registry().close().await;
        self.faces.close();
    }
}

impl Client {
    pub fn in_region(&self, region: &str) -> Self {
        Self { region: region.into(), ..self.clone() }
    }

    /// Calls an ECR operation.
    pub async fn ecr(&self, operation: &str, input: Value) -> Reply {
        self.json("ecr", "AmazonEC2ContainerRegistry_V20150921", operation, input.to_string().as_bytes())
            .await
    }

    /// Calls a KMS operation.
    pub async fn kms(&self, operation: &str, input: Value) -> Reply {
        self.json("kms", "TrentService", operation, input.to_string().as_bytes()).await
    }

    /// Calls an operation of wharf's own API.
    pub async fn wharf(&self, operation: &str, input: Value) -> Reply {
        self.json("wharf", "Wharf_V20261101", operation, input.to_string().as_bytes()).await
    }

    /// Calls an operation of a JSON service.
    pub async fn json(&self, service: &str, prefix: &str, operation: &str, body: &[u8]) -> Reply {
        let target = format!("{prefix}.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        self.signed(service, "POST", "/", &headers, body).await
    }

    /// Calls an operation of a query service.
    pub async fn form(&self, service: &str, form: &str) -> Reply {
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.signed(service, "POST", "/", &headers, form.as_bytes()).await
    }

    /// Sends a request signed by its headers.
    pub async fn signed(
        &self,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let host = self.address.to_string();
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host", &host));
        }
        let bytes: Vec<(&str, &[u8])> = all.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = SignedRequest { method, target, headers: &bytes };
        let added = self.signer(service).sign(&request, body, Timestamp::now());
        all.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        self.send(method, target, &all, body).await
    }

    pub fn signer(&self, service: &str) -> Signer {
        Signer::new(&self.access_key_id, &self.secret, &self.region, service)
    }

    /// Sends a request as it is, on a connection of its own.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driving = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        driving.await.unwrap().unwrap();
        Reply { status: head.status, headers: head.headers, body }
    }
}

impl Reply {
    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `__type` and `message` of an error with status 400.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        assert_eq!(self.status, 400, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/x-amz-json-1.1");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("__type"), text("message"))
    }

    /// `__type` of an error with status 400.
    #[track_caller]
    pub fn code(&self) -> String {
        self.error().0
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
