//! Managed policies of users, groups and roles: attached, or their boundary.

use std::marker::PhantomData;

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, PageRequest, PrincipalRef};

use super::family::{Bounded, Family};
use super::needs::with_boundary;
use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Xml};

/// `AttachUserPolicy` and its like.
pub(crate) struct AttachPolicy<F> {
    policy: String,
    family: PhantomData<F>,
}

impl<F: Family> Call for AttachPolicy<F> {
    const ACTIONS: &'static [&'static str] = F::ATTACH_POLICY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::of(&mut input, request)?;
        Ok((Self { policy: parameters::arn(&mut input, "PolicyArn")?, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![need_of_policy(of, F::ATTACH_POLICY[0], &self.policy)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().attach_policy(&of, self.policy).await?;
        Ok(Answer::Empty)
    }
}

/// `DetachUserPolicy` and its like.
pub(crate) struct DetachPolicy<F> {
    policy: String,
    family: PhantomData<F>,
}

impl<F: Family> Call for DetachPolicy<F> {
    const ACTIONS: &'static [&'static str] = F::DETACH_POLICY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::of(&mut input, request)?;
        Ok((Self { policy: parameters::arn(&mut input, "PolicyArn")?, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![need_of_policy(of, F::DETACH_POLICY[0], &self.policy)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().detach_policy(&of, self.policy).await?;
        Ok(Answer::Empty)
    }
}

fn need_of_policy(of: &PrincipalRef, action: &'static str, policy: &str) -> Need {
    with_boundary(of.need(action), of.boundary()).with("iam:PolicyARN", vec![policy.to_owned()])
}

/// `ListAttachedUserPolicies` and its like.
pub(crate) struct ListAttachedPolicies<F> {
    path_prefix: String,
    page: PageRequest,
    family: PhantomData<F>,
}

impl<F: Family> Call for ListAttachedPolicies<F> {
    const ACTIONS: &'static [&'static str] = F::LIST_ATTACHED;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::of(&mut input, request)?;
        let path_prefix = parameters::policy_path(&mut input, "PathPrefix")?.unwrap_or("/".into());
        Ok((Self { path_prefix, page: parameters::page(&mut input)?, family: PhantomData }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let page = request.registry().list_attached_policies(&of, &self.path_prefix, self.page).await?;
        let policies = page
            .items
            .iter()
            .map(|policy| Xml::new().text("PolicyName", &policy.name).text("PolicyArn", &policy.arn));
        Ok(Xml::new().list("AttachedPolicies", policies).page(page.next.as_deref()).into())
    }
}

/// `PutUserPermissionsBoundary` and its like.
pub(crate) struct PutBoundary<F> {
    policy: String,
    family: PhantomData<F>,
}

impl<F: Bounded> Call for PutBoundary<F> {
    const ACTIONS: &'static [&'static str] = F::PUT_BOUNDARY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::of(&mut input, request)?;
        let policy = parameters::arn(&mut input, "PermissionsBoundary")?;
        Ok((Self { policy, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![with_boundary(of.need(F::PUT_BOUNDARY[0]), Some(&self.policy))]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().put_boundary(&of, self.policy).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteUserPermissionsBoundary` and its like.
pub(crate) struct DeleteBoundary<F>(PhantomData<F>);

impl<F: Bounded> Call for DeleteBoundary<F> {
    const ACTIONS: &'static [&'static str] = F::DELETE_BOUNDARY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        Ok((Self(PhantomData), F::of(&mut input, request)?))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![with_boundary(of.need(F::DELETE_BOUNDARY[0]), of.boundary())]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().delete_boundary(&of).await?;
        Ok(Answer::Empty)
    }
}
