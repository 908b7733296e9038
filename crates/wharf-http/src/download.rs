//! Signed downloads: the URLs that `GetDownloadUrlForLayer` hands out. A URL says who asked and for what; whether that
//! one still may is decided again when it is used.

use std::sync::Arc;
use std::time::Instant;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderValue, RANGE, REFERER, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use wharf_iam::decision::Need;
use wharf_registry::{Caller, Decided, Origin, RegistryError};
use wharf_types::{ByteRange, Digest, RangeError, RepositoryRef};

use crate::audit::AuditRecord;
use crate::aws::{AwsError, Target, Vocabulary};
use crate::faces::text;
use crate::server::Peer;
use crate::{Body, Faces};

/// What the URL's use is authorized and recorded as.
const ACTION: &str = "ecr:GetDownloadUrlForLayer";

/// Who uses which URL, once that is known.
struct Opened {
    caller: Caller,
    repository: RepositoryRef,
    needs: Vec<Need>,
    decided: Option<String>,
}

/// `GET` or `HEAD /wharf/download/<token>`, with `Range`.
pub(crate) async fn handle<B>(
    faces: &Faces,
    request: &Request<B>,
    token: &str,
    peer: Peer,
) -> Response<Body> {
    let (at, started) = (faces.registry().clock().now(), Instant::now());
    let mut opened = None;
    let outcome = serve(faces, request, token, peer, &mut opened).await;
    let wire = outcome.as_ref().err().map(|error| error.to_wire(Vocabulary::Ecr));
    let response = outcome.unwrap_or_else(|error| refusal(&error));
    if faces.audit().is_on() {
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        let record = AuditRecord {
            at,
            source: "ecr.amazonaws.com",
            event: "DownloadLayer",
            region: opened.as_ref().map_or("", |opened| opened.repository.registry.region.as_str()),
            address: peer.addr.ip(),
            user_agent: user_agent.unwrap_or_default(),
            request_id: &uuid::Uuid::new_v4().to_string(),
            identity: opened.as_ref().map(|opened| &*opened.caller.identity),
            needs: opened.as_ref().map_or(&[], |opened| &opened.needs),
            decided: opened.as_ref().and_then(|opened| opened.decided.as_deref()),
            status: response.status().as_u16(),
            error: wire.as_ref().map(|wire| (wire.code, wire.message.as_str())),
            took: started.elapsed(),
        };
        faces.audit().write(record).await;
    }
    response
}

async fn serve<B>(
    faces: &Faces,
    request: &Request<B>,
    token: &str,
    peer: Peer,
    opened: &mut Option<Opened>,
) -> Result<Response<Body>, AwsError> {
    let registry = faces.registry();
    let (caller, repository, digest) = registry.open_download_token(token).await?;
    let text = |name| request.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let origin = Origin {
        address: peer.addr.ip(),
        secure: peer.tls || faces.config().secure,
        user_agent: text(USER_AGENT),
        referer: text(REFERER),
        region: repository.registry.region.clone(),
        explain: faces.audit().is_on(),
    };
    let caller = caller.from(Arc::new(origin));
    let needs = vec![repository.need(ACTION)];
    let notes = opened.insert(Opened {
        caller: caller.clone(),
        repository: repository.clone(),
        needs: needs.clone(),
        decided: None,
    });
    let principal = &caller.identity.principal_id;
    if let Err(wait) = faces.throttle().take(&repository.registry, principal, "GetDownloadUrlForLayer") {
        faces.metrics().throttled();
        return Err(AwsError::Throttled(wait));
    }
    let at = registry.authorize(&caller, repository, &needs).await;
    notes.decided = match &at {
        Ok(at) => at.decided().map(ToString::to_string),
        Err(RegistryError::AccessDenied(denied)) => Some(Decided::from(denied).to_string()),
        Err(_) => None,
    };
    let at = at?;
    let reader = registry.open_blob(&at, &digest).await?;
    let size = reader.info.size;
    let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let range = match range.map(|range| ByteRange::parse(range, size)) {
        None | Some(Err(RangeError::Ignored)) => None,
        Some(Ok(range)) => Some(range),
        Some(Err(RangeError::Unsatisfiable)) => return Ok(unsatisfiable(size)),
    };
    let length = range.map_or(size, |range| range.length());
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        Body::stream(reader.stream(range).await?, length)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(ETAG, entity_tag(&digest));
    if let Some(ByteRange { first, last }) = range {
        headers.insert(CONTENT_RANGE, header(format!("bytes {first}-{last}/{size}")));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn unsatisfiable(size: u64) -> Response<Body> {
    let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside of the layer\n");
    response.headers_mut().insert(CONTENT_RANGE, header(format!("bytes */{size}")));
    response
}

fn entity_tag(digest: &Digest) -> HeaderValue {
    header(format!("\"{digest}\""))
}

fn header(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

/// Statuses as an object store would answer them; the text is for people.
fn refusal(error: &AwsError) -> Response<Body> {
    let wire = error.to_wire(Vocabulary::Ecr);
    let status = match error {
        AwsError::Registry(RegistryError::NotFound(_) | RegistryError::AccessDenied(_)) => {
            StatusCode::FORBIDDEN
        }
        AwsError::Registry(RegistryError::BlobUnknown(_) | RegistryError::RepositoryNotFound(_)) => {
            StatusCode::NOT_FOUND
        }
        AwsError::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
        AwsError::Registry(RegistryError::Kms { .. }) => StatusCode::FORBIDDEN,
        _ => wire.status,
    };
    if error.is_internal() {
        tracing::error!(%error, "download failed");
    }
    let mut response = text(status, format!("{}: {}\n", wire.code, wire.message));
    if let AwsError::Throttled(wait) = error {
        response.headers_mut().insert(http::header::RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    response
}
