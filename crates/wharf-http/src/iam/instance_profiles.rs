//! Instance profiles: there are none, but tools ask for those of a role before they delete it.

use wharf_registry::{Authorized, PrincipalRef};

use super::family::{Family, Roles};
use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Xml};

/// `ListInstanceProfilesForRole`
pub(crate) struct ListInstanceProfilesForRole;

impl Call for ListInstanceProfilesForRole {
    const ACTIONS: &'static [&'static str] = &["iam:ListInstanceProfilesForRole"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = Roles::of(&mut input, request)?;
        parameters::page(&mut input)?;
        Ok((Self, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().principal(&of).await?;
        Ok(Xml::new().list("InstanceProfiles", []).page(None).into())
    }
}
