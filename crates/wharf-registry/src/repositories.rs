//! Repositories: created, described, changed, deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wharf_store::meta::iam::{epochs, resource_policies};
use wharf_store::meta::repositories::{self, NewRepositoryRow, RepositoryRow};
use wharf_store::meta::{MetaError, Tx};
use wharf_types::{
    Mutability, RegistryRef, RepositoryKind, RepositoryName, RepositoryRef, TagFilter, Timestamp,
};

use crate::cache::{CoherentCache, Ticket};
use crate::tags::check_resource_tags;
use crate::uninterrupted::uninterrupted;
use crate::{
    Authorized, Encryption, EncryptionType, KeyDomain, NamePage, NewRepository, Nodes, Page, PageRequest,
    Registry, RegistryError, Repository,
};

/// How many repositories are remembered; each takes some 300 bytes.
const REMEMBERED: u64 = 20_000;

/// Repositories as last read.
pub(crate) struct RepositoryCache(CoherentCache<RepositoryRef, Arc<Repository>>);

impl Default for RepositoryCache {
    fn default() -> Self {
        Self(CoherentCache::new(REMEMBERED))
    }
}

/// How many repositories of each kind a registry may at least still create, so that not every creation counts those
/// that are there. Looked at and lowered inside the writer's transaction, never raised but by a count. Where other
/// nodes create repositories too, each creation counts.
pub(crate) struct RepositoryRoom {
    alone: bool,
    known: Mutex<HashMap<(RegistryRef, RepositoryKind), u64>>,
}

impl RepositoryRoom {
    pub(crate) fn new(nodes: Nodes) -> Self {
        Self { alone: nodes == Nodes::One, known: Mutex::default() }
    }

    /// Whether one more may be created; `count` is asked where that is not known.
    fn take<E>(
        &self,
        of: &RepositoryRef,
        quota: u64,
        count: impl FnOnce() -> Result<u64, E>,
    ) -> Result<bool, E> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let room = known.entry((of.registry.clone(), of.kind)).or_default();
        if *room == 0 || !self.alone {
            *room = quota.saturating_sub(count()?);
        }
        let taken = room.checked_sub(1);
        *room = taken.unwrap_or_default();
        Ok(taken.is_some())
    }

    /// Counts anew the next time: what was counted may have been undone.
    fn forget(&self, of: &RepositoryRef) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(of.registry.clone(), of.kind));
    }
}

impl Registry {
    /// Creates a repository.
    ///
    /// # Errors
    /// `RepositoryAlreadyExists`, `LimitExceeded` at the quota, `Kms` when the key cannot be used, and those of
    /// resource tags.
    pub async fn create_repository(
        &self,
        at: &Authorized<RepositoryRef>,
        new: NewRepository,
    ) -> Result<Arc<Repository>, RegistryError> {
        check_resource_tags(&new.tags)?;
        let name = at.target().clone();
        let encryption = self.resolve_encryption(&name.registry, &new).await?;
        let quota = self.inner.options.quotas.repositories;
        let row = NewRepositoryRow {
            account: name.registry.account.to_string(),
            region: name.registry.region.to_string(),
            kind: name.kind.as_str(),
            name: name.name.to_string(),
            mutability: new.mutability.name(),
            exclusions: filters_text(&new.mutability),
            scan_on_push: new.scan_on_push,
            domain_id: 0,
        };
        let (target, tags, inner) = (name.clone(), new.tags, self.inner.clone());
        // Nothing to invalidate: that a name is free is never remembered.
        uninterrupted(async move {
            let (writing, at) = (inner.clone(), target.clone());
            let inserted = inner
                .meta
                .write(move |tx| {
                    let room = &writing.repository_room;
                    insert_repository(tx, &target, row.clone(), &encryption, (room, quota), &tags)
                })
                .await;
            match &inserted {
                Ok(()) | Err(RegistryError::RepositoryAlreadyExists(_) | RegistryError::LimitExceeded(_)) => {
                }
                Err(_) => inner.repository_room.forget(&at),
            }
            inserted
        })
        .await?;
        self.find_repository(&name).await?.ok_or(RegistryError::RepositoryNotFound(name))
    }

