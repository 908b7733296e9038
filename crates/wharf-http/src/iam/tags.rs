//! Tags of users, roles and managed policies.

use std::marker::PhantomData;

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Page, PageRequest, PolicyRef, PrincipalRef};

use super::answers::tags_xml;
use super::family::Bounded;
use super::needs::with_request_tags;
use super::parameters;
use super::policies::policy_ref;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Xml};

fn untag_need(need: Need, keys: &[String]) -> Need {
    need.with("aws:TagKeys", keys.to_vec())
}

fn listed(page: &Page<(String, String)>) -> Answer {
    tags_xml(Xml::new(), &page.items).page(page.next.as_deref()).into()
}

/// `TagUser` and `TagRole`.
pub(crate) struct Tag<F> {
    tags: Vec<(String, String)>,
    family: PhantomData<F>,
}

impl<F: Bounded> Call for Tag<F> {
    const ACTIONS: &'static [&'static str] = F::TAG;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        Ok((Self { tags: parameters::required_tags(&mut input)?, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![with_request_tags(of.need(F::TAG[0]), &self.tags)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().tag_principal(&of, self.tags).await?;
        Ok(Answer::Empty)
    }
}

/// `UntagUser` and `UntagRole`.
pub(crate) struct Untag<F> {
    keys: Vec<String>,
    family: PhantomData<F>,
}

impl<F: Bounded> Call for Untag<F> {
    const ACTIONS: &'static [&'static str] = F::UNTAG;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        Ok((Self { keys: parameters::tag_keys(&mut input)?, family: PhantomData }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        vec![untag_need(of.need(F::UNTAG[0]), &self.keys)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().untag_principal(&of, self.keys).await?;
        Ok(Answer::Empty)
    }
}

/// `ListUserTags` and `ListRoleTags`.
pub(crate) struct ListTags<F> {
    page: PageRequest,
    family: PhantomData<F>,
}

impl<F: Bounded> Call for ListTags<F> {
    const ACTIONS: &'static [&'static str] = F::LIST_TAGS;
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = F::existing(&mut input, request)?;
        Ok((Self { page: parameters::page(&mut input)?, family: PhantomData }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        Ok(listed(&request.registry().principal_tags(&of, self.page).await?))
    }
}

/// `TagPolicy`
pub(crate) struct TagPolicy(Vec<(String, String)>);

impl Call for TagPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:TagPolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(parameters::required_tags(&mut input)?), of))
    }

    fn needs(&self, of: &PolicyRef) -> Vec<Need> {
        vec![with_request_tags(of.need("iam:TagPolicy"), &self.0)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        request.registry().tag_policy(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `UntagPolicy`
pub(crate) struct UntagPolicy(Vec<String>);

impl Call for UntagPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:UntagPolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(parameters::tag_keys(&mut input)?), of))
    }

    fn needs(&self, of: &PolicyRef) -> Vec<Need> {
        vec![untag_need(of.need("iam:UntagPolicy"), &self.0)]
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        request.registry().untag_policy(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `ListPolicyTags`
pub(crate) struct ListPolicyTags(PageRequest);

impl Call for ListPolicyTags {
    const ACTIONS: &'static [&'static str] = &["iam:ListPolicyTags"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let of = policy_ref(&mut input, request)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        Ok(listed(&request.registry().policy_tags(&of, self.0).await?))
    }
}
