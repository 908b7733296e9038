//! `/v2/<name>/manifests/<reference>`: pull, push and delete manifests and tags.

use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use wharf_registry::{PutImage, RegistryError, StoredManifest};
use wharf_types::{Digest, Manifest, ManifestError, MediaType, Reference, Tag};

use super::error::OciError;
use super::routes::{Answering, At, Outcome};
use super::{Call, answer};
use crate::Body;

/// Manifests longer than this are parsed off the reactor.
const LONG: usize = 64 * 1024;

/// `GET` and `HEAD /v2/<name>/manifests/<reference>` - distribution-spec "Pulling manifests". Needs
/// `ecr:BatchGetImage`. Answered at once where caches suffice.
pub(crate) fn get(call: Call<'_>, at: At, reference: Reference) -> Answering<'_> {
    let accept = accepted(&call, &reference);
    if let Some(found) = call.registry().get_manifest_now(&at, &reference, &accept) {
        return Answering::Now(found.map(|manifest| pulled(&call, &at, &manifest)).map_err(OciError::from));
    }
    Answering::Later(Box::pin(async move {
        let manifest = call.registry().get_manifest(&at, &reference, &accept).await?;
        Ok(pulled(&call, &at, &manifest))
    }))
}

/// What the client accepts, as far as it matters: by tag, where the dialect converts. Empty = anything.
fn accepted(call: &Call<'_>, reference: &Reference) -> Vec<MediaType> {
    let converts = call.registry().options().dialect.converts_manifests();
    if converts && matches!(reference, Reference::Tag(_)) { accept(&call.head.headers) } else { Vec::new() }
}

/// The media types of `Accept`, which may come as several lines; empty where anything goes.
fn accept(headers: &HeaderMap) -> Vec<MediaType> {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let ranges: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let wild = |range: &&str| range.starts_with("*/*") || range.starts_with("application/*");
    if ranges.iter().any(wild) {
        return Vec::new();
    }
    ranges.into_iter().filter_map(MediaType::parse).collect()
}

fn pulled(call: &Call<'_>, at: &At, manifest: &StoredManifest) -> Response<Body> {
    let is_head = call.head.method == Method::HEAD;
    let held = answer::is_held(&call.head.headers, &manifest.digest);
    let mut response = if held {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else if is_head {
        answer::empty(StatusCode::OK)
    } else {
        call.registry().note_pull(at, manifest);
        answer::full(StatusCode::OK, manifest.bytes.clone())
    };
    let headers = response.headers_mut();
    answer::insert_digest_and_etag(headers, &manifest.digest);
    if call.registry().options().dialect.converts_manifests() {
        headers.insert(VARY, HeaderValue::from_static("Authorization, Accept"));
    }
    if !held {
        headers.insert(CONTENT_TYPE, answer::content_type(&manifest.media_type));
        if is_head {
            answer::insert_length(headers, manifest.bytes.len() as u64);
        }
    }
    response
}

/// `PUT /v2/<name>/manifests/<reference>` - distribution-spec "Pushing Manifests". Needs `ecr:PutImage`. By digest,
/// `tag` parameters may bring tags along.
pub(crate) async fn put(mut call: Call<'_>, at: At, reference: Reference) -> Outcome {
    let declared = declared(&call.head.headers)?;
    let (digest, tags) = match reference {
        Reference::Tag(tag) => (None, vec![tag]),
        Reference::Digest(digest) => (Some(digest), tag_parameters(&call)?),
    };
    let announced: Vec<Tag> = if digest.is_some() { tags.clone() } else { Vec::new() };
    let limit = call.registry().options().limits.manifest;
    let bytes = call.take_body().read(limit).await?;
    let manifest = if bytes.len() > LONG {
        let parsed = tokio::task::spawn_blocking(move || Manifest::parse(bytes, declared.as_ref())).await;
        parsed.map_err(|error| RegistryError::Internal(error.to_string()))?
    } else {
        Manifest::parse(bytes, declared.as_ref())
    };
    let manifest = manifest.map_err(RegistryError::from)?;
    let put = call.registry().put_image(&at, PutImage { manifest, digest, tags }).await?;
    Ok(created(&at, &put.digest, put.subject.as_ref(), &announced))
}

fn created(at: &At, digest: &Digest, subject: Option<&Digest>, tags: &[Tag]) -> Response<Body> {
    let mut response = answer::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    answer::insert_location(headers, format!("/v2/{}/manifests/{digest}", at.name));
    answer::insert_digest(headers, digest);
    if let Some(subject) = subject {
        answer::insert_text(headers, answer::OCI_SUBJECT, subject.to_string());
    }
    if !tags.is_empty() {
        let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        answer::insert_text(headers, answer::OCI_TAG, names.join(", "));
    }
    response
}

/// The media type the request declares. `application/json` declares nothing.
fn declared(headers: &HeaderMap) -> Result<Option<MediaType>, OciError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match MediaType::parse(&text) {
        Some(media_type) if media_type.as_str() == "application/json" => Ok(None),
        Some(media_type) => Ok(Some(media_type)),
        None => Err(RegistryError::from(ManifestError::Unsupported(text.chars().take(160).collect())).into()),
    }
}

/// The `tag` parameters, once each.
fn tag_parameters(call: &Call<'_>) -> Result<Vec<Tag>, OciError> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in call.query().all("tag") {
        let refused = |error: wharf_types::TagError| {
            OciError::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string())
        };
        let tag = text.parse().map_err(refused)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// `DELETE /v2/<name>/manifests/<reference>` - distribution-spec "Content Management". Needs `ecr:BatchDeleteImage`.
/// By digest the image and all its tags go, by tag the tag.
pub(crate) async fn delete(call: Call<'_>, at: At, reference: Reference) -> Outcome {
    call.registry().delete_reference(&at, &reference).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_lines_are_joined() {
        let mut headers = HeaderMap::new();
        let joined =
            "application/vnd.oci.image.index.v1+json;q=0.9, application/vnd.oci.image.manifest.v1+json";
        for line in [joined, "application/vnd.docker.distribution.manifest.v2+json", "junk"] {
            headers.append(ACCEPT, HeaderValue::from_static(line));
        }
        let accepted = accept(&headers);
        let texts: Vec<&str> = accepted.iter().map(MediaType::as_str).collect();
        assert_eq!(texts, [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST]);
        headers.append(ACCEPT, HeaderValue::from_static("*/*"));
        assert!(accept(&headers).is_empty(), "anything goes");
    }

    #[test]
    fn what_a_push_declares() {
        let declared_as = |text: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
            declared(&headers).map(|media_type| media_type.map(|media_type| media_type.to_string()))
        };
        assert_eq!(
            declared_as("application/vnd.oci.image.index.v1+json; charset=utf-8").unwrap().as_deref(),
            Some(MediaType::OCI_INDEX)
        );
        assert_eq!(declared_as("application/json").unwrap(), None);
        assert_eq!(declared_as("no type").unwrap_err().code(), "MANIFEST_INVALID");
        assert_eq!(declared(&HeaderMap::new()).unwrap(), None);
    }
}
