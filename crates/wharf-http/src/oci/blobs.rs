//! `/v2/<name>/blobs/<digest>`: pull, ask for and delete blobs.

use http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use wharf_registry::BlobInfo;
use wharf_types::{ByteRange, Digest, RangeError};

use super::error::OciError;
use super::routes::{Answering, At, Outcome};
use super::{Call, answer};
use crate::Body;

/// Should a browser ever show a blob, it runs nothing of it.
const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

/// `HEAD /v2/<name>/blobs/<digest>` - distribution-spec "Checking if content exists in the registry". Needs
/// `ecr:BatchCheckLayerAvailability`. Answered at once where caches suffice.
pub(crate) fn head(call: Call<'_>, at: At, digest: Digest) -> Answering<'_> {
    if let Some(found) = call.registry().stat_blob_now(&at, &digest) {
        return Answering::Now(found.map(|blob| known(&call, &blob)).map_err(OciError::from));
    }
    Answering::Later(Box::pin(async move {
        let blob = call.registry().stat_blob(&at, &digest).await?;
        Ok(known(&call, &blob))
    }))
}

fn known(call: &Call<'_>, blob: &BlobInfo) -> Response<Body> {
    if answer::is_held(&call.head.headers, &blob.digest) {
        return not_modified(&blob.digest);
    }
    let mut response = with_blob_headers(answer::empty(StatusCode::OK), &blob.digest);
    answer::insert_length(response.headers_mut(), blob.size);
    response
}

/// `GET /v2/<name>/blobs/<digest>` - distribution-spec "Pulling blobs". Needs `ecr:GetDownloadUrlForLayer`. One range
/// at a time (RFC 9110 §14). What is damaged at its beginning is refused; further on it is too late for that, and the
/// connection breaks off.
pub(crate) async fn get(call: Call<'_>, at: At, digest: Digest) -> Outcome {
    let blob = call.registry().open_blob(&at, &digest).await?;
    let size = blob.info.size;
    if answer::is_held(&call.head.headers, &digest) {
        return Ok(not_modified(&digest));
    }
    let range = match wanted(&call.head.headers, &digest, size) {
        Ok(range) => range,
        Err(Unsatisfiable) => return Ok(unsatisfiable(size)),
    };
    let (status, length) = match range {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range.length()),
        None => (StatusCode::OK, size),
    };
    let body = if length == 0 { Body::empty() } else { Body::stream(blob.stream(range).await?, length) };
    let mut response = with_blob_headers(answer::with_body(status, body), &digest);
    if let Some(ByteRange { first, last }) = range {
        answer::insert_text(response.headers_mut(), CONTENT_RANGE, format!("bytes {first}-{last}/{size}"));
    }
    Ok(response)
}

/// A range that lies outside.
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// The range that was asked for; `None` = everything.
fn wanted(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Option<ByteRange>, Unsatisfiable> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(RANGE) else { return Ok(None) };
    if text(IF_RANGE).is_some_and(|tag| tag.trim_matches('"') != digest.to_string()) {
        return Ok(None);
    }
    match ByteRange::parse(range, size) {
        Ok(range) => Ok(Some(range)),
        Err(RangeError::Unsatisfiable) => Err(Unsatisfiable),
        // RFC 9110 §14.2 lets a server refuse what is not valid; the conformance suite wants this one refused.
        Err(RangeError::Ignored) if runs_backwards(range) => Err(Unsatisfiable),
        Err(RangeError::Ignored) => Ok(None),
    }
}

/// `bytes=500-0`
fn runs_backwards(range: &str) -> bool {
    let bounds = range.trim().strip_prefix("bytes=").and_then(|spec| spec.split_once('-'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    bounds.and_then(|(first, last)| Some(number(last)? < number(first)?)).unwrap_or(false)
}

fn unsatisfiable(size: u64) -> Response<Body> {
    let error =
        OciError::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "The range lies outside the blob.");
    let mut response = error.into_response();
    answer::insert_text(response.headers_mut(), CONTENT_RANGE, format!("bytes */{size}"));
    response
}

fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = answer::empty(StatusCode::NOT_MODIFIED);
    answer::insert_digest_and_etag(response.headers_mut(), digest);
    response
}

fn with_blob_headers(mut response: Response<Body>, digest: &Digest) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, answer::OCTET_STREAM);
    headers.insert(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer::insert_digest_and_etag(headers, digest);
    response
}

/// `DELETE /v2/<name>/blobs/<digest>` - distribution-spec "Deleting Blobs". Needs `ecr:BatchDeleteImage`; the `ecr`
/// dialect refuses it.
pub(crate) async fn delete(call: Call<'_>, at: At, digest: Digest) -> Outcome {
    call.registry().delete_blob(&at, &digest).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_conformance_suite_asks_for_them() {
        let digest = Digest::sha256(b"x");
        let range = |first, last| Ok(Some(ByteRange { first, last }));
        let table = [
            ("bytes=500-1499", range(500, 1499)),
            ("bytes=500-", range(500, 2047)),
            ("bytes=-500", range(1548, 2047)),
            ("bytes=2000-5000", range(2000, 2047)),
            ("bytes=500-0", Err(Unsatisfiable)),
            ("bytes=5000-10000", Err(Unsatisfiable)),
            ("bytes=0-1,5-6", Ok(None)),
            ("lines=0-1", Ok(None)),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]);
            assert_eq!(wanted(&headers, &digest, 2048), expected, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new(), &digest, 2048), Ok(None));
    }

    #[test]
    fn a_range_of_something_else_is_ignored() {
        let digest = Digest::sha256(b"x");
        let asked = |tag: String| {
            let range = (RANGE, HeaderValue::from_static("bytes=1-2"));
            let headers = HeaderMap::from_iter([range, (IF_RANGE, HeaderValue::try_from(tag).unwrap())]);
            wanted(&headers, &digest, 10).unwrap()
        };
        assert!(asked(format!("\"{digest}\"")).is_some());
        assert!(asked("\"other\"".into()).is_none());
        assert!(asked("Wed, 21 Oct 2015 07:28:00 GMT".into()).is_none());
    }
}
