//! PutLifecyclePolicy, GetLifecyclePolicy, DeleteLifecyclePolicy, StartLifecyclePolicyPreview,
//! GetLifecyclePolicyPreview.

use serde_json::{Value, json};
use wharf_registry::{
    Authorized, LifecyclePreview, PreviewFilter, PreviewImage, StoredLifecyclePolicy, TagStatus,
};
use wharf_types::{RepositoryRef, Timestamp};

use super::{output, shape};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text};

/// `PutLifecyclePolicy`
pub(super) struct PutLifecyclePolicy(String);

impl Call for PutLifecyclePolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:PutLifecyclePolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        Ok((Self(input.required_text("lifecyclePolicyText", &Text::ANY)?), repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().put_lifecycle_policy(&target, &self.0).await?;
        Ok(output::of_repository(&target).with("lifecyclePolicyText", self.0).answer())
    }
}

/// `GetLifecyclePolicy`
pub(super) struct GetLifecyclePolicy;

impl Call for GetLifecyclePolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:GetLifecyclePolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, shape::repository(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let policy = request.registry().lifecycle_policy(&target).await?;
        Ok(shown(&target, policy))
    }
}

/// `DeleteLifecyclePolicy`
pub(super) struct DeleteLifecyclePolicy;

impl Call for DeleteLifecyclePolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:DeleteLifecyclePolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, shape::repository(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let policy = request.registry().delete_lifecycle_policy(&target).await?;
        Ok(shown(&target, policy))
    }
}

/// A stored policy. One that was never evaluated was last evaluated at the epoch.
fn shown(repository: &RepositoryRef, policy: StoredLifecyclePolicy) -> Answer {
    let evaluated = policy.evaluated_at.unwrap_or(Timestamp::from_micros(0));
    output::of_repository(repository)
        .with("lifecyclePolicyText", policy.document)
        .with("lastEvaluatedAt", output::time(evaluated))
        .answer()
}

/// `StartLifecyclePolicyPreview`
pub(super) struct StartLifecyclePolicyPreview(Option<String>);

impl Call for StartLifecyclePolicyPreview {
    const ACTIONS: &'static [&'static str] = &["ecr:StartLifecyclePolicyPreview"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        Ok((Self(input.text("lifecyclePolicyText", &Text::ANY)?), repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let document = request.registry().start_lifecycle_preview(&target, self.0.as_deref()).await?;
        let started = output::of_repository(&target).with("lifecyclePolicyText", document);
        Ok(started.with("status", "IN_PROGRESS").answer())
    }
}

/// `GetLifecyclePolicyPreview`
pub(super) struct GetLifecyclePolicyPreview(PreviewFilter);

impl Call for GetLifecyclePolicyPreview {
    const ACTIONS: &'static [&'static str] = &["ecr:GetLifecyclePolicyPreview"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let ids = shape::image_ids(&mut input)?;
        let mut tags = TagStatus::Any;
        if let Some(mut filter) = input.structure("filter")? {
            let status = filter.text("tagStatus", &Text::one_of(&["TAGGED", "UNTAGGED", "ANY"]))?;
            tags = match status.as_deref() {
                Some("TAGGED") => TagStatus::Tagged,
                Some("UNTAGGED") => TagStatus::Untagged,
                _ => TagStatus::Any,
            };
        }
        let page = shape::page(&mut input, 100, 100)?;
        let filter = match ids {
            Some(_) if page.token.is_some() => {
                let constraint = "Member must not be given together with 'imageIds'";
                return Err(input.refuse("nextToken", "", constraint));
            }
            Some(ids) => PreviewFilter::Images(ids),
            None => PreviewFilter::Page(tags, page),
        };
        Ok((Self(filter), repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let preview = request.registry().lifecycle_preview(&target, self.0).await?;
        let summary = summary(&preview);
        let results: Vec<Value> = preview.images.iter().map(result).collect();
        Ok(output::of_repository(&target)
            .with("lifecyclePolicyText", preview.document)
            .with("status", preview.status.as_str())
            .with("previewResults", results)
            .with("summary", summary)
            .maybe("nextToken", preview.next)
            .answer())
    }
}

/// `LifecyclePolicyPreviewSummary`
fn summary(preview: &LifecyclePreview) -> Value {
    let transitioning = (preview.archiving > 0)
        .then(|| json!([{"targetStorageClass": "ARCHIVE", "imageTotalCount": preview.archiving}]));
    output::Members::default()
        .with("expiringImageTotalCount", preview.expiring)
        .maybe("transitioningImageTotalCounts", transitioning)
        .into()
}

/// `LifecyclePolicyPreviewResult`
fn result(image: &PreviewImage) -> Value {
    let action = match image.archive {
        true => json!({"type": "TRANSITION", "targetStorageClass": "ARCHIVE"}),
        false => json!({"type": "EXPIRE"}),
    };
    let tags: Vec<&str> = image.tags.iter().map(|tag| tag.as_str()).collect();
    json!({
        "imageTags": tags,
        "imageDigest": image.digest.to_string(),
        "imagePushedAt": output::time(image.pushed_at),
        "action": action,
        "appliedRulePriority": image.rule_priority,
        "storageClass": if image.archived { "ARCHIVE" } else { "STANDARD" },
    })
}
