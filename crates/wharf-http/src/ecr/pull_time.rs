//! RegisterPullTimeUpdateExclusion, DeregisterPullTimeUpdateExclusion, ListPullTimeUpdateExclusions.

use serde_json::Value;
use wharf_registry::{Authorized, PageRequest};
use wharf_types::RegistryRef;

use super::output::{self, Members};
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style};

fn principal(input: Input) -> Result<String, AwsError> {
    input.style(Style::Validation).required_text("principalArn", &shape::PRINCIPAL_ARN)
}

/// `RegisterPullTimeUpdateExclusion`
pub(super) struct RegisterPullTimeUpdateExclusion {
    principal: String,
}

impl Call for RegisterPullTimeUpdateExclusion {
    const ACTIONS: &'static [&'static str] = &["ecr:RegisterPullTimeUpdateExclusion"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self { principal: principal(input)? }, request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let created_at = request.registry().register_pull_time_exclusion(&target, &self.principal).await?;
        Ok(Members::default()
            .with("principalArn", self.principal)
            .with("createdAt", output::time(created_at))
            .answer())
    }
}

/// `DeregisterPullTimeUpdateExclusion`
pub(super) struct DeregisterPullTimeUpdateExclusion {
    principal: String,
}

impl Call for DeregisterPullTimeUpdateExclusion {
    const ACTIONS: &'static [&'static str] = &["ecr:DeregisterPullTimeUpdateExclusion"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self { principal: principal(input)? }, request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().deregister_pull_time_exclusion(&target, &self.principal).await?;
        Ok(Members::default().with("principalArn", self.principal).answer())
    }
}

/// `ListPullTimeUpdateExclusions`
pub(super) struct ListPullTimeUpdateExclusions(PageRequest);

impl Call for ListPullTimeUpdateExclusions {
    const ACTIONS: &'static [&'static str] = &["ecr:ListPullTimeUpdateExclusions"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let page = shape::page(&mut input.style(Style::Validation), 100, 1000)?;
        Ok((Self(page), request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let found = request.registry().list_pull_time_exclusions(&target, self.0).await?;
        Ok(output::page("pullTimeUpdateExclusions", found, Value::from))
    }
}
