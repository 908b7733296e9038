//! The one place where errors become OCI Distribution's bytes: status, code and text (distribution-spec, "Error
//! Codes"; ECR's texts where they are known).

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;
use wharf_registry::RegistryError;
use wharf_types::{DigestError, RepositoryName};

use super::answer;
use super::path::PathError;
use crate::Body;

/// Seconds after which a pull of an image that is being restored may be tried again.
const RESTORED_AFTER: &str = "2";

/// An error as the client sees it.
#[derive(Debug)]
pub(crate) struct OciError {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl OciError {
    /// An error with one of the specification's codes.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    /// A password that was genuine and is over (ECR's text).
    pub(crate) fn expired_token() -> Self {
        const TEXT: &str = "Your authorization token has expired. Reauthenticate and try again.";
        Self::new(StatusCode::FORBIDDEN, "DENIED", TEXT)
    }

    /// The endpoint exists; this method does not.
    pub(crate) fn method_not_allowed(allowed: &str) -> Self {
        let mut error = Self::unsupported("The operation is unsupported.");
        error.headers.push((ALLOW, allowed.to_owned()));
        error
    }

    /// 405: not done here.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// 404: no such endpoint.
    pub(crate) fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "There is nothing at this path.")
    }

    /// 400: text that should be a digest.
    pub(crate) fn invalid_digest(text: &str) -> Self {
        let shown: String = text.chars().take(160).collect();
        let message = format!("'{shown}' is not a sha256 or sha512 digest");
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    /// 400: a `Content-Range` that is none.
    pub(crate) fn invalid_chunk(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// 413: a manifest over the limit.
    pub(crate) fn manifest_too_large(limit: u64) -> Self {
        RegistryError::TooLarge { what: "manifest", limit }.into()
    }

    /// 429, with ECR's text; the call may pass after `wait`.
    pub(crate) fn throttled(wait: Duration) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "Rate exceeded");
        error.headers.push((RETRY_AFTER, (wait.as_secs() + 1).to_string()));
        error
    }

    /// The specification's code.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The text.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message }] }).to_string();
        let mut response = answer::full(self.status, Bytes::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, answer::JSON);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

impl From<PathError> for OciError {
    fn from(error: PathError) -> Self {
        let bad = |code, message: String| Self::new(StatusCode::BAD_REQUEST, code, message);
        match error {
            PathError::Unknown => Self::unknown_path(),
            PathError::Name(_) => bad("NAME_INVALID", name_constraint()),
            PathError::Encoding => bad("NAME_INVALID", "The path is not encoded as it should be.".to_owned()),
            PathError::Tag(error) => bad("TAG_INVALID", error.to_string()),
            PathError::Digest(DigestError::Syntax(text) | DigestError::Algorithm(text)) => {
                Self::invalid_digest(&text)
            }
            PathError::Upload(text) => RegistryError::UploadNotFound(text).into(),
        }
    }
}

/// ECR's text for a name that breaks the rules.
fn name_constraint() -> String {
    format!(
        "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '{}''",
        RepositoryName::PATTERN
    )
}