    async fn resolve_encryption(
        &self,
        registry: &RegistryRef,
        new: &NewRepository,
    ) -> Result<Encryption, RegistryError> {
        match (new.encryption_type, &new.kms_key) {
            (EncryptionType::Aes256, None) => Ok(Encryption::Aes256),
            (EncryptionType::Aes256, Some(_)) => Err(RegistryError::invalid(
                "encryptionConfiguration",
                "KMS key can only be specified when encryption type is KMS or KMS_DSSE",
            )),
            (EncryptionType::Kms, key) => {
                Ok(Encryption::Kms(self.resolve_repository_key(registry, key.as_deref()).await?))
            }
            (EncryptionType::KmsDsse, key) => {
                Ok(Encryption::KmsDsse(self.resolve_repository_key(registry, key.as_deref()).await?))
            }
        }
    }

    /// The repository, if it exists.
    pub(crate) async fn find_repository(
        &self,
        name: &RepositoryRef,
    ) -> Result<Option<Arc<Repository>>, RegistryError> {
        if let Some(known) = self.cached_repository(name) {
            return Ok(Some(known));
        }
        self.read_repository(name).await
    }

    /// As the metadata has it now.
    async fn read_repository(&self, name: &RepositoryRef) -> Result<Option<Arc<Repository>>, RegistryError> {
        let ticket = self.inner.repositories.0.ticket();
        let wanted = name.clone();
        let read = move |tx: &mut Tx<'_>| {
            let (RegistryRef { account, region }, kind) = (&wanted.registry, wanted.kind.as_str());
            repositories::find(tx, account.as_str(), region.as_str(), kind, wanted.name.as_str())
        };
        let found = self.inner.meta.read_quick(read).await.map_err(RegistryError::from)?;
        match found {
            Some(row) => self.remember_repository(ticket, name, row).await.map(Some),
            None => Ok(None),
        }
    }

    /// What must be taken before [`remember_repository`](Self::remember_repository)'s row is read.
    pub(crate) fn repository_ticket(&self) -> Ticket {
        self.inner.repositories.0.ticket()
    }

    /// A repository that was just read.
    pub(crate) async fn remember_repository(
        &self,
        ticket: Ticket,
        name: &RepositoryRef,
        row: RepositoryRow,
    ) -> Result<Arc<Repository>, RegistryError> {
        let repository = Arc::new(from_row(row)?);
        if !self.inner.keys.knows(&repository.domain) {
            // Its key may be younger than what this node knows of keys.
            self.confirm_anew().await?;
        }
        self.inner.repositories.0.fill(ticket, name, repository.clone());
        Ok(repository)
    }

    /// The repository, if it is remembered and memory may be believed.
    pub(crate) fn cached_repository(&self, name: &RepositoryRef) -> Option<Arc<Repository>> {
        if self.has_peers() { None } else { self.last_known_repository(name) }
    }

    /// The repository as it was when it was last read: its id, kind and key domain never change, but another node may
    /// have deleted it since, and may have made another under its name.
    pub(crate) fn last_known_repository(&self, name: &RepositoryRef) -> Option<Arc<Repository>> {
        self.inner.repositories.0.get(name)
    }

    /// Whether a repository of that name exists; for `wharf` commands and create-on-push decisions.
    pub async fn repository(&self, at: &Authorized<RepositoryRef>) -> Result<Arc<Repository>, RegistryError> {
        let name = at.target();
        self.find_repository(name).await?.ok_or_else(|| RegistryError::RepositoryNotFound(name.clone()))
    }

    /// A page of the registry's private repositories in order of name.
    pub async fn describe_repositories(
        &self,
        of: &Authorized<RegistryRef>,
        page: PageRequest,
    ) -> Result<Page<Arc<Repository>>, RegistryError> {
        let (account, region) = (of.account.to_string(), of.region.to_string());
        let query = ["DescribeRepositories", account.as_str(), region.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let (limit, wanted) = (page.limit, [account.clone(), region.clone()]);
        let rows = self
            .inner
            .meta
            .read(move |tx| repositories::page(tx, &wanted[0], &wanted[1], "private", &after, limit + 1))
            .await?;
        let mut items =
            rows.into_iter().map(|row| from_row(row).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let next = match items.len() > limit {
            true => {
                items.truncate(limit);
                let last = items.last().map(|last| last.name.name.to_string()).unwrap_or_default();
                Some(self.seal_page(&query, vec![last])?)
            }
            false => None,
        };
        Ok(Page { items, next })
    }

    /// The named repositories in the order asked for.
    ///
    /// # Errors
    /// `RepositoryNotFound` for the first that is missing.
    pub async fn describe_named_repositories(
        &self,
        of: &Authorized<RegistryRef>,
        names: &[RepositoryName],
    ) -> Result<Vec<Arc<Repository>>, RegistryError> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let name = of.repository(name.clone());
            match self.find_repository(&name).await? {
                Some(repository) => found.push(repository),
                None => return Err(RegistryError::RepositoryNotFound(name)),
            }
        }
        Ok(found)
    }

    /// Names of the registry's private repositories after `after`, at most `limit`, and whether there are more.
    pub async fn catalog(
        &self,
        of: &Authorized<RegistryRef>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<NamePage, RegistryError> {
        let (account, region) = (of.account.to_string(), of.region.to_string());
        let after = after.unwrap_or_default().to_owned();
        self.inner
            .meta
            .read(move |tx| {
                NamePage::read(limit, |limit, visit| {
                    repositories::page_names(tx, &account, &region, "private", &after, limit, visit)
                })
            })
            .await
            .map_err(|error: MetaError| RegistryError::from(error))
    }

    /// Changes whether tags may move; existing tags stay as they are.
    pub async fn put_tag_mutability(
        &self,
        at: &Authorized<RepositoryRef>,
        mutability: Mutability,
    ) -> Result<Arc<Repository>, RegistryError> {
        let (inner, repository) = (self.inner.clone(), self.repository(at).await?);
        uninterrupted(async move {
            let (id, name) = (repository.id, repository.name.clone());
            let setting = (mutability.name(), filters_text(&mutability));
            inner
                .meta
                .write(move |tx| match repositories::set_mutability(tx, id, setting.0, &setting.1)? {
                    true => Ok(()),
                    false => Err(RegistryError::RepositoryNotFound(name.clone())),
                })
                .await?;
            inner.repositories.0.invalidate(&repository.name);
            Ok(())
        })
        .await?;
        self.repository(at).await
    }

    /// Deletes a repository. It and its images are gone when this returns; what they hold is dropped afterwards in
    /// batches, into the trash window.
    ///
    /// # Errors
    /// `RepositoryNotEmpty` unless `force`.
    pub async fn delete_repository(
        &self,
        at: &Authorized<RepositoryRef>,
        force: bool,
    ) -> Result<Arc<Repository>, RegistryError> {
        let (registry, repository) = (self.clone(), self.repository(at).await?);
        uninterrupted(async move {
            let (id, name) = (repository.id, repository.name.clone());
            registry
                .inner
                .meta
                .write(move |tx| {
                    epochs::move_on(tx, epochs::RESOURCE_POLICIES)?;
                    if !force && repositories::has_images(tx, id)? {
                        return Err(RegistryError::RepositoryNotEmpty(name.clone()));
                    }
                    match repositories::mark_deleted(tx, id)? {
                        true => {}
                        false => return Err(RegistryError::RepositoryNotFound(name.clone())),
                    }
                    // One that is made later under its name begins without a policy.
                    resource_policies::delete_of_repository(tx, id)?;
                    Ok(())
                })
                .await?;
            registry.inner.repositories.0.invalidate(&repository.name);
            registry.inner.resource_rules.forget_repository(&repository.name);
            registry.forget_blobs_of(repository.id);
            registry.clone().inner.tasks.spawn(async move {
                if let Err(error) = registry.drop_deleted_repositories().await {
                    tracing::warn!(%error, "contents of a deleted repository wait for the next collection");
                }
            });
            Ok(repository)
        })
        .await
    }
}

