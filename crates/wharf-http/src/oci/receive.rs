//! Taking in a request's body: with patience for slow clients but not for stalled ones, and without cutting off a
//! client that is still sending when it is refused.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::EXPECT;
use http::{Version, request};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use tokio::time::{Instant, Sleep};
use wharf_registry::{BodyError, BodyStream, RegistryError};

use super::error::OciError;

/// Bytes per second that a client must manage on average over the time it kept us waiting.
const MINIMUM_RATE: u64 = 1024;

/// Waiting time, in idle times, before the average counts.
const RATE_GRACE: u32 = 2;

/// What is read and thrown away after an early answer, so that the client gets to read it: a socket closed with unread
/// bytes resets the connection, and the answer with it.
const DRAIN_BYTES: u64 = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// A request's body, not yet read.
pub(crate) struct RequestBody {
    inner: Receiving,
    length: Option<u64>,
    empty: bool,
}

/// A body whose source does not matter any more; its errors are texts. Only bodies that are not empty are boxed.
type AnyBody = BoxBody<Bytes, String>;

impl RequestBody {
    /// The body of the request with this head. A transfer may stand still for `idle`.
    pub(crate) fn new<B>(head: &request::Parts, body: B, idle: Duration) -> Self
    where
        B: HttpBody<Data = Bytes, Error: std::fmt::Display> + Send + Sync + 'static,
    {
        let (empty, length) = (body.is_end_stream(), body.size_hint().exact());
        // HTTP/2 ends one stream and keeps the connection; and a client that waits for `100 Continue` sends nothing.
        let drain = head.version < Version::HTTP_2 && !head.headers.contains_key(EXPECT);
        let body = (!empty).then(|| body.map_err(|error| error.to_string()).boxed());
        Self { inner: Receiving { body, patience: Patience::new(idle), drain }, length, empty }
    }

    /// No body.
    pub(crate) fn nothing() -> Self {
        let inner = Receiving { body: None, patience: Patience::new(Duration::ZERO), drain: false };
        Self { inner, length: Some(0), empty: true }
    }

    /// Whether there is nothing to read, as far as the request's head tells.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Its length in bytes where the client said so.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Its content, piece by piece.
    pub(crate) fn into_stream(self) -> BodyStream {
        Box::pin(self.inner)
    }

    /// Its content at once. More than `limit` bytes are refused before they are read where the length is known, and
    /// otherwise while they are.
    pub(crate) async fn read(mut self, limit: u64) -> Result<Bytes, OciError> {
        if self.length.is_some_and(|length| length > limit) {
            return Err(OciError::manifest_too_large(limit));
        }
        let broken = |error: BodyError| OciError::from(RegistryError::BodyBroken(error.to_string()));
        let Some(first) = self.inner.next().await.transpose().map_err(broken)? else {
            return Ok(Bytes::new());
        };
        let mut whole: Option<BytesMut> = None;
        while let Some(next) = self.inner.next().await.transpose().map_err(broken)? {
            let whole = whole.get_or_insert_with(|| BytesMut::from(&first[..]));
            if (whole.len() + next.len()) as u64 > limit {
                return Err(OciError::manifest_too_large(limit));
            }
            whole.extend_from_slice(&next);
        }
        let whole = whole.map_or(first, BytesMut::freeze);
        if whole.len() as u64 > limit { Err(OciError::manifest_too_large(limit)) } else { Ok(whole) }
    }
}

/// The stream of a body's data. Dropped before the end, it drains what the client still sends.
struct Receiving {
    /// `None` once it ended or failed.
    body: Option<AnyBody>,
    patience: Patience,
    drain: bool,
}

impl Stream for Receiving {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            let failure = match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => {
                        this.patience.received(data.len() as u64);
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Err(_trailers) => continue,
                },
                Poll::Ready(Some(Err(error))) => error,
                Poll::Ready(None) => {
                    this.body = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => ready!(this.patience.poll(cx)).to_owned(),
            };
            this.body = None;
            return Poll::Ready(Some(Err(BodyError { message: failure })));
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| self.drain && !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(body)));
        }
    }
}

