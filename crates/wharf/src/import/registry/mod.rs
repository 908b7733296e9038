//! A client of OCI Distribution, for both ends of an import. What may be repeated is: after lost connections, 429 and
//! 5xx answers, with growing pauses.

mod auth;
mod upload;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LINK, RANGE, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use wharf_types::{Digest, Manifest, ManifestError, MediaType, Tag};

use self::auth::Authorizer;
pub use self::auth::Login;
pub use self::upload::{Sent, Upload};
use crate::client::{HttpClient, RegistryHost};

/// How often a request is sent at most.
pub const ATTEMPTS: u32 = 6;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, also where a server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of a manifest; registries take 4 MiB.
const MANIFEST: usize = 16 << 20;
/// Bytes of a list's page.
const PAGE: usize = 64 << 20;
/// Names asked for at once.
const PAGE_SIZE: usize = 1000;

/// Every type of manifest, so that a registry hands out what is stored and converts nothing.
const ACCEPTED: [&str; 6] = [
    MediaType::OCI_MANIFEST,
    MediaType::OCI_INDEX,
    MediaType::DOCKER_MANIFEST,
    MediaType::DOCKER_LIST,
    MediaType::OCI_ARTIFACT,
    MediaType::ORAS_ARTIFACT,
];

/// Why a registry gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or broke off.
    #[error("cannot reach {host}")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// A refusal.
    #[error("{host} refused {doing}: {status}{message}")]
    Refused {
        /// Who.
        host: String,
        /// What.
        doing: String,
        /// The answer's status.
        status: StatusCode,
        /// Its words, after `: `; empty if it has none.
        message: String,
    },
    /// No answer of OCI's form.
    #[error("{host} gave no answer of a registry to {doing}")]
    Strange {
        /// Who.
        host: String,
        /// What was asked.
        doing: String,
    },
    /// There is no password to log in with.
    #[error("cannot log in to {host}")]
    Login {
        /// Where.
        host: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Content that is not what its digest says.
    #[error("{what} is damaged: its content has digest {actual}")]
    Damaged {
        /// What.
        what: String,
        /// What it has.
        actual: Digest,
    },
    /// Content that ends too early or too late.
    #[error("{what} is damaged: it has {actual} bytes instead of {expected}")]
    Length {
        /// What.
        what: String,
        /// Bytes that it has, at least.
        actual: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A manifest that cannot be read.
    #[error("manifest {digest} cannot be used")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why not.
        #[source]
        source: ManifestError,
    },
    /// A certificate or name that no client can be made with.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// A file of an image layout.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A registry.
pub struct Registry {
    http: reqwest::Client,
    base: Url,
    host: String,
    auth: Authorizer,
}

/// What a request is about.
#[derive(Clone)]
pub struct Ask<'a> {
    method: Method,
    url: Url,
    /// The repository to be allowed on; the catalog if none.
    repository: Option<&'a str>,
    /// Whether pushing has to be allowed.
    push: bool,
    headers: HeaderMap,
    body: Option<Bytes>,
    doing: String,
}

