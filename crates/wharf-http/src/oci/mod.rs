//! The OCI face: OCI Distribution 1.1 under `/v2/`.
//!
//! A request is parsed, authenticated, looked up in the one table (`routes.rs`), authorized and handed to its handler.
//! Order of checks: credential, path, method, rate, permission, existence, meaning.

mod answer;
mod auth;
mod base;
mod blobs;
mod catalog;
mod error;
mod lists;
mod manifests;
mod paging;
mod path;
mod query;
mod receive;
mod referrers;
mod routes;
mod tags;
mod token;
mod uploads;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, REFERER, USER_AGENT};
use http::request::Parts;
use http::{Request, Response};
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Caller, Decided, Origin, Registry, RegistryError};
use wharf_types::{RegistryRef, RepositoryRef, Timestamp};

use self::auth::{Refused, Visitor};
use self::error::OciError;
use self::path::Path;
use self::query::Query;
use self::receive::RequestBody;
use self::routes::{Answering, At, Handler, On, Route, When};
pub use self::routes::{Endpoint, endpoints};
use crate::audit::AuditRecord;
use crate::metrics::Face;
use crate::server::Peer;
use crate::{Body, Faces};

/// Where hosts that hear callers without credentials give out tokens.
pub(crate) const TOKEN_PATH: &str = "/token";

/// A request on its way to its handler, authorized but for what it may mount from.
pub(crate) struct Call<'a> {
    faces: &'a Faces,
    head: &'a Parts,
    route: &'static Route,
    caller: Caller,
    body: RequestBody,
}

impl<'a> Call<'a> {
    fn registry(&self) -> &'a Registry {
        self.faces.registry()
    }

    /// Path and query as they were sent.
    fn target(&self) -> &'a str {
        self.head.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    fn query(&self) -> Query<'a> {
        Query::of(&self.head.uri)
    }

    /// The body; a second call finds nothing.
    fn take_body(&mut self) -> RequestBody {
        std::mem::replace(&mut self.body, RequestBody::nothing())
    }

    /// A witness for the repository a blob shall be mounted from; `None` if the caller may not read it.
    async fn authorize_source(&self, source: RepositoryRef) -> Option<At> {
        let on_source = self.route.needs.iter().filter(|needed| needed.on == On::Source);
        let needs: Vec<Need> = on_source.map(|needed| needed.of(&source.registry, Some(&source))).collect();
        // A row without such a need does not mount.
        if needs.is_empty() {
            return None;
        }
        self.registry().authorize(&self.caller, source, &needs).await.ok()
    }

    /// What the request needs on its own target.
    fn needs(&self, registry: &RegistryRef, repository: Option<&RepositoryRef>) -> Vec<Need> {
        let query = self.query();
        let applies = |when: When| match when {
            When::Always => true,
            When::Body => !self.body.is_empty(),
            When::WholeBlob => query.get("digest").is_some(),
            When::Mount => query.get("mount").is_some(),
        };
        let own = self.route.needs.iter().filter(|needed| needed.on != On::Source && applies(needed.when));
        own.map(|needed| needed.of(registry, repository)).collect()
    }
}

