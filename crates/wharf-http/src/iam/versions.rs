//! Versions of managed policies.

use wharf_registry::{Authorized, PageRequest, PolicyRef};

use super::answers::version_xml;
use super::parameters;
use super::policies::policy_ref;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Pattern, Text, Xml};

/// `policyVersionIdType`.
const VERSION: Text = Text::ANY.matching(Pattern {
    text: r"v[1-9][0-9]*(\.[A-Za-z0-9-]*)?",
    matches: |text| {
        let Some(rest) = text.strip_prefix('v') else { return false };
        let (number, suffix) = rest.split_once('.').unwrap_or((rest, ""));
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let legal = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !number.is_empty() && !number.starts_with('0') && digits && legal
    },
});

/// `CreatePolicyVersion`
pub(crate) struct CreatePolicyVersion {
    document: String,
    set_default: bool,
}

impl Call for CreatePolicyVersion {
    const ACTIONS: &'static [&'static str] = &["iam:CreatePolicyVersion"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        let document = parameters::document(&mut input, "PolicyDocument")?;
        Ok((Self { document, set_default: input.boolean("SetAsDefault")?.unwrap_or(false) }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let version = request.registry().create_policy_version(&of, self.document, self.set_default).await?;
        Ok(Xml::new().element("PolicyVersion", version_xml(&version, false)).into())
    }
}

/// `GetPolicyVersion`
pub(crate) struct GetPolicyVersion(String);

impl Call for GetPolicyVersion {
    const ACTIONS: &'static [&'static str] = &["iam:GetPolicyVersion"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(input.required_text("VersionId", &VERSION)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let version = request.registry().policy_version(&of, &self.0).await?;
        Ok(Xml::new().element("PolicyVersion", version_xml(&version, true)).into())
    }
}

/// `ListPolicyVersions`
pub(crate) struct ListPolicyVersions(PageRequest);

impl Call for ListPolicyVersions {
    const ACTIONS: &'static [&'static str] = &["iam:ListPolicyVersions"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let page = request.registry().list_policy_versions(&of, self.0).await?;
        let versions = page.items.iter().map(|version| version_xml(version, false));
        Ok(Xml::new().list("Versions", versions).page(page.next.as_deref()).into())
    }
}

/// `DeletePolicyVersion`
pub(crate) struct DeletePolicyVersion(String);

impl Call for DeletePolicyVersion {
    const ACTIONS: &'static [&'static str] = &["iam:DeletePolicyVersion"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(input.required_text("VersionId", &VERSION)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        request.registry().delete_policy_version(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `SetDefaultPolicyVersion`
pub(crate) struct SetDefaultPolicyVersion(String);

impl Call for SetDefaultPolicyVersion {
    const ACTIONS: &'static [&'static str] = &["iam:SetDefaultPolicyVersion"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(input.required_text("VersionId", &VERSION)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        request.registry().set_default_policy_version(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}
