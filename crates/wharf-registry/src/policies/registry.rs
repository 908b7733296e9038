//! PutRegistryPolicy, GetRegistryPolicy, DeleteRegistryPolicy. What such a policy may say depends on the account setting
//! `REGISTRY_POLICY_SCOPE`.

use wharf_iam::policy::PolicyKind;
use wharf_store::meta::iam::{epochs, resource_policies};
use wharf_store::meta::{Tx, settings};
use wharf_types::RegistryRef;

use super::{bound, checked, printed};
use crate::settings::REGISTRY_POLICY_SCOPE;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Registry, RegistryError};

const INVALID: &str = "Invalid registry policy provided";

impl Registry {
    /// Sets the policy of a registry in place of an earlier one; it counts for every request that begins after this
    /// returns. Answers it as it reads from now on.
    ///
    /// # Errors
    /// `InvalidParameter` for what is no registry policy, speaks of other actions than scope `V1` knows where that is
    /// set, or names a user or role that does not exist.
    pub async fn put_registry_policy(
        &self,
        of: &Authorized<RegistryRef>,
        text: &str,
    ) -> Result<String, RegistryError> {
        checked(PolicyKind::Registry { v1_scope: false }, text, INVALID)?;
        let (text, now) = (text.to_owned(), self.inner.clock.now());
        self.change_registry_policy(of.target(), move |tx, registry| {
            let scope = settings::find(tx, registry, REGISTRY_POLICY_SCOPE)?;
            checked(PolicyKind::Registry { v1_scope: scope.as_deref() == Some("V1") }, &text, INVALID)?;
            let row = bound(tx, &text, INVALID)?;
            resource_policies::set_of_registry(tx, registry, &row, now)?;
            printed(tx, &row)
        })
        .await
    }

    /// The policy of a registry.
    ///
    /// # Errors
    /// `RegistryPolicyNotFound` without one.
    pub async fn registry_policy(&self, of: &Authorized<RegistryRef>) -> Result<String, RegistryError> {
        let registry = of.target().clone();
        let read = move |tx: &mut Tx<'_>| match resource_policies::of_registry(tx, &registry)? {
            Some(row) => printed(tx, &row),
            None => Err(RegistryError::RegistryPolicyNotFound(registry.account)),
        };
        self.inner.meta.read(read).await
    }

    /// Removes the policy of a registry and answers it.
    ///
    /// # Errors
    /// `RegistryPolicyNotFound` without one.
    pub async fn delete_registry_policy(
        &self,
        of: &Authorized<RegistryRef>,
    ) -> Result<String, RegistryError> {
        self.change_registry_policy(of.target(), |tx, registry| {
            let row = resource_policies::of_registry(tx, registry)?
                .ok_or(RegistryError::RegistryPolicyNotFound(registry.account))?;
            resource_policies::delete_of_registry(tx, registry)?;
            printed(tx, &row)
        })
        .await
    }

    async fn change_registry_policy(
        &self,
        of: &RegistryRef,
        change: impl Fn(&mut Tx<'_>, &RegistryRef) -> Result<String, RegistryError> + Send + 'static,
    ) -> Result<String, RegistryError> {
        let (inner, of) = (self.inner.clone(), of.clone());
        uninterrupted(async move {
            let registry = of.clone();
            let work = move |tx: &mut Tx<'_>| {
                epochs::move_on(tx, epochs::RESOURCE_POLICIES)?;
                change(tx, &registry)
            };
            let outcome = inner.meta.write(work).await;
            // A failed answer does not tell whether the change is there, so the next look reads it.
            inner.resource_rules.forget_registry(&of);
            outcome
        })
        .await
    }
}
