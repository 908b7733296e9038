//! `AssumeRoleWithWebIdentity`: the one operation that nobody signs.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, WebIdentity};
use wharf_types::AccountId;

use super::assume::with_role;
use super::parameters::{self, ARN, ROLE_SECONDS, SESSION_NAME};
use super::with_credentials;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text, Xml};

/// `sessionPolicyDocumentType`
const POLICY: usize = 2048;

/// `AssumeRoleWithWebIdentity`
pub(crate) struct AssumeWithWebIdentity(WebIdentity);

impl Call for AssumeWithWebIdentity {
    const ACTIONS: &'static [&'static str] = &["sts:AssumeRoleWithWebIdentity"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let ask = WebIdentity {
            role_arn: input.required_text("RoleArn", &ARN)?,
            session_name: input.required_text("RoleSessionName", &SESSION_NAME)?,
            token: input.required_text("WebIdentityToken", &Text::length(4, 20_000))?,
            policy: parameters::policy(&mut input, POLICY)?,
            policy_arns: parameters::policy_arns(&mut input)?,
            duration: parameters::duration(&mut input, ROLE_SECONDS)?,
        };
        // OAuth 2.0 providers without OpenID Connect, which this names, are not known here.
        if let Some(provider) = input.text("ProviderId", &Text::length(4, 2048))? {
            return Err(input.refuse(
                "ProviderId",
                &provider,
                "Member must be absent for OpenID Connect tokens",
            ));
        }
        Ok((Self(ask), request.caller().identity.account))
    }

    /// None here: the identity token and the role's trust policy are looked at by the registry.
    fn needs(&self, _of: &AccountId) -> Vec<Need> {
        Vec::new()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let assumed = request.registry().assume_role_with_web_identity(of.caller(), self.0).await?;
        let xml = with_credentials(Xml::new(), &assumed.role.credentials)
            .text("SubjectFromWebIdentityToken", &assumed.subject);
        let xml = with_role(xml, &assumed.role);
        Ok(xml.text("Provider", &assumed.provider).text("Audience", &assumed.audience).into())
    }
}
