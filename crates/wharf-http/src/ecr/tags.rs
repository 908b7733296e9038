//! TagResource, UntagResource, ListTagsForResource.

use serde_json::{Value, json};
use wharf_iam::decision::Need;
use wharf_registry::Authorized;
use wharf_types::{Arn, RepositoryRef};

use super::{output, shape};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Text};

/// `resourceArn`: only repositories have tags, and only those of the region that was asked.
fn resource(input: &mut Input, request: &AwsRequest<'_>) -> Result<RepositoryRef, AwsError> {
    let text = input.required_text("resourceArn", &Text::ANY)?;
    let arn = text.parse::<Arn>().ok().filter(|arn| arn.partition.starts_with("aws"));
    let own_region = request.registry_of(None).region;
    arn.and_then(|arn| arn.as_repository())
        .filter(|repository| repository.registry.region == own_region)
        .ok_or_else(|| input.refuse("resourceArn", &text, "Invalid ARN"))
}

/// `TagResource`
pub(super) struct TagResource(Vec<(String, String)>);

impl Call for TagResource {
    const ACTIONS: &'static [&'static str] = &["ecr:TagResource"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = resource(&mut input, request)?;
        let tags = shape::tags(&mut input, "tags")?;
        Ok((Self(input.required("tags", tags)?), repository))
    }

    fn needs(&self, target: &RepositoryRef) -> Vec<Need> {
        let keys = self.0.iter().map(|(key, _)| key.clone()).collect();
        let need = target.need(Self::ACTIONS[0]).with("aws:TagKeys", keys);
        vec![
            self.0.iter().fold(need, |need, (key, value)| {
                need.with(format!("aws:RequestTag/{key}"), vec![value.clone()])
            }),
        ]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().tag_resource(&target, self.0).await?;
        Ok(output::Members::default().answer())
    }
}

/// `UntagResource`
pub(super) struct UntagResource(Vec<String>);

impl Call for UntagResource {
    const ACTIONS: &'static [&'static str] = &["ecr:UntagResource"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = resource(&mut input, request)?;
        Ok((Self(input.required_texts("tagKeys", 0..=usize::MAX, &Text::ANY)?), repository))
    }

    fn needs(&self, target: &RepositoryRef) -> Vec<Need> {
        vec![target.need(Self::ACTIONS[0]).with("aws:TagKeys", self.0.clone())]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().untag_resource(&target, &self.0).await?;
        Ok(output::Members::default().answer())
    }
}

/// `ListTagsForResource`
pub(super) struct ListTagsForResource;

impl Call for ListTagsForResource {
    const ACTIONS: &'static [&'static str] = &["ecr:ListTagsForResource"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, resource(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let tags = request.registry().list_resource_tags(&target).await?;
        let tags: Vec<Value> =
            tags.into_iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        Ok(output::Members::default().with("tags", tags).answer())
    }
}
