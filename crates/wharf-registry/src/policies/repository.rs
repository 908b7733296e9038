//! SetRepositoryPolicy, GetRepositoryPolicy, DeleteRepositoryPolicy.

use std::sync::Arc;

use wharf_iam::decision::Need;
use wharf_iam::policy::{Policy, PolicyKind};
use wharf_store::meta::Tx;
use wharf_store::meta::iam::{epochs, resource_policies};
use wharf_types::RepositoryRef;

use super::{MEMBER, bound, checked, printed};
use crate::repositories::hold_repository;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Registry, RegistryError, Repository};

const INVALID: &str = "Invalid repository policy provided";
const LOCKED_OUT: &str = "Repository policy would prevent the caller from setting another policy; use force";

impl Registry {
    /// Sets the policy of a repository in place of an earlier one; it counts for every request that begins after this
    /// returns. Answers it as it reads from now on.
    ///
    /// # Errors
    /// `InvalidParameter` for what is no repository policy, names a user or role that does not exist, or (unless
    /// `force`) would keep the caller from setting another one.
    pub async fn set_repository_policy(
        &self,
        at: &Authorized<RepositoryRef>,
        text: &str,
        force: bool,
    ) -> Result<String, RegistryError> {
        checked(PolicyKind::Repository, text, INVALID)?;
        let repository = self.repository(at).await?;
        let need =
            Need::new("ecr:SetRepositoryPolicy", repository.name.arn(), repository.name.registry.account);
        let rules = self.rules(at.caller(), &need).await?;
        let (registry, caller, text) = (self.clone(), at.caller().clone(), text.to_owned());
        self.change_repository_policy(repository, move |tx, repository| {
            let row = bound(tx, &text, INVALID)?;
            if !force {
                let policy = Policy::parse(PolicyKind::Repository, &row.bound)
                    .map_err(|error| RegistryError::Internal(format!("a bound policy: {error}")))?;
                let policies: Vec<&Policy> =
                    std::iter::once(&policy).chain(rules.registry_policy()).collect();
                registry.evaluate(&caller, &need, &rules, &policies).map_err(|error| match error {
                    RegistryError::AccessDenied(_) => RegistryError::invalid(MEMBER, LOCKED_OUT),
                    other => other,
                })?;
            }
            resource_policies::set_of_repository(tx, repository.id, &row, registry.inner.clock.now())?;
            printed(tx, &row)
        })
        .await
    }

    /// The policy of a repository.
    ///
    /// # Errors
    /// `RepositoryPolicyNotFound` without one.
    pub async fn repository_policy(&self, at: &Authorized<RepositoryRef>) -> Result<String, RegistryError> {
        let repository = self.repository(at).await?;
        let read = move |tx: &mut Tx<'_>| match resource_policies::of_repository(tx, repository.id)? {
            Some(row) => printed(tx, &row),
            None => Err(RegistryError::RepositoryPolicyNotFound(repository.name.clone())),
        };
        self.inner.meta.read(read).await
    }

    /// Removes the policy of a repository and answers it.
    ///
    /// # Errors
    /// `RepositoryPolicyNotFound` without one.
    pub async fn delete_repository_policy(
        &self,
        at: &Authorized<RepositoryRef>,
    ) -> Result<String, RegistryError> {
        let repository = self.repository(at).await?;
        self.change_repository_policy(repository, |tx, repository| {
            let row = resource_policies::of_repository(tx, repository.id)?
                .ok_or_else(|| RegistryError::RepositoryPolicyNotFound(repository.name.clone()))?;
            resource_policies::delete_of_repository(tx, repository.id)?;
            printed(tx, &row)
        })
        .await
    }

    async fn change_repository_policy(
        &self,
        repository: Arc<Repository>,
        change: impl Fn(&mut Tx<'_>, &Repository) -> Result<String, RegistryError> + Send + 'static,
    ) -> Result<String, RegistryError> {
        let inner = self.inner.clone();
        uninterrupted(async move {
            let name = repository.name.clone();
            let work = move |tx: &mut Tx<'_>| {
                hold_repository(tx, &repository)?;
                epochs::move_on(tx, epochs::RESOURCE_POLICIES)?;
                change(tx, &repository)
            };
            let outcome = inner.meta.write(work).await;
            // A failed answer does not tell whether the change is there, so the next look reads it.
            inner.resource_rules.forget_repository(&name);
            outcome
        })
        .await
    }
}
