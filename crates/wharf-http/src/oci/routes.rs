//! The one table of the OCI face: place and method, what a request needs, and who answers it. A handler of a repository
//! is given its witness by the dispatcher, so an endpoint that is not in the table, or lists no need, cannot be served.

use futures_util::future::BoxFuture;
use http::{Method, Response};
use wharf_iam::decision::Need;
use wharf_registry::Authorized;
use wharf_types::{Digest, Reference, RegistryRef, RepositoryRef, UploadId};

use super::error::OciError;
use super::path::Place;
use super::{Call, base, blobs, catalog, manifests, referrers, tags, uploads};
use crate::Body;

/// Proof that the caller may act on the repository.
pub(crate) type At = Authorized<RepositoryRef>;

/// What a handler makes of a call.
pub(crate) type Outcome = Result<Response<Body>, OciError>;

/// An outcome, at once where caches suffice: the hot path neither allocates a future nor waits.
pub(crate) enum Answering<'a> {
    Now(Outcome),
    Later(BoxFuture<'a, Outcome>),
}

/// Who answers, and what it is given.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Any genuine caller is answered.
    Base(fn() -> Response<Body>),
    Registry(for<'a> fn(Call<'a>, Authorized<RegistryRef>) -> Answering<'a>),
    Repository(for<'a> fn(Call<'a>, At) -> Answering<'a>),
    Manifest(for<'a> fn(Call<'a>, At, Reference) -> Answering<'a>),
    Blob(for<'a> fn(Call<'a>, At, Digest) -> Answering<'a>),
    Upload(for<'a> fn(Call<'a>, At, UploadId) -> Answering<'a>),
}

/// One permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The IAM action.
    pub(crate) action: &'static str,
    /// What it is checked on.
    pub(crate) on: On,
    /// Which requests need it.
    pub(crate) when: When,
}

/// What a permission is checked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// Every repository of the registry: `repository/*`.
    Repositories,
    /// The repository of the path.
    Repository,
    /// The repository a blob is mounted from. Refused, the mount becomes an ordinary upload.
    Source,
}

/// Which requests need a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Those with a body.
    Body,
    /// Those that bring a whole blob: `POST` with `digest`.
    WholeBlob,
    /// Those that mount: `POST` with `mount`.
    Mount,
}

/// One row of the table.
pub(crate) struct Route {
    pub(crate) place: Place,
    pub(crate) method: Method,
    /// The API's name of what is done, for audit records, metrics and rates (ECR logs container clients under these).
    pub(crate) operation: &'static str,
    pub(crate) needs: &'static [Needed],
    pub(crate) handler: Handler,
}

/// A row as the documentation shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// E.g. `PUT`.
    pub method: Method,
    /// E.g. `/v2/<name>/manifests/<reference>`.
    pub path: &'static str,
    /// The IAM actions, each with the requests that need it and what it is checked on, in words; empty = any caller
    /// with a genuine token.
    pub needs: Vec<(&'static str, &'static str)>,
}

/// Every endpoint of the OCI face, for the documentation and for tests.
pub fn endpoints() -> Vec<Endpoint> {
    let shown = |needed: &Needed| (needed.action, needed.words());
    ROUTES
        .iter()
        .map(|route| Endpoint {
            method: route.method.clone(),
            path: route.place.pattern(),
            needs: route.needs.iter().map(shown).collect(),
        })
        .collect()
}

impl Needed {
    const fn always(action: &'static str) -> Self {
        Self { action, on: On::Repository, when: When::Always }
    }

    const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    const fn on(self, on: On) -> Self {
        Self { on, ..self }
    }

    fn words(&self) -> &'static str {
        match (self.on, self.when) {
            (On::Repositories, _) => "every repository, `repository/*`",
            (On::Source, _) => "the repository mounted from, with `mount`",
            (On::Repository, When::Always) => "the repository",
            (On::Repository, When::Body) => "the repository, with a body",
            (On::Repository, When::WholeBlob) => "the repository, with `digest`",
            (On::Repository, When::Mount) => "the repository, with `mount`",
        }
    }

    /// The need, of a resource and the account that owns it.
    pub(crate) fn of(&self, registry: &RegistryRef, repository: Option<&RepositoryRef>) -> Need {
        match repository {
            Some(repository) => Need::new(self.action, repository.arn(), repository.registry.account),
            None => Need::new(self.action, registry.repositories_arn(), registry.account),
        }
    }
}

