//! From an HTTP request to an operation and back: the JSON 1.1 and query protocols.
//!
//! Order of checks: signature, rate, input, permission, existence, meaning.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, REFERER, RETRY_AFTER, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tracing::error;
use uuid::Uuid;
use wharf_iam::sigv4::SignatureError;
use wharf_registry::{Caller, IamError, Origin, RegistryError};
use wharf_types::{Region, Timestamp};

use super::authentication::{LARGE, Verified, read_body, unsigned, verify, verify_buffered};
use super::operation::{Operation, Service, tables};
use super::request::Noted;
use super::{Answer, AwsError, AwsRequest, Input, Vocabulary, WireError, query};
use crate::audit::AuditRecord;
use crate::metrics::Face;
use crate::server::Peer;
use crate::{Body, Faces};

/// Bytes of a form: policies are the longest things in one.
const FORM_LIMIT: usize = 256 << 10;

/// The namespace of errors that come before it is known whom the request is for.
const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// What is learnt about a call while it is served, for the log of calls.
struct Notes {
    face: Face,
    source: &'static str,
    vocabulary: Vocabulary,
    /// As metrics count it: of the tables, or `unknown`.
    operation: &'static str,
    /// What the client called it, where no table knows it.
    called: Option<String>,
    /// Whether nobody signed it, so that what it shows instead is its credential.
    unsigned: bool,
    caller: Option<Caller>,
    region: Option<Region>,
    noted: Noted,
}

/// Serves a request of one of the AWS protocols: `POST /`, or `GET /` with a signed query.
pub async fn handle<B>(faces: &Faces, request: Request<B>, peer: Peer) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send,
{
    let (at, started) = (faces.registry().clock().now(), Instant::now());
    let request_id = Uuid::new_v4().to_string();
    let (parts, body) = request.into_parts();
    let mut notes = Notes {
        face: Face::Other,
        source: "wharf",
        vocabulary: Vocabulary::Ecr,
        operation: "unknown",
        called: None,
        unsigned: false,
        caller: None,
        region: None,
        noted: Noted::default(),
    };
    let outcome = route(faces, &parts, body, peer, &mut notes).await;
    let outcome = outcome.map_err(|error| limit_failures(faces, peer, notes.unsigned, error));
    let wire = outcome.as_ref().err().map(|error| error.to_wire(notes.vocabulary));
    if let Err(error) = &outcome
        && error.is_internal()
    {
        error!(request.id = %request_id, operation = notes.operation, error = %chain(error), "call failed");
    }
    let retry = match &outcome {
        Err(AwsError::Throttled(wait)) => Some(wait.as_secs() + 1),
        _ => None,
    };
    let mut response = match (outcome, &wire) {
        (Ok(answer), _) => success(&notes, answer, &request_id),
        (Err(_), Some(wire)) => match notes.vocabulary {
            Vocabulary::Query { namespace } => {
                respond(wire.status, XML, wire.xml_body(namespace, &request_id))
            }
            _ => respond(wire.status, JSON, wire.json_body()),
        },
        (Err(_), None) => respond(StatusCode::INTERNAL_SERVER_ERROR, JSON, Vec::new()),
    };
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    let took = started.elapsed();
    faces.metrics().request(notes.face, notes.operation, response.status().as_u16(), took);
    if faces.audit().is_on() {
        let user_agent = parts.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
        let ending = Ending { at, took, status: response.status(), error: wire.as_ref() };
        let record = notes.record(&ending, &request_id, user_agent.unwrap_or_default(), peer);
        faces.audit().write(record).await;
    }
    response
}

/// A credential that is wrong counts against its source, which after too many is told to wait instead.
fn limit_failures(faces: &Faces, peer: Peer, unsigned: bool, error: AwsError) -> AwsError {
    use IamError::{AccessDenied, ExpiredToken, IdpRejectedClaim, InvalidIdentityToken};
    use SignatureError::{InactiveKey, Mismatch, UnknownKey, WrongToken};
    let is_wrong = match &error {
        AwsError::Signature(Mismatch { .. } | UnknownKey | InactiveKey | WrongToken) => true,
        AwsError::Registry(RegistryError::Iam(
            InvalidIdentityToken(_) | ExpiredToken(_) | IdpRejectedClaim(_) | AccessDenied(_),
        )) => unsigned,
        _ => false,
    };
    match is_wrong.then(|| faces.failures().count(peer.addr.ip())) {
        Some(Err(wait)) => AwsError::Throttled(wait),
        _ => error,
    }
}

/// How a call went.
struct Ending<'a> {
    at: Timestamp,
    took: Duration,
    status: StatusCode,
    error: Option<&'a WireError>,
}

