//! Resource tags of repositories (not image tags).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wharf_store::meta::iam::epochs;
use wharf_store::meta::{Tx, repositories};
use wharf_types::RepositoryRef;

use crate::repositories::hold_repository;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Registry, RegistryError, Repository};

/// Tags a repository may carry (quota, not adjustable in ECR).
const MOST_TAGS: usize = 50;

/// Checks tags given in one request: key 1 to 128, value 0 to 256 characters, letters, digits, spaces and
/// `_.:/=+-@`, no `aws:` prefix, no key twice.
pub(crate) fn check_resource_tags(tags: &[(String, String)]) -> Result<(), RegistryError> {
    let mut keys = BTreeSet::new();
    for (key, value) in tags {
        let refuse =
            |why: &str| Err(RegistryError::InvalidTagParameter(format!("Invalid tag '{key}': {why}")));
        if !(1..=128).contains(&key.chars().count()) {
            return refuse("a tag key has 1 to 128 characters");
        }
        if value.chars().count() > 256 {
            return refuse("a tag value has at most 256 characters");
        }
        if !key
            .chars()
            .chain(value.chars())
            .all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
        {
            return refuse("only letters, digits, spaces and _.:/=+-@ are allowed");
        }
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return refuse("tag keys starting with 'aws:' are reserved");
        }
        if !keys.insert(key) {
            return refuse("the key is given twice");
        }
    }
    if tags.len() > MOST_TAGS { Err(RegistryError::TooManyTags) } else { Ok(()) }
}

impl Registry {
    /// Adds tags; keys that are there are overwritten, others kept.
    ///
    /// # Errors
    /// `InvalidTagParameter`, or `TooManyTags` when there would be more than 50.
    pub async fn tag_resource(
        &self,
        at: &Authorized<RepositoryRef>,
        tags: Vec<(String, String)>,
    ) -> Result<(), RegistryError> {
        check_resource_tags(&tags)?;
        let repository = self.repository(at).await?;
        self.change_tags(repository, move |tx, repository| {
            let mut all: BTreeMap<String, String> =
                repositories::resource_tags(tx, repository.id)?.into_iter().collect();
            all.extend(tags.iter().cloned());
            if all.len() > MOST_TAGS {
                return Err(RegistryError::TooManyTags);
            }
            for (key, value) in &tags {
                repositories::put_resource_tag(tx, repository.id, key, value)?;
            }
            Ok(())
        })
        .await
    }

    /// Tags decide over access, so that what is remembered of them goes with every change.
    async fn change_tags(
        &self,
        repository: Arc<Repository>,
        change: impl Fn(&mut Tx<'_>, &Repository) -> Result<(), RegistryError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let inner = self.inner.clone();
        uninterrupted(async move {
            let name = repository.name.clone();
            let work = move |tx: &mut Tx<'_>| {
                hold_repository(tx, &repository)?;
                epochs::move_on(tx, epochs::RESOURCE_POLICIES)?;
                change(tx, &repository)
            };
            let outcome = inner.meta.write(work).await;
            inner.resource_rules.forget_repository(&name);
            outcome
        })
        .await
    }

    /// Removes tags by key; keys that are not there are ignored.
    pub async fn untag_resource(
        &self,
        at: &Authorized<RepositoryRef>,
        keys: &[String],
    ) -> Result<(), RegistryError> {
        let repository = self.repository(at).await?;
        let keys = keys.to_vec();
        self.change_tags(repository, move |tx, repository| {
            for key in &keys {
                repositories::remove_resource_tag(tx, repository.id, key)?;
            }
            Ok(())
        })
        .await
    }

    /// The repository's tags in order of key.
    pub async fn list_resource_tags(
        &self,
        at: &Authorized<RepositoryRef>,
    ) -> Result<Vec<(String, String)>, RegistryError> {
        let repository = self.repository(at).await?;
        Ok(self.inner.meta.read(move |tx| repositories::resource_tags(tx, repository.id)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tag_may_be() {
        let tag = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert!(check_resource_tags(&tag("team", "a b/c=d")).is_ok());
        assert!(check_resource_tags(&tag("team", "")).is_ok());
        for (key, value) in
            [("", "x"), ("aws:x", "y"), ("AWS:x", "y"), ("a\"", "y"), ("a", "<"), (&"k".repeat(129), "")]
        {
            let error = check_resource_tags(&tag(key, value)).unwrap_err();
            assert!(matches!(error, RegistryError::InvalidTagParameter(_)), "{key:?}");
        }
        let twice = [tag("a", "1"), tag("a", "2")].concat();
        assert!(matches!(check_resource_tags(&twice), Err(RegistryError::InvalidTagParameter(_))));
        let many: Vec<_> = (0..51).map(|n| (n.to_string(), String::new())).collect();
        assert!(matches!(check_resource_tags(&many), Err(RegistryError::TooManyTags)));
    }
}
