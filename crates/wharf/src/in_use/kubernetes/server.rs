//! One connection to an API server, by HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::config::Cluster;

/// Time for one answer.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const LIMIT: usize = 32 << 20;
/// Bytes of a refusal that are looked at.
const REFUSAL: usize = 64 << 10;
/// Characters of a refusal that are told.
const TOLD: usize = 500;

/// Why an API server does not tell.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot be reached, or breaks off.
    #[error("cannot reach the API server {host}")]
    Unreachable {
        /// Which.
        host: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its certificates, or ours, are not usable.
    #[error("the certificates of the API server's configuration are not usable")]
    Certificates(#[from] rustls::Error),
    /// It takes too long.
    #[error("no answer of the API server {host} within {} seconds", TIME.as_secs())]
    TooSlow {
        /// Which.
        host: String,
    },
    /// The answer is longer than it may be.
    #[error("an answer of the API server has more than {LIMIT} bytes")]
    TooLong,
    /// The list that a page belongs to is forgotten.
    #[error("the list of pods is not kept any more")]
    Gone,
    /// It says no.
    #[error("the API server answers {status}: {message}")]
    Refused {
        /// The status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The answer is no list of pods.
    #[error("the API server's answer is no list of pods")]
    Form(#[source] serde_json::Error),
}

/// A connection, over which one page after the other comes.
pub struct Session {
    cluster: Cluster,
    tls: Option<TlsConnector>,
    sender: SendRequest<Empty<Bytes>>,
    driving: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// If the server cannot be reached, or is not the one it should be.
    pub async fn open(cluster: Cluster) -> Result<Self, ServerError> {
        let tls = cluster.tls.then(|| connector(&cluster)).transpose()?;
        let (sender, driving) = connect(&cluster, tls.as_ref()).await?;
        Ok(Self { cluster, tls, sender, driving })
    }

    /// Connects anew, after an answer that was not read to its end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn reopen(&mut self) -> Result<(), ServerError> {
        self.driving.abort();
        (self.sender, self.driving) = connect(&self.cluster, self.tls.as_ref()).await?;
        Ok(())
    }

    /// The answer to a GET.
    ///
    /// # Errors
    /// If there is no whole answer in time, or it says no.
    pub async fn get(&mut self, path: &str) -> Result<Bytes, ServerError> {
        let host = self.cluster.authority.clone();
        let answer = async {
            // A server may close a connection after any answer.
            if self.sender.ready().await.is_err() {
                self.reopen().await?;
            }
            self.exchange(path).await
        };
        tokio::time::timeout(TIME, answer).await.map_err(|_| ServerError::TooSlow { host })?
    }

    async fn exchange(&mut self, path: &str) -> Result<Bytes, ServerError> {
        let host = self.cluster.authority.clone();
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ServerError::Unreachable {
            host: host.clone(),
            source,
        };
        let mut request = Request::get(format!("{}{path}", self.cluster.prefix))
            .header("host", &self.cluster.authority)
            .header("accept", "application/json")
            .header("user-agent", concat!("wharf/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.cluster.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|error| unreachable(error.into()))?;
        let response = self.sender.send_request(request).await.map_err(|error| unreachable(error.into()))?;
        let status = response.status().as_u16();
        let limit = if status == 200 { LIMIT } else { REFUSAL };
        let body = Limited::new(response.into_body(), limit).collect().await;
        match (status, body) {
            (200, Ok(body)) => Ok(body.to_bytes()),
            (200, Err(error)) if error.is::<LengthLimitError>() => Err(ServerError::TooLong),
            (200, Err(error)) => Err(unreachable(error)),
            (410, _) => Err(ServerError::Gone),
            (status, body) => {
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                Err(ServerError::Refused { status, message: words(&body) })
            }
        }
    }
}

/// The message of a refusal, fit to be shown.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let message = match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let shown = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(TOLD);
    shown.collect::<String>().trim().to_owned()
}

fn connector(cluster: &Cluster) -> Result<TlsConnector, ServerError> {
    let mut roots = RootCertStore::empty();
    match &cluster.authorities {
        Some(authorities) => {
            for authority in authorities {
                roots.add(authority.clone())?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match &cluster.identity {
        Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key())?,
        None => config.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(
    cluster: &Cluster,
    tls: Option<&TlsConnector>,
) -> Result<(SendRequest<Empty<Bytes>>, AbortHandle), ServerError> {
    let connecting = async {
        let stream = TcpStream::connect((cluster.host.as_str(), cluster.port)).await?;
        match tls {
            Some(tls) => begin(tls.connect(cluster.server_name.clone(), stream).await?).await,
            None => begin(stream).await,
        }
    };
    match tokio::time::timeout(TIME, connecting).await {
        Ok(outcome) => {
            outcome.map_err(|source| ServerError::Unreachable { host: cluster.authority.clone(), source })
        }
        Err(_) => Err(ServerError::TooSlow { host: cluster.authority.clone() }),
    }
}

async fn begin<S>(
    stream: S,
) -> Result<(SendRequest<Empty<Bytes>>, AbortHandle), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    Ok((sender, tokio::spawn(connection).abort_handle()))
}
