//! Policies of repositories and of registries: set, read back, removed (`iam-evaluation` §7).

mod registry;
mod repository;

use wharf_iam::policy::{MAX_ECR_CHARACTERS, Policy, PolicyKind, validate_for_write};
use wharf_store::meta::Tx;
use wharf_store::meta::iam::resource_policies::PolicyRow;

use crate::RegistryError;
use crate::identities::binding::{BindError, bind, unbind_node};

const MEMBER: &str = "PolicyText";

/// Checks a policy that shall be stored.
fn checked(kind: PolicyKind, text: &str, invalid: &str) -> Result<Policy, RegistryError> {
    validate_for_write(kind, text).map_err(|error| {
        tracing::debug!(detail = error.detail(), "a policy was refused");
        match text.chars().nth(MAX_ECR_CHARACTERS) {
            Some(_) => RegistryError::invalid(
                MEMBER,
                format!("Member must have length less than or equal to {MAX_ECR_CHARACTERS}"),
            ),
            None => RegistryError::invalid(MEMBER, invalid),
        }
    })
}

/// The row of a policy that was checked: its principals bound to unique ids.
fn bound(tx: &mut Tx<'_>, text: &str, invalid: &str) -> Result<PolicyRow, RegistryError> {
    match bind(tx, text) {
        Ok(bound) => Ok(PolicyRow { document: text.to_owned(), bound }),
        Err(BindError::Unbound { .. }) => Err(RegistryError::invalid(MEMBER, "Principal not found")),
        Err(BindError::Syntax) => Err(RegistryError::invalid(MEMBER, invalid)),
        Err(BindError::Meta(error)) => Err(error.into()),
    }
}

/// A stored policy as ECR prints it: ARNs where users and roles live, their ids where they have gone. One that is no
/// JSON any more is answered as it was set, for whoever repairs it.
fn printed(tx: &mut Tx<'_>, row: &PolicyRow) -> Result<String, RegistryError> {
    match unbind_node(tx, &row.bound) {
        Err(BindError::Syntax) => Ok(row.document.clone()),
        node => Ok(node?.pretty()),
    }
}
