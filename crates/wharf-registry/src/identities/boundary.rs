//! Permissions boundaries of users and roles.

use wharf_store::meta::Tx;
use wharf_store::meta::iam::{managed, principals};
use wharf_types::{AccountId, Arn};

use super::{IamError, PrincipalRef};
use crate::{Authorized, Registry, RegistryError};

/// The path of managed policies that only roles of AWS's services have.
const SERVICE_ROLE: &str = "/aws-service-role/";

/// Checks that a managed policy can be attached, or be a boundary, in an account.
///
/// # Errors
/// `InvalidInput` for what is no ARN of a policy, `NoSuchEntity`, `PolicyNotAttachable`.
pub(crate) fn require_attachable(
    tx: &mut Tx<'_>,
    account: AccountId,
    policy_arn: &str,
) -> Result<(), RegistryError> {
    check_policy_arn(policy_arn)?;
    if let Some(policy) = wharf_iam::managed::find(policy_arn) {
        if policy.path == SERVICE_ROLE {
            let text = "Cannot attach a Service Role Policy to a Customer Role.";
            return Err(IamError::PolicyNotAttachable(text.into()).into());
        }
        return Ok(());
    }
    match managed::find(tx, policy_arn)?.is_some_and(|policy| policy.account == account) {
        true => Ok(()),
        false => {
            Err(IamError::NoSuchEntity(format!("Policy {policy_arn} does not exist or is not attachable."))
                .into())
        }
    }
}

/// Checks the form of a managed policy's ARN.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_policy_arn(text: &str) -> Result<Arn, IamError> {
    let invalid = || IamError::InvalidInput(format!("ARN {text} is not valid."));
    let arn: Arn = text.parse().map_err(|_| invalid())?;
    let sound = arn.service == "iam" && arn.region.is_empty() && arn.resource.starts_with("policy/");
    if sound { Ok(arn) } else { Err(invalid()) }
}

impl Registry {
    /// Bounds what a user or role may do at most by a managed policy.
    ///
    /// # Errors
    /// `NoSuchEntity`, `InvalidInput`, `PolicyNotAttachable`.
    pub async fn put_boundary(
        &self,
        of: &Authorized<PrincipalRef>,
        policy_arn: String,
    ) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            require_attachable(tx, row.account, &policy_arn)?;
            Ok(principals::set_boundary(tx, &row.id, Some(&policy_arn))?)
        })
        .await
    }

    /// Takes the boundary of a user or role away; not having one is no error.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn delete_boundary(&self, of: &Authorized<PrincipalRef>) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| Ok(principals::set_boundary(tx, &row.id, None)?)).await
    }
}
