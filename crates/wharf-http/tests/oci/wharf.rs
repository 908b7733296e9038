//! A server with a fresh registry, and a client that says what it wants byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use wharf_http::server::{Server, ServerLimits};
use wharf_http::{Faces, HttpConfig};
use wharf_iam::decision::Need;
use wharf_registry::{Clock, Dialect, EncryptionType, NewRepository, Options, Registry};
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::memory::MemoryObjects;
use wharf_store::seal::key_ring::{DataKey, RootKey};
use wharf_types::{AccountId, Digest, Mutability, Region, RepositoryRef, Timestamp};

pub const ACCOUNT: &str = "123456789012";
pub const OTHER_ACCOUNT: &str = "210987654321";
pub const REGION: &str = "us-east-1";
pub const REPOSITORY: &str = "team/api";
pub const OTHER_REPOSITORY: &str = "team/blobs/uploads";
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A running server. Its own account has two repositories; a stranger's account has one.
pub struct Wharf {
    pub addr: SocketAddr,
    pub registry: Registry,
    pub clock: Clock,
    pub objects: MemoryObjects,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Wharf {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_in(dialect: Dialect) -> Self {
        Self::start_with(move |options| options.dialect = dialect).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_configured(change, HttpConfig::default()).await
    }

    pub async fn start_configured(change: impl FnOnce(&mut Options), config: HttpConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::open_sqlite(&dir.path().join("wharf.db"), SqliteOptions::default()).unwrap();
        let mut options = Options::new(ACCOUNT.parse().unwrap(), REGION.parse().unwrap());
        change(&mut options);
        let clock = Clock::manual(Timestamp::now());
        let root = RootKey::from_key(&DataKey::generate().unwrap());
        let objects = MemoryObjects::new();
        let kept = Arc::new(objects.clone());
        let registry = Registry::open(options, clock.clone(), meta, kept, root).await.unwrap();
        registry.ensure_default_account().await.unwrap();
        registry.create_account(Some(OTHER_ACCOUNT.parse().unwrap())).await.unwrap();
        for (account, name) in
            [(ACCOUNT, REPOSITORY), (ACCOUNT, OTHER_REPOSITORY), (OTHER_ACCOUNT, REPOSITORY)]
        {
            create_repository(&registry, account, name, Mutability::Mutable).await;
        }
        let faces = Faces::new(registry.clone(), config).unwrap();
        let server =
            Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), ServerLimits::default()).await.unwrap();
        let addr = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(server.serve(Arc::new(faces), shutdown.clone()));
        Self { addr, registry, clock, objects, shutdown, _dir: dir }
    }

    /// A registry password of an account, good for `ttl`.
    pub async fn password(&self, account: &str, region: &str, ttl: Duration) -> String {
        let account: AccountId = account.parse().unwrap();
        let caller = self.registry.root_caller(account).await.unwrap();
        let region: Region = region.parse().unwrap();
        self.registry.issue_token(&caller, &region, Some(ttl)).0
    }

    /// The credential of the server's own account.
    pub async fn credential(&self) -> String {
        basic("AWS", &self.password(ACCOUNT, REGION, Duration::from_secs(3600)).await)
    }

    /// A request with the credential of the server's own account on the bare host.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let credential = self.credential().await;
        let mut all = vec![("authorization", credential.as_str())];
        all.extend_from_slice(headers);
        self.send_raw(method, target, &all, body).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "").await
    }

    /// A request with exactly these headers, and a `Host` unless it is among them.
    pub async fn send_raw(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.addr.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// Pushes a blob by `POST` and `PUT`.
    pub async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.push_blob_as(repository, content, digest).await;
        digest
    }

    pub async fn push_blob_as(&self, repository: &str, content: &[u8], digest: Digest) {
        let started = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], "").await;
        assert_eq!(started.status, 202, "{started:?}");
        let target = format!("{}?digest={digest}", started.text("location"));
        let put = self.send("PUT", &target, &[], content.to_vec()).await;
        assert_eq!(put.status, 201, "{put:?}");
    }

    /// Pushes an image of one layer with its blobs; answers its manifest.
    pub async fn push_image(&self, reference: &str, layer: &[u8], more: Value) -> (Digest, Bytes) {
        let config = b"{}";
        let (config_digest, layer_digest) =
            (self.push_blob(REPOSITORY, config).await, self.push_blob(REPOSITORY, layer).await);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest.to_string(),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer_digest.to_string(),
                "size": layer.len(),
            }],
        });
        for (key, value) in more.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::sha256(&bytes);
        let reference = if reference.is_empty() { digest.to_string() } else { reference.to_owned() };
        let put = self.put_manifest(&reference, IMAGE, bytes.clone()).await;
        assert_eq!(put.status, 201, "{put:?}");
        (digest, bytes)
    }

    pub async fn put_manifest(&self, reference: &str, media_type: &str, bytes: Bytes) -> Answer {
        let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
        self.send("PUT", &target, &[("content-type", media_type)], bytes).await
    }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Answer {
    /// A header that must be there.
    pub fn text(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, code and text of an error.
    pub fn error(&self) -> (u16, String, String) {
        let errors = self.json();
        let error = &errors["errors"][0];
        let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key}: {self:?}")).to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }

    /// Status and code of an error.
    pub fn code(&self) -> (u16, String) {
        let (status, code, _) = self.error();
        (status, code)
    }
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub async fn create_repository(registry: &Registry, account: &str, name: &str, mutability: Mutability) {
    let account: AccountId = account.parse().unwrap();
    let caller = registry.root_caller(account).await.unwrap();
    let target = RepositoryRef::private(account, REGION.parse().unwrap(), name.parse().unwrap());
    let need = Need::new("ecr:CreateRepository", target.arn(), account);
    let at = registry.authorize(&caller, target, &[need]).await.unwrap();
    let new = NewRepository {
        mutability,
        scan_on_push: false,
        encryption_type: EncryptionType::Aes256,
        kms_key: None,
        tags: Vec::new(),
    };
    registry.create_repository(&at, new).await.unwrap();
}
