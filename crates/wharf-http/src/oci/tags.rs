//! `GET /v2/<name>/tags/list`.

use super::Call;
use super::paging::{Paging, STREAMED};
use super::routes::{Answering, At, Outcome};
use super::{answer, lists};

/// `GET /v2/<name>/tags/list` - distribution-spec "Listing Tags". Needs `ecr:ListImages`.
pub(crate) fn list(call: Call<'_>, at: At) -> Answering<'_> {
    match lists::kept(&call, &at, answer::JSON) {
        Some(kept) => Answering::Now(kept),
        None => Answering::Later(Box::pin(read(call, at))),
    }
}

async fn read(call: Call<'_>, at: At) -> Outcome {
    let registry = call.registry();
    let paging = Paging::of(&call.query(), registry.options().dialect)?;
    let head = format!("{{\"name\":\"{}\",\"tags\":[", at.name);
    let stamp = registry.list_stamp(&at).await?;
    let limit = paging.limit.unwrap_or(STREAMED);
    let page = registry.list_tags(&at, paging.after.as_deref(), limit).await?;
    if page.more && paging.limit.is_none() {
        let registry = registry.clone();
        return Ok(lists::streamed(&head, page, move |last| {
            let (registry, at) = (registry.clone(), at.clone());
            async move { registry.list_tags(&at, Some(&last), STREAMED).await }
        }));
    }
    let list = paging.write(&head, &page, &format!("/v2/{}/tags/list", at.name));
    Ok(lists::keep(&call, stamp, list, answer::JSON))
}
