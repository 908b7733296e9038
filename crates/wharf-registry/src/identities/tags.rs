//! Tags of users, roles and managed policies.

use std::collections::BTreeSet;

use wharf_store::meta::iam::tags;

use super::{IamError, PrincipalRef};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Tags that one thing may carry (IAM quota).
const MOST_TAGS: usize = 50;

/// Checks tags given in one request, as far as they depend on one another; the face has checked each by itself.
///
/// # Errors
/// `InvalidInput` for a reserved key or one that is given twice, `LimitExceeded` for more than 50.
pub(crate) fn check_tags(given: &[(String, String)]) -> Result<(), IamError> {
    let mut keys = BTreeSet::new();
    for (key, _) in given {
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(IamError::InvalidInput(format!(
                "The tag key {key} is reserved: tag keys cannot begin with aws:."
            )));
        }
        if !keys.insert(key.to_lowercase()) {
            return Err(IamError::InvalidInput(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.".into(),
            ));
        }
    }
    within_limit(given.len())
}

fn within_limit(count: usize) -> Result<(), IamError> {
    match count {
        0..=MOST_TAGS => Ok(()),
        _ => Err(IamError::LimitExceeded(format!(
            "The number of tags has reached the maximum limit of {MOST_TAGS}."
        ))),
    }
}

/// What there is with what is put: a key that is there gets the new value, and the new case.
///
/// # Errors
/// `LimitExceeded` for more than 50.
pub(crate) fn merged(
    there: Vec<(String, String)>,
    put: &[(String, String)],
) -> Result<Vec<(String, String)>, IamError> {
    let keys: Vec<&str> = put.iter().map(|(key, _)| key.as_str()).collect();
    let mut tags = without(there, &keys);
    tags.extend(put.iter().cloned());
    tags.sort_by_cached_key(|(key, _)| key.to_lowercase());
    within_limit(tags.len())?;
    Ok(tags)
}

/// What is left without some keys.
pub(crate) fn without(there: Vec<(String, String)>, keys: &[impl AsRef<str>]) -> Vec<(String, String)> {
    let gone: BTreeSet<String> = keys.iter().map(|key| key.as_ref().to_lowercase()).collect();
    there.into_iter().filter(|(key, _)| !gone.contains(&key.to_lowercase())).collect()
}

impl Registry {
    /// Adds tags to a user or role; keys that are there are overwritten, others kept.
    ///
    /// # Errors
    /// `NoSuchEntity`, `InvalidInput`, `LimitExceeded`.
    pub async fn tag_principal(
        &self,
        of: &Authorized<PrincipalRef>,
        put: Vec<(String, String)>,
    ) -> Result<(), RegistryError> {
        check_tags(&put)?;
        self.change_principal(of, move |tx, row| {
            merged(tags::list(tx, &row.id)?, &put)?;
            for (key, value) in &put {
                tags::put(tx, &row.id, key, value)?;
            }
            Ok(())
        })
        .await
    }

    /// Removes tags of a user or role by key; keys that are not there are ignored.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn untag_principal(
        &self,
        of: &Authorized<PrincipalRef>,
        keys: Vec<String>,
    ) -> Result<(), RegistryError> {
        self.change_principal(of, move |tx, row| {
            for key in &keys {
                tags::delete(tx, &row.id, key)?;
            }
            Ok(())
        })
        .await
    }

    /// The tags of a user or role, in order of key.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn principal_tags(
        &self,
        of: &Authorized<PrincipalRef>,
        page: PageRequest,
    ) -> Result<Page<(String, String)>, RegistryError> {
        let wanted = of.target().clone();
        let all = self
            .inner
            .meta
            .read(move |tx| {
                let row = wanted.hold(tx)?;
                Ok::<_, RegistryError>(tags::list(tx, &row.id)?)
            })
            .await?;
        self.iam_page_of(&["iam:ListTags", &of.arn()], all, page, |(key, _)| key.to_lowercase())
    }
}
