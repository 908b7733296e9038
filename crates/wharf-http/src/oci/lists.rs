//! Answers that list: written once, kept until the repository changes, and streamed where nobody bounds them.

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue, LINK};
use http::{Response, StatusCode};
use wharf_registry::{BodyError, ListStamp, NamePage, RegistryError, WrittenList};

use super::error::OciError;
use super::paging::Paging;
use super::routes::{At, Outcome};
use super::{Call, answer};
use crate::Body;

/// The answer to the same request since the repository last changed, if it is remembered.
pub(crate) fn kept(call: &Call<'_>, at: &At, media_type: HeaderValue) -> Option<Outcome> {
    let kept = call.registry().kept_list(at, call.target())?;
    Some(kept.map(|list| written(&list, media_type)).map_err(OciError::from))
}

/// Answers with a list, and remembers it for the next who ask. The stamp was taken before the list was read.
pub(crate) fn keep(
    call: &Call<'_>,
    stamp: ListStamp,
    list: WrittenList,
    media_type: HeaderValue,
) -> Response<Body> {
    let response = written(&list, media_type);
    call.registry().keep_list(stamp, call.target(), list);
    response
}

/// The answer a written list makes.
pub(crate) fn written(list: &WrittenList, media_type: HeaderValue) -> Response<Body> {
    let mut response = answer::full(StatusCode::OK, list.body.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    if list.filtered {
        headers.insert(answer::OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    // Links are made here of encoded values.
    if let Some(link) = list.link.clone().and_then(|link| HeaderValue::from_maybe_shared(link).ok()) {
        headers.insert(LINK, link);
    }
    response
}

/// All names in one answer, read page by page while it is sent: `first` is the first page, `read` gives the one after
/// a name. What comes or goes meanwhile may be listed or not; all else is, once.
pub(crate) fn streamed<F>(
    head: &str,
    first: NamePage,
    read: impl Fn(String) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = Result<NamePage, RegistryError>> + Send + 'static,
{
    let mut begin = String::with_capacity(head.len() + first.names.len() * 24);
    begin.push_str(head);
    Paging::write_names(&mut begin, &first.names, true);
    let rest = stream::try_unfold(Some(first), move |page: Option<NamePage>| {
        let next = page.map(|page| (page.more, page.names.last().map(|last| read(last.to_owned()))));
        async move {
            let next = match next {
                None => return Ok(None),
                Some((true, Some(next))) => next.await.map_err(|error| broken(&error))?,
                Some(_) => return Ok(Some((Bytes::from_static(b"]}"), None))),
            };
            let mut text = String::with_capacity(next.names.len() * 24);
            Paging::write_names(&mut text, &next.names, false);
            Ok(Some((Bytes::from(text), Some(next))))
        }
    });
    let begin = stream::iter([Ok(Bytes::from(begin))]);
    let mut response =
        answer::with_body(StatusCode::OK, Body::open(Box::pin(stream::StreamExt::chain(begin, rest))));
    response.headers_mut().insert(CONTENT_TYPE, answer::JSON);
    response
}

fn broken(error: &RegistryError) -> BodyError {
    tracing::warn!(%error, "a list broke off");
    BodyError { message: error.to_string() }
}