impl From<RegistryError> for OciError {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let (status, code) = match &error {
            E::RepositoryNotFound(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            E::ImageNotFound(..) | E::ManifestUnknown => {
                return Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", E::ManifestUnknown.to_string());
            }
            E::ImageTagAlreadyExists { .. } => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            E::ImageDigestDoesNotMatch { .. } | E::InvalidLayer { .. } => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            E::LayersNotFound(..) | E::ReferencedImagesNotFound(..) => {
                (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN")
            }
            E::Manifest(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            E::BlobUnknown(_) | E::LayerNotFound(..) | E::LayerInaccessible(_) | E::LayerArchived(_) => {
                (StatusCode::NOT_FOUND, "BLOB_UNKNOWN")
            }
            E::ImageActivating(_) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            E::UploadNotFound(_) => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            E::UploadBusy => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            E::InvalidLayerPart { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            E::LayerPartTooSmall | E::EmptyUpload | E::BodyBroken(_) => {
                (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID")
            }
            E::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            E::InvalidParameter { member, .. } => parameter(member),
            E::AccessDenied(_) | E::LimitExceeded(_) | E::ImageInUse(_) => (StatusCode::FORBIDDEN, "DENIED"),
            E::Kms { code, message } => {
                let message = format!("KmsException: {message} ({code})");
                return Self::new(StatusCode::FORBIDDEN, "DENIED", message);
            }
            E::Unsupported(_) | E::ReferencedByManifestList(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED")
            }
            E::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE"),
            E::StorageReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            E::NotFound(_)
            | E::ExclusionNotFound(_)
            | E::LifecyclePolicyNotFound(_)
            | E::LifecyclePreviewNotFound(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            // What only the JSON API asks for; refused here as it would be there.
            E::RepositoryAlreadyExists(_)
            | E::RepositoryNotEmpty(_)
            | E::RepositoryPolicyNotFound(_)
            | E::RegistryPolicyNotFound(_)
            | E::UnusableCredentials
            | E::ImageAlreadyExists { .. }
            | E::LayerAlreadyExists(_)
            | E::InvalidTagParameter(_)
            | E::TooManyTags
            | E::Validation(_)
            | E::LifecyclePreviewInProgress(_)
            | E::StorageClassUpdateNotSupported { .. }
            | E::ExclusionAlreadyExists(_)
            | E::AlreadyExists(_)
            | E::Iam(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            E::Damaged(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            E::Meta(_) | E::Object(_) | E::Internal(_) => return Self::internal(&error),
        };
        let mut answer = Self::new(status, code, error.to_string());
        if matches!(error, E::ImageActivating(_)) {
            answer.headers.push((RETRY_AFTER, RESTORED_AFTER.to_owned()));
        }
        if let E::InvalidLayerPart { repository, upload, received } = &error {
            answer.headers.push((LOCATION, format!("/v2/{}/blobs/uploads/{upload}", repository.name)));
            answer.headers.push((RANGE, format!("0-{}", received.saturating_sub(1))));
            answer.headers.push((answer::UPLOAD_UUID, upload.to_string()));
        }
        answer
    }
}

impl OciError {
    /// 500; the client is told nothing, the log everything.
    fn internal(error: &RegistryError) -> Self {
        tracing::error!(error = chain(error), "a registry request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "The registry failed; try again.")
    }
}

/// Status and code of a parameter that breaks its constraint.
fn parameter(member: &str) -> (StatusCode, &'static str) {
    match member {
        "maxResults" => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        "repositoryName" => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        "imageTag" => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
        "imageDigest" | "layerDigest" => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        "imageManifest" | "imageManifestMediaType" => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        _ => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
    }
}

/// An error with all its sources.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let _ = write!(text, ": {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use wharf_types::{Digest, RepositoryRef, UploadId};

    use super::*;

    fn repository() -> RepositoryRef {
        let (account, region) = ("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        RepositoryRef::private(account, region, "team/api".parse().unwrap())
    }

    fn shown(error: impl Into<OciError>) -> (u16, &'static str, String) {
        let error = error.into();
        (error.status.as_u16(), error.code, error.message)
    }

    #[test]
    fn errors_have_ecrs_statuses_codes_and_texts() {
        let digest = Digest::sha256(b"");
        let none = format!("[{digest}]");
        let table = [
            (
                shown(RegistryError::RepositoryNotFound(repository())),
                (
                    404,
                    "NAME_UNKNOWN",
                    "The repository with name 'team/api' does not exist in the registry with id '123456789012'".into(),
                ),
            ),
            (shown(RegistryError::ManifestUnknown), (404, "MANIFEST_UNKNOWN", "Requested image not found".into())),
            (
                shown(RegistryError::ImageTagAlreadyExists { repository: repository(), tag: "v1".parse().unwrap() }),
                (
                    400,
                    "TAG_INVALID",
                    "The image tag 'v1' already exists in the 'team/api' repository and cannot be overwritten because \
                     the tag is immutable."
                        .into(),
                ),
            ),
            (
                shown(RegistryError::ReferencedByManifestList(vec![digest])),
                (405, "UNSUPPORTED", format!("Requested image referenced by manifest list: {none}")),
            ),
            (
                shown(RegistryError::LayersNotFound(repository(), vec![digest])),
                (
                    400,
                    "MANIFEST_BLOB_UNKNOWN",
                    format!(
                        "Layers with digests '{none}' required for pushing image into repository with name 'team/api' \
                         in the registry with id '123456789012' do not exist"
                    ),
                ),
            ),
            (
                shown(RegistryError::invalid("maxResults", "Member must have value less than or equal to 1000")),
                (
                    405,
                    "UNSUPPORTED",
                    "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than \
                     or equal to 1000'"
                        .into(),
                ),
            ),
            (
                shown(RegistryError::Internal("secret".into())),
                (500, "UNKNOWN", "The registry failed; try again.".into()),
            ),
        ];
        for (actual, expected) in table {
            assert_eq!(actual, expected);
        }
    }

    #[test]
    fn an_out_of_order_chunk_is_told_where_the_upload_continues() {
        let upload = UploadId::random();
        let error = RegistryError::InvalidLayerPart { repository: repository(), upload, received: 512 };
        let response = OciError::from(error).into_response();
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()[RANGE], "0-511");
        assert_eq!(response.headers()[LOCATION], format!("/v2/team/api/blobs/uploads/{upload}"));
    }
}
