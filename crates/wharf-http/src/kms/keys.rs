//! CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion, GetKeyPolicy,
//! GetKeyRotationStatus, ListResourceTags.

use serde_json::{Value, json};
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, KmsKey, NewKey, PageRequest, RegistryError};
use wharf_types::RegistryRef;

use super::{key_id, need, page};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style, Text};
use crate::ecr::output::{Members, time};

/// Days until a key is deleted, unless told.
const PENDING_DAYS: u32 = 30;

fn kms(code: &'static str, message: impl Into<String>) -> AwsError {
    RegistryError::Kms { code, message: message.into() }.into()
}

/// `KeyMetadata`
fn metadata(key: KmsKey) -> Value {
    Members::default()
        .with("AWSAccountId", key.account.as_str())
        .with("KeyId", key.id)
        .with("Arn", key.arn)
        .with("CreationDate", time(key.created_at))
        .with("Enabled", key.state == "Enabled")
        .with("Description", key.description)
        .with("KeyUsage", "ENCRYPT_DECRYPT")
        .with("KeyState", key.state)
        .maybe("DeletionDate", key.deletion_at.map(time))
        .with("Origin", "AWS_KMS")
        .with("KeyManager", key.manager)
        .with("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT")
        .with("KeySpec", "SYMMETRIC_DEFAULT")
        .with("EncryptionAlgorithms", vec!["SYMMETRIC_DEFAULT"])
        .with("MultiRegion", false)
        .into()
}

/// `CreateKey`
pub(super) struct CreateKey(NewKey);

impl Call for CreateKey {
    const ACTIONS: &'static [&'static str] = &["kms:CreateKey", "kms:TagResource"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        for (name, only) in [
            ("KeyUsage", "ENCRYPT_DECRYPT"),
            ("KeySpec", "SYMMETRIC_DEFAULT"),
            ("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT"),
            ("Origin", "AWS_KMS"),
        ] {
            if let Some(other) = input.text(name, &Text::length(1, 64))?.filter(|word| word != only) {
                return Err(kms("UnsupportedOperationException", format!("{name} {other} is not supported")));
            }
        }
        if input.boolean("MultiRegion")? == Some(true) {
            return Err(kms("UnsupportedOperationException", "Multi-Region keys are not supported"));
        }
        let description = input.text("Description", &Text::length(0, 8192))?.unwrap_or_default();
        let policy = input.text("Policy", &Text::length(1, 131_072))?;
        let tags = input.structures("Tags", 0..=usize::MAX, |tag| {
            let key = tag.required_text("TagKey", &Text::length(1, 128))?;
            Ok((key, tag.required_text("TagValue", &Text::length(0, 256))?))
        })?;
        let new = NewKey { description, policy, tags: tags.unwrap_or_default() };
        Ok((Self(new), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        let actions = if self.0.tags.is_empty() { &Self::ACTIONS[..1] } else { Self::ACTIONS };
        actions.iter().map(|action| Need::new(action, "*", target.account)).collect()
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let key = request.registry().kms_create_key(&target, self.0).await?;
        Ok(Members::default().with("KeyMetadata", metadata(key)).answer())
    }
}

/// `DescribeKey`
pub(super) struct DescribeKey(String);

impl Call for DescribeKey {
    const ACTIONS: &'static [&'static str] = &["kms:DescribeKey"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(key_id(input)?), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.0)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let key = request.registry().kms_describe_key(&target, &self.0).await?;
        Ok(Members::default().with("KeyMetadata", metadata(key)).answer())
    }
}

/// `ListKeys`
pub(super) struct ListKeys(PageRequest);

impl Call for ListKeys {
    const ACTIONS: &'static [&'static str] = &["kms:ListKeys"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(page(&mut input.style(Style::Validation))?), request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let found = request.registry().kms_list_keys(&target, self.0).await?;
        let keys: Vec<Value> =
            found.items.into_iter().map(|key| json!({"KeyId": key.id, "KeyArn": key.arn})).collect();
        Ok(Members::default()
            .with("Keys", keys)
            .with("Truncated", found.next.is_some())
            .maybe("NextMarker", found.next)
            .answer())
    }
}

