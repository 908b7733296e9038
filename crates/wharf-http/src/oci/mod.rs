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
mod uploads;

use std::time::Instant;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Request, Response};
use wharf_iam::decision::Need;
use wharf_registry::{Caller, Registry};
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
    fn authorize_source(&self, source: RepositoryRef) -> Option<At> {
        let on_source = self.route.needs.iter().filter(|needed| needed.on == On::Source);
        let needs: Vec<Need> = on_source.map(|needed| needed.of(&source.registry, Some(&source))).collect();
        // A row without such a need does not mount.
        if needs.is_empty() {
            return None;
        }
        self.registry().authorize(&self.caller, source, &needs).ok()
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
    let mut notes = Notes { operation: "unknown", audited, visitor: None, needs: Vec::new(), error: None };
    let response = match serve(faces, &head, body, &mut notes).await {
        Ok(response) => response,
        Err(Refused::NotAuthorized) => {
            notes.fail("UNAUTHORIZED", "Not Authorized");
            auth::challenge(&head)
        }
        Err(Refused::With(error)) => {
            notes.fail(error.code(), error.message());
            error.into_response()
        }
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
            status: response.status().as_u16(),
            error: notes.error.as_ref().map(|(code, message)| (*code, message.as_str())),
            took,
        };
        faces.audit().write(record).await;
    }
    response
}

async fn serve(
    faces: &Faces,
    head: &Parts,
    body: RequestBody,
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
    let call = Call { faces, head, route, caller, body };
    let outcome = match dispatch(call, registry, path, notes) {
        Ok(Answering::Now(outcome)) => outcome,
        Ok(Answering::Later(outcome)) => outcome.await,
        Err(error) => Err(error),
    };
    outcome.map_err(Refused::With)
}

/// The row that serves a request, and what its path names.
fn find(head: &Parts) -> Result<(&'static Route, Path), OciError> {
    let path = Path::parse(head.uri.path())?;
    Ok((routes::find(path.place(), &head.method)?, path))
}

/// Authorizes the call and hands it to its handler with the witness.
fn dispatch<'a>(
    call: Call<'a>,
    registry: RegistryRef,
    path: Path,
    notes: &mut Notes,
) -> Result<Answering<'a>, OciError> {
    let repository = path.repository().map(|name| registry.repository(name.clone()));
    let needs = call.needs(&registry, repository.as_ref());
    let faces = call.faces.registry();
    let caller = call.caller.clone();
    let at = |repository: Option<RepositoryRef>| -> Result<At, OciError> {
        let repository = repository.ok_or_else(OciError::unknown_path)?;
        Ok(faces.authorize(&caller, repository, &needs)?)
    };
    let answering = match (call.route.handler, path) {
        (Handler::Base(handler), _) => Ok(Answering::Now(Ok(handler()))),
        (Handler::Registry(handler), _) => {
            faces.authorize(&caller, registry, &needs).map(|at| handler(call, at)).map_err(OciError::from)
        }
        (Handler::Repository(handler), _) => at(repository).map(|at| handler(call, at)),
        (Handler::Manifest(handler), Path::Manifest(_, reference)) => {
            at(repository).map(|at| handler(call, at, reference))
        }
        (Handler::Blob(handler), Path::Blob(_, digest) | Path::Referrers(_, digest)) => {
            at(repository).map(|at| handler(call, at, digest))
        }
        (Handler::Upload(handler), Path::Upload(_, id)) => at(repository).map(|at| handler(call, at, id)),
        // The table's test makes sure that handlers fit their places.
        (Handler::Manifest(_) | Handler::Blob(_) | Handler::Upload(_), _) => Err(OciError::unknown_path()),
    };
    if notes.audited {
        notes.needs = needs;
    }
    answering
}

impl Notes {
    fn fail(&mut self, code: &'static str, message: &str) {
        if self.audited {
            self.error = Some((code, message.to_owned()));
        }
    }
}