fn insert_repository(
    tx: &mut Tx<'_>,
    name: &RepositoryRef,
    mut row: NewRepositoryRow,
    encryption: &Encryption,
    (room, quota): (&RepositoryRoom, u64),
    tags: &[(String, String)],
) -> Result<(), RegistryError> {
    if repositories::find(tx, &row.account, &row.region, row.kind, &row.name)?.is_some() {
        return Err(RegistryError::RepositoryAlreadyExists(name.clone()));
    }
    if !room.take(name, quota, || repositories::count(tx, &row.account, &row.region, row.kind))? {
        return Err(RegistryError::LimitExceeded(format!(
            "The registry with id '{}' already has the maximum number of repositories ({quota})",
            row.account
        )));
    }
    let key = encryption.kms_key().unwrap_or_default();
    row.domain_id = repositories::key_domain(tx, &row.account, &row.region, encryption.type_name(), key)?;
    let id = match repositories::insert(tx, &row) {
        Err(error) if error.is_unique_violation() => {
            return Err(RegistryError::RepositoryAlreadyExists(name.clone()));
        }
        inserted => inserted?,
    };
    for (key, value) in tags {
        repositories::put_resource_tag(tx, id, key, value)?;
    }
    Ok(())
}

/// The filters as the metadata store keeps them.
fn filters_text(mutability: &Mutability) -> String {
    let filters: Vec<&str> = mutability.filters().iter().map(TagFilter::as_str).collect();
    serde_json::to_string(&filters).expect("a list of strings is JSON")
}

