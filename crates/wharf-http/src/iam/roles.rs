//! Roles.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, NewRole, PageRequest, PrincipalKind, PrincipalRef, Role};
use wharf_types::AccountId;

use super::answers::{with_boundary, with_tags};
use super::family::{Family as _, Roles};
use super::needs::{with_boundary as with_boundary_need, with_request_tags};
use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Pattern, Target as _, Text, Xml};

/// Longest name of a role.
const NAME: usize = 64;
/// `roleDescriptionType`
const DESCRIPTION: Text = Text::length(0, 1000).matching(Pattern {
    text: r"[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*",
    matches: |text| text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{a1}'..='\u{ff}')),
});

/// Takes `MaxSessionDuration`.
fn max_session(input: &mut Input) -> Result<Option<u32>, AwsError> {
    let seconds = input.integer("MaxSessionDuration", 3600..=43_200)?;
    Ok(seconds.and_then(|seconds| u32::try_from(seconds).ok()))
}

/// `Role`, without what listings leave out unless `whole`.
fn role_xml(role: &Role, whole: bool) -> Xml {
    let of = &role.principal;
    let xml = Xml::new()
        .text("Path", &of.path)
        .text("RoleName", &of.name)
        .text("RoleId", &of.id)
        .text("Arn", &of.arn)
        .time("CreateDate", of.created_at)
        .document("AssumeRolePolicyDocument", &role.trust_policy)
        .optional("Description", role.description.as_deref())
        .number("MaxSessionDuration", role.max_session.into());
    if !whole {
        return xml;
    }
    let last_used = match &role.last_used {
        Some((at, region)) => Xml::new().time("LastUsedDate", *at).text("Region", region),
        None => Xml::new(),
    };
    with_tags(with_boundary(xml, of.boundary.as_deref()), &of.tags).element("RoleLastUsed", last_used)
}

/// `CreateRole`
pub(crate) struct CreateRole(NewRole);

impl Call for CreateRole {
    const ACTIONS: &'static [&'static str] = &["iam:CreateRole", "iam:TagRole"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let name = parameters::name(&mut input, "RoleName", NAME)?;
        let path = parameters::path(&mut input, "Path")?.unwrap_or("/".into());
        let new = NewRole {
            trust_policy: parameters::document(&mut input, "AssumeRolePolicyDocument")?,
            description: input.text("Description", &DESCRIPTION)?,
            max_session: max_session(&mut input)?,
            boundary: parameters::optional_arn(&mut input, "PermissionsBoundary")?,
            tags: parameters::tags(&mut input)?,
        };
        let account = request.caller().identity.account;
        Ok((Self(new), PrincipalRef::to_create(account, PrincipalKind::Role, &path, &name)))
    }

    /// Who brings tags must be allowed to tag, too.
    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        let (tags, boundary) = (&self.0.tags, self.0.boundary.as_deref());
        let need = |action| with_boundary_need(with_request_tags(of.need(action), tags), boundary);
        let count = if tags.is_empty() { 1 } else { 2 };
        Self::ACTIONS.iter().take(count).map(|action| need(action)).collect()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let role = request.registry().create_role(&of, self.0).await?;
        Ok(Xml::new().element("Role", role_xml(&role, true)).into())
    }
}

/// `GetRole`
pub(crate) struct GetRole;

impl Call for GetRole {
    const ACTIONS: &'static [&'static str] = &["iam:GetRole"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        Ok((Self, Roles::of(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let role = request.registry().role(&of).await?;
        Ok(Xml::new().element("Role", role_xml(&role, true)).into())
    }
}

/// `ListRoles`
pub(crate) struct ListRoles {
    path_prefix: String,
    page: PageRequest,
}

impl Call for ListRoles {
    const ACTIONS: &'static [&'static str] = &["iam:ListRoles"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let path_prefix = parameters::path_prefix(&mut input)?;
        Ok((Self { path_prefix, page: parameters::page(&mut input)? }, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let page = request.registry().list_roles(&of, &self.path_prefix, self.page).await?;
        let roles = page.items.iter().map(|role| role_xml(role, false));
        Ok(Xml::new().list("Roles", roles).page(page.next.as_deref()).into())
    }
}

/// `UpdateRole`
pub(crate) struct UpdateRole {
    description: Option<String>,
    max_session: Option<u32>,
}

impl Call for UpdateRole {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateRole"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = Roles::of(&mut input, request)?;
        let description = input.text("Description", &DESCRIPTION)?;
        Ok((Self { description, max_session: max_session(&mut input)? }, of))
    }

    /// The model has a result without members.
    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().update_role(&of, self.description, self.max_session).await?;
        Ok(Xml::new().into())
    }
}

/// `UpdateAssumeRolePolicy`
pub(crate) struct UpdateAssumeRolePolicy(String);

impl Call for UpdateAssumeRolePolicy {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateAssumeRolePolicy"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = Roles::of(&mut input, request)?;
        Ok((Self(parameters::document(&mut input, "PolicyDocument")?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().update_trust_policy(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteRole`
pub(crate) struct DeleteRole;

impl Call for DeleteRole {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteRole"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        Ok((Self, Roles::of(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().delete_role(&of).await?;
        Ok(Answer::Empty)
    }
}
