//! STS's query API: who am I. Temporary credentials come with IAM.

use wharf_iam::decision::Need;
use wharf_registry::Authorized;
use wharf_types::RegistryRef;

use crate::aws::query::xml_escape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Operation, Service, Vocabulary};
use crate::metrics::Face;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "sts",
    event_source: "sts.amazonaws.com",
    target_prefix: None,
    version: Some("2011-06-15"),
    vocabulary: Vocabulary::Query { namespace: "https://sts.amazonaws.com/doc/2011-06-15/" },
    face: Face::Query,
    operations: OPERATIONS,
    complete: true,
};

const OPERATIONS: &[Operation] = &[
    Operation::not_built("AssumeRole", &["sts:AssumeRole"]),
    Operation::not_built("AssumeRoleWithSAML", &["sts:AssumeRoleWithSAML"]),
    Operation::not_built("AssumeRoleWithWebIdentity", &["sts:AssumeRoleWithWebIdentity"]),
    Operation::not_built("AssumeRoot", &["sts:AssumeRoot"]),
    Operation::not_built("DecodeAuthorizationMessage", &["sts:DecodeAuthorizationMessage"]),
    Operation::not_built("GetAccessKeyInfo", &["sts:GetAccessKeyInfo"]),
    Operation::built::<GetCallerIdentity>("GetCallerIdentity"),
    Operation::not_built("GetDelegatedAccessToken", &["sts:GetDelegatedAccessToken"]),
    Operation::not_built("GetFederationToken", &["sts:GetFederationToken"]),
    Operation::not_built("GetSessionToken", &["sts:GetSessionToken"]),
    Operation::not_built("GetWebIdentityToken", &["sts:GetWebIdentityToken"]),
];

/// `GetCallerIdentity`
struct GetCallerIdentity;

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
        Ok(Answer::Xml(format!(
            "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
            xml_escape(&identity.arn),
            xml_escape(&identity.user_id),
            identity.account
        )))
    }
}
