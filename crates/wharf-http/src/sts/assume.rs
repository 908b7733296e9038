//! `AssumeRole`

use wharf_iam::decision::Need;
use wharf_registry::{AssumeRole, AssumedRole, Authorized};
use wharf_types::AccountId;

use super::parameters::{self, ARN, EXTERNAL_ID, ROLE_SECONDS, SESSION_NAME};
use super::{with_credentials, with_packed_size};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text, Xml};
use crate::iam::parameters::tags;

/// Longest session policy that is looked at; what may be in it is fewer characters, white space not counted.
const POLICY: usize = 131_072;

/// `AssumeRole`
pub(crate) struct Assume(AssumeRole);

impl Call for Assume {
    const ACTIONS: &'static [&'static str] = &["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let ask = AssumeRole {
            role_arn: input.required_text("RoleArn", &ARN)?,
            session_name: input.required_text("RoleSessionName", &SESSION_NAME)?,
            policy: parameters::policy(&mut input, POLICY)?,
            policy_arns: parameters::policy_arns(&mut input)?,
            duration: parameters::duration(&mut input, ROLE_SECONDS)?,
            tags: tags(&mut input)?,
            transitive_keys: input
                .texts("TransitiveTagKeys", 0..=50, &Text::length(1, 128))?
                .unwrap_or_default(),
            external_id: input.text("ExternalId", &EXTERNAL_ID)?,
            source_identity: input.text("SourceIdentity", &SESSION_NAME)?,
            with_second_factor: parameters::second_factor(&mut input)?,
        };
        // Assertions of identity centres, which are not known here: ignoring one would begin another session.
        if input.has("ProvidedContexts") {
            return Err(input.refuse("ProvidedContexts", "", "Member must be absent"));
        }
        Ok((Self(ask), request.caller().identity.account))
    }

    /// None here: the role's trust policy has a say, so the registry decides when it has looked the role up.
    fn needs(&self, _of: &AccountId) -> Vec<Need> {
        Vec::new()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let role = request.registry().assume_role(of.caller(), self.0).await?;
        let xml = with_role(with_credentials(Xml::new(), &role.credentials), &role);
        Ok(xml.into())
    }
}

/// Adds what was assumed.
pub(super) fn with_role(xml: Xml, role: &AssumedRole) -> Xml {
    let user = Xml::new().text("AssumedRoleId", &role.id).text("Arn", &role.arn);
    with_packed_size(xml.element("AssumedRoleUser", user), role.packed_size)
        .optional("SourceIdentity", role.source_identity.as_deref())
}
