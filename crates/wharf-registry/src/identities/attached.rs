//! Managed policies attached to users, groups and roles.

use wharf_store::meta::iam::policies::{self, UseFilter};
use wharf_types::AccountId;

use super::boundary::{check_policy_arn, require_attachable};
use super::managed::no_policy;
use super::{IamError, PolicyRef, Principal, PrincipalKind, PrincipalRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Managed policies attached to one principal (IAM quota).
const ATTACHED: usize = 10;

/// A managed policy as listings of attachments show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedPolicy {
    /// The last part of its ARN.
    pub name: String,
    /// Its ARN.
    pub arn: String,
}

impl AttachedPolicy {
    fn of(arn: String) -> Self {
        let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
        Self { name, arn }
    }

    /// From `/` to `/`.
    fn path(&self) -> &str {
        let rest = self.arn.split_once(":policy").map_or("", |(_, rest)| rest);
        &rest[..rest.len() - self.name.len()]
    }
}

/// Which users of a managed policy are asked for.
#[derive(Clone, Debug, Default)]
pub struct EntityFilter {
    /// Only this kind.
    pub kind: Option<PrincipalKind>,
    /// Only with paths that begin so.
    pub path_prefix: String,
    /// Only as boundary, only as attached policy, or both.
    pub usage: Option<PolicyUsage>,
}

/// What a managed policy is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyUsage {
    /// Attached: it allows and denies.
    Permissions,
    /// Boundary: it says what may be allowed at most.
    Boundary,
}

impl Registry {
    /// Attaches a managed policy; once is enough.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`, `InvalidInput`, `PolicyNotAttachable`.
    pub async fn attach_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        policy_arn: String,
    ) -> Result<(), RegistryError> {
        let (of, now) = (of.target().clone(), self.inner.clock.now());
        self.write_identities(move |tx| {
            let row = of.hold(tx)?;
            require_attachable(tx, row.account, &policy_arn)?;
            policies::attach(tx, &row.id, &policy_arn, now)?;
            let quota = match row.kind {
                PrincipalKind::User => "PoliciesPerUser",
                PrincipalKind::Group => "PoliciesPerGroup",
                PrincipalKind::Role => "PoliciesPerRole",
            };
            match policies::attached(tx, &row.id)?.len() {
                0..=ATTACHED => Ok(()),
                _ => Err(IamError::quota(quota, ATTACHED).into()),
            }
        })
        .await
    }

    /// Detaches a managed policy.
    ///
    /// # Errors
    /// `NoSuchEntity`, also when it is not attached; `InvalidInput`.
    pub async fn detach_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        policy_arn: String,
    ) -> Result<(), RegistryError> {
        check_policy_arn(&policy_arn)?;
        self.change_principal(of, move |tx, row| match policies::detach(tx, &row.id, &policy_arn)? {
            true => Ok(()),
            false => Err(no_policy(&policy_arn).into()),
        })
        .await
    }

    /// The managed policies attached to a principal whose path begins with `path_prefix`, in order of name.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn list_attached_policies(
        &self,
        of: &Authorized<PrincipalRef>,
        path_prefix: &str,
        page: PageRequest,
    ) -> Result<Page<AttachedPolicy>, RegistryError> {
        let wanted = of.target().clone();
        let arns = self
            .inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                Ok::<_, RegistryError>(policies::attached(tx, &row.id)?)
            })
            .await?;
        let mut attached: Vec<AttachedPolicy> = arns.into_iter().map(AttachedPolicy::of).collect();
        attached.retain(|policy| policy.path().starts_with(path_prefix));
        let key = |policy: &AttachedPolicy| format!("{} {}", policy.name.to_ascii_lowercase(), policy.arn);
        self.iam_page_of(&["iam:ListAttachedPolicies", &of.arn(), path_prefix], attached, page, key)
    }

    /// Who in the account uses a managed policy: groups, then roles, then users, in order of name.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn entities_for_policy(
        &self,
        of: &Authorized<PolicyRef>,
        filter: EntityFilter,
        page: PageRequest,
    ) -> Result<Page<Principal>, RegistryError> {
        let usage = match filter.usage {
            None => "",
            Some(PolicyUsage::Permissions) => "permissions",
            Some(PolicyUsage::Boundary) => "boundary",
        };
        let account: AccountId = of.caller().identity.account;
        let kind = filter.kind.map_or("", PrincipalKind::as_str);
        let query =
            ["iam:ListEntitiesForPolicy", account.as_str(), of.arn(), kind, &filter.path_prefix, usage];
        let [kind, name] = self.open_iam_marker(&query, &page)?;
        let (limit, wanted, prefix) = (page.limit, of.target().clone(), filter.path_prefix.clone());
        let rows = self
            .inner
            .meta
            .read(move |tx| {
                wanted.require(tx)?;
                let filter = UseFilter {
                    attached: filter.usage != Some(PolicyUsage::Boundary),
                    boundary: filter.usage != Some(PolicyUsage::Permissions),
                    kind: filter.kind,
                    path_prefix: &prefix,
                };
                let after = (kind.as_str(), name.as_str());
                Ok::<_, RegistryError>(policies::users_of(
                    tx,
                    account,
                    wanted.arn(),
                    &filter,
                    after,
                    limit + 1,
                )?)
            })
            .await?;
        let place = |row: &wharf_store::meta::iam::principals::PrincipalRow| {
            vec![row.kind.as_str().to_owned(), row.name.clone()]
        };
        let page = self.cut_iam_page(&query, rows, limit, place)?;
        Ok(page.map(|row| Principal::of(row, Vec::new())))
    }
}
