//! Sessions of users themselves: `GetSessionToken`, `GetFederationToken`.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, GetFederationToken};
use wharf_types::AccountId;

use super::parameters::{self, FEDERATED_NAME, USER_SECONDS};
use super::{with_credentials, with_packed_size};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Xml};
use crate::iam::needs::with_request_tags;
use crate::iam::parameters::tags;

/// `sessionPolicyDocumentType`
const POLICY: usize = 2048;

/// `GetSessionToken`
pub(crate) struct GetSessionToken {
    duration: Option<u32>,
    with_second_factor: bool,
}

impl Call for GetSessionToken {
    const ACTIONS: &'static [&'static str] = &["sts:GetSessionToken"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let call = Self {
            duration: parameters::duration(&mut input, USER_SECONDS)?,
            with_second_factor: parameters::second_factor(&mut input)?,
        };
        Ok((call, request.caller().identity.account))
    }

    /// None: everybody with a key of their own may have a session with the same permissions.
    fn needs(&self, _of: &AccountId) -> Vec<Need> {
        Vec::new()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let credentials =
            request.registry().get_session_token(of.caller(), self.duration, self.with_second_factor)?;
        Ok(with_credentials(Xml::new(), &credentials).into())
    }
}

/// `GetFederationToken`
pub(crate) struct FederationToken(GetFederationToken);

impl Call for FederationToken {
    const ACTIONS: &'static [&'static str] = &["sts:GetFederationToken", "sts:TagSession"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let ask = GetFederationToken {
            name: input.required_text("Name", &FEDERATED_NAME)?,
            policy: parameters::policy(&mut input, POLICY)?,
            policy_arns: parameters::policy_arns(&mut input)?,
            duration: parameters::duration(&mut input, USER_SECONDS)?,
            tags: tags(&mut input)?,
        };
        Ok((Self(ask), request.caller().identity.account))
    }

    /// On the federated user; who brings tags must be allowed to tag, too.
    fn needs(&self, of: &AccountId) -> Vec<Need> {
        let arn = format!("arn:aws:sts::{of}:federated-user/{}", self.0.name);
        let count = if self.0.tags.is_empty() { 1 } else { 2 };
        let need =
            |action: &&'static str| with_request_tags(Need::new(action, arn.clone(), *of), &self.0.tags);
        Self::ACTIONS.iter().take(count).map(need).collect()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let user = request.registry().get_federation_token(&of, self.0).await?;
        let inside = Xml::new().text("FederatedUserId", &user.id).text("Arn", &user.arn);
        let xml = with_credentials(Xml::new(), &user.credentials).element("FederatedUser", inside);
        Ok(with_packed_size(xml, user.packed_size).into())
    }
}
