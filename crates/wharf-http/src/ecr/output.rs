//! Output shapes that several operations share. What is absent is left out; times are seconds with milliseconds.

use serde_json::{Map, Value, json};
use wharf_registry::{ImageDetail, ImageFailure, ImageId, ImageRef, Page, Repository};
use wharf_types::{Mutability, RepositoryRef, Timestamp};

use crate::aws::{Answer, AwsRequest};

/// A structure that is built member by member.
#[derive(Default)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a member if it has a value.
    pub(crate) fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The structure as the answer.
    pub(crate) fn answer(self) -> Answer {
        Answer::Json(self.into())
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Value {
        Value::Object(members.0)
    }
}

/// A time as the JSON protocols write it.
pub(crate) fn time(at: Timestamp) -> Value {
    // Whole milliseconds are exact as a double for the next two hundred thousand years.
    let millis = at.as_micros().div_euclid(1000);
    json!(millis as f64 / 1000.0)
}

/// `registryId` and `repositoryName`.
pub(super) fn of_repository(repository: &RepositoryRef) -> Members {
    Members::default()
        .with("registryId", repository.registry.account.as_str())
        .with("repositoryName", repository.name.as_str())
}

/// One page of a listing.
pub(crate) fn page<T>(name: &str, page: Page<T>, item: impl FnMut(T) -> Value) -> Answer {
    let items: Vec<Value> = page.items.into_iter().map(item).collect();
    Members::default().with(name, items).maybe("nextToken", page.next).answer()
}

/// `Repository`.
pub(super) fn repository(request: &AwsRequest<'_>, repository: &Repository) -> Value {
    let encryption = Members::default()
        .with("encryptionType", repository.domain.encryption.type_name())
        .maybe("kmsKey", repository.domain.encryption.kms_key());
    let members = of_repository(&repository.name)
        .with("repositoryArn", repository.name.arn())
        .with("repositoryUri", request.repository_uri(&repository.name))
        .with("createdAt", time(repository.created_at))
        .with("imageScanningConfiguration", json!({"scanOnPush": repository.scan_on_push}))
        .with("encryptionConfiguration", encryption);
    mutability(members, &repository.mutability).into()
}

/// `imageTagMutability`, and the exclusion filters where there are any.
pub(super) fn mutability(members: Members, mutability: &Mutability) -> Members {
    let filters: Vec<Value> = mutability
        .filters()
        .iter()
        .map(|filter| json!({"filterType": "WILDCARD", "filter": filter.as_str()}))
        .collect();
    let members = members.with("imageTagMutability", mutability.name());
    members.maybe("imageTagMutabilityExclusionFilters", (!filters.is_empty()).then_some(filters))
}

/// `ImageIdentifier` of an image that exists.
pub(super) fn image_ref(image: &ImageRef) -> Value {
    Members::default()
        .with("imageDigest", image.digest.to_string())
        .maybe("imageTag", image.tag.as_ref().map(|tag| tag.as_str()))
        .into()
}

/// `ImageFailure`: the id as it was asked for.
pub(super) fn image_failure(failure: ImageFailure) -> Value {
    let ImageFailure { id: ImageId { digest, tag }, code, reason } = failure;
    let id = Members::default().maybe("imageDigest", digest).maybe("imageTag", tag);
    Members::default()
        .with("imageId", id)
        .with("failureCode", code.as_str())
        .with("failureReason", reason)
        .into()
}

/// `ImageDetail`.
pub(super) fn image_detail(repository: &RepositoryRef, image: ImageDetail) -> Value {
    let tags: Vec<Value> = image.tags.iter().map(|tag| tag.as_str().into()).collect();
    of_repository(repository)
        .with("imageDigest", image.digest.to_string())
        .maybe("imageTags", (!tags.is_empty()).then_some(tags))
        .with("imageSizeInBytes", image.size)
        .with("imagePushedAt", time(image.pushed_at))
        .with("imageManifestMediaType", image.media_type.as_str())
        .maybe("artifactMediaType", image.artifact_type)
        .maybe("lastRecordedPullTime", image.pulled_at.map(time))
        .maybe("subjectManifestDigest", image.subject.map(|digest| digest.to_string()))
        .with("imageStatus", image.status.as_str())
        .maybe("lastArchivedAt", image.archived_at.map(time))
        .maybe("lastActivatedAt", image.activated_at.map(time))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_milliseconds() {
        assert_eq!(time(Timestamp::from_micros(1_700_000_000_123_456)).to_string(), "1700000000.123");
        assert_eq!(time(Timestamp::from_micros(1_700_000_000_000_000)).to_string(), "1700000000.0");
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let value: Value =
            Members::default().with("a", 1).maybe("b", None::<String>).maybe("c", Some("x")).into();
        assert_eq!(value, json!({"a": 1, "c": "x"}));
    }
}
