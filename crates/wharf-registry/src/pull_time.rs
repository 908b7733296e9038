//! When images were last pulled. Gathered in memory and written in batches, so that a pull writes nothing itself;
//! principals that are excluded leave no trace.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wharf_store::meta::pull_time;
use wharf_types::{Digest, RegistryRef, Timestamp};

use crate::cache::CoherentCache;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Caller, Page, PageRequest, Registry, RegistryError, Repository};

/// Excluded principals of one registry (ECR quota).
const EXCLUSIONS: usize = 100;
/// How often the gathered times are written.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// A time is not moved again before it is this old; ECR's own are up to 24 h old.
const COARSE: Duration = Duration::from_secs(60);
/// Images per transaction, and images remembered at most.
const BATCH: usize = 500;
const REMEMBERED: usize = 100_000;

type ImageKey = (i64, Digest);

/// Times that were not written yet, and those that were written lately.
pub(crate) struct PullTimes {
    times: Mutex<Times>,
    excluded: CoherentCache<RegistryRef, Arc<HashSet<String>>>,
}

#[derive(Default)]
struct Times {
    pending: HashMap<ImageKey, Timestamp>,
    written: HashMap<ImageKey, Timestamp>,
}

impl Default for PullTimes {
    fn default() -> Self {
        Self { times: Mutex::default(), excluded: CoherentCache::new(1000) }
    }
}

impl PullTimes {
    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (now, image) = (self.inner.clock.now(), (repository.id, *digest));
        {
            let times = self.inner.pull_times.times();
            if times.written.get(&image).is_some_and(|written| now < written.plus(COARSE)) {
                return;
            }
        }
        match self.is_excluded(
            &repository.name.registry,
            caller.identity.role_arn.as_ref().unwrap_or(&caller.identity.arn),
        ) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                return tracing::warn!(%error, "cannot tell whether a pull counts, it is not recorded");
            }
        }
        let mut times = self.inner.pull_times.times();
        if times.pending.len() < REMEMBERED || times.pending.contains_key(&image) {
            times.pending.insert(image, now);
        }
    }

    /// Writes what is gathered every few seconds until the registry stops.
    pub(crate) fn start_pull_time_writer(&self) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            let mut turns = tokio::time::interval(WRITE_EVERY);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = registry.inner.stop.cancelled() => return,
                    _ = turns.tick() => {}
                }
                if let Err(error) = registry.write_pull_times().await {
                    tracing::warn!(%error, "pull times were not written, they are tried again");
                }
            }
        });
    }

    /// Writes what is gathered now.
    ///
    /// # Errors
    /// When the metadata fails; what was not written is kept for the next time.
    pub(crate) async fn write_pull_times(&self) -> Result<(), RegistryError> {
        loop {
            let batch: Vec<(ImageKey, Timestamp)> = {
                let times = self.inner.pull_times.times();
                times.pending.iter().take(BATCH).map(|(image, time)| (*image, *time)).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            let written = batch.clone();
            self.inner
                .meta
                .write(move |tx| {
                    for ((repository, digest), time) in &batch {
                        pull_time::set_pulled(tx, *repository, &digest.to_string(), *time)?;
                    }
                    Ok::<_, RegistryError>(())
                })
                .await?;
            let mut times = self.inner.pull_times.times();
            if times.written.len() >= REMEMBERED {
                times.written.clear();
            }
            for (image, time) in written {
                // Pulled again meanwhile: that time is written with the next batch.
                if times.pending.get(&image) == Some(&time) {
                    times.pending.remove(&image);
                }
                times.written.insert(image, time);
            }
        }
    }

    fn is_excluded(&self, registry: &RegistryRef, arn: &str) -> Result<bool, RegistryError> {
        let cache = &self.inner.pull_times.excluded;
        if let Some(excluded) = cache.get(registry) {
            return Ok(excluded.contains(arn));
        }
        let ticket = cache.ticket();
        let list = self.inner.meta.read_now(|tx| pull_time::list_exclusions(tx, registry, "", EXCLUSIONS))?;
        let excluded: Arc<HashSet<String>> = Arc::new(list.into_iter().collect());
        cache.fill(ticket, registry, Arc::clone(&excluded));
        Ok(excluded.contains(arn))
    }

    async fn change_exclusions(
        &self,
        of: &Authorized<RegistryRef>,
        change: impl Fn(&mut wharf_store::meta::Tx<'_>, &RegistryRef) -> Result<(), RegistryError>
        + Send
        + 'static,
    ) -> Result<(), RegistryError> {
        let (registry, of) = (self.clone(), of.target().clone());
        uninterrupted(async move {
            let wanted = of.clone();
            let outcome = registry.inner.meta.write(move |tx| change(tx, &wanted)).await;
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