/// Finds out which service and operation is meant, and has it served.
async fn route<B>(
    faces: &Faces,
    parts: &Parts,
    body: B,
    peer: Peer,
    notes: &mut Notes,
) -> Result<Answer, AwsError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let target = parts.headers.get("x-amz-target").map(|value| value.to_str().unwrap_or_default());
    if let Some(target) = target.filter(|_| parts.method == Method::POST) {
        let services = tables().iter().copied();
        let found = services
            .filter_map(|service| Some((service, target.strip_prefix(service.target_prefix?)?)))
            .next();
        let Some((service, name)) = found else { return Err(AwsError::UnknownOperation) };
        notes.of(service);
        let operation = service.find(name);
        notes.name(operation, name);
        let limit = operation.map_or(FORM_LIMIT, |operation| operation.body_limit);
        let verified = verify(faces, parts, body, service.name, limit).await?;
        let operation = operation.ok_or_else(|| service.unknown(name));
        return serve(faces, parts, peer, notes, service, operation, verified, Input::from_json).await;
    }
    let form = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form"));
    // A presigned POST has everything in its query, and often neither a body nor a content type.
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let in_query = parts.method != Method::POST || query::read_form(query).contains_key("Action");
    if !in_query && !form {
        return Err(AwsError::UnknownOperation);
    }
    notes.vocabulary = Vocabulary::Query { namespace: STS_NAMESPACE };
    notes.face = Face::Query;
    let body = read_body(faces, parts, body, FORM_LIMIT).await?;
    let members = query::read_form(if in_query { query } else { &body.bytes });
    let member = |name: &str| members.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let (name, version) = (member("Action"), member("Version"));
    let Some(service) = tables().iter().copied().find(|service| service.version == Some(version)) else {
        let (operation, version) = (name.chars().take(128).collect(), version.chars().take(32).collect());
        return Err(AwsError::InvalidAction { operation, version });
    };
    notes.of(service);
    notes.name(service.find(name), name);
    let operation = service.find(name).ok_or_else(|| service.unknown(name));
    let verified = match &operation {
        Ok(operation) if operation.unsigned => {
            notes.unsigned = true;
            unsigned(faces, body)
        }
        _ => verify_buffered(faces, parts, body, service.name).await?,
    };
    serve(faces, parts, peer, notes, service, operation, verified, move |_| Input::from_form(members)).await
}

/// Serves an operation, or its error, to a caller who is authenticated.
#[expect(clippy::too_many_arguments, reason = "one call site per protocol; a struct would only rename them")]
async fn serve(
    faces: &Faces,
    parts: &Parts,
    peer: Peer,
    notes: &mut Notes,
    service: &'static Service,
    operation: Result<&'static Operation, AwsError>,
    verified: Verified,
    read: impl FnOnce(&[u8]) -> Result<Input, AwsError> + Send + 'static,
) -> Result<Answer, AwsError> {
    let Verified { caller, region, body } = verified;
    notes.caller = Some(caller.clone());
    notes.region = Some(region.clone());
    let operation = operation?;
    let host = parts.headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or(parts.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let text = |name| parts.headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let secure = peer.tls || faces.config().secure;
    let origin = Origin {
        address: peer.addr.ip(),
        secure,
        user_agent: text(USER_AGENT),
        referer: text(REFERER),
        region: region.clone(),
        explain: faces.audit().is_on(),
    };
    let caller = caller.from(Arc::new(origin));
    let request = AwsRequest {
        faces,
        service: service.name,
        caller,
        region,
        host: host.to_owned(),
        secure,
        noted: OnceLock::new(),
    };
    request.caller.check_kind(service.name, operation.name)?;
    let principal = &request.caller.identity.principal_id;
    if let Err(wait) = faces.throttle().take(&request.registry_of(None), principal, operation.name) {
        faces.metrics().throttled();
        return Err(AwsError::Throttled(wait));
    }
    let input = if body.bytes.len() <= LARGE {
        read(&body.bytes)?
    } else {
        let bytes = body.bytes.clone();
        tokio::task::spawn_blocking(move || read(&bytes)).await.map_err(|_| AwsError::ShuttingDown)??
    };
    let result = operation.serve(&request, input).await;
    request.registry().note_key_use(&request.caller.identity.access_key_id, service.name, &request.region);
    notes.noted = request.noted.into_inner().unwrap_or_default();
    drop(body);
    result
}

impl Notes {
    fn of(&mut self, service: &Service) {
        self.face = service.face;
        self.source = service.event_source;
        self.vocabulary = service.vocabulary;
    }

    /// Names the operation; text that could be no operation's name stays out of the log.
    fn name(&mut self, operation: Option<&Operation>, called: &str) {
        let is_name = (1..=128).contains(&called.len()) && called.bytes().all(|b| b.is_ascii_alphanumeric());
        match operation {
            Some(operation) => self.operation = operation.name,
            None => self.called = is_name.then(|| called.to_owned()),
        }
    }

    fn record<'a>(
        &'a self,
        ending: &Ending<'a>,
        request_id: &'a str,
        user_agent: &'a str,
        peer: Peer,
    ) -> AuditRecord<'a> {
        AuditRecord {
            at: ending.at,
            source: self.source,
            event: self.called.as_deref().unwrap_or(self.operation),
            region: self.region.as_ref().map_or("", Region::as_str),
            address: peer.addr.ip(),
            user_agent,
            request_id,
            identity: self.caller.as_ref().map(|caller| &*caller.identity),
            needs: &self.noted.needs,
            decided: self.noted.decided.as_deref(),
            status: ending.status.as_u16(),
            error: ending.error.map(|wire| (wire.code, wire.message.as_str())),
            took: ending.took,
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const XML: HeaderValue = HeaderValue::from_static("text/xml");

fn success(notes: &Notes, answer: Answer, request_id: &str) -> Response<Body> {
    match (answer, notes.vocabulary) {
        (Answer::Json(value), _) => respond(StatusCode::OK, JSON, value.to_string().into_bytes()),
        (Answer::Xml(result), Vocabulary::Query { namespace }) => {
            respond(StatusCode::OK, XML, query::xml_response(notes.operation, namespace, &result, request_id))
        }
        (Answer::Empty, Vocabulary::Query { namespace }) => {
            respond(StatusCode::OK, XML, query::xml_empty_response(notes.operation, namespace, request_id))
        }
        (Answer::Xml(_) | Answer::Empty, _) => respond(StatusCode::OK, JSON, Vec::new()),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
