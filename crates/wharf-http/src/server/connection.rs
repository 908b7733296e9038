//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::activity::{Activity, Verdict};
use super::stream::{Protocol, Watched};
use super::tracked::{InFlight, Tracked};
use super::{Handler, Peer, ServerLimits};

/// Buffered bytes of one HTTP/1.1 connection, each way: large enough that a system call moves a few segments.
const HTTP1_BUFFER: usize = 256 * 1024;
/// Unacknowledged request bytes of one HTTP/2 stream. A layer push fills it; memory per stream is bounded by it.
const HTTP2_STREAM_WINDOW: u32 = 512 * 1024;
/// The same for all streams of a connection together.
const HTTP2_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;
/// Requests with more header lines are answered 431.
const MAX_HEADERS: usize = 128;
/// How long a connection that was asked to close may take for it.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// What every connection of a server shares.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: ServerLimits,
    pub(super) tls: Option<TlsAcceptor>,
    /// Finish requests in flight, take no new ones.
    pub(super) drain: CancellationToken,
    /// Stop at once.
    pub(super) cut: CancellationToken,
}

/// Serves one accepted socket until either side ends it.
pub(super) async fn serve<H: Handler>(shared: Arc<Shared<H>>, socket: TcpStream, peer: std::net::SocketAddr) {
    let peer = Peer { addr: peer, tls: shared.tls.is_some() };
    let cut = shared.cut.clone();
    let result = tokio::select! {
        result = begin(&shared, socket, peer) => result,
        () = cut.cancelled() => Err(io::Error::other("cut at the end of the drain")),
    };
    if let Err(error) = result {
        // Broken connections are the clients' business: their cause is only of interest when looked for.
        debug!(peer = %peer.addr, %error, "connection ended early");
    }
}

async fn begin<H: Handler>(shared: &Arc<Shared<H>>, socket: TcpStream, peer: Peer) -> io::Result<()> {
    let Some(tls) = &shared.tls else {
        return detect_and_run(shared, socket, peer).await;
    };
    let handshake = tokio::time::timeout(shared.limits.header_timeout, tls.accept(socket));
    let stream = tokio::select! {
        stream = handshake => stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = shared.drain.cancelled() => return Ok(()),
    };
    detect_and_run(shared, stream, peer).await
}

/// ALPN has chosen the protocol under TLS, and a client then begins as it chose: the first bytes tell in either case.
async fn detect_and_run<H, T>(shared: &Arc<Shared<H>>, stream: T, peer: Peer) -> io::Result<()>
where
    H: Handler,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::new());
    let mut stream = Watched::new(stream, activity.clone());
    let detected = tokio::select! {
        detected = tokio::time::timeout(shared.limits.header_timeout, stream.detect()) => detected,
        () = shared.drain.cancelled() => return Ok(()),
    };
    let protocol = detected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match protocol {
        None => Ok(()),
        Some(Protocol::Http1) => run_http1(shared, TokioIo::new(stream), activity, peer).await,
        Some(Protocol::Http2) => run_http2(shared, TokioIo::new(stream), activity, peer).await,
    }
}

async fn run_http1<H, I>(
    shared: &Arc<Shared<H>>,
    io: I,
    activity: Arc<Activity>,
    peer: Peer,
) -> io::Result<()>
where
    H: Handler,
    I: Read + Write + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .max_header_size(shared.limits.header_bytes)
        .max_buf_size(HTTP1_BUFFER.max(shared.limits.header_bytes))
        .max_headers(MAX_HEADERS)
        // The watchdog times headers, over both protocols and without a timer per request.
        .header_read_timeout(None)
        .half_close(false)
        .serve_connection(
            io,
            service_fn(|request| answer(shared.clone(), activity.clone(), request, peer, false)),
        );
    let connection = pin!(connection);
    watch(shared, &activity, connection, |connection| connection.graceful_shutdown()).await
}

async fn run_http2<H, I>(
    shared: &Arc<Shared<H>>,
    io: I,
    activity: Arc<Activity>,
    peer: Peer,
) -> io::Result<()>
where
    H: Handler,
    I: Read + Write + Unpin + 'static,
{
    let (owner, marks) = (shared.clone(), activity.clone());
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(shared.limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(HTTP1_BUFFER)
        .serve_connection(
            io,
            service_fn(move |request| answer(owner.clone(), marks.clone(), request, peer, true)),
        );
    let connection = pin!(connection);
    watch(shared, &activity, connection, |connection| connection.graceful_shutdown()).await
}

/// Runs a connection under its watchdog and the server's drain.
async fn watch<H, C>(
    shared: &Shared<H>,
    activity: &Activity,
    mut connection: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
) -> io::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut drain = pin!(shared.drain.cancelled());
    let mut watchdog =
        pin!(tokio::time::sleep(shared.limits.header_timeout.min(shared.limits.write_timeout)));
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => return result.map_err(io::Error::other),
            () = drain.as_mut(), if !closing => {
                closing = true;
                shut_down(connection.as_mut());
            }
            () = watchdog.as_mut() => {
                let next = match activity.judge(&shared.limits) {
                    Verdict::Wait(rest) => rest,
                    Verdict::Stalled => return Err(io::ErrorKind::TimedOut.into()),
                    Verdict::Idle if closing => return Ok(()),
                    Verdict::Idle => {
                        // A request that slips in meanwhile is in flight, hence no longer idle, and is finished.
                        closing = true;
                        shut_down(connection.as_mut());
                        CLOSE_GRACE
                    }
                };
                watchdog.as_mut().reset(Instant::now() + next);
            }
        }
    }
}

/// Hands one request to the handler and marks it in flight until its response's body is gone.
async fn answer<H: Handler>(
    shared: Arc<Shared<H>>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
    peer: Peer,
    multiplexed: bool,
) -> Result<http::Response<Tracked<H::Body>>, Infallible> {
    let in_flight = InFlight::begin(&activity, multiplexed);
    let response = shared.handler.clone().handle(request, peer).await;
    Ok(response.map(|body| Tracked::new(body, in_flight)))
}
