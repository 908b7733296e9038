//! `GET /v2/<name>/referrers/<digest>`.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use wharf_registry::{ImageStatus, PageRequest, Referrer, RegistryError};
use wharf_types::{Digest, MediaType};

use super::routes::{At, Outcome};
use super::{Call, answer};

/// Descriptors of a page. They carry annotations, so pages are short enough for clients that read at most 4 MiB.
const PAGE: usize = 100;

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
pub(crate) async fn list(call: Call<'_>, at: At, subject: Digest) -> Outcome {
    let query = call.query();
    // A media type has no spaces, but often a plus sign that clients forget to encode.
    let given = query.all("artifactType").filter(|text| !text.is_empty());
    let types: Vec<String> = given.map(|text| text.replace(' ', "+")).collect();
    let page = PageRequest { limit: PAGE, token: query.get("nextToken").map(|token| token.into_owned()) };
    let page = call.registry().list_referrers(&at, &subject, &types, Some(ImageStatus::Active), page).await?;

    let manifests = page.items.iter().map(Descriptor::from).collect();
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests };
    let json = serde_json::to_vec(&index).map_err(|error| RegistryError::Internal(error.to_string()))?;
    let mut response = answer::full(StatusCode::OK, Bytes::from(json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MediaType::OCI_INDEX));
    if !types.is_empty() {
        headers.insert(answer::OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = &page.next {
        let mut parameters: Vec<(&str, &str)> =
            types.iter().map(|text| ("artifactType", text.as_str())).collect();
        parameters.push(("nextToken", next));
        answer::insert_next_link(headers, &format!("/v2/{}/referrers/{subject}", at.name), &parameters);
    }
    Ok(response)
}
