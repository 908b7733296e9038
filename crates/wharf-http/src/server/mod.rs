//! The accept loop: sockets in, requests to a [`Handler`], responses out.
//!
//! HTTP/1.1 and HTTP/2 are served on one port (ALPN under TLS, prior knowledge without). Everything a hostile or slow
//! client could hold on to has a bound: connections, header bytes, header time, idle time and stalled writes.

mod activity;
mod connection;
mod listener;
mod stream;
mod tracked;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};

pub use listener::{Drained, Server};

/// Who is on the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the socket's other end (a proxy's, if there is one between).
    pub addr: SocketAddr,
    /// Whether the connection is encrypted by this process.
    pub tls: bool,
}

/// What answers requests. One value serves all connections, so it is shared and must not block.
pub trait Handler: Send + Sync + 'static {
    /// The body of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request. Errors are responses: there is no other way to fail.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// What one client may take. The defaults suit a registry on a company network.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Bytes of a request's line and headers together; more is answered 431.
    pub header_bytes: usize,
    /// How long a client may take from connecting, or from a request's first byte, to the end of its headers.
    /// Also the time allowed for a TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection without a request stays open.
    pub idle_timeout: Duration,
    /// How long a response may wait for a client that does not read.
    pub write_timeout: Duration,
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a drain waits for requests in flight before their connections are cut.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            connections: 4096,
            drain: Duration::from_secs(30),
        }
    }
}
