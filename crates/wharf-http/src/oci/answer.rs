//! What answers have in common: the headers every one carries, and how digests and sizes are written into headers.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_types::{Digest, MediaType};

use crate::Body;

pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(crate) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(crate) const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Every byte of a query value but the unreserved ones.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, Body::empty())
}

/// An answer with bytes at hand.
pub(crate) fn full(status: StatusCode, bytes: Bytes) -> Response<Body> {
    with_body(status, Body::full(bytes))
}

/// An answer with the headers that all have.
pub(crate) fn with_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(VARY, HeaderValue::from_static("Authorization"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Adds `Docker-Content-Digest`, and the entity tag made of it; one allocation serves both.
pub(crate) fn insert_digest_and_etag(headers: &mut HeaderMap, digest: &Digest) {
    let mut text = BytesMut::with_capacity(140);
    // Writing into a buffer that grows cannot fail.
    let _ = write!(text, "\"{digest}\"");
    let quoted = text.freeze();
    let bare = quoted.slice(1..quoted.len() - 1);
    if let (Ok(etag), Ok(digest)) =
        (HeaderValue::from_maybe_shared(quoted), HeaderValue::from_maybe_shared(bare))
    {
        headers.insert(ETAG, etag);
        headers.insert(CONTENT_DIGEST, digest);
    }
}

/// Adds `Docker-Content-Digest`.
pub(crate) fn insert_digest(headers: &mut HeaderMap, digest: &Digest) {
    insert_text(headers, CONTENT_DIGEST, digest.to_string());
}

/// Adds `Location`, a path on this host.
pub(crate) fn insert_location(headers: &mut HeaderMap, path: String) {
    insert_text(headers, LOCATION, path);
}

/// Adds `Content-Length`, for answers to HEAD; others get theirs from the body.
pub(crate) fn insert_length(headers: &mut HeaderMap, length: u64) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Adds a header whose text is made here of parsed values, so it has no forbidden bytes.
pub(crate) fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: String) {
    match HeaderValue::try_from(text) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => tracing::warn!(header = %name, "a header's value had forbidden bytes; it was left out"),
    }
}

/// A media type as a header value; those of every day without copying.
pub(crate) fn content_type(media_type: &MediaType) -> HeaderValue {
    const KNOWN: [&str; 4] =
        [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];
    match KNOWN.into_iter().find(|known| *known == media_type.as_str()) {
        Some(known) => HeaderValue::from_static(known),
        // A media type is printable ASCII.
        None => HeaderValue::from_str(media_type.as_str()).unwrap_or(OCTET_STREAM),
    }
}

/// The value of `Link: <path?n=…&last=…>; rel="next"` (RFC 8288). `parameters` are encoded here.
pub(crate) fn next_link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut link = format!("<{path}");
    for (index, (name, value)) in parameters.iter().enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        let _ = write!(link, "{separator}{name}={}", utf8_percent_encode(value, QUERY_VALUE));
    }
    link.push_str(">; rel=\"next\"");
    link
}

/// Whether the client already holds what this digest names: `If-None-Match` lists its entity tag (RFC 9110 §13.1.2).
pub(crate) fn is_held(request: &HeaderMap, digest: &Digest) -> bool {
    if !request.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let own = digest.to_string();
    let lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_match_in_every_form() {
        let digest = Digest::sha256(b"x");
        let held = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_held(&headers, &digest)
        };
        for yes in
            [format!("\"{digest}\""), format!("W/\"{digest}\""), format!("\"a\", {digest}"), "*".into()]
        {
            assert!(held(&yes), "{yes}");
        }
        for no in ["", "\"sha256:00\"", "sha256"] {
            assert!(!held(no), "{no}");
        }
        assert!(!is_held(&HeaderMap::new(), &digest));
    }

    #[test]
    fn a_link_is_encoded() {
        let link = next_link("/v2/a/b/tags/list", &[("n", "2"), ("last", "a+b&c>")]);
        assert_eq!(link, "</v2/a/b/tags/list?n=2&last=a%2Bb%26c%3E>; rel=\"next\"");
    }

    #[test]
    fn digest_and_entity_tag() {
        let mut headers = HeaderMap::new();
        let digest = Digest::sha512(b"x");
        insert_digest_and_etag(&mut headers, &digest);
        assert_eq!(headers[CONTENT_DIGEST], digest.to_string());
        assert_eq!(headers[ETAG], format!("\"{digest}\""));
    }
}
