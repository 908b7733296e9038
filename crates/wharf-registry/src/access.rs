//! Authentication and authorization: who calls, and whether they may. A function that acts takes [`Authorized`],
//! which only [`Registry::authorize`] makes.

use std::sync::Arc;

use wharf_iam::decision::{Identity, Need};

use crate::{Registry, RegistryError};

/// Who calls: an identity whose credential was checked for this request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The identity.
    pub identity: Arc<Identity>,
}

/// Proof that a caller may act on a target. Made by [`Registry::authorize`] only.
#[derive(Clone, Debug)]
pub struct Authorized<T> {
    target: T,
    caller: Caller,
}

impl<T> Authorized<T> {
    /// What may be acted on.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl<T> std::ops::Deref for Authorized<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.target
    }
}

impl Registry {
    /// Decides every need; all must be allowed.
    ///
    /// # Errors
    /// [`RegistryError::AccessDenied`] with AWS's text for the first that is not. Existence is not looked at, so it
    /// cannot leak.
    pub fn authorize<T>(
        &self,
        caller: &Caller,
        target: T,
        needs: &[Need],
    ) -> Result<Authorized<T>, RegistryError> {
        wharf_iam::decision::authorize(&caller.identity, needs)?;
        Ok(Authorized { target, caller: caller.clone() })
    }
}
