//! Inline policies of users, groups and roles.

use std::marker::PhantomData;

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, PageRequest, PrincipalRef};

use super::family::Family;
use super::needs::with_boundary;
use super::parameters::{self, POLICY_NAME};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Xml};

/// `PutUserPolicy` and its like.
pub(crate) struct PutPolicy<F> {
    name: String,
    document: String,
    family: PhantomData<F>,
}

impl<F: Family> Call for PutPolicy<F> {
    const ACTIONS: &'static [&'static str] = F::PUT_POLICY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        let name = parameters::name(&mut input, "PolicyName", POLICY_NAME)?;
        let document = parameters::document(&mut input, "PolicyDocument")?;
        Ok((Self { name, document, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![with_boundary(of.need(F::PUT_POLICY[0]), of.boundary())]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().put_inline_policy(&of, self.name, self.document).await?;
        Ok(Answer::Empty)
    }
}

/// `GetUserPolicy` and its like.
pub(crate) struct GetPolicy<F> {
    name: String,
    family: PhantomData<F>,
}

impl<F: Family> Call for GetPolicy<F> {
    const ACTIONS: &'static [&'static str] = F::GET_POLICY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        let name = parameters::name(&mut input, "PolicyName", POLICY_NAME)?;
        Ok((Self { name, family: PhantomData }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let document = request.registry().inline_policy(&of, &self.name).await?;
        let answer = Xml::new()
            .text(F::NAME, of.name())
            .text("PolicyName", &self.name)
            .document("PolicyDocument", &document);
        Ok(answer.into())
    }
}

/// `ListUserPolicies` and its like.
pub(crate) struct ListPolicies<F> {
    page: PageRequest,
    family: PhantomData<F>,
}

impl<F: Family> Call for ListPolicies<F> {
    const ACTIONS: &'static [&'static str] = F::LIST_POLICIES;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        Ok((Self { page: parameters::page(&mut input)?, family: PhantomData }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let page = request.registry().list_inline_policies(&of, self.page).await?;
        Ok(Xml::new().texts("PolicyNames", &page.items).page(page.next.as_deref()).into())
    }
}

/// `DeleteUserPolicy` and its like.
pub(crate) struct DeletePolicy<F> {
    name: String,
    family: PhantomData<F>,
}

impl<F: Family> Call for DeletePolicy<F> {
    const ACTIONS: &'static [&'static str] = F::DELETE_POLICY;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        let name = parameters::name(&mut input, "PolicyName", POLICY_NAME)?;
        Ok((Self { name, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![with_boundary(of.need(F::DELETE_POLICY[0]), of.boundary())]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().delete_inline_policy(&of, self.name).await?;
        Ok(Answer::Empty)
    }
}