/// `EnableKey`
pub(super) struct EnableKey(String);

impl Call for EnableKey {
    const ACTIONS: &'static [&'static str] = &["kms:EnableKey"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(key_id(input)?), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.0)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().kms_set_enabled(&target, &self.0, true).await?;
        Ok(Answer::Empty)
    }
}

/// `DisableKey`
pub(super) struct DisableKey(String);

impl Call for DisableKey {
    const ACTIONS: &'static [&'static str] = &["kms:DisableKey"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(key_id(input)?), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.0)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        request.registry().kms_set_enabled(&target, &self.0, false).await?;
        Ok(Answer::Empty)
    }
}

/// `ScheduleKeyDeletion`
pub(super) struct ScheduleKeyDeletion {
    key: String,
    days: u32,
}

impl Call for ScheduleKeyDeletion {
    const ACTIONS: &'static [&'static str] = &["kms:ScheduleKeyDeletion"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let days = input.integer("PendingWindowInDays", 1..=365)?.and_then(|days| u32::try_from(days).ok());
        Ok((Self { key: key_id(input)?, days: days.unwrap_or(PENDING_DAYS) }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.key)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let key = request.registry().kms_schedule_deletion(&target, &self.key, self.days).await?;
        Ok(Members::default()
            .with("KeyId", key.arn)
            .maybe("DeletionDate", key.deletion_at.map(time))
            .with("KeyState", key.state)
            .with("PendingWindowInDays", self.days)
            .answer())
    }
}

/// `CancelKeyDeletion`
pub(super) struct CancelKeyDeletion(String);

impl Call for CancelKeyDeletion {
    const ACTIONS: &'static [&'static str] = &["kms:CancelKeyDeletion"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(key_id(input)?), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.0)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let key = request.registry().kms_cancel_deletion(&target, &self.0).await?;
        Ok(Members::default().with("KeyId", key.arn).answer())
    }
}

/// `GetKeyPolicy`
pub(super) struct GetKeyPolicy {
    key: String,
    policy: String,
}

impl Call for GetKeyPolicy {
    const ACTIONS: &'static [&'static str] = &["kms:GetKeyPolicy"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let policy = input.text("PolicyName", &Text::length(1, 128))?.unwrap_or_else(|| "default".into());
        Ok((Self { key: key_id(input)?, policy }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.key)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let text = request.registry().kms_key_policy(&target, &self.key).await?;
        if self.policy != "default" {
            return Err(kms("NotFoundException", "No such policy exists"));
        }
        Ok(Members::default().with("Policy", text).with("PolicyName", self.policy).answer())
    }
}

/// `GetKeyRotationStatus`
pub(super) struct GetKeyRotationStatus(String);

impl Call for GetKeyRotationStatus {
    const ACTIONS: &'static [&'static str] = &["kms:GetKeyRotationStatus"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self(key_id(input)?), request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.0)]
    }

    /// Keys are rotated by the operator, never by themselves.
    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let key = request.registry().kms_describe_key(&target, &self.0).await?;
        Ok(Members::default().with("KeyRotationEnabled", false).with("KeyId", key.arn).answer())
    }
}

/// `ListResourceTags`
pub(super) struct ListResourceTags {
    key: String,
    page: PageRequest,
}

impl Call for ListResourceTags {
    const ACTIONS: &'static [&'static str] = &["kms:ListResourceTags"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let page = page(&mut input)?;
        Ok((Self { key: key_id(input)?, page }, request.registry_of(None)))
    }

    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        vec![need(Self::ACTIONS[0], target, &self.key)]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let found = request.registry().kms_key_tags(&target, &self.key, self.page).await?;
        let tags: Vec<Value> =
            found.items.into_iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect();
        Ok(Members::default()
            .with("Tags", tags)
            .with("Truncated", found.next.is_some())
            .maybe("NextMarker", found.next)
            .answer())
    }
}
