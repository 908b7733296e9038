//! The one way identities change: with their epoch, and with nothing old left in memory.

use wharf_store::meta::Tx;
use wharf_store::meta::iam::epochs;
use wharf_store::meta::iam::principals::PrincipalRow;

use crate::uninterrupted::uninterrupted;
use crate::{Authorized, PrincipalRef, Registry, RegistryError};

impl Registry {
    /// Runs a change of users, groups, roles, their keys or policies as one durable transaction that also moves the
    /// epoch on. It counts for every request that begins after this returns, whether the caller waits or not. `work`
    /// may be run more than once.
    ///
    /// # Errors
    /// What `work` answers, which undoes it; when the metadata fails.
    pub(crate) async fn write_identities<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let registry = self.clone();
        uninterrupted(async move {
            let change = move |tx: &mut Tx<'_>| {
                // First: changes of identities wait for each other, so none rests on a look that is old.
                epochs::move_on(tx, epochs::IDENTITIES)?;
                work(tx)
            };
            let outcome = registry.inner.meta.write(change).await;
            // A failed answer does not tell whether the change is there, so the next look reads it.
            registry.identities_changed();
            outcome
        })
        .await
    }

    /// As [`write_identities`](Self::write_identities), with the row of the user, group or role that was authorized.
    ///
    /// # Errors
    /// As [`PrincipalRef::hold`] too.
    pub(crate) async fn change_principal<T: Send + 'static>(
        &self,
        of: &Authorized<PrincipalRef>,
        mut work: impl FnMut(&mut Tx<'_>, PrincipalRow) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let row = of.hold(tx)?;
            work(tx, row)
        })
        .await
    }

    /// Forgets what is remembered of identities and their policies. Called after every change of them, here or on
    /// another node.
    pub fn identities_changed(&self) {
        self.inner.access_keys.clear();
        self.inner.principals.clear();
    }
}
