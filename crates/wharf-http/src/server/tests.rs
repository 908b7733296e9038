//! The server over loopback, against bytes written by hand: a client library would hide what is tested.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

/// `/echo` answers the request's body, `/hold` waits for the test, anything else answers facts about the connection.
#[derive(Default)]
struct Facts {
    held: Notify,
    release: Notify,
}

impl Handler for Facts {
    type Body = Full<Bytes>;

    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let answer = match request.uri().path() {
            "/echo" => match request.into_body().collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => Bytes::from_static(b"broken"),
            },
            "/hold" => {
                self.held.notify_one();
                self.release.notified().await;
                Bytes::from_static(b"released")
            }
            path => Bytes::from(format!("{path} tls={} {:?}", peer.tls, request.version())),
        };
        Response::new(Full::new(answer))
    }
}

struct Running {
    addr: SocketAddr,
    facts: Arc<Facts>,
    shutdown: CancellationToken,
    task: JoinHandle<Drained>,
}

async fn start(limits: ServerLimits) -> Running {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), limits).await.unwrap();
    let addr = server.local_addr().unwrap();
    let facts = Arc::new(Facts::default());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(facts.clone(), shutdown.clone()));
    Running { addr, facts, shutdown, task }
}

async fn send(addr: SocketAddr, bytes: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(bytes.as_bytes()).await.unwrap();
    client
}

/// Everything until the server closes. A reset counts as a close: it says "no" to unread bytes.
async fn read_all(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http1_keeps_the_connection_alive_and_knows_its_peer() {
    let running = start(ServerLimits::default()).await;
    let requests =
        "GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = read_all(&mut send(running.addr, requests).await).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(answer.contains("/a tls=false HTTP/1.1") && answer.contains("/b tls=false HTTP/1.1"), "{answer}");
}

#[tokio::test]
async fn http2_with_prior_knowledge_shares_the_port() {
    let running = start(ServerLimits::default()).await;
    let socket = TcpStream::connect(running.addr).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let body = Full::new(Bytes::from(vec![7_u8; 3 << 20]));
    let request = Request::post(format!("http://{}/echo", running.addr)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer.len(), 3 << 20, "bodies larger than the windows flow");
    drop(sender);
    running.shutdown.cancel();
    assert_eq!(running.task.await.unwrap(), Drained::Clean);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn headers_beyond_the_limit_are_answered_431() {
    let running = start(ServerLimits { header_bytes: 16 * 1024, ..ServerLimits::default() }).await;
    let fits =
        format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n", "a".repeat(15_000));
    let answer = read_all(&mut send(running.addr, &fits).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "a".repeat(17_000));
    let answer = read_all(&mut send(running.addr, &large).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let answer = read_all(&mut send(running.addr, &many).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn slow_and_silent_clients_are_cut() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let running = start(limits).await;
    for begun in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let answer = read_all(&mut send(running.addr, begun).await).await;
        assert!(!answer.contains("200 OK"), "after {begun:?}: {answer}");
    }
    let idle = read_all(&mut send(running.addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert!(idle.starts_with("HTTP/1.1 200 OK"), "an idle connection is closed after its answer: {idle}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let running = start(ServerLimits { connections: 1, ..ServerLimits::default() }).await;
    let mut first = send(running.addr, "GET /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    running.facts.held.notified().await;
    let mut second = send(running.addr, "GET /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(50), running.facts.held.notified()).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    running.facts.release.notify_one();
    assert!(read_all(&mut first).await.ends_with("released"));
    running.facts.held.notified().await;
    running.facts.release.notify_one();
    assert!(read_all(&mut second).await.ends_with("released"));
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_accepts_nothing_new() {
    let running = start(ServerLimits::default()).await;
    let mut idle = send(running.addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut held = send(running.addr, "GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    running.facts.held.notified().await;
    running.shutdown.cancel();
    assert!(read_all(&mut idle).await.contains("tls=false"), "an idle connection is closed at once");
    running.facts.release.notify_one();
    let answer = read_all(&mut held).await;
    assert!(answer.contains("connection: close") && answer.ends_with("released"), "{answer}");
    assert_eq!(running.task.await.unwrap(), Drained::Clean);
    assert!(TcpStream::connect(running.addr).await.is_err(), "the listener is still open");
}

#[tokio::test]
async fn a_drain_cuts_at_its_limit() {
    let running = start(ServerLimits { drain: Duration::from_millis(50), ..ServerLimits::default() }).await;
    let mut held = send(running.addr, "GET /hold HTTP/1.1\r\nhost: x\r\n\r\n").await;
    running.facts.held.notified().await;
    running.shutdown.cancel();
    assert_eq!(running.task.await.unwrap(), Drained::Cut(1));
    assert_eq!(read_all(&mut held).await, "");
}

/// A response without end.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 65536])))))
    }
}

struct Flood;

impl Handler for Flood {
    type Body = Endless;

    async fn handle(self: Arc<Self>, _: Request<Incoming>, _: Peer) -> Response<Endless> {
        Response::new(Endless)
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let limits = ServerLimits { write_timeout: Duration::from_millis(100), ..ServerLimits::default() };
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), limits).await.unwrap();
    let addr = server.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(Arc::new(Flood), shutdown.clone()));
    let client = send(addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // The drain below would wait 30 s for the response if the watchdog did not end it.
    client.readable().await.unwrap();
    shutdown.cancel();
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap(), Drained::Clean);
}
