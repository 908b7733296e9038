//! Groups, and who is in them.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, PageRequest, Principal, PrincipalKind, PrincipalRef};
use wharf_types::AccountId;

use super::answers::group_xml;
use super::parameters;
use super::users::{existing_user, renaming_needs, users_xml};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Xml};

/// Longest name of a group, and of a user that is looked for.
const NAME: usize = 128;

fn existing_group(input: &mut Input, request: &AwsRequest<'_>) -> Result<PrincipalRef, AwsError> {
    let name = parameters::name(input, "GroupName", NAME)?;
    let account = request.caller().identity.account;
    Ok(PrincipalRef::named(account, PrincipalKind::Group, &name))
}

/// Adds `Groups`.
fn groups_xml(xml: Xml, groups: &[Principal]) -> Xml {
    xml.list("Groups", groups.iter().map(group_xml))
}

/// `CreateGroup`
pub(crate) struct CreateGroup;

impl Call for CreateGroup {
    const ACTIONS: &'static [&'static str] = &["iam:CreateGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let name = parameters::name(&mut input, "GroupName", NAME)?;
        let path = parameters::path(&mut input, "Path")?.unwrap_or("/".into());
        let account = request.caller().identity.account;
        Ok((Self, PrincipalRef::to_create(account, PrincipalKind::Group, &path, &name)))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let group = request.registry().create_group(&of).await?;
        Ok(Xml::new().element("Group", group_xml(&group)).into())
    }
}

/// `GetGroup`
pub(crate) struct GetGroup(PageRequest);

impl Call for GetGroup {
    const ACTIONS: &'static [&'static str] = &["iam:GetGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_group(&mut input, request)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let (group, users) = request.registry().group(&of, self.0).await?;
        let answer = users_xml(Xml::new().element("Group", group_xml(&group)), &users.items);
        Ok(answer.page(users.next.as_deref()).into())
    }
}

/// `ListGroups`
pub(crate) struct ListGroups {
    path_prefix: String,
    page: PageRequest,
}

impl Call for ListGroups {
    const ACTIONS: &'static [&'static str] = &["iam:ListGroups"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let path_prefix = parameters::path_prefix(&mut input)?;
        Ok((Self { path_prefix, page: parameters::page(&mut input)? }, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let kind = PrincipalKind::Group;
        let page = request.registry().list_principals(&of, kind, &self.path_prefix, self.page).await?;
        Ok(groups_xml(Xml::new(), &page.items).page(page.next.as_deref()).into())
    }
}

/// `UpdateGroup`
pub(crate) struct UpdateGroup {
    name: Option<String>,
    path: Option<String>,
}

impl Call for UpdateGroup {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_group(&mut input, request)?;
        let path = parameters::path(&mut input, "NewPath")?;
        Ok((Self { name: parameters::optional_name(&mut input, "NewGroupName", NAME)?, path }, of))
    }

    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        renaming_needs("iam:UpdateGroup", of, self.name.as_deref(), self.path.as_deref())
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().rename_principal(&of, self.name, self.path).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteGroup`
pub(crate) struct DeleteGroup;

impl Call for DeleteGroup {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        Ok((Self, existing_group(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().delete_group(&of).await?;
        Ok(Answer::Empty)
    }
}

/// `AddUserToGroup`
pub(crate) struct AddUserToGroup(String);

impl Call for AddUserToGroup {
    const ACTIONS: &'static [&'static str] = &["iam:AddUserToGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_group(&mut input, request)?;
        Ok((Self(parameters::name(&mut input, "UserName", NAME)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().add_user_to_group(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `RemoveUserFromGroup`
pub(crate) struct RemoveUserFromGroup(String);

impl Call for RemoveUserFromGroup {
    const ACTIONS: &'static [&'static str] = &["iam:RemoveUserFromGroup"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_group(&mut input, request)?;
        Ok((Self(parameters::name(&mut input, "UserName", NAME)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().remove_user_from_group(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `ListGroupsForUser`
pub(crate) struct ListGroupsForUser(PageRequest);

impl Call for ListGroupsForUser {
    const ACTIONS: &'static [&'static str] = &["iam:ListGroupsForUser"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_user(&mut input, request)?;
        Ok((Self(parameters::page(&mut input)?), of))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let page = request.registry().groups_of_user(&of, self.0).await?;
        Ok(groups_xml(Xml::new(), &page.items).page(page.next.as_deref()).into())
    }
}