/// What is learnt about a call while it is served, for metrics and the log of calls.
struct Notes {
    operation: &'static str,
    audited: bool,
    visitor: Option<(Caller, RegistryRef)>,
    needs: Vec<Need>,
    decided: Option<String>,
    error: Option<(&'static str, String)>,
}

/// Answers a request whose path begins with `/v2`.
pub async fn handle<B>(faces: &Faces, request: Request<B>, peer: Peer) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Sync + 'static,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let body = RequestBody::new(&head, body, faces.config().limits.body_idle);
    let audited = faces.audit().is_on();
    let begun = if audited { faces.registry().clock().now() } else { Timestamp::from_micros(0) };
    let mut notes =
        Notes { operation: "unknown", audited, visitor: None, needs: Vec::new(), decided: None, error: None };
    let response = match serve(faces, &head, body, peer, &mut notes).await {
        Ok(response) => response,
        Err(refused) => turn_away(faces, &head, peer, refused, &mut notes),
    };
    let took = started.elapsed();
    faces.metrics().request(Face::Oci, notes.operation, response.status().as_u16(), took);
    if audited {
        let user_agent =
            head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (caller, registry) = notes.visitor.unzip();
        let record = AuditRecord {
            at: begun,
            source: "ecr.amazonaws.com",
            event: notes.operation,
            region: registry.as_ref().map_or("", |registry| registry.region.as_str()),
            address: peer.addr.ip(),
            user_agent,
            request_id: &uuid::Uuid::new_v4().to_string(),
            identity: caller.as_ref().map(|caller| &*caller.identity),
            needs: &notes.needs,
            decided: notes.decided.as_deref(),
            status: response.status().as_u16(),
            error: notes.error.as_ref().map(|(code, message)| (*code, message.as_str())),
            took,
        };
        faces.audit().write(record).await;
    }
    response
}

/// The answer to a caller who does not get in.
fn turn_away(faces: &Faces, head: &Parts, peer: Peer, refused: Refused, notes: &mut Notes) -> Response<Body> {
    let error = match refused {
        Refused::NotAuthorized => None,
        Refused::WrongCredential => match faces.failures().count(peer.addr.ip()) {
            Ok(()) => None,
            Err(wait) => Some(OciError::throttled(wait)),
        },
        Refused::With(error) => Some(error),
    };
    match error {
        None => {
            notes.fail("UNAUTHORIZED", "Not Authorized");
            auth::challenge(faces, head, peer)
        }
        Some(error) => {
            notes.fail(error.code(), error.message());
            error.into_response()
        }
    }
}

/// Answers `/token`, where callers of hosts that hear anybody get a token. Elsewhere there is no such place.
pub(crate) async fn token<B>(faces: &Faces, request: Request<B>, peer: Peer) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Sync + 'static,
{
    let (head, body) = request.into_parts();
    let body = RequestBody::new(&head, body, faces.config().limits.body_idle);
    match token::answer(faces, &head, body).await {
        Ok(response) => response,
        Err(refused) => {
            let mut notes = Notes {
                operation: "token",
                audited: false,
                visitor: None,
                needs: Vec::new(),
                decided: None,
                error: None,
            };
            turn_away(faces, &head, peer, refused, &mut notes)
        }
    }
}

async fn serve(
    faces: &Faces,
    head: &Parts,
    body: RequestBody,
    peer: Peer,
    notes: &mut Notes,
) -> Result<Response<Body>, Refused> {
    let found = find(head);
    if let Ok((route, _)) = &found {
        notes.operation = route.operation;
    }
    let Visitor { caller, registry } = auth::visitor(faces, head).await?;
    if notes.audited {
        notes.visitor = Some((caller.clone(), registry.clone()));
    }
    let (route, path) = found.map_err(Refused::With)?;
    if let Err(wait) = faces.throttle().take(&registry, &caller.identity.principal_id, route.operation) {
        faces.metrics().throttled();
        return Err(Refused::With(OciError::throttled(wait)));
    }
    // Who has shown nothing may have something to show: it is asked for instead of refused.
    let hidden = caller.is_anonymous() && !head.headers.contains_key(AUTHORIZATION);
    if hidden && matches!(route.handler, Handler::Base(_)) {
        return Err(Refused::NotAuthorized);
    }
    let caller = caller.from(Arc::new(origin(head, peer, faces.config().secure, &registry, notes.audited)));
    let call = Call { faces, head, route, caller, body };
    let granted = match authorize(&call, registry, &path, notes).await {
        Ok(granted) => granted,
        Err(RegistryError::AccessDenied(_)) if hidden => return Err(Refused::NotAuthorized),
        Err(error) => return Err(Refused::With(error.into())),
    };
    let outcome = match dispatch(call, granted, path) {
        Ok(Answering::Now(outcome)) => outcome,
        Ok(Answering::Later(outcome)) => outcome.await,
        Err(error) => Err(error),
    };
    outcome.map_err(Refused::With)
}

