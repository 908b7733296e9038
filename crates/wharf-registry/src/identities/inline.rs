//! Inline policies of users, groups and roles.

use wharf_iam::policy::PolicyKind;
use wharf_store::meta::iam::policies;

use super::written::{check_written, size};
use super::{IamError, PrincipalKind, PrincipalRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Characters of all inline policies of one principal, white space not counted (IAM quotas).
fn most_characters(kind: PrincipalKind) -> usize {
    match kind {
        PrincipalKind::User => 2048,
        PrincipalKind::Group => 5120,
        PrincipalKind::Role => 10_240,
    }
}

impl Registry {
    /// Puts an inline policy in place of an earlier one of the name.
    ///
    /// # Errors
    /// `NoSuchEntity`, `MalformedPolicyDocument`, `LimitExceeded` when all inline policies together are too large.
    pub async fn put_inline_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        name: String,
        document: String,
    ) -> Result<(), RegistryError> {
        check_written(PolicyKind::Identity, &document)?;
        self.change_principal(of, move |tx, row| {
            policies::put_inline(tx, &row.id, &name, &document)?;
            let total: usize =
                policies::all_inline(tx, &row.id)?.iter().map(|(_, document)| size(document)).sum();
            let limit = most_characters(row.kind);
            if total > limit {
                return Err(IamError::LimitExceeded(format!(
                    "Maximum policy size of {limit} bytes exceeded for {} {}",
                    row.kind.as_str(),
                    row.name
                ))
                .into());
            }
            Ok(())
        })
        .await
    }

    /// The document of an inline policy, as it was written.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn inline_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        name: &str,
    ) -> Result<String, RegistryError> {
        let (wanted, name) = (of.target().clone(), name.to_owned());
        self.inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                let document = policies::inline(tx, &row.id, &name)?;
                document.ok_or_else(|| no_inline_policy(row.kind, &name))
            })
            .await
    }

    /// The names of a principal's inline policies, in order.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn list_inline_policies(
        &self,
        of: &Authorized<PrincipalRef>,
        page: PageRequest,
    ) -> Result<Page<String>, RegistryError> {
        let arn = of.arn();
        let query = ["iam:ListInlinePolicies", &arn];
        let [after] = self.open_iam_marker(&query, &page)?;
        let (limit, wanted) = (page.limit, of.target().clone());
        let names = self
            .inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                Ok::<_, RegistryError>(policies::inline_names(tx, &row.id, &after, limit + 1)?)
            })
            .await?;
        self.cut_iam_page(&query, names, limit, |name| vec![name.clone()])
    }

    /// Removes an inline policy.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn delete_inline_policy(
        &self,
        of: &Authorized<PrincipalRef>,
        name: String,
    ) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| match policies::delete_inline(tx, &row.id, &name)? {
            true => Ok(()),
            false => Err(no_inline_policy(row.kind, &name)),
        })
        .await
    }
}

fn no_inline_policy(kind: PrincipalKind, name: &str) -> RegistryError {
    IamError::NoSuchEntity(format!("The {} policy with name {name} cannot be found.", kind.as_str())).into()
}
