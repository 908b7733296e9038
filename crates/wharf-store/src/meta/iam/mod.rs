//! Identities, their policies, and the policies of repositories and registries.

pub mod epochs;
pub mod resource_policies;
pub mod unique_ids;
