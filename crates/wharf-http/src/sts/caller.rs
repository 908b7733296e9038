//! Who calls, and whose a key is: `GetCallerIdentity`, `GetAccessKeyInfo`.

use wharf_iam::decision::Need;
use wharf_registry::Authorized;
use wharf_types::{AccountId, RegistryRef};

use super::parameters::ACCESS_KEY_ID;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Xml};

/// `GetCallerIdentity`
pub(crate) struct GetCallerIdentity;

impl Call for GetCallerIdentity {
    const ACTIONS: &'static [&'static str] = &["sts:GetCallerIdentity"];
    type Target = RegistryRef;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self, request.registry_of(None)))
    }

    /// None: whoever is authenticated may know it, even where a policy denies it.
    fn needs(&self, _target: &RegistryRef) -> Vec<Need> {
        Vec::new()
    }

    async fn run(
        self,
        _request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let identity = &target.caller().identity;
        let xml = Xml::new().text("Arn", &identity.arn).text("UserId", &identity.user_id);
        Ok(xml.text("Account", identity.account.as_str()).into())
    }
}

/// `GetAccessKeyInfo`
pub(crate) struct GetAccessKeyInfo(String);

impl Call for GetAccessKeyInfo {
    const ACTIONS: &'static [&'static str] = &["sts:GetAccessKeyInfo"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let id = input.required_text("AccessKeyId", &ACCESS_KEY_ID)?;
        Ok((Self(id), request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let account = request.registry().access_key_account(&of, &self.0).await?;
        Ok(Xml::new().text("Account", account.as_str()).into())
    }
}
