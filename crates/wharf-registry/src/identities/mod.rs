//! Identities: who there is, what policies they have, and how what is remembered of them stays true.

mod account;
mod attached;
pub(crate) mod binding;
pub(crate) mod boundary;
mod change;
pub(crate) mod document;
mod error;
mod groups;
pub(crate) mod inline;
mod key_uses;
mod keys;
pub(crate) mod managed;
mod oidc;
mod paging;
mod principal;
pub(crate) mod roles;
pub(crate) mod tags;
pub(crate) mod users;
mod versions;
pub(crate) mod written;

pub use attached::{AttachedPolicy, EntityFilter, PolicyUsage};
pub use error::IamError;
pub use key_uses::KeyUse;
pub(crate) use key_uses::KeyUses;
pub use keys::{KeyLastUsed, KeyOwner, KeyRef, UserKey};
pub use managed::{ManagedPolicy, NewPolicy, PolicyFilter, PolicyRef};
pub use oidc::{OidcChange, OidcProvider, OidcProviderRef};
pub(crate) use principal::principal_arn;
pub use principal::{Principal, PrincipalKind, PrincipalRef};
pub use roles::{NewRole, Role};
pub use versions::PolicyVersion;

#[cfg(test)]
mod tests;
