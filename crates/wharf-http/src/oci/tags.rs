//! `GET /v2/<name>/tags/list`.

use super::Call;
use super::paging::Paging;
use super::routes::{At, Outcome};

/// `GET /v2/<name>/tags/list` - distribution-spec "Listing Tags". Needs `ecr:ListImages`.
pub(crate) async fn list(call: Call<'_>, at: At) -> Outcome {
    let registry = call.registry();
    let paging = Paging::of(&call.query(), registry.options().dialect)?;
    let (tags, more) = registry.list_tags(&at, paging.after.as_deref(), paging.limit).await?;
    let head = format!("{{\"name\":\"{}\",\"tags\":[", at.name);
    let path = format!("/v2/{}/tags/list", at.name);
    Ok(paging.answer(&head, tags.iter().map(|tag| tag.as_str()), more, &path))
}
