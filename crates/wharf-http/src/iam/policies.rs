//! Managed policies.

use wharf_iam::decision::Need;
use wharf_registry::{
    Authorized, EntityFilter, NewPolicy, PageRequest, PolicyFilter, PolicyRef, PolicyUsage, Principal,
    PrincipalKind,
};
use wharf_types::AccountId;

use super::answers::policy_xml;
use super::needs::with_request_tags;
use super::parameters::{self, POLICY_NAME};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Text, Xml};

/// Takes `PolicyArn`.
pub(super) fn policy_ref(input: &mut Input, request: &AwsRequest<'_>) -> Result<PolicyRef, AwsError> {
    let arn = parameters::arn(input, "PolicyArn")?;
    Ok(PolicyRef::named(request.caller().identity.account, &arn)?)
}

/// Takes `PolicyUsageFilter`.
fn usage(input: &mut Input) -> Result<Option<PolicyUsage>, AwsError> {
    const WORDS: &[&str] = &["PermissionsPolicy", "PermissionsBoundary"];
    let word = input.text("PolicyUsageFilter", &Text::one_of(WORDS))?;
    Ok(word.map(|word| match word == WORDS[0] {
        true => PolicyUsage::Permissions,
        false => PolicyUsage::Boundary,
    }))
}

/// `CreatePolicy`
pub(crate) struct CreatePolicy(NewPolicy);

impl Call for CreatePolicy {
    const ACTIONS: &'static [&'static str] = &["iam:CreatePolicy", "iam:TagPolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        let new = NewPolicy {
            name: parameters::name(&mut input, "PolicyName", POLICY_NAME)?,
            path: parameters::policy_path(&mut input, "Path")?.unwrap_or("/".into()),
            document: parameters::document(&mut input, "PolicyDocument")?,
            description: input.text("Description", &Text::length(0, 1000))?,
            tags: parameters::tags(&mut input)?,
        };
        let of = PolicyRef::to_create(request.caller().identity.account, &new.path, &new.name);
        Ok((Self(new), of))
    }

    /// Who brings tags must be allowed to tag, too.
    fn needs(&self, of: &PolicyRef) -> Vec<Need> {
        let count = if self.0.tags.is_empty() { 1 } else { 2 };
        let need = |action| with_request_tags(of.need(action), &self.0.tags);
        Self::ACTIONS.iter().take(count).map(|action| need(action)).collect()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let policy = request.registry().create_policy(&of, self.0).await?;
        Ok(Xml::new().element("Policy", policy_xml(&policy, true)).into())
    }
}

/// `GetPolicy`
pub(crate) struct GetPolicy;

impl Call for GetPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:GetPolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        Ok((Self, policy_ref(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let policy = request.registry().managed_policy(&of).await?;
        Ok(Xml::new().element("Policy", policy_xml(&policy, true)).into())
    }
}

/// `DeletePolicy`
pub(crate) struct DeletePolicy;

impl Call for DeletePolicy {
    const ACTIONS: &'static [&'static str] = &["iam:DeletePolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        Ok((Self, policy_ref(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        request.registry().delete_policy(&of).await?;
        Ok(Answer::Empty)
    }
}

/// `ListPolicies`
pub(crate) struct ListPolicies {
    filter: PolicyFilter,
    page: PageRequest,
}

impl Call for ListPolicies {
    const ACTIONS: &'static [&'static str] = &["iam:ListPolicies"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let scope = input.text("Scope", &Text::one_of(&["All", "AWS", "Local"]))?;
        let filter = PolicyFilter {
            aws: match scope.as_deref() {
                Some("AWS") => Some(true),
                Some("Local") => Some(false),
                _ => None,
            },
            only_attached: input.boolean("OnlyAttached")?.unwrap_or(false),
            path_prefix: parameters::policy_path(&mut input, "PathPrefix")?.unwrap_or("/".into()),
            usage: usage(&mut input)?,
        };
        Ok((Self { filter, page: parameters::page(&mut input)? }, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let page = request.registry().list_policies(&of, self.filter, self.page).await?;
        let policies = page.items.iter().map(|policy| policy_xml(policy, false));
        Ok(Xml::new().list("Policies", policies).page(page.next.as_deref()).into())
    }
}

/// `ListEntitiesForPolicy`
pub(crate) struct ListEntitiesForPolicy {
    filter: EntityFilter,
    page: PageRequest,
}

impl Call for ListEntitiesForPolicy {
    const ACTIONS: &'static [&'static str] = &["iam:ListEntitiesForPolicy"];
    type Target = PolicyRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PolicyRef), AwsError> {
        const KINDS: &[&str] = &["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"];
        let of = policy_ref(&mut input, request)?;
        let kind = input.text("EntityFilter", &Text::one_of(KINDS))?;
        let filter = EntityFilter {
            kind: kind.and_then(|kind| match kind.as_str() {
                "User" => Some(PrincipalKind::User),
                "Role" => Some(PrincipalKind::Role),
                "Group" => Some(PrincipalKind::Group),
                _ => None,
            }),
            path_prefix: parameters::path(&mut input, "PathPrefix")?.unwrap_or("/".into()),
            usage: usage(&mut input)?,
        };
        Ok((Self { filter, page: parameters::page(&mut input)? }, of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PolicyRef>) -> Result<Answer, AwsError> {
        let page = request.registry().entities_for_policy(&of, self.filter, self.page).await?;
        let of_kind = |kind, name: &'static str, id: &'static str| {
            let all = page.items.iter().filter(move |one: &&Principal| one.kind == kind);
            all.map(move |one| Xml::new().text(name, &one.name).text(id, &one.id))
        };
        let answer = Xml::new()
            .list("PolicyGroups", of_kind(PrincipalKind::Group, "GroupName", "GroupId"))
            .list("PolicyUsers", of_kind(PrincipalKind::User, "UserName", "UserId"))
            .list("PolicyRoles", of_kind(PrincipalKind::Role, "RoleName", "RoleId"));
        Ok(answer.page(page.next.as_deref()).into())
    }
}
