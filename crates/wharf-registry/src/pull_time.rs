//! When images were last pulled. Gathered in memory and written in batches, so that a pull writes nothing itself;
//! principals that are excluded leave no trace.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_store::meta::iam::epochs;
use wharf_store::meta::{Tx, pull_time};
use wharf_types::{Digest, RegistryRef, Timestamp};

use crate::cache::CoherentCache;
use crate::gathered::Gathered;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Caller, Page, PageRequest, Registry, RegistryError, Repository};

/// Excluded principals of one registry (ECR quota).
const EXCLUSIONS: usize = 100;
/// How often the gathered times are written.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// A time is not moved again before it is this old; ECR's own are up to 24 h old.
const COARSE: Duration = Duration::from_secs(60);
/// Pulls that wait to be judged; more are forgotten.
const UNJUDGED: usize = 10_000;

type ImageKey = (i64, Digest);

/// Times that were not written yet, and those that were written lately.
pub(crate) struct PullTimes {
    times: Gathered<ImageKey, Timestamp>,
    /// Pulls in registries whose exclusions were not in memory, by image and principal.
    unjudged: Mutex<HashMap<(ImageKey, String), (RegistryRef, Timestamp)>>,
    excluded: CoherentCache<RegistryRef, Arc<HashSet<String>>>,
}

impl Default for PullTimes {
    fn default() -> Self {
        let (times, unjudged) = (Gathered::default(), Mutex::default());
        Self { times, unjudged, excluded: CoherentCache::new(1000) }
    }
}

impl PullTimes {
    /// Forgets whose pulls do not count: after a change of that on another node.
    pub(crate) fn forget_exclusions(&self) {
        self.excluded.clear();
    }

    fn unjudged(&self) -> MutexGuard<'_, HashMap<(ImageKey, String), (RegistryRef, Timestamp)>> {
        self.unjudged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Excludes a principal: its pulls no longer move the time of an image's last pull. Answers when that began.
    ///
    /// # Errors
    /// [`RegistryError::Validation`] for what is no ARN of a user or role; [`RegistryError::ExclusionAlreadyExists`];
    /// [`RegistryError::LimitExceeded`] at 100.
    pub async fn register_pull_time_exclusion(
        &self,
        of: &Authorized<RegistryRef>,
        principal_arn: &str,
    ) -> Result<Timestamp, RegistryError> {
        check_principal(principal_arn)?;
        let now = self.inner.clock.now();
        let arn = principal_arn.to_owned();
        self.change_exclusions(of, move |tx, registry| {
            let excluded = pull_time::list_exclusions(tx, registry, "", EXCLUSIONS)?;
            if excluded.contains(&arn) {
                return Err(RegistryError::ExclusionAlreadyExists(arn.clone()));
            }
            if excluded.len() >= EXCLUSIONS {
                return Err(RegistryError::LimitExceeded(format!(
                    "The registry with id '{}' already has the maximum of {EXCLUSIONS} pull time update exclusions",
                    registry.account
                )));
            }
            Ok(pull_time::insert_exclusion(tx, registry, &arn, now)?)
        })
        .await?;
        Ok(now)
    }

    /// Takes an exclusion back.
    ///
    /// # Errors
    /// [`RegistryError::Validation`], [`RegistryError::ExclusionNotFound`].
    pub async fn deregister_pull_time_exclusion(
        &self,
        of: &Authorized<RegistryRef>,
        principal_arn: &str,
    ) -> Result<(), RegistryError> {
        check_principal(principal_arn)?;
        let arn = principal_arn.to_owned();
        self.change_exclusions(of, move |tx, registry| {
            match pull_time::delete_exclusion(tx, registry, &arn)? {
                true => Ok(()),
                false => Err(RegistryError::ExclusionNotFound(arn.clone())),
            }
        })
        .await
    }

