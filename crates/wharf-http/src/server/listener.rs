//! Listening, accepting, draining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connection::{self, Shared};
use super::{Handler, ServerLimits};

/// First and longest pause after an accept that failed for want of resources.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request in flight was answered.
    Clean,
    /// This many connections were cut at the drain limit.
    Cut(usize),
}

/// A bound socket, ready to serve.
pub struct Server {
    listener: TcpListener,
    limits: ServerLimits,
    tls: Option<TlsAcceptor>,
}

impl Server {
    /// Binds an address; port 0 lets the system choose.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(addr: SocketAddr, limits: ServerLimits) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(addr).await?, limits, tls: None })
    }

    /// Speaks TLS only. The configuration should offer `h2` and `http/1.1` by ALPN.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(TlsAcceptor::from(config));
        self
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then stops accepting, finishes what is in flight (at most the drain limit), and returns.
    pub async fn serve<H: Handler>(self, handler: Arc<H>, shutdown: CancellationToken) -> Drained {
        let permits = Arc::new(Semaphore::new(self.limits.connections.min(Semaphore::MAX_PERMITS)));
        let drain_limit = self.limits.drain;
        let shared = Arc::new(Shared {
            handler,
            limits: self.limits,
            tls: self.tls,
            drain: shutdown.clone(),
            cut: CancellationToken::new(),
        });
        let connections = TaskTracker::new();
        loop {
            let permit = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            };
            let (socket, peer) = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listener) => accepted,
            };
            let serving = connection::serve(shared.clone(), socket, peer);
            connections.spawn(async move {
                serving.await;
                drop(permit);
            });
        }
        drop(self.listener);
        drain(&connections, drain_limit, &shared.cut).await
    }
}

async fn drain(connections: &TaskTracker, limit: Duration, cut: &CancellationToken) -> Drained {
    connections.close();
    if !connections.is_empty() {
        info!(connections = connections.len(), "draining: finishing requests in flight");
    }
    if tokio::time::timeout(limit, connections.wait()).await.is_ok() {
        return Drained::Clean;
    }
    let left = connections.len();
    warn!(connections = left, "drain limit reached, cutting the remaining connections");
    cut.cancel();
    connections.wait().await;
    Drained::Cut(left)
}

/// Accepts one connection, whatever it takes: a client that went away is skipped, want of resources is waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = BACKOFF.0;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // Without it, small answers wait 40 ms for the client's delayed acknowledgement.
                if let Err(error) = socket.set_nodelay(true) {
                    warn!(%peer, %error, "cannot set TCP_NODELAY");
                }
                return (socket, peer);
            }
            Err(error) if concerns_one_client(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections, trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
}

/// Whether a failed accept says something about the connection and nothing about this process (EMFILE and the like).
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
