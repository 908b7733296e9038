//! Identities, their policies, and the policies of repositories and registries.

pub mod aliases;
pub mod effective;
pub mod epochs;
pub mod groups;
pub mod keys;
pub mod managed;
pub mod oidc;
pub mod policies;
pub mod principals;
pub mod resource_policies;
pub mod roles;
pub mod tags;
pub mod unique_ids;

use wharf_types::AccountId;

use super::{MetaError, Row};

/// Reads an account's id.
fn account(row: &Row<'_>, index: usize) -> Result<AccountId, MetaError> {
    row.text(index)?.parse().map_err(|error| MetaError::column(index, format!("{error}")))
}