/// Reads a mutability setting back.
pub(crate) fn stored_mutability(name: &str, exclusions: &str) -> Result<Mutability, RegistryError> {
    let damaged = |text: String| RegistryError::Internal(format!("stored tag mutability: {text}"));
    let filters: Vec<String> =
        serde_json::from_str(exclusions).map_err(|error| damaged(error.to_string()))?;
    let filters: Result<Vec<_>, _> = filters.iter().map(|text| TagFilter::parse(text)).collect();
    Mutability::new(name, filters.map_err(|error| damaged(error.to_string()))?)
        .map_err(|error| damaged(error.to_string()))
}

/// Parses text that the store has kept for us.
pub(crate) fn stored<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, RegistryError> {
    text.parse().map_err(|_| RegistryError::Internal(format!("stored {what} {text:?} does not parse")))
}

/// A repository as the store keeps it.
pub(crate) fn from_row(row: RepositoryRow) -> Result<Repository, RegistryError> {
    let registry = RegistryRef::new(stored("account", &row.account)?, stored("region", &row.region)?);
    let kind = match row.kind.as_str() {
        "public" => RepositoryKind::Public,
        _ => RepositoryKind::Private,
    };
    let encryption = match row.encryption_type.as_str() {
        "AES256" => Encryption::Aes256,
        "KMS" => Encryption::Kms(row.kms_key),
        "KMS_DSSE" => Encryption::KmsDsse(row.kms_key),
        other => return Err(RegistryError::Internal(format!("stored encryption type {other:?}"))),
    };
    // A repository whose contents are being dropped is named `name@id`.
    let name = row.name.split('@').next().unwrap_or_default();
    Ok(Repository {
        id: row.id,
        name: RepositoryRef { registry: registry.clone(), kind, name: stored("repository name", name)? },
        created_at: Timestamp::from_micros(row.created_at),
        mutability: stored_mutability(&row.mutability, &row.exclusions)?,
        scan_on_push: row.scan_on_push,
        domain: KeyDomain { id: row.domain_id, registry, encryption },
    })
}

/// Fails when the repository went away since it was looked up.
pub(crate) fn hold_repository(tx: &mut Tx<'_>, repository: &Repository) -> Result<(), RegistryError> {
    match repositories::hold(tx, repository.id).map_err(|error: MetaError| RegistryError::from(error))? {
        true => Ok(()),
        false => Err(RegistryError::RepositoryNotFound(repository.name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_counted_only_where_the_quota_could_be_reached() {
        let registry = RegistryRef::new("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        let (of, room) = (registry.repository("team/app".parse().unwrap()), RepositoryRoom::new(Nodes::One));
        let (mut there, mut counted) = (7, 0);
        let mut create = |room: &RepositoryRoom, there: &mut u64| {
            let taken = room.take(&of, 10, || {
                counted += 1;
                Ok::<_, ()>(*there)
            });
            let taken = taken.unwrap();
            *there += u64::from(taken);
            (taken, counted)
        };
        assert_eq!(create(&room, &mut there), (true, 1));
        assert_eq!(create(&room, &mut there), (true, 1));
        assert_eq!(create(&room, &mut there), (true, 1), "the tenth");
        assert_eq!(create(&room, &mut there), (false, 2));
        there -= 1;
        assert_eq!(create(&room, &mut there), (true, 3), "one was deleted");
        assert_eq!(create(&room, &mut there), (false, 4));
        there = 3;
        assert_eq!(create(&room, &mut there), (true, 5));
        there = 10;
        room.forget(&of);
        assert_eq!(create(&room, &mut there), (false, 6));
        assert!(room.take(&of, 10, || Err(())).is_err());
        let shared = RepositoryRoom::new(Nodes::Many);
        there = 8;
        assert_eq!(create(&shared, &mut there), (true, 7));
        there += 1;
        assert_eq!(create(&shared, &mut there), (false, 8), "another node made the last one");
    }
}
