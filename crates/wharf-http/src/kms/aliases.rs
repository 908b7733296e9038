//! CreateAlias, DeleteAlias, ListAliases.

use serde_json::{Value, json};
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, PageRequest};
use wharf_types::RegistryRef;

use super::{ALIAS_NAME, KEY_ID, need, page};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style, Target};
use crate::ecr::output::{Members, time};

/// `CreateAlias`
pub(super) struct CreateAlias {
    name: String,
    target: String,
}

impl Call for CreateAlias {
    const ACTIONS: &'static [&'static str] = &["kms:CreateAlias"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let name = input.required_text("AliasName", &ALIAS_NAME)?;
        let target = input.required_text("TargetKeyId", &KEY_ID)?;
        Ok((Self { name, target }, request.registry_of(None)))
    }

    /// On the alias and on the key.
    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        [&self.name, &self.target].into_iter().map(|name| need(Self::ACTIONS[0], target, name)).collect()
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().kms_create_alias(&target, &self.name, &self.target).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteAlias`
pub(super) struct DeleteAlias {
    name: String,
}

impl Call for DeleteAlias {
    const ACTIONS: &'static [&'static str] = &["kms:DeleteAlias"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let name = input.style(Style::Validation).required_text("AliasName", &ALIAS_NAME)?;
        Ok((Self { name }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.name)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().kms_delete_alias(&target, &self.name).await?;
        Ok(Answer::Empty)
    }
}

/// `ListAliases`
pub(super) struct ListAliases {
    key: Option<String>,
    page: PageRequest,
}

impl Call for ListAliases {
    const ACTIONS: &'static [&'static str] = &["kms:ListAliases"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let key = input.text("KeyId", &KEY_ID)?;
        Ok((Self { key, page: page(&mut input)? }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![target.need(Self::ACTIONS[0])]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let found = request.registry().kms_list_aliases(&target, self.key.as_deref(), self.page).await?;
        let aliases: Vec<Value> = found
            .items
            .into_iter()
            .map(|alias| {
                json!({
                    "AliasName": alias.name,
                    "AliasArn": alias.arn,
                    "TargetKeyId": alias.key_id,
                    "CreationDate": time(alias.created_at),
                    "LastUpdatedDate": time(alias.updated_at),
                })
            })
            .collect();
        Ok(Members::default()
            .with("Aliases", aliases)
            .with("Truncated", found.next.is_some())
            .maybe("NextMarker", found.next)
            .answer())
    }
}
