//! GetAccountSetting, PutAccountSetting.

use wharf_iam::decision::Need;
use wharf_registry::Authorized;
use wharf_types::RegistryRef;

use super::output::Members;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style, Target, Text};

/// `AccountSettingName`.
const NAME: Text = Text::length(1, 64);

/// `GetAccountSetting`
pub(super) struct GetAccountSetting {
    name: String,
}

impl Call for GetAccountSetting {
    const ACTIONS: &'static [&'static str] = &["ecr:GetAccountSetting"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let name = input.style(Style::Validation).required_text("name", &NAME)?;
        Ok((Self { name }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![target.need(Self::ACTIONS[0]).with("ecr:AccountSetting", vec![self.name.clone()])]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let value = request.registry().account_setting(&target, &self.name).await?;
        Ok(Members::default().with("name", self.name).with("value", value).answer())
    }
}

/// `PutAccountSetting`
pub(super) struct PutAccountSetting {
    name: String,
    value: String,
}

impl Call for PutAccountSetting {
    const ACTIONS: &'static [&'static str] = &["ecr:PutAccountSetting"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let name = input.required_text("name", &NAME)?;
        let value = input.required_text("value", &Text::ANY)?;
        Ok((Self { name, value }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![target.need(Self::ACTIONS[0]).with("ecr:AccountSetting", vec![self.name.clone()])]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let value = request.registry().put_account_setting(&target, &self.name, &self.value).await?;
        Ok(Members::default().with("name", self.name).with("value", value).answer())
    }
}
