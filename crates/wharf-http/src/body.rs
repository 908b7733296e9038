//! The body of every response: bytes at hand without a box, or a stream of a blob or of a long list.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use wharf_registry::{BodyError, BodyStream};

/// A response's body.
pub enum Body {
    /// Bytes at hand; taken by the first poll.
    Full(Bytes),
    /// Content read while it is sent.
    Stream {
        /// Where it comes from.
        stream: BodyStream,
        /// Bytes still to come, exactly; the connection writes `Content-Length` from it.
        remaining: u64,
    },
    /// Content whose length nobody knows before its end.
    Open(BodyStream),
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    /// Bytes at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    /// `length` bytes that come from a stream. A stream that fails or ends early breaks the connection off, so that a
    /// client never takes a part for the whole.
    pub fn stream(stream: BodyStream, length: u64) -> Self {
        Self::Stream { stream, remaining: length }
    }

    /// A stream of unknown length. One that fails breaks the connection off before the end of the body is told.
    pub fn open(stream: BodyStream) -> Self {
        Self::Open(stream)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { stream, remaining } => stream.as_mut().poll_next(cx).map(|item| match item {
                Some(Ok(bytes)) => {
                    *remaining = remaining.saturating_sub(bytes.len() as u64);
                    Some(Ok(Frame::data(bytes)))
                }
                Some(Err(error)) => Some(Err(error)),
                None => None,
            }),
            Self::Open(stream) => {
                stream.as_mut().poll_next(cx).map(|item| item.map(|item| item.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream { remaining, .. } => *remaining == 0,
            Self::Open(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream { remaining, .. } => SizeHint::with_exact(*remaining),
            Self::Open(_) => SizeHint::default(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}
