//! SetRepositoryPolicy, GetRepositoryPolicy, DeleteRepositoryPolicy, PutRegistryPolicy, GetRegistryPolicy,
//! DeleteRegistryPolicy.

use wharf_registry::Authorized;
use wharf_types::{RegistryRef, RepositoryRef};

use super::output::Members;
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style, Text};

fn of_repository(at: &RepositoryRef, text: String) -> Answer {
    Members::default()
        .with("registryId", at.registry.account.as_str())
        .with("repositoryName", at.name.as_str())
        .with("policyText", text)
        .answer()
}

fn of_registry(of: &RegistryRef, text: String) -> Answer {
    Members::default().with("registryId", of.account.as_str()).with("policyText", text).answer()
}

/// `SetRepositoryPolicy`
pub(super) struct SetRepositoryPolicy {
    text: String,
    force: bool,
}

impl Call for SetRepositoryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:SetRepositoryPolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        // Its length is a matter of the rules: the refusal names the policy as ECR does.
        let text = input.required_text("policyText", &Text::ANY)?;
        let force = input.boolean("force")?.unwrap_or(false);
        Ok((Self { text, force }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let text = request.registry().set_repository_policy(&target, &self.text, self.force).await?;
        Ok(of_repository(&target, text))
    }
}

/// `GetRepositoryPolicy`
pub(super) struct GetRepositoryPolicy;

impl Call for GetRepositoryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:GetRepositoryPolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, shape::repository(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        Ok(of_repository(&target, request.registry().repository_policy(&target).await?))
    }
}

/// `DeleteRepositoryPolicy`
pub(super) struct DeleteRepositoryPolicy;

impl Call for DeleteRepositoryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:DeleteRepositoryPolicy"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, shape::repository(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        Ok(of_repository(&target, request.registry().delete_repository_policy(&target).await?))
    }
}

/// `PutRegistryPolicy`
pub(super) struct PutRegistryPolicy(String);

impl Call for PutRegistryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:PutRegistryPolicy"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let text = input.style(Style::Validation).required_text("policyText", &Text::ANY)?;
        Ok((Self(text), request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let text = request.registry().put_registry_policy(&target, &self.0).await?;
        Ok(of_registry(&target, text))
    }
}

/// `GetRegistryPolicy`
pub(super) struct GetRegistryPolicy;

impl Call for GetRegistryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:GetRegistryPolicy"];
    type Target = RegistryRef;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self, request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        Ok(of_registry(&target, request.registry().registry_policy(&target).await?))
    }
}

/// `DeleteRegistryPolicy`
pub(super) struct DeleteRegistryPolicy;

impl Call for DeleteRegistryPolicy {
    const ACTIONS: &'static [&'static str] = &["ecr:DeleteRegistryPolicy"];
    type Target = RegistryRef;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self, request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        Ok(of_registry(&target, request.registry().delete_registry_policy(&target).await?))
    }
}
