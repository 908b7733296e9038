//! `/v2/<name>/blobs/uploads/`: push blobs, in one request, as a stream, in chunks, or by mounting.

use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, Response, StatusCode};
use wharf_registry::{BlobInfo, MountOutcome, RegistryError};
use wharf_types::{ByteRange, Digest, RepositoryName, UploadId};

use super::error::OciError;
use super::receive::RequestBody;
use super::routes::{At, Outcome};
use super::{Call, answer};
use crate::Body;

/// `POST /v2/<name>/blobs/uploads/` - distribution-spec "Pushing blobs" and "Mounting a blob from another repository".
/// Needs `ecr:InitiateLayerUpload`; with a whole blob what an upload needs, and to mount `ecr:GetDownloadUrlForLayer` on
/// the source.
pub(crate) async fn start(mut call: Call<'_>, at: At) -> Outcome {
    let (query, dialect) = (call.query(), call.registry().options().dialect);
    if let Some(algorithm) =
        query.get("digest-algorithm").filter(|name| !matches!(&**name, "sha256" | "sha512"))
    {
        return Err(OciError::invalid_digest(&algorithm));
    }
    if let Some(digest) = query.parsed::<Digest>("mount", OciError::invalid_digest)? {
        if let MountOutcome::Mounted(blob) = mount(&call, &at, &digest).await? {
            return Ok(created(&at, &blob));
        }
    } else if dialect.single_post_upload()
        && let Some(digest) = query.parsed::<Digest>("digest", OciError::invalid_digest)?
    {
        let body = call.take_body();
        // A client that names the digest but sends nothing yet wants a session to send it to.
        if !body.is_empty() || digest == Digest::of(digest.algorithm(), b"") {
            check_length(&call, &body)?;
            let blob = call.registry().put_blob(&at, digest, body.into_stream()).await?;
            return Ok(created(&at, &blob));
        }
    }
    let upload = call.registry().start_upload(&at).await?;
    let mut response = progress(StatusCode::ACCEPTED, &at, upload.id, upload.received);
    if dialect.minimum_chunk() > 0 {
        let minimum = dialect.minimum_chunk().to_string();
        answer::insert_text(response.headers_mut(), answer::OCI_CHUNK_MIN_LENGTH, minimum);
    }
    Ok(response)
}

/// Mounts from the repository named, or from any that the caller may read where the dialect searches. A source that is
/// not there, not readable or not named as it should be is no error: the client uploads instead.
async fn mount(call: &Call<'_>, at: &At, digest: &Digest) -> Result<MountOutcome, OciError> {
    let registry = call.registry();
    if let Some(from) = call.query().get("from").filter(|from| !from.is_empty()) {
        let Ok(name) = from.parse::<RepositoryName>() else { return Ok(MountOutcome::NotMounted) };
        let Some(source) = call.authorize_source(at.registry.repository(name)).await else {
            return Ok(MountOutcome::NotMounted);
        };
        return Ok(registry.mount_blob(at, digest, Some(&source)).await?);
    }
    if !registry.options().dialect.automatic_mount() {
        return Ok(MountOutcome::NotMounted);
    }
    for candidate in registry.mount_candidates(at, digest).await? {
        let Some(source) = call.authorize_source(candidate).await else { continue };
        let outcome = registry.mount_blob(at, digest, Some(&source)).await?;
        if matches!(outcome, MountOutcome::Mounted(_)) {
            return Ok(outcome);
        }
    }
    Ok(MountOutcome::NotMounted)
}

/// `PATCH /v2/<name>/blobs/uploads/<id>` - distribution-spec "Pushing a blob in chunks"; without `Content-Range` a
/// stream of any length. Needs `ecr:UploadLayerPart`.
pub(crate) async fn append(mut call: Call<'_>, at: At, id: UploadId) -> Outcome {
    let body = call.take_body();
    let chunk = chunk(&call.head.headers, &body)?;
    check_length(&call, &body)?;
    let upload = call.registry().append_upload(&at, id, chunk, body.into_stream()).await?;
    Ok(progress(StatusCode::ACCEPTED, &at, id, upload.received))
}

/// `PUT /v2/<name>/blobs/uploads/<id>?digest=<digest>` - distribution-spec "Pushing a blob in chunks", with or without
/// the last chunk. Needs `ecr:CompleteLayerUpload`, and with a body `ecr:UploadLayerPart`.
pub(crate) async fn finish(mut call: Call<'_>, at: At, id: UploadId) -> Outcome {
    let digest = call.query().parsed::<Digest>("digest", OciError::invalid_digest)?;
    let digest = digest.ok_or_else(|| OciError::invalid_digest(""))?;
    let body = call.take_body();
    let (chunk, stream) = if body.is_empty() {
        (None, None)
    } else {
        let chunk = chunk(&call.head.headers, &body)?;
        check_length(&call, &body)?;
        (chunk, Some(body.into_stream()))
    };
    let blob = call.registry().finish_upload(&at, id, &[digest], chunk, stream).await?;
    Ok(created(&at, &blob))
}

/// `GET /v2/<name>/blobs/uploads/<id>` - where the upload continues. Needs `ecr:UploadLayerPart`.
pub(crate) async fn status(call: Call<'_>, at: At, id: UploadId) -> Outcome {
    let upload = call.registry().upload_status(&at, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, &at, id, upload.received))
}

/// `DELETE /v2/<name>/blobs/uploads/<id>` - distribution-spec "Cancel a blob upload". Needs `ecr:UploadLayerPart`.
pub(crate) async fn cancel(call: Call<'_>, at: At, id: UploadId) -> Outcome {
    call.registry().cancel_upload(&at, id).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// The range that a chunk says it has; it must be as long as the body where that has a known length.
fn chunk(headers: &HeaderMap, body: &RequestBody) -> Result<Option<ByteRange>, OciError> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let range = value.to_str().ok().and_then(ByteRange::parse_chunk);
    let range =
        range.ok_or_else(|| OciError::invalid_chunk("Content-Range is not of the form <first>-<last>"))?;
    match body.length() {
        Some(length) if length != range.length() => {
            let said = range.length();
            let message = format!("Content-Range has {said} bytes, Content-Length {length}");
            Err(OciError::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message))
        }
        _ => Ok(Some(range)),
    }
}

/// Refuses, before a byte is taken, a body that is longer than any blob may be.
fn check_length(call: &Call<'_>, body: &RequestBody) -> Result<(), OciError> {
    let limit = call.registry().options().limits.blob;
    if body.length().is_some_and(|length| length > limit) {
        return Err(RegistryError::TooLarge { what: "blob", limit }.into());
    }
    Ok(())
}

/// How far an upload has come, and where it goes on.
fn progress(status: StatusCode, at: &At, id: UploadId, received: u64) -> Response<Body> {
    let mut response = answer::empty(status);
    let headers = response.headers_mut();
    answer::insert_location(headers, format!("/v2/{}/blobs/uploads/{id}", at.name));
    answer::insert_text(headers, RANGE, format!("0-{}", received.saturating_sub(1)));
    answer::insert_text(headers, answer::UPLOAD_UUID, id.to_string());
    response
}

/// A blob that is in the repository now.
fn created(at: &At, blob: &BlobInfo) -> Response<Body> {
    let mut response = answer::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    answer::insert_location(headers, format!("/v2/{}/blobs/{}", at.name, blob.digest));
    answer::insert_digest(headers, &blob.digest);
    response
}
