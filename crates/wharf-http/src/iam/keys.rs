//! Access keys of users; of the root user, where it calls without naming a user.

use wharf_registry::{Authorized, KeyOwner, KeyRef, PageRequest};

use super::parameters;
use super::users::user_or_caller;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Pattern, Text, Xml};

/// `accessKeyIdType`.
const KEY_ID: Text = Text::length(16, 128).matching(Pattern {
    text: r"[\w]+",
    matches: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
});

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";

fn status(active: bool) -> &'static str {
    if active { ACTIVE } else { INACTIVE }
}

/// `CreateAccessKey`
pub(crate) struct CreateAccessKey;

impl Call for CreateAccessKey {
    const ACTIONS: &'static [&'static str] = &["iam:CreateAccessKey"];
    type Target = KeyOwner;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyOwner), AwsError> {
        Ok((Self, user_or_caller(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyOwner>) -> Result<Answer, AwsError> {
        let (new, created_at) = request.registry().create_user_key(&of).await?;
        let key = Xml::new()
            .text("UserName", of.user_name())
            .text("AccessKeyId", &new.access_key_id)
            .text("Status", ACTIVE)
            .text("SecretAccessKey", &new.secret_access_key)
            .time("CreateDate", created_at);
        Ok(Xml::new().element("AccessKey", key).into())
    }
}

/// `ListAccessKeys`
pub(crate) struct ListAccessKeys(PageRequest);

impl Call for ListAccessKeys {
    const ACTIONS: &'static [&'static str] = &["iam:ListAccessKeys"];
    type Target = KeyOwner;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyOwner), AwsError> {
        let of = user_or_caller(&mut input, request)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyOwner>) -> Result<Answer, AwsError> {
        let page = request.registry().list_user_keys(&of, self.0).await?;
        let keys = page.items.iter().map(|key| {
            Xml::new()
                .text("UserName", of.user_name())
                .text("AccessKeyId", &key.id)
                .text("Status", status(key.active))
                .time("CreateDate", key.created_at)
        });
        Ok(Xml::new().list("AccessKeyMetadata", keys).page(page.next.as_deref()).into())
    }
}

/// `UpdateAccessKey`
pub(crate) struct UpdateAccessKey {
    id: String,
    active: bool,
}

impl Call for UpdateAccessKey {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateAccessKey"];
    type Target = KeyOwner;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyOwner), AwsError> {
        let id = input.required_text("AccessKeyId", &KEY_ID)?;
        let active = input.required_text("Status", &Text::one_of(&[ACTIVE, INACTIVE]))? == ACTIVE;
        Ok((Self { id, active }, user_or_caller(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyOwner>) -> Result<Answer, AwsError> {
        request.registry().update_user_key(&of, self.id, self.active).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteAccessKey`
pub(crate) struct DeleteAccessKey(String);

impl Call for DeleteAccessKey {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteAccessKey"];
    type Target = KeyOwner;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyOwner), AwsError> {
        let id = input.required_text("AccessKeyId", &KEY_ID)?;
        Ok((Self(id), user_or_caller(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyOwner>) -> Result<Answer, AwsError> {
        request.registry().delete_user_key(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `GetAccessKeyLastUsed`
pub(crate) struct GetAccessKeyLastUsed;

impl Call for GetAccessKeyLastUsed {
    const ACTIONS: &'static [&'static str] = &["iam:GetAccessKeyLastUsed"];
    type Target = KeyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyRef), AwsError> {
        let id = input.required_text("AccessKeyId", &KEY_ID)?;
        Ok((Self, KeyRef::named(request.caller().identity.account, id)))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyRef>) -> Result<Answer, AwsError> {
        let used = request.registry().key_last_used(&of).await?;
        // What a key that was never used says instead of a service and a region.
        const NEVER: &str = "N/A";
        let inside = match &used.last {
            Some(last) => Xml::new()
                .time("LastUsedDate", last.at)
                .text("ServiceName", &last.service)
                .text("Region", &last.region),
            None => Xml::new().text("ServiceName", NEVER).text("Region", NEVER),
        };
        Ok(Xml::new().text("UserName", &used.user_name).element("AccessKeyLastUsed", inside).into())
    }
}
