//! What an operation knows of the request it serves, besides its input.

use std::sync::OnceLock;

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Caller, Decided, Registry, RegistryError};
use wharf_types::{AccountId, Region, RegistryRef, RepositoryRef};

use crate::Faces;
use crate::host;

/// What the log of calls wants to know of the permission step.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) needs: Vec<Need>,
    pub(super) decided: Option<String>,
}

/// An authenticated request.
pub struct AwsRequest<'a> {
    pub(super) faces: &'a Faces,
    pub(super) service: &'static str,
    pub(super) caller: Caller,
    pub(super) region: Region,
    /// `Host` as the client sent it.
    pub(super) host: String,
    pub(super) secure: bool,
    pub(super) noted: OnceLock<Noted>,
}

impl AwsRequest<'_> {
    /// The registry.
    pub fn registry(&self) -> &Registry {
        self.faces.registry()
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The service that was asked.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The registry of an account, the caller's own unless one is named, in the region of the credential.
    pub fn registry_of(&self, account: Option<AccountId>) -> RegistryRef {
        RegistryRef::new(account.unwrap_or(self.caller.identity.account), self.region.clone())
    }

    /// Host and port under which this client reaches a registry.
    pub fn host_of(&self, registry: &RegistryRef) -> String {
        host::name_for(&self.faces.config().hosts, &self.host, self.caller.identity.account, registry)
    }

    /// A URL on the host the client itself used.
    pub fn own_url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.host)
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// What `repositoryUri` says.
    pub fn repository_uri(&self, repository: &RepositoryRef) -> String {
        format!("{}/{}", self.host_of(&repository.registry), repository.name)
    }

    /// Keeps the needs, and what decided over them, for the audit record.
    pub(super) fn note<T>(&self, needs: Vec<Need>, outcome: Result<&Authorized<T>, &RegistryError>) {
        let decided = match outcome {
            Ok(authorized) => authorized.decided().map(ToString::to_string),
            Err(RegistryError::AccessDenied(denied)) => Some(Decided::from(denied).to_string()),
            Err(_) => None,
        };
        // Set once per request; there is nothing to do about a second time.
        let _ = self.noted.set(Noted { needs, decided });
    }
}