impl Registry {
    /// Finds out how a registry is spoken to and whether it lets `login` in: one request, and what logging in takes.
    ///
    /// # Errors
    /// If it cannot be reached, refuses, or is none.
    pub async fn open(
        host: &RegistryHost,
        scheme: Option<&'static str>,
        trust: &HttpClient,
        login: Login,
    ) -> Result<Self, RegistryError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .tls_backend_preconfigured(trust.tls())
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")));
        if host.is_localhost() {
            // Resolvers do not all know that these names are this machine.
            builder = builder.resolve(host.name(), ([127, 0, 0, 1], 0).into());
        }
        if host.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(RegistryError::Client)?;
        let (plain, tls) = (scheme == Some("http"), scheme == Some("https"));
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/"))
                .map_err(|_| RegistryError::Strange { host: host.to_string(), doing: "GET /v2/".to_owned() })
        };
        let base = url(if plain { "http" } else { "https" })?;
        let mut registry = Self { http, base, host: host.to_string(), auth: Authorizer::new(login) };
        let pinged = registry.ping().await;
        let may_be_plain = !plain && !tls && host.is_loopback();
        match pinged {
            Err(RegistryError::Unreachable { .. }) if may_be_plain => {
                registry.base = url("http")?;
                registry.ping().await?;
            }
            pinged => pinged?,
        }
        Ok(registry)
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    async fn ping(&self) -> Result<(), RegistryError> {
        let ask = self.ask(Method::GET, "/v2/", None);
        let answer = match self.once(&ask).await? {
            busy if is_passing(busy.status()) => self.send(&ask).await?,
            answer => answer,
        };
        // A registry that lets nobody ask this may still let them pull: the repositories will tell.
        let anonymous = self.auth.is_anonymous();
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if anonymous => Ok(()),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::Strange { host: self.host.clone(), doing: "GET /v2/".to_owned() })
            }
            _ => Err(self.refusal(&ask, answer).await),
        }
    }

    fn ask<'a>(&self, method: Method, path: &str, repository: Option<&'a str>) -> Ask<'a> {
        let doing = format!("{method} {path}");
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(query);
        Ask { method, url, repository, push: false, headers: HeaderMap::new(), body: None, doing }
    }

    /// Sends a request until there is an answer that another attempt would not change.
    async fn send(&self, ask: &Ask<'_>) -> Result<reqwest::Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let outcome = self.once(ask).await;
            let wish = match &outcome {
                Ok(answer) if is_passing(answer.status()) => retry_after(answer.headers()),
                Err(RegistryError::Unreachable { .. }) => None,
                // Of a server that gives tokens.
                Err(RegistryError::Refused { status, .. }) if is_passing(*status) => None,
                _ => return outcome,
            };
            if attempt == ATTEMPTS {
                return outcome;
            }
            pause(attempt, wish).await;
            attempt += 1;
        }
    }

    /// Sends a request once, and again if it takes a login.
    async fn once(&self, ask: &Ask<'_>) -> Result<reqwest::Response, RegistryError> {
        let scope = ask.scope();
        let mut logged_in = false;
        loop {
            let mut request = self.http.request(ask.method.clone(), ask.url.clone());
            request = request.headers(ask.headers.clone());
            // A place elsewhere that a registry names is none of the password's business.
            if ask.url.origin() == self.base.origin()
                && let Some(authorization) = self.auth.header(&scope)
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(body) = &ask.body {
                request = request.body(body.clone());
            }
            let answer = request.send().await.map_err(|source| self.unreachable(source))?;
            if answer.status() != StatusCode::UNAUTHORIZED || logged_in {
                return Ok(answer);
            }
            logged_in = true;
            if !self.auth.authorize(self, &scope, answer.headers()).await? {
                return Ok(answer);
            }
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryError {
        RegistryError::Unreachable { host: self.host.clone(), source: source.without_url() }
    }

    fn strange(&self, doing: &str) -> RegistryError {
        RegistryError::Strange { host: self.host.clone(), doing: doing.to_owned() }
    }

    /// The error of an answer.
    async fn refusal(&self, ask: &Ask<'_>, answer: reqwest::Response) -> RegistryError {
        let status = answer.status();
        let text = self.body(answer, 1 << 20).await.unwrap_or_default();
        let words = |error: &Value| {
            let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", part("code"), part("message")).trim().to_owned()
        };
        let json: Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = json["errors"].get(0).map(words).filter(|text| !text.is_empty());
        let message = message.map(|text| format!(": {text}")).unwrap_or_default();
        RegistryError::Refused { host: self.host.clone(), doing: ask.doing.clone(), status, message }
    }

    /// A body of at most so many bytes.
    async fn body(&self, answer: reqwest::Response, limit: usize) -> Result<Bytes, RegistryError> {
        let mut body = reqwest::Body::from(answer);
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|source| self.unreachable(source))?.into_data() {
                if all.len() + data.len() > limit {
                    return Err(self.strange(&format!("a request for at most {limit} bytes")));
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(all.freeze())
    }

    /// Asks and reads the whole answer; repeats both. `None` for 404.
    async fn whole(&self, ask: &Ask<'_>, limit: usize) -> Result<Option<(HeaderMap, Bytes)>, RegistryError> {
        let mut attempt = 1;
        loop {
            let answer = self.send(ask).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(self.refusal(ask, answer).await),
            }
            let headers = answer.headers().clone();
            match self.body(answer, limit).await {
                Ok(body) => return Ok(Some((headers, body))),
                Err(RegistryError::Unreachable { .. }) if attempt < ATTEMPTS => pause(attempt, None).await,
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// The names of the registry's repositories; `None` if it lists none to this caller.
    ///
    /// # Errors
    /// If it fails.
    pub async fn catalog(&self) -> Result<Option<Vec<String>>, RegistryError> {
        let ask = self.ask(Method::GET, &format!("/v2/_catalog?n={PAGE_SIZE}"), None);
        match self.pages(ask, "repositories").await {
            Err(RegistryError::Refused { status, .. }) if status.is_client_error() => Ok(None),
            outcome => outcome,
        }
    }

    /// The tags of a repository; `None` if there is no such repository.
    ///
    /// # Errors
    /// If it fails.
    pub async fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, RegistryError> {
        let path = format!("/v2/{repository}/tags/list?n={PAGE_SIZE}");
        self.pages(self.ask(Method::GET, &path, Some(repository)), "tags").await
    }

    /// All pages of a list of names.
    async fn pages(&self, mut ask: Ask<'_>, member: &str) -> Result<Option<Vec<String>>, RegistryError> {
        let mut all = Vec::new();
        loop {
            let Some((headers, body)) = self.whole(&ask, PAGE).await? else { return Ok(None) };
            let page: Value = serde_json::from_slice(&body).map_err(|_| self.strange(&ask.doing))?;
            let names = match &page[member] {
                Value::Null => &Vec::new(),
                Value::Array(names) => names,
                _ => return Err(self.strange(&ask.doing)),
            };
            all.extend(names.iter().filter_map(|name| Some(name.as_str()?.to_owned())));
            match next_page(&headers, &ask.url) {
                Some(url) if url.origin() == self.base.origin() && url != ask.url => ask.url = url,
                _ => return Ok(Some(all)),
            }
        }
    }

    /// The digest a tag points at; `None` if there is no such tag.
    ///
    /// # Errors
    /// If it fails.
    pub async fn resolve(&self, repository: &str, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        let mut ask = self.manifest_ask(Method::HEAD, repository, tag.as_str());
        let answer = self.send(&ask).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refusal(&ask, answer).await),
        }
        let digest = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if let Some(digest) = digest.and_then(|digest| digest.parse().ok()) {
            return Ok(Some(digest));
        }
        // Some registries tell no digest: it is that of the bytes.
        ask.method = Method::GET;
        Ok(self.whole(&ask, MANIFEST).await?.map(|(_, bytes)| Digest::sha256(&bytes)))
    }

    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// If it fails.
    pub async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let ask = self.ask(Method::HEAD, &path, Some(repository));
        let answer = self.send(&ask).await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(&ask, answer).await),
        }
    }

    /// A manifest, verified; `None` if there is no such.
    ///
    /// # Errors
    /// If it fails, or its bytes are not those of the digest.
    pub async fn manifest(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        let ask = self.manifest_ask(Method::GET, repository, &digest.to_string());
        let Some((headers, bytes)) = self.whole(&ask, MANIFEST).await? else { return Ok(None) };
        let declared = headers.get(CONTENT_TYPE).and_then(|value| MediaType::parse(value.to_str().ok()?));
        verified(digest, bytes, declared.as_ref()).map(Some)
    }

    fn manifest_ask<'a>(&self, method: Method, repository: &'a str, reference: &str) -> Ask<'a> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let mut ask = self.ask(method, &path, Some(repository));
        if let Ok(accepted) = ACCEPTED.join(", ").parse() {
            ask.headers.insert(ACCEPT, accepted);
        }
        ask
    }

    /// What refers to a manifest; `None` if the registry has no such API.
    ///
    /// # Errors
    /// If it fails.
    pub async fn referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<Digest>>, RegistryError> {
        let mut ask =
            self.ask(Method::GET, &format!("/v2/{repository}/referrers/{digest}"), Some(repository));
        let mut all = Vec::new();
        loop {
            let found = match self.whole(&ask, PAGE).await {
                // Old registries take it for a path or method that they do not know.
                Err(RegistryError::Refused { status, .. })
                    if matches!(status.as_u16(), 400 | 405 | 406 | 501) =>
                {
                    None
                }
                found => found?,
            };
            let Some((headers, body)) = found else { return Ok(None) };
            let page: Value = serde_json::from_slice(&body).unwrap_or_default();
            let Some(manifests) = page["manifests"].as_array() else { return Ok(None) };
            all.extend(manifests.iter().filter_map(|each| each["digest"].as_str()?.parse::<Digest>().ok()));
            match next_page(&headers, &ask.url) {
                Some(url) if url.origin() == self.base.origin() && url != ask.url => ask.url = url,
                _ => return Ok(Some(all)),
            }
        }
    }

    /// The bytes of a blob from a position on, as they come. Not repeated: the reader knows where it was.
    ///
    /// # Errors
    /// If it fails.
    pub async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobBody, RegistryError> {
        let mut ask = self.ask(Method::GET, &format!("/v2/{repository}/blobs/{digest}"), Some(repository));
        if from > 0
            && let Ok(range) = format!("bytes={from}-").parse()
        {
            ask.headers.insert(RANGE, range);
        }
        let answer = self.once(&ask).await?;
        let skip = match answer.status() {
            StatusCode::OK => from,
            StatusCode::PARTIAL_CONTENT => 0,
            _ => return Err(self.refusal(&ask, answer).await),
        };
        Ok(BlobBody { host: self.host.clone(), body: answer.into(), skip })
    }
}

