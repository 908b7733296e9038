//! `GET /v2/`: whether this is a registry, and whether it knows the caller.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::answer;
use crate::Body;

/// `GET /v2/` - distribution-spec "Determining Support". Any genuine token will do.
pub(crate) fn ping() -> Response<Body> {
    let mut response = answer::full(StatusCode::OK, Bytes::from_static(b"{}"));
    response.headers_mut().insert(CONTENT_TYPE, answer::JSON);
    response
}
