//! Users, groups and roles have many operations in common, under names of their own. A family says what they are
//! called in one of them.

use wharf_registry::{PrincipalKind, PrincipalRef};

use super::parameters;
use crate::aws::{AwsError, AwsRequest, Input};

type Actions = &'static [&'static str];

/// Users, groups or roles.
pub(crate) trait Family: Send + Sync + 'static {
    /// What they are.
    const KIND: PrincipalKind;
    /// The parameter that names one.
    const NAME: &'static str;
    /// Longest name of one in operations on inline policies and tags; the models differ.
    const EXISTING_NAME: usize;
    /// Longest name of one.
    const LONGEST_NAME: usize;
    const PUT_POLICY: Actions;
    const GET_POLICY: Actions;
    const LIST_POLICIES: Actions;
    const DELETE_POLICY: Actions;
    const ATTACH_POLICY: Actions;
    const DETACH_POLICY: Actions;
    const LIST_ATTACHED: Actions;

    /// Takes the parameter that names one in operations on inline policies and tags.
    fn existing(input: &mut Input, request: &AwsRequest<'_>) -> Result<PrincipalRef, AwsError> {
        named::<Self>(input, request, Self::EXISTING_NAME)
    }

    /// Takes the parameter that names one.
    fn of(input: &mut Input, request: &AwsRequest<'_>) -> Result<PrincipalRef, AwsError> {
        named::<Self>(input, request, Self::LONGEST_NAME)
    }
}

/// Users or roles.
pub(crate) trait Bounded: Family {
    const PUT_BOUNDARY: Actions;
    const DELETE_BOUNDARY: Actions;
    const TAG: Actions;
    const UNTAG: Actions;
    const LIST_TAGS: Actions;
}

fn named<F: Family + ?Sized>(
    input: &mut Input,
    request: &AwsRequest<'_>,
    longest: usize,
) -> Result<PrincipalRef, AwsError> {
    let name = parameters::name(input, F::NAME, longest)?;
    Ok(PrincipalRef::named(request.caller().identity.account, F::KIND, &name))
}

/// Users.
pub(crate) struct Users;

impl Family for Users {
    const KIND: PrincipalKind = PrincipalKind::User;
    const NAME: &'static str = "UserName";
    const EXISTING_NAME: usize = 128;
    const LONGEST_NAME: usize = 64;
    const PUT_POLICY: Actions = &["iam:PutUserPolicy"];
    const GET_POLICY: Actions = &["iam:GetUserPolicy"];
    const LIST_POLICIES: Actions = &["iam:ListUserPolicies"];
    const DELETE_POLICY: Actions = &["iam:DeleteUserPolicy"];
    const ATTACH_POLICY: Actions = &["iam:AttachUserPolicy"];
    const DETACH_POLICY: Actions = &["iam:DetachUserPolicy"];
    const LIST_ATTACHED: Actions = &["iam:ListAttachedUserPolicies"];
}

impl Bounded for Users {
    const PUT_BOUNDARY: Actions = &["iam:PutUserPermissionsBoundary"];
    const DELETE_BOUNDARY: Actions = &["iam:DeleteUserPermissionsBoundary"];
    const TAG: Actions = &["iam:TagUser"];
    const UNTAG: Actions = &["iam:UntagUser"];
    const LIST_TAGS: Actions = &["iam:ListUserTags"];
}

/// Groups.
pub(crate) struct Groups;

impl Family for Groups {
    const KIND: PrincipalKind = PrincipalKind::Group;
    const NAME: &'static str = "GroupName";
    const EXISTING_NAME: usize = 128;
    const LONGEST_NAME: usize = 128;
    const PUT_POLICY: Actions = &["iam:PutGroupPolicy"];
    const GET_POLICY: Actions = &["iam:GetGroupPolicy"];
    const LIST_POLICIES: Actions = &["iam:ListGroupPolicies"];
    const DELETE_POLICY: Actions = &["iam:DeleteGroupPolicy"];
    const ATTACH_POLICY: Actions = &["iam:AttachGroupPolicy"];
    const DETACH_POLICY: Actions = &["iam:DetachGroupPolicy"];
    const LIST_ATTACHED: Actions = &["iam:ListAttachedGroupPolicies"];
}

/// Roles.
pub(crate) struct Roles;

impl Family for Roles {
    const KIND: PrincipalKind = PrincipalKind::Role;
    const NAME: &'static str = "RoleName";
    const EXISTING_NAME: usize = 64;
    const LONGEST_NAME: usize = 64;
    const PUT_POLICY: Actions = &["iam:PutRolePolicy"];
    const GET_POLICY: Actions = &["iam:GetRolePolicy"];
    const LIST_POLICIES: Actions = &["iam:ListRolePolicies"];
    const DELETE_POLICY: Actions = &["iam:DeleteRolePolicy"];
    const ATTACH_POLICY: Actions = &["iam:AttachRolePolicy"];
    const DETACH_POLICY: Actions = &["iam:DetachRolePolicy"];
    const LIST_ATTACHED: Actions = &["iam:ListAttachedRolePolicies"];
}

impl Bounded for Roles {
    const PUT_BOUNDARY: Actions = &["iam:PutRolePermissionsBoundary"];
    const DELETE_BOUNDARY: Actions = &["iam:DeleteRolePermissionsBoundary"];
    const TAG: Actions = &["iam:TagRole"];
    const UNTAG: Actions = &["iam:UntagRole"];
    const LIST_TAGS: Actions = &["iam:ListRoleTags"];
}