/// The rest of a blob.
pub struct BlobBody {
    host: String,
    body: reqwest::Body,
    /// Bytes that were not asked for.
    skip: u64,
}

impl BlobBody {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| RegistryError::Unreachable {
                host: self.host.clone(),
                source: source.without_url(),
            })?;
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            self.skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// A manifest whose bytes are those of its digest.
///
/// # Errors
/// If they are not, or are no manifest.
pub fn verified(
    digest: &Digest,
    bytes: Bytes,
    declared: Option<&MediaType>,
) -> Result<Manifest, RegistryError> {
    let actual = Digest::of(digest.algorithm(), &bytes);
    if actual != *digest {
        return Err(RegistryError::Damaged { what: format!("manifest {digest}"), actual });
    }
    let parsed = match Manifest::parse(bytes.clone(), declared) {
        // The bytes are what counts; the header is what a proxy made of it.
        Err(ManifestError::MediaTypeMismatch { .. }) => Manifest::parse(bytes, None),
        parsed => parsed,
    };
    parsed.map_err(|source| RegistryError::Manifest { digest: *digest, source })
}

/// Waits before an attempt is repeated.
pub async fn pause(attempt: u32, wish: Option<Duration>) {
    let own = PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    tokio::time::sleep(own.max(wish.unwrap_or_default()).min(LONGEST_PAUSE)).await;
}