/// Reads a body and throws it away.
async fn drain(mut body: AnyBody) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

/// How long a client may keep us waiting. Only time spent waiting for it counts, not time spent storing what it sent.
struct Patience {
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Patience {
    fn new(idle: Duration) -> Self {
        Self { idle, timer: None, waiting_since: None, waited: Duration::ZERO, bytes: 0 }
    }

    fn received(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Ready when the client has had time enough; the text says why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        if self.waited > self.idle * RATE_GRACE
            && self.bytes < self.waited.as_secs().saturating_mul(MINIMUM_RATE)
        {
            return Poll::Ready("the client sends too slowly");
        }
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| "the client stopped sending")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn head(expect: bool) -> request::Parts {
        let mut builder = http::Request::put("/");
        if expect {
            builder = builder.header(EXPECT, "100-continue");
        }
        builder.body(()).unwrap().into_parts().0
    }

    /// A body of `pieces` pieces of `size` bytes, one every `pause`, which counts those taken.
    fn body(
        pieces: usize,
        size: usize,
        pause: Duration,
    ) -> (impl HttpBody<Data = Bytes, Error = Infallible> + Send + Sync + 'static, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = taken.clone();
        let stream = stream::iter(0..pieces).then(move |_| {
            let counter = counter.clone();
            async move {
                tokio::time::sleep(pause).await;
                counter.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; size])))
            }
        });
        (StreamBody::new(Box::pin(stream)), taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_borne_and_a_stalled_one_is_not() {
        let (slow, _) = body(20, 4096, Duration::from_secs(1));
        let whole = RequestBody::new(&head(false), slow, IDLE).read(1 << 20).await.unwrap();
        assert_eq!(whole.len(), 20 * 4096);

        let (stalled, _) = body(2, 4096, Duration::from_secs(11));
        let mut stream = RequestBody::new(&head(false), stalled, IDLE).into_stream();
        assert!(stream.next().await.unwrap().unwrap_err().to_string().contains("stopped sending"));
        assert!(stream.next().await.is_none(), "nothing follows an error");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_cut_off() {
        let (trickle, taken) = body(1000, 1, Duration::from_secs(9));
        let refused = RequestBody::new(&head(false), trickle, IDLE).read(1 << 20).await.unwrap_err();
        assert_eq!(refused.code(), "BLOB_UPLOAD_INVALID");
        assert!((3..10).contains(&taken.load(Ordering::SeqCst)), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_over_its_limit_is_refused_and_one_at_its_limit_is_not() {
        for (limit, fits) in [(300, true), (299, false), (100, false)] {
            let (three, _) = body(3, 100, Duration::ZERO);
            let read = RequestBody::new(&head(false), three, IDLE).read(limit).await;
            assert_eq!(read.is_ok(), fits, "{limit}");
        }
        let (one, taken) = body(1, 100, Duration::ZERO);
        let mut known = RequestBody::new(&head(true), one, IDLE);
        known.length = Some(5000);
        let refused = known.read(4999).await.unwrap_err();
        assert_eq!((refused.code(), taken.load(Ordering::SeqCst)), ("SIZE_INVALID", 0), "refused unread");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_client_still_sends_is_read_away() {
        let (unread, taken) = body(5, 100, Duration::from_secs(1));
        drop(RequestBody::new(&head(false), unread, IDLE));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(taken.load(Ordering::SeqCst), 5);

        let (endless, taken) = body(1000, 100, Duration::from_secs(1));
        drop(RequestBody::new(&head(false), endless, IDLE));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(taken.load(Ordering::SeqCst) <= 10, "for a bounded time");

        let (waiting, taken) = body(5, 100, Duration::ZERO);
        drop(RequestBody::new(&head(true), waiting, IDLE));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(
            taken.load(Ordering::SeqCst),
            0,
            "a client that waits for 100 Continue is not asked to go on"
        );
    }
}
