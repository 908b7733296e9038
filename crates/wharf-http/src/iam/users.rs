//! Users.

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, KeyOwner, PageRequest, Principal, PrincipalKind, PrincipalRef};
use wharf_types::AccountId;

use super::answers::user_xml;
use super::needs::{with_boundary, with_request_tags};
use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Xml};

/// Longest name of a user that is made.
const NAME: usize = 64;
/// Longest name of a user that is looked for.
const EXISTING_NAME: usize = 128;

/// Takes the parameter that names a user who may exist.
pub(super) fn existing_user(input: &mut Input, request: &AwsRequest<'_>) -> Result<PrincipalRef, AwsError> {
    let name = parameters::name(input, "UserName", EXISTING_NAME)?;
    let account = request.caller().identity.account;
    Ok(PrincipalRef::named(account, PrincipalKind::User, &name))
}

/// Takes the parameter that names a user, the caller if it is absent.
pub(super) fn user_or_caller(input: &mut Input, request: &AwsRequest<'_>) -> Result<KeyOwner, AwsError> {
    let name = parameters::optional_name(input, "UserName", EXISTING_NAME)?;
    Ok(KeyOwner::of(&request.caller().identity, name.as_deref())?)
}

/// `CreateUser`
pub(crate) struct CreateUser {
    boundary: Option<String>,
    tags: Vec<(String, String)>,
}

impl Call for CreateUser {
    const ACTIONS: &'static [&'static str] = &["iam:CreateUser", "iam:TagUser"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let name = parameters::name(&mut input, "UserName", NAME)?;
        let path = parameters::path(&mut input, "Path")?.unwrap_or("/".into());
        let boundary = parameters::optional_arn(&mut input, "PermissionsBoundary")?;
        let tags = parameters::tags(&mut input)?;
        let account = request.caller().identity.account;
        let of = PrincipalRef::to_create(account, PrincipalKind::User, &path, &name);
        Ok((Self { boundary, tags }, of))
    }

    /// Who brings tags must be allowed to tag, too.
    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        let need =
            |action| with_boundary(with_request_tags(of.need(action), &self.tags), self.boundary.as_deref());
        let count = if self.tags.is_empty() { 1 } else { 2 };
        Self::ACTIONS.iter().take(count).map(|action| need(action)).collect()
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        let user = request.registry().create_user(&of, self.boundary, self.tags).await?;
        Ok(Xml::new().element("User", user_xml(&user, true)).into())
    }
}

/// `GetUser`
pub(crate) struct GetUser;

impl Call for GetUser {
    const ACTIONS: &'static [&'static str] = &["iam:GetUser"];
    type Target = KeyOwner;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, KeyOwner), AwsError> {
        Ok((Self, user_or_caller(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<KeyOwner>) -> Result<Answer, AwsError> {
        let user = request.registry().user_or_root(&of).await?;
        Ok(Xml::new().element("User", user_xml(&user, true)).into())
    }
}

/// `ListUsers`
pub(crate) struct ListUsers {
    path_prefix: String,
    page: PageRequest,
}

impl Call for ListUsers {
    const ACTIONS: &'static [&'static str] = &["iam:ListUsers"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        let path_prefix = parameters::path_prefix(&mut input)?;
        Ok((Self { path_prefix, page: parameters::page(&mut input)? }, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let page = request
            .registry()
            .list_principals(&of, PrincipalKind::User, &self.path_prefix, self.page)
            .await?;
        Ok(users_xml(Xml::new(), &page.items).page(page.next.as_deref()).into())
    }
}

/// Adds `Users` as listings show them.
pub(super) fn users_xml(xml: Xml, users: &[Principal]) -> Xml {
    xml.list("Users", users.iter().map(|user| user_xml(user, false)))
}

/// `UpdateUser`
pub(crate) struct UpdateUser {
    name: Option<String>,
    path: Option<String>,
}

impl Call for UpdateUser {
    const ACTIONS: &'static [&'static str] = &["iam:UpdateUser"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        let of = existing_user(&mut input, request)?;
        let path = parameters::path(&mut input, "NewPath")?;
        Ok((Self { name: parameters::optional_name(&mut input, "NewUserName", NAME)?, path }, of))
    }

    /// Of who it is, and of who it becomes.
    fn needs(&self, of: &PrincipalRef) -> Vec<Need> {
        renaming_needs("iam:UpdateUser", of, self.name.as_deref(), self.path.as_deref())
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().rename_principal(&of, self.name, self.path).await?;
        Ok(Answer::Empty)
    }
}

/// The needs of giving something another name or path: the action on the old ARN and on the new one.
pub(super) fn renaming_needs(
    action: &'static str,
    of: &PrincipalRef,
    name: Option<&str>,
    path: Option<&str>,
) -> Vec<Need> {
    let (name, path) = (name.unwrap_or(of.name()), path.unwrap_or(of.path()));
    let renamed = PrincipalRef::to_create(of.account(), of.kind(), path, name);
    vec![of.need(action), renamed.need(action)]
}

/// `DeleteUser`
pub(crate) struct DeleteUser;

impl Call for DeleteUser {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteUser"];
    type Target = PrincipalRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, PrincipalRef), AwsError> {
        Ok((Self, existing_user(&mut input, request)?))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<PrincipalRef>) -> Result<Answer, AwsError> {
        request.registry().delete_user(&of).await?;
        Ok(Answer::Empty)
    }
}