/// The row of a place and a method.
///
/// # Errors
/// 405 that lists the place's methods.
pub(crate) fn find(place: Place, method: &Method) -> Result<&'static Route, OciError> {
    let mut rows = ROUTES.iter().filter(|route| route.place == place);
    rows.find(|route| route.method == *method).ok_or_else(|| {
        let rows = ROUTES.iter().filter(|route| route.place == place);
        let methods: Vec<&str> = rows.map(|route| route.method.as_str()).collect();
        OciError::method_not_allowed(&methods.join(", "))
    })
}

/// An outcome that has to be waited for.
fn later<'a>(outcome: impl Future<Output = Outcome> + Send + 'a) -> Answering<'a> {
    Answering::Later(Box::pin(outcome))
}

const fn row(
    method: Method,
    place: Place,
    operation: &'static str,
    needs: &'static [Needed],
    handler: Handler,
) -> Route {
    Route { place, method, operation, needs, handler }
}

const DESCRIBE: &[Needed] = &[Needed::always("ecr:DescribeRepositories").on(On::Repositories)];
const LIST: &[Needed] = &[Needed::always("ecr:ListImages")];
const GET_IMAGE: &[Needed] = &[Needed::always("ecr:BatchGetImage")];
const PUT_IMAGE: &[Needed] = &[Needed::always("ecr:PutImage")];
const DELETE: &[Needed] = &[Needed::always("ecr:BatchDeleteImage")];
const HEAD_BLOB: &[Needed] = &[Needed::always("ecr:BatchCheckLayerAvailability")];
const GET_BLOB: &[Needed] = &[Needed::always("ecr:GetDownloadUrlForLayer")];
const UPLOAD: &[Needed] = &[Needed::always("ecr:UploadLayerPart")];
const START: &[Needed] = &[
    Needed::always("ecr:InitiateLayerUpload"),
    Needed::always("ecr:UploadLayerPart").when(When::WholeBlob),
    Needed::always("ecr:CompleteLayerUpload").when(When::WholeBlob),
    Needed::always("ecr:GetDownloadUrlForLayer").when(When::Mount).on(On::Source),
];
const FINISH: &[Needed] =
    &[Needed::always("ecr:UploadLayerPart").when(When::Body), Needed::always("ecr:CompleteLayerUpload")];

