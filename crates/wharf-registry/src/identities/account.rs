//! What IAM says of an account as a whole: its alias, and how much it has of everything.

use wharf_store::meta::iam::principals::{PrincipalKind, count};
use wharf_store::meta::iam::{aliases, keys, managed, oidc};
use wharf_types::AccountId;

use super::IamError;
use crate::{Authorized, Registry, RegistryError};

impl Registry {
    /// The alias of an account.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn account_alias(&self, of: &Authorized<AccountId>) -> Result<Option<String>, RegistryError> {
        let account = *of.target();
        Ok(self.inner.meta.read(move |tx| aliases::find(tx, account)).await?)
    }

    /// Gives an account an alias in place of the one it has.
    ///
    /// # Errors
    /// `EntityAlreadyExists` if it, or another account, has it.
    pub async fn create_account_alias(
        &self,
        of: &Authorized<AccountId>,
        alias: String,
    ) -> Result<(), RegistryError> {
        let (account, now) = (*of.target(), self.inner.clock.now());
        self.write_identities(move |tx| match aliases::owner(tx, &alias)? {
            Some(_) => {
                Err(IamError::EntityAlreadyExists(format!("The account alias {alias} already exists."))
                    .into())
            }
            None => Ok(aliases::set(tx, account, &alias, now)?),
        })
        .await
    }

    /// Takes an account's alias away.
    ///
    /// # Errors
    /// `NoSuchEntity` if it has another or none.
    pub async fn delete_account_alias(
        &self,
        of: &Authorized<AccountId>,
        alias: String,
    ) -> Result<(), RegistryError> {
        let account = *of.target();
        self.write_identities(move |tx| match aliases::delete(tx, account, &alias)? {
            true => Ok(()),
            false => {
                Err(IamError::NoSuchEntity(format!("The account alias {alias} cannot be found.")).into())
            }
        })
        .await
    }

    /// How much an account has of everything, and its quotas; the keys of IAM's `SummaryMap`.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn account_summary(
        &self,
        of: &Authorized<AccountId>,
    ) -> Result<Vec<(&'static str, usize)>, RegistryError> {
        let account = *of.target();
        let counted = self
            .inner
            .meta
            .read(move |tx| {
                Ok::<_, RegistryError>([
                    ("Users", count(tx, account, PrincipalKind::User)?),
                    ("Groups", count(tx, account, PrincipalKind::Group)?),
                    ("Roles", count(tx, account, PrincipalKind::Role)?),
                    ("Policies", managed::count(tx, account)?),
                    ("Providers", oidc::list(tx, account)?.len()),
                    ("AccountAccessKeysPresent", usize::from(!keys::list(tx, account, None)?.is_empty())),
                ])
            })
            .await?;
        Ok(counted.into_iter().chain(QUOTAS.iter().copied()).collect())
    }
}

/// Quotas, and counts of what is not here.
const QUOTAS: &[(&str, usize)] = &[
    ("AccessKeysPerUserQuota", 2),
    ("AccountMFAEnabled", 0),
    ("AccountSigningCertificatesPresent", 0),
    ("AssumeRolePolicySizeQuota", 2048),
    ("AttachedPoliciesPerGroupQuota", 10),
    ("AttachedPoliciesPerRoleQuota", 10),
    ("AttachedPoliciesPerUserQuota", 10),
    ("GroupPolicySizeQuota", 5120),
    ("GroupsPerUserQuota", 10),
    ("GroupsQuota", 300),
    ("InstanceProfiles", 0),
    ("MFADevices", 0),
    ("MFADevicesInUse", 0),
    ("PoliciesQuota", 1500),
    ("PolicySizeQuota", 6144),
    ("RolePolicySizeQuota", 10_240),
    ("RolesQuota", 1000),
    ("ServerCertificates", 0),
    ("UserPolicySizeQuota", 2048),
    ("UsersQuota", 5000),
    ("VersionsPerPolicyQuota", 5),
];