/// Where a request comes from, for conditions of policies.
fn origin(head: &Parts, peer: Peer, secure: bool, registry: &RegistryRef, explain: bool) -> Origin {
    let text = |name| head.headers.get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    Origin {
        address: peer.addr.ip(),
        secure: peer.tls || secure,
        user_agent: text(USER_AGENT),
        referer: text(REFERER),
        region: registry.region.clone(),
        explain,
    }
}

/// What a caller was found to be allowed.
enum Granted {
    /// To be told that this is a registry.
    Nothing,
    Registry(Authorized<RegistryRef>),
    Repository(At),
}

/// The row that serves a request, and what its path names.
fn find(head: &Parts) -> Result<(&'static Route, Path), OciError> {
    let path = Path::parse(head.uri.path())?;
    Ok((routes::find(path.place(), &head.method)?, path))
}

/// Decides whether the call may be served; from memory where that suffices.
async fn authorize(
    call: &Call<'_>,
    registry: RegistryRef,
    path: &Path,
    notes: &mut Notes,
) -> Result<Granted, RegistryError> {
    if matches!(call.route.handler, Handler::Base(_)) {
        return Ok(Granted::Nothing);
    }
    let repository = path.repository().map(|name| registry.repository(name.clone()));
    let needs = call.needs(&registry, repository.as_ref());
    let outcome = match repository {
        Some(repository) => witness(call, repository, &needs).await.map(Granted::Repository),
        None => witness(call, registry, &needs).await.map(Granted::Registry),
    };
    if notes.audited {
        notes.needs = needs;
        notes.decided = match &outcome {
            Ok(Granted::Registry(at)) => at.decided().map(ToString::to_string),
            Ok(Granted::Repository(at)) => at.decided().map(ToString::to_string),
            Err(RegistryError::AccessDenied(denied)) => Some(Decided::from(denied).to_string()),
            Ok(Granted::Nothing) | Err(_) => None,
        };
    }
    outcome
}

async fn witness<T: Clone + Send + Sync>(
    call: &Call<'_>,
    target: T,
    needs: &[Need],
) -> Result<Authorized<T>, RegistryError> {
    match call.registry().authorize_now(&call.caller, &target, needs) {
        Some(answer) => answer,
        None => Box::pin(call.registry().authorize(&call.caller, target, needs)).await,
    }
}

/// Hands a call to its handler, with the witness that it may be served.
fn dispatch(call: Call<'_>, granted: Granted, path: Path) -> Result<Answering<'_>, OciError> {
    Ok(match (call.route.handler, granted, path) {
        (Handler::Base(handler), Granted::Nothing, _) => Answering::Now(Ok(handler())),
        (Handler::Registry(handler), Granted::Registry(at), _) => handler(call, at),
        (Handler::Repository(handler), Granted::Repository(at), _) => handler(call, at),
        (Handler::Manifest(handler), Granted::Repository(at), Path::Manifest(_, reference)) => {
            handler(call, at, reference)
        }
        (
            Handler::Blob(handler),
            Granted::Repository(at),
            Path::Blob(_, digest) | Path::Referrers(_, digest),
        ) => handler(call, at, digest),
        (Handler::Upload(handler), Granted::Repository(at), Path::Upload(_, id)) => handler(call, at, id),
        // The table's test makes sure that handlers fit their places.
        _ => return Err(OciError::unknown_path()),
    })
}

impl Notes {
    fn fail(&mut self, code: &'static str, message: &str) {
        if self.audited {
            self.error = Some((code, message.to_owned()));
        }
    }
}
