//! Fetching a document whose address somebody else chose: the one client for it, which will not be led to the
//! machine itself or its neighbours.
//!
//! The address that was judged is the one connected to, so a name cannot point elsewhere a moment later. Redirects are
//! not followed. Size and time are bounded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// From the look-up of the name to the last byte.
const TIME: Duration = Duration::from_secs(5);

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not a URL that is fetched at all.
    #[error("`{0}` is no URL that is fetched")]
    Url(String),
    /// It leads to the machine itself or a private network, and the operator has not named it.
    #[error("`{0}` leads to an address that is not public")]
    NotPublic(String),
    /// The server could not be reached, or broke off.
    #[error("`{url}` cannot be fetched")]
    Unreachable {
        /// What was wanted.
        url: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("`{0}` took too long")]
    TooSlow(String),
    /// Answered, but not with the document.
    #[error("`{0}` was answered with status {1}")]
    Status(String, StatusCode),
    /// Longer than it may be.
    #[error("`{0}` is longer than {1} bytes")]
    TooLong(String, usize),
}

/// Where a fetch may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Public addresses, by HTTPS.
    Public,
    /// Any address, by HTTPS, and this machine by HTTP too: the operator named the URL.
    Named,
}

/// Fetches a document of at most `limit` bytes.
pub(crate) async fn fetch(url: &str, reach: Reach, limit: usize) -> Result<Bytes, FetchError> {
    match tokio::time::timeout(TIME, fetch_patiently(url, reach, limit)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(FetchError::TooSlow(url.to_owned())),
    }
}

async fn fetch_patiently(url: &str, reach: Reach, limit: usize) -> Result<Bytes, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(FetchError::Url(url.to_owned()));
    };
    let secure = match scheme {
        "https" => true,
        "http" if reach == Reach::Named => false,
        _ => return Err(FetchError::Url(url.to_owned())),
    };
    let unreachable = |source| FetchError::Unreachable { url: url.to_owned(), source };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let found = lookup_host((host, port)).await.map_err(|error| unreachable(error.into()))?;
    let addresses: Vec<SocketAddr> = found.filter(|address| may_reach(address.ip(), reach, secure)).collect();
    if addresses.is_empty() {
        return Err(FetchError::NotPublic(url.to_owned()));
    }
    let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| unreachable(error.into()))?;
    if !secure {
        return exchange(stream, &uri, url, limit).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Url(url.to_owned()))?;
    let stream = tls().connect(name, stream).await.map_err(|error| unreachable(error.into()))?;
    exchange(stream, &uri, url, limit).await
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, uri: &Uri, url: &str, limit: usize) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let unreachable = |source| FetchError::Unreachable { url: url.to_owned(), source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.into()))?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header("host", authority)
        .header("accept", "application/json")
        .header("user-agent", concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url(url.to_owned()))?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(error.into()))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(url.to_owned(), response.status()));
        }
        match Limited::new(response.into_body(), limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(FetchError::TooLong(url.to_owned(), limit))
            }
            Err(error) => Err(unreachable(error)),
        }
    };
    // The connection has to be driven while the answer is awaited; what it ends with, the answer tells too.
    tokio::pin!(connection);
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        _ = &mut connection => asking.await,
    }
}

fn may_reach(address: IpAddr, reach: Reach, secure: bool) -> bool {
    match reach {
        Reach::Public => is_public(address),
        Reach::Named => secure || address.is_loopback(),
    }
}

/// Whether an address is one of the internet's, by IANA's registries of special addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            // Global unicast is 2000::/3; 2001:db8::/32 is for documents, 2001::/23 for protocols.
            None => {
                let [first, second, ..] = v6.segments();
                (first & 0xe000) == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second < 0x200))
            }
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || shared
        || protocols
        || benchmarks)
}

/// The IPv4 address that a mapped, translated (64:ff9b::/96) or 6to4 address stands for.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some(v4(high, low)),
        (0x2002, _) => Some(v4(b, c)),
        _ => v6.to_ipv4_mapped(),
    }
}

/// TLS with the certificates this machine trusts; `SSL_CERT_FILE` names others.
fn tls() -> &'static TlsConnector {
    static TLS: OnceLock<TlsConnector> = OnceLock::new();
    TLS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a trusted certificate cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    })
}

impl FetchError {
    /// Whether fetching may help later, as the network's faults do not last.
    pub(crate) fn is_of_the_network(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooSlow(_) => true,
            Self::Status(_, status) => status.is_server_error(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes; answers its URL.
    async fn server(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?x=1", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /keys?x=1 HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn a_named_document_on_this_machine_is_fetched() {
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into()).await;
        assert_eq!(fetch(&url, Reach::Named, 10).await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn what_is_too_long_missing_or_elsewhere_is_refused() {
        let url = server(format!("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{}", "x".repeat(11))).await;
        assert!(matches!(fetch(&url, Reach::Named, 10).await, Err(FetchError::TooLong(_, 10))));
        let url = server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n".into()).await;
        let error = fetch(&url, Reach::Named, 10).await.unwrap_err();
        assert!(matches!(&error, FetchError::Status(_, StatusCode::FOUND)) && !error.is_of_the_network());
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".into()).await;
        assert!(fetch(&url, Reach::Named, 10).await.unwrap_err().is_of_the_network());
    }

    #[tokio::test]
    async fn nobody_is_led_to_this_machine() {
        for url in ["https://127.0.0.1/", "https://localhost:1/", "https://[::1]/", "https://10.1.2.3/"] {
            assert!(matches!(fetch(url, Reach::Public, 10).await, Err(FetchError::NotPublic(_))), "{url}");
        }
        for url in ["http://127.0.0.1/", "file:///etc/passwd", "ftp://host/", "nonsense", ""] {
            assert!(matches!(fetch(url, Reach::Public, 10).await, Err(FetchError::Url(_))), "{url}");
        }
        let plain = fetch("http://10.1.2.3/", Reach::Named, 10).await;
        assert!(matches!(plain, Err(FetchError::NotPublic(_))), "plain HTTP stays on the machine: {plain:?}");
    }

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2001:4860:4860::8888"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
