//! Versions of managed policies: up to five, one of which counts. Their numbers are never used twice.

use wharf_iam::managed as aws;
use wharf_store::meta::Tx;
use wharf_store::meta::iam::managed::{self, ManagedPolicyRow, VersionRow};
use wharf_types::Timestamp;

use super::managed::{AWS_CREATED, check_document, no_policy};
use super::{IamError, PolicyRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Versions of one managed policy (IAM quota).
const VERSIONS: usize = 5;

/// A version as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// `v1`, …
    pub id: String,
    /// What it says.
    pub document: String,
    /// Whether it is the one that counts.
    pub is_default: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl PolicyVersion {
    fn of(row: VersionRow, policy: &ManagedPolicyRow) -> Self {
        Self {
            id: format!("v{}", row.version),
            is_default: row.version == policy.default_version,
            document: row.document,
            created_at: row.created_at,
        }
    }

    fn aws(policy: &aws::ManagedPolicy) -> Self {
        Self {
            id: policy.version.to_owned(),
            document: policy.policy.policy.text().to_owned(),
            is_default: true,
            created_at: AWS_CREATED,
        }
    }
}

impl Registry {
    /// Adds a version, and makes it the one that counts if told.
    ///
    /// # Errors
    /// `NoSuchEntity`, `MalformedPolicyDocument`, `LimitExceeded` when there are five.
    pub async fn create_policy_version(
        &self,
        of: &Authorized<PolicyRef>,
        document: String,
        set_default: bool,
    ) -> Result<PolicyVersion, RegistryError> {
        check_document(&document)?;
        let (of, now) = (of.target().clone(), self.inner.clock.now());
        self.write_identities(move |tx| {
            let mut policy = of.hold(tx)?;
            if managed::versions(tx, &policy.arn)?.len() >= VERSIONS {
                return Err(IamError::LimitExceeded(format!(
                    "A managed policy can have up to {VERSIONS} versions. Before you create a new version, you must \
                     delete an existing version."
                ))
                .into());
            }
            let version =
                VersionRow { version: policy.newest_version + 1, document: document.clone(), created_at: now };
            managed::insert_version(tx, &policy.arn, &version)?;
            if set_default {
                managed::set_default(tx, &policy.arn, version.version, now)?;
                policy.default_version = version.version;
            }
            Ok(PolicyVersion::of(version, &policy))
        })
        .await
    }

    /// A version with its document.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn policy_version(
        &self,
        of: &Authorized<PolicyRef>,
        id: &str,
    ) -> Result<PolicyVersion, RegistryError> {
        let found = self.all_versions(of).await?.into_iter().find(|version| version.id == id);
        found.ok_or_else(|| no_version(of.arn(), id).into())
    }

    /// The versions of a policy, the newest first.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn list_policy_versions(
        &self,
        of: &Authorized<PolicyRef>,
        page: PageRequest,
    ) -> Result<Page<PolicyVersion>, RegistryError> {
        let versions = self.all_versions(of).await?;
        // Newest first: the key falls while the numbers rise.
        let key = |version: &PolicyVersion| format!("{:020}", u64::MAX - number(&version.id).unwrap_or(0));
        self.iam_page_of(&["iam:ListPolicyVersions", of.arn()], versions, page, key)
    }

    /// Deletes a version that does not count.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict` for the default version.
    pub async fn delete_policy_version(
        &self,
        of: &Authorized<PolicyRef>,
        id: String,
    ) -> Result<(), RegistryError> {
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let policy = of.hold(tx)?;
            let version = find(tx, &policy, &id)?;
            if version.version == policy.default_version {
                let text = "Cannot delete the default version of a policy.";
                return Err(IamError::DeleteConflict(text.into()).into());
            }
            managed::delete_version(tx, &policy.arn, version.version)?;
            Ok(())
        })
        .await
    }

    /// Makes a version the one that counts.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn set_default_policy_version(
        &self,
        of: &Authorized<PolicyRef>,
        id: String,
    ) -> Result<(), RegistryError> {
        let (of, now) = (of.target().clone(), self.inner.clock.now());
        self.write_identities(move |tx| {
            let policy = of.hold(tx)?;
            let version = find(tx, &policy, &id)?;
            Ok(managed::set_default(tx, &policy.arn, version.version, now)?)
        })
        .await
    }

    async fn all_versions(&self, of: &Authorized<PolicyRef>) -> Result<Vec<PolicyVersion>, RegistryError> {
        let wanted = of.target().clone();
        self.inner
            .meta
            .read(move |tx| {
                if wanted.is_aws() {
                    let policy = aws::find(wanted.arn()).ok_or_else(|| no_policy(wanted.arn()))?;
                    return Ok(vec![PolicyVersion::aws(policy)]);
                }
                let policy = wanted.hold(tx)?;
                let rows = managed::versions(tx, &policy.arn)?;
                Ok(rows.into_iter().map(|row| PolicyVersion::of(row, &policy)).collect())
            })
            .await
    }
}

fn find(tx: &mut Tx<'_>, policy: &ManagedPolicyRow, id: &str) -> Result<VersionRow, RegistryError> {
    let version = match number(id).and_then(|number| i64::try_from(number).ok()) {
        Some(number) => managed::version(tx, &policy.arn, number)?,
        None => None,
    };
    version.ok_or_else(|| no_version(&policy.arn, id).into())
}

/// The number in `v1`.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix('v')?.parse().ok()
}

fn no_version(arn: &str, id: &str) -> IamError {
    IamError::NoSuchEntity(format!("Policy {arn} version {id} does not exist or is not attachable."))
}
