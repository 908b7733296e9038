//! `GET /v2/<name>/referrers/<digest>`.

use std::collections::BTreeMap;

use http::header::HeaderValue;
use serde::Serialize;
use wharf_registry::{ImageStatus, PageRequest, Referrer, RegistryError, WrittenList};
use wharf_types::{Digest, MediaType};

use super::routes::{Answering, At, Outcome};
use super::{Call, answer, lists};

/// Descriptors of a page. They carry annotations, so pages are short enough for clients that read at most 4 MiB.
const PAGE: usize = 100;

const INDEX: HeaderValue = HeaderValue::from_static(MediaType::OCI_INDEX);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Referrer> for Descriptor<'a> {
    fn from(referrer: &'a Referrer) -> Self {
        Self {
            media_type: referrer.media_type.as_str(),
            digest: referrer.digest.to_string(),
            size: referrer.size,
            artifact_type: referrer.artifact_type.as_deref(),
            annotations: &referrer.annotations,
        }
    }
}

/// `GET /v2/<name>/referrers/<digest>` - distribution-spec "Listing Referrers". Needs `ecr:BatchGetImage`.
pub(crate) fn list(call: Call<'_>, at: At, subject: Digest) -> Answering<'_> {
    match lists::kept(&call, &at, INDEX) {
        Some(kept) => Answering::Now(kept),
        None => Answering::Later(Box::pin(read(call, at, subject))),
    }
}

async fn read(call: Call<'_>, at: At, subject: Digest) -> Outcome {
    let (registry, query) = (call.registry(), call.query());
    // A media type has no spaces, but often a plus sign that clients forget to encode.
    let given = query.all("artifactType").filter(|text| !text.is_empty());
    let types: Vec<String> = given.map(|text| text.replace(' ', "+")).collect();
    let page = PageRequest { limit: PAGE, token: query.get("nextToken").map(|token| token.into_owned()) };
    let stamp = registry.list_stamp(&at).await?;
    let page = registry.list_referrers(&at, &subject, &types, Some(ImageStatus::Active), page).await?;

    let manifests = page.items.iter().map(Descriptor::from).collect();
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    let json = serde_json::to_vec(&index).map_err(|error| RegistryError::Internal(error.to_string()))?;
    let link = page.next.as_deref().map(|next| {
        let mut parameters: Vec<(&str, &str)> =
            types.iter().map(|text| ("artifactType", text.as_str())).collect();
        parameters.push(("nextToken", next));
        answer::next_link(&format!("/v2/{}/referrers/{subject}", at.name), &parameters).into()
    });
    let content = page.items.iter().any(|referrer| !referrer.annotations.is_empty());
    let list = WrittenList { body: json.into(), link, filtered: !types.is_empty(), content };
    // A page token may outlive no rotation of the key it is sealed with.
    if page.next.is_some() {
        return Ok(lists::written(&list, INDEX));
    }
    Ok(lists::keep(&call, stamp, list, INDEX))
}