/// Whether an answer may be another one later.
pub fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Where a list goes on (RFC 8288, `rel="next"`).
fn next_page(headers: &HeaderMap, here: &Url) -> Option<Url> {
    for link in headers.get_all(LINK) {
        for link in link.to_str().ok()?.split(',') {
            let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
            if rest.contains("rel=\"next\"") || rest.contains("rel=next") {
                return here.join(target).ok();
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_on_where_the_link_says() {
        let here = Url::parse("http://r/v2/a/tags/list?n=2").unwrap();
        let next = |link: &'static str| {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            next_page(&headers, &here).map(|url| url.to_string())
        };
        assert_eq!(
            next("</v2/a/tags/list?n=2&last=b>; rel=\"next\"").unwrap(),
            "http://r/v2/a/tags/list?n=2&last=b"
        );
        assert_eq!(next("<https://s/x>; rel=next").unwrap(), "https://s/x");
        assert_eq!(next("</v2/>; rel=\"prev\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn a_manifest_is_its_digests_bytes_or_none() {
        let bytes = Bytes::from_static(
            b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}",
        );
        let digest = Digest::sha256(&bytes);
        let other = MediaType::parse("application/json");
        assert!(verified(&digest, bytes.clone(), other.as_ref()).is_ok());
        let error = verified(&Digest::sha256(b""), bytes, None).unwrap_err();
        assert!(error.to_string().contains(&format!("has digest {digest}")), "{error}");
    }
}
