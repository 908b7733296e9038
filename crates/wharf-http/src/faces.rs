//! Everything that answers requests, behind one door: OCI Distribution, the AWS APIs, signed downloads, health and
//! metrics.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wharf_iam::sigv4::SigningKeyCache;
use wharf_registry::Registry;

use crate::audit::Audit;
use crate::failures::Failures;
use crate::metrics::{self, Face, Metrics};
use crate::server::{Handler, Peer};
use crate::throttle::Throttle;
use crate::{Body, HttpConfig, aws, download, oci, proxy};

/// Where signed downloads are: the path of `GetDownloadUrlForLayer`'s URLs up to the token.
pub const DOWNLOAD_PREFIX: &str = "/wharf/download/";

/// How often the registry is asked for records of its own doings.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Access keys whose signing keys are kept.
const SIGNING_KEYS: usize = 1024;

/// The faces of one registry. Cheap to clone.
#[derive(Clone)]
pub struct Faces {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    config: HttpConfig,
    metrics: Metrics,
    throttle: Throttle,
    failures: Failures,
    audit: Audit,
    signing_keys: SigningKeyCache,
    /// Memory for bodies of unverified requests, in KiB.
    body_budget: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Faces {
    /// The faces of a registry.
    ///
    /// # Errors
    /// If the audit file cannot be opened.
    pub fn new(registry: Registry, config: HttpConfig) -> io::Result<Self> {
        let budget = (config.limits.unauthenticated_bytes / 1024).clamp(64 << 10, Semaphore::MAX_PERMITS);
        let metrics = Metrics::new(&registry);
        let inner = Inner {
            throttle: Throttle::new(config.throttle.clone()),
            failures: Failures::new(config.failed_authentications),
            audit: Audit::open(&config.audit, metrics.audit_lost())?,
            metrics,
            signing_keys: SigningKeyCache::new(SIGNING_KEYS),
            body_budget: Arc::new(Semaphore::new(budget)),
            stopping: CancellationToken::new(),
            registry,
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The registry behind the faces.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// What the operator decided.
    pub fn config(&self) -> &HttpConfig {
        &self.inner.config
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The request rates.
    pub fn throttle(&self) -> &Throttle {
        &self.inner.throttle
    }

    /// Failed authentications.
    pub(crate) fn failures(&self) -> &Failures {
        &self.inner.failures
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    pub(crate) fn signing_keys(&self) -> &SigningKeyCache {
        &self.inner.signing_keys
    }

    pub(crate) fn body_budget(&self) -> &Arc<Semaphore> {
        &self.inner.body_budget
    }

    /// Says on `/readyz` that no further requests should be sent here. Those that come are answered.
    pub fn begin_shutdown(&self) {
        self.inner.stopping.cancel();
    }

    /// Copies to the audit log what the registry has recorded of its own doings, until `stop`. What cannot be copied now
    /// is copied later, or at the next start.
    pub async fn copy_service_records(&self, stop: CancellationToken) {
        if !self.inner.audit.is_on() {
            return;
        }
        let mut failing = false;
        loop {
            let copied = self.copy_some_service_records().await;
            if let Err(error) = &copied
                && !failing
            {
                tracing::error!(%error, "records of service events wait for the audit log");
            }
            failing = copied.is_err();
            if matches!(copied, Ok(true)) && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// `false` if there were none.
    async fn copy_some_service_records(&self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let Some(records) = self.inner.registry.service_records().await? else { return Ok(false) };
        self.inner.audit.write_kept(&records.records).await?;
        self.inner.registry.service_records_copied(&records).await?;
        Ok(true)
    }

    /// Ends the audit log: what was recorded is in the file when this returns. Call it when nothing is served any
    /// more; blocks. Does nothing while clones are left.
    pub fn close(self) {
        if let Ok(inner) = Arc::try_unwrap(self.inner) {
            inner.audit.close();
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let _in_flight = self.inner.metrics.begin();
        let is_head = request.method() == Method::HEAD;
        let peer = proxy::client(&self.inner.config.trusted_proxies, request.headers(), peer);
        let response = self.answer(request, peer).await;
        if is_head { without_body(response) } else { response }
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let path = request.uri().path();
        if path == "/v2" || path.starts_with("/v2/") {
            return oci::handle(self, request, peer).await;
        }
        if path == oci::TOKEN_PATH {
            let started = Instant::now();
            let response = oci::token(self, request, peer).await;
            self.inner.metrics.request(Face::Oci, "token", response.status().as_u16(), started.elapsed());
            return response;
        }
        if path == "/" && is_aws(&request) {
            return aws::handle(self, request, peer).await;
        }
        let started = Instant::now();
        let (operation, response) = self.handle_other(&request, peer).await;
        self.inner.metrics.request(Face::Other, operation, response.status().as_u16(), started.elapsed());
        response
    }

    async fn handle_other(&self, request: &Request<Incoming>, peer: Peer) -> (&'static str, Response<Body>) {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return ("unknown", response);
        }
        match request.uri().path() {
            "/healthz" => ("healthz", text(StatusCode::OK, "ok\n")),
            "/readyz" => ("readyz", self.ready().await),
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.inner.metrics.encode());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                ("metrics", response)
            }
            "/" => (
                "root",
                text(
                    StatusCode::OK,
                    "wharf: a container registry. AWS APIs: POST /. OCI Distribution: /v2/.\n",
                ),
            ),
            path => match path.strip_prefix(DOWNLOAD_PREFIX) {
                Some(token) => ("download", download::handle(self, request, token, peer).await),
                None => ("unknown", text(StatusCode::NOT_FOUND, "there is nothing here\n")),
            },
        }
    }

    async fn ready(&self) -> Response<Body> {
        if self.inner.stopping.is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        }
        match self.inner.registry.ready().await {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(error) => {
                tracing::warn!(%error, "not ready");
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
            }
        }
    }
}

impl Handler for Faces {
    type Body = Body;

    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        Faces::handle(&self, request, peer).await
    }
}

/// Whether a request for `/` is a call of an AWS API: every POST, and a GET whose query names an action.
fn is_aws<B>(request: &Request<B>) -> bool {
    let query = || request.uri().query().unwrap_or_default();
    request.method() == Method::POST
        || (request.method() == Method::GET
            && form_urlencoded::parse(query().as_bytes()).any(|(name, _)| name == "Action"))
}

/// The answer to a HEAD: what a GET would get, without the content (RFC 9110 §9.3.2). HTTP/2 connections send whatever
/// body they are given, and clients take that for a broken connection.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        *response.body_mut() = Body::empty();
    }
    response
}

/// A short answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