/// The table; the most frequent requests come first.
#[rustfmt::skip]
static ROUTES: &[Route] = &[
    row(Method::GET, Place::Manifest, "BatchGetImage", GET_IMAGE, Handler::Manifest(manifests::get)),
    row(Method::HEAD, Place::Manifest, "BatchGetImage", GET_IMAGE, Handler::Manifest(manifests::get)),
    row(Method::GET, Place::Blob, "GetDownloadUrlForLayer", GET_BLOB, Handler::Blob(|call, at, digest| later(blobs::get(call, at, digest)))),
    row(Method::HEAD, Place::Blob, "BatchCheckLayerAvailability", HEAD_BLOB, Handler::Blob(blobs::head)),
    row(Method::POST, Place::Uploads, "InitiateLayerUpload", START, Handler::Repository(|call, at| later(uploads::start(call, at)))),
    row(Method::PATCH, Place::Upload, "UploadLayerPart", UPLOAD, Handler::Upload(|call, at, id| later(uploads::append(call, at, id)))),
    row(Method::PUT, Place::Upload, "CompleteLayerUpload", FINISH, Handler::Upload(|call, at, id| later(uploads::finish(call, at, id)))),
    row(Method::GET, Place::Upload, "GetLayerUpload", UPLOAD, Handler::Upload(|call, at, id| later(uploads::status(call, at, id)))),
    row(Method::HEAD, Place::Upload, "GetLayerUpload", UPLOAD, Handler::Upload(|call, at, id| later(uploads::status(call, at, id)))),
    row(Method::DELETE, Place::Upload, "CancelLayerUpload", UPLOAD, Handler::Upload(|call, at, id| later(uploads::cancel(call, at, id)))),
    row(Method::PUT, Place::Manifest, "PutImage", PUT_IMAGE, Handler::Manifest(|call, at, reference| later(manifests::put(call, at, reference)))),
    row(Method::DELETE, Place::Manifest, "BatchDeleteImage", DELETE, Handler::Manifest(|call, at, reference| later(manifests::delete(call, at, reference)))),
    row(Method::DELETE, Place::Blob, "DeleteLayer", DELETE, Handler::Blob(|call, at, digest| later(blobs::delete(call, at, digest)))),
    row(Method::GET, Place::Referrers, "ListImageReferrers", GET_IMAGE, Handler::Blob(referrers::list)),
    row(Method::HEAD, Place::Referrers, "ListImageReferrers", GET_IMAGE, Handler::Blob(referrers::list)),
    row(Method::GET, Place::Tags, "ListImages", LIST, Handler::Repository(tags::list)),
    row(Method::HEAD, Place::Tags, "ListImages", LIST, Handler::Repository(tags::list)),
    row(Method::GET, Place::Catalog, "DescribeRepositories", DESCRIBE, Handler::Registry(|call, at| later(catalog::list(call, at)))),
    row(Method::HEAD, Place::Catalog, "DescribeRepositories", DESCRIBE, Handler::Registry(|call, at| later(catalog::list(call, at)))),
    row(Method::GET, Place::Base, "Ping", &[], Handler::Base(base::ping)),
    row(Method::HEAD, Place::Base, "Ping", &[], Handler::Base(base::ping)),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use wharf_iam::actions::{self, ActionResource};

    use super::*;

    #[test]
    fn every_need_is_an_action_of_iam_on_the_right_resource() {
        for route in ROUTES {
            for needed in route.needs {
                let action = actions::find(needed.action).unwrap_or_else(|| panic!("{needed:?}"));
                assert_eq!(action.resource, ActionResource::Repository, "{needed:?}");
            }
        }
    }

    #[test]
    fn only_the_base_needs_nothing_and_every_other_row_always_needs_something() {
        for route in ROUTES {
            let always =
                route.needs.iter().any(|needed| needed.when == When::Always && needed.on != On::Source);
            assert_eq!(always, route.place != Place::Base, "{} {}", route.method, route.place.pattern());
        }
    }

    #[test]
    fn handlers_take_what_their_places_hold_and_no_row_is_there_twice() {
        let mut seen = HashSet::new();
        for route in ROUTES {
            assert!(
                seen.insert((route.place, route.method.clone())),
                "{} {}",
                route.method,
                route.place.pattern()
            );
            let fits = match route.handler {
                Handler::Base(_) => route.place == Place::Base,
                Handler::Registry(_) => route.place == Place::Catalog,
                Handler::Repository(_) => matches!(route.place, Place::Tags | Place::Uploads),
                Handler::Manifest(_) => route.place == Place::Manifest,
                Handler::Blob(_) => matches!(route.place, Place::Blob | Place::Referrers),
                Handler::Upload(_) => route.place == Place::Upload,
            };
            assert!(fits, "{} {}", route.method, route.place.pattern());
        }
        for place in Place::ALL {
            assert!(ROUTES.iter().any(|route| route.place == place), "{place:?}");
        }
    }

    #[test]
    fn other_methods_are_refused_with_a_list_of_those_there_are() {
        let refused = find(Place::Blob, &Method::PATCH).err().unwrap().into_response();
        assert_eq!(refused.status(), 405);
        assert_eq!(refused.headers()["allow"], "GET, HEAD, DELETE");
        assert!(find(Place::Blob, &Method::GET).is_ok());
    }

    #[test]
    fn the_documentation_lists_every_endpoint() {
        let endpoints = endpoints();
        assert_eq!(endpoints.len(), ROUTES.len());
        let put =
            endpoints.iter().find(|row| row.method == Method::PUT && row.path.ends_with("<id>")).unwrap();
        assert_eq!(
            put.needs,
            [
                ("ecr:UploadLayerPart", "the repository, with a body"),
                ("ecr:CompleteLayerUpload", "the repository")
            ]
        );
    }
}
