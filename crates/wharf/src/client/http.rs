//! One request at a time over HTTP/1.1: to an `https://` URL, or an `http://` one that the user names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::registry_host::{is_localhost, is_loopback};

/// From the look-up of the name to the last byte.
const TIME: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const LIMIT: usize = 1 << 20;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Transport,
    authority: Authority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Https,
    Http,
    /// This machine: HTTPS, or plain HTTP where no TLS is spoken, as docker does it.
    Either,
}

/// Not a place to send requests to.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no URL of a server; expected e.g. http://127.0.0.1:5050")]
pub struct EndpointError(String);

impl Endpoint {
    /// The server of a URL. A path is not supported: the faces are at the root.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn of_url(url: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Transport::Https,
            Some(scheme) if *scheme == Scheme::HTTP => Transport::Http,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        match (authority, uri.path()) {
            (Some(authority), "" | "/") if uri.query().is_none() => {
                Ok(Self { scheme, authority: authority.clone() })
            }
            _ => Err(wrong()),
        }
    }

    /// The server at a host and port: by HTTPS, on this machine by plain HTTP too.
    ///
    /// # Errors
    /// If that is no host.
    pub fn of_host(host: &str) -> Result<Self, EndpointError> {
        let authority: Authority = host.parse().map_err(|_| EndpointError(host.to_owned()))?;
        let scheme = if is_loopback(authority.host()) { Transport::Either } else { Transport::Https };
        Ok(Self { scheme, authority })
    }

    /// Host and port, as the `Host` header has them.
    pub fn host(&self) -> &str {
        self.authority.as_str()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server could not be reached, or broke off.
    #[error("cannot reach {host}")]
    Unreachable {
        /// Which.
        host: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{0} took too long to answer")]
    TooSlow(String),
    /// Certificates to trust could not be read.
    #[error("cannot read certificates of {path}")]
    Certificates {
        /// Their file.
        path: String,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
}

impl HttpError {
    /// Whether another attempt may have an answer.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Certificates { .. })
    }
}

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

/// Sends requests; trusts what this machine trusts (`SSL_CERT_FILE` names others).
#[derive(Clone)]
pub struct HttpClient(TlsConnector);

impl HttpClient {
    /// A client that trusts the certificates of a file too.
    ///
    /// # Errors
    /// If that file has none.
    pub fn new(ca_bundle: Option<&Path>) -> Result<Self, HttpError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_bundle {
            let unreadable = |source| HttpError::Certificates { path: path.display().to_string(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                roots.add_parsable_certificates([certificate.map_err(unreadable)?]);
            }
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Whom it trusts, for other clients to trust the same.
    pub fn tls(&self) -> ClientConfig {
        ClientConfig::clone(self.0.config())
    }

    /// Sends a POST to `/` with these headers; `host` is set here.
    ///
    /// # Errors
    /// If there is no whole answer within twenty seconds.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        headers: &[(&'static str, String)],
        body: &[u8],
    ) -> Result<HttpAnswer, HttpError> {
        let sending = self.send(endpoint, headers, body);
        match tokio::time::timeout(TIME, sending).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::TooSlow(endpoint.host().to_owned())),
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        headers: &[(&'static str, String)],
        body: &[u8],
    ) -> Result<HttpAnswer, HttpError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Unreachable {
            host: endpoint.host().to_owned(),
            source,
        };
        let mut request = Request::post("/").header("host", endpoint.host());
        request = request.header("user-agent", concat!("wharf/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = request.body(body).map_err(|error| unreachable(error.into()))?;
        if endpoint.scheme != Transport::Http {
            let stream =
                connect(&endpoint.authority, 443).await.map_err(|error| unreachable(error.into()))?;
            let name = endpoint.authority.host().trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(name).map_err(|error| unreachable(error.into()))?;
            match self.0.connect(name, stream).await {
                Ok(stream) => return exchange(stream, request).await.map_err(unreachable),
                Err(error) if endpoint.scheme == Transport::Https || !speaks_no_tls(&error) => {
                    return Err(unreachable(error.into()));
                }
                Err(_) => {}
            }
        }
        let stream = connect(&endpoint.authority, 80).await.map_err(|error| unreachable(error.into()))?;
        exchange(stream, request).await.map_err(unreachable)
    }
}

/// Whether a handshake failed because the other side speaks something else, not because it is not trusted.
fn speaks_no_tls(error: &std::io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => true,
        Some(_) => false,
        None => true,
    }
}

async fn connect(authority: &Authority, default_port: u16) -> std::io::Result<TcpStream> {
    let port = authority.port_u16().unwrap_or(default_port);
    let host = authority.host().trim_matches(['[', ']']);
    if is_localhost(host) {
        return TcpStream::connect(
            &[([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()][..],
        )
        .await;
    }
    TcpStream::connect((host, port)).await
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<HttpAnswer, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LIMIT).collect().await?.to_bytes();
        Ok(HttpAnswer { status, body })
    };
    // The connection has to be driven while the answer is awaited; what it ends with, the answer tells too.
    tokio::pin!(connection, asking);
    tokio::select! {
        answer = &mut asking => answer,
        _ = &mut connection => asking.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_without_a_path() {
        for url in ["http://127.0.0.1:5050", "https://registry.example/", "http://[::1]:5050"] {
            assert!(Endpoint::of_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:5050",
            "ftp://host",
            "http://",
            "http://user@host",
            "http://host/path",
            "http://h?q",
        ] {
            let error = Endpoint::of_url(url).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{url}` is no URL")), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_asked_in_plain_http() {
        let scheme = |host| Endpoint::of_host(host).unwrap().scheme;
        assert_eq!(scheme("registry.example:5050"), Transport::Https);
        assert_eq!(scheme("10.0.0.1:5050"), Transport::Https);
        for host in ["127.0.0.1:5050", "[::1]:5050", "123456789012.dkr.ecr.us-east-1.localhost:5050"] {
            assert_eq!(scheme(host), Transport::Either, "{host}");
        }
    }
}