    /// The excluded principals of a registry in the order of their ARNs.
    ///
    /// # Errors
    /// `InvalidParameterException` for a token of another listing.
    pub async fn list_pull_time_exclusions(
        &self,
        of: &Authorized<RegistryRef>,
        page: PageRequest,
    ) -> Result<Page<String>, RegistryError> {
        let registry = of.target().clone();
        let query = ["ListPullTimeUpdateExclusions", registry.account.as_str(), registry.region.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let (limit, wanted) = (page.limit, registry.clone());
        let mut items = self
            .inner
            .meta
            .read(move |tx| pull_time::list_exclusions(tx, &wanted, &after, limit + 1))
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = match items.last() {
            Some(last) if more => Some(self.seal_page(&query, vec![last.clone()])?),
            _ => None,
        };
        Ok(Page { items, next })
    }

    /// Notes that a caller pulled an image. Cheap; the time is written within seconds. A note may be lost when the
    /// process is killed or very many images are pulled at once: ECR's own times are up to 24 h old, too.
    pub(crate) fn record_pull(&self, caller: &Caller, repository: &Repository, digest: &Digest) {
        let (now, image, pulls) = (self.inner.clock.now(), (repository.id, *digest), &self.inner.pull_times);
        if pulls.times.knows(&image, |last| now < last.plus(COARSE)) {
            return;
        }
        let principal = caller.identity.role_arn.as_ref().unwrap_or(&caller.identity.arn);
        match pulls.excluded.get(&repository.name.registry) {
            Some(excluded) if excluded.contains(principal.as_str()) => {}
            Some(_) => pulls.times.note(image, now),
            None => {
                let mut unjudged = pulls.unjudged();
                if unjudged.len() < UNJUDGED {
                    let pull = (repository.name.registry.clone(), now);
                    unjudged.insert((image, principal.to_string()), pull);
                }
            }
        }
    }

    /// Writes what is gathered every few seconds until the registry stops.
    pub(crate) fn start_pull_time_writer(&self) {
        let write = |registry: Registry| async move { registry.write_pull_times().await };
        self.repeat(WRITE_EVERY, "writing pull times", write);
    }

    /// Writes what is gathered now.
    ///
    /// # Errors
    /// When the metadata fails; what was not written is kept for the next time.
    pub(crate) async fn write_pull_times(&self) -> Result<(), RegistryError> {
        let pulls = &self.inner.pull_times;
        let waiting: Vec<_> = pulls.unjudged().iter().map(|(pull, at)| (pull.clone(), at.clone())).collect();
        for (pull, (registry, at)) in waiting {
            if !self.excluded(&registry).await?.contains(&pull.1) {
                pulls.times.note(pull.0, at);
            }
            pulls.unjudged().remove(&pull);
        }
        let write = |tx: &mut Tx<'_>, (repository, digest): &ImageKey, at: &Timestamp| {
            pull_time::set_pulled(tx, *repository, &digest.to_string(), *at).map(drop)
        };
        self.write_gathered(&pulls.times, write).await
    }

    /// Whose pulls do not count.
    async fn excluded(&self, registry: &RegistryRef) -> Result<Arc<HashSet<String>>, RegistryError> {
        let cache = &self.inner.pull_times.excluded;
        if let Some(excluded) = cache.get(registry) {
            return Ok(excluded);
        }
        let (ticket, wanted) = (cache.ticket(), registry.clone());
        let read = move |tx: &mut Tx<'_>| pull_time::list_exclusions(tx, &wanted, "", EXCLUSIONS);
        let list = self.inner.meta.read_quick(read).await.map_err(RegistryError::from)?;
        let excluded: Arc<HashSet<String>> = Arc::new(list.into_iter().collect());
        cache.fill(ticket, registry, Arc::clone(&excluded));
        Ok(excluded)
    }

    async fn change_exclusions(
        &self,
        of: &Authorized<RegistryRef>,
        change: impl Fn(&mut Tx<'_>, &RegistryRef) -> Result<(), RegistryError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let (registry, of) = (self.clone(), of.target().clone());
        uninterrupted(async move {
            let wanted = of.clone();
            let work = move |tx: &mut Tx<'_>| {
                epochs::move_on(tx, epochs::SETTINGS)?;
                change(tx, &wanted)
            };
            let outcome = registry.inner.meta.write(work).await;
            registry.inner.pull_times.excluded.invalidate(&of);
            outcome
        })
        .await
    }
}

/// `^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(role|user)/[\w+=,.@-]+(/[\w+=,.@-]+)*$`, at most 200 characters (ECR model).
fn check_principal(arn: &str) -> Result<(), RegistryError> {
    const PATTERN: &str = r"^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(role|user)/[\w+=,.@-]+(/[\w+=,.@-]+)*$";
    if arn.len() <= 200 && is_principal(arn) {
        return Ok(());
    }
    Err(RegistryError::Validation(format!(
        "1 validation error detected: Value '{arn}' at 'principalArn' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: {PATTERN}"
    )))
}

fn is_principal(arn: &str) -> bool {
    let Ok(arn) = arn.parse::<wharf_types::Arn>() else { return false };
    let mut partition = arn.partition.split('-');
    let Some(path) = arn.resource.strip_prefix("role/").or_else(|| arn.resource.strip_prefix("user/")) else {
        return false;
    };
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
    };
    partition.next() == Some("aws")
        && partition.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
        && arn.service == "iam"
        && arn.region.is_empty()
        && arn.account.parse::<wharf_types::AccountId>().is_ok()
        && path.split('/').all(word)
}

#[cfg(test)]
mod tests;
