//! Carrying policies out: by a job per repository, or because the operator says so.

use std::sync::Arc;
use std::time::Duration;

use wharf_lifecycle::{Outcome, Protection};
use wharf_store::meta::jobs::{self, Job};
use wharf_store::meta::{Tx, lifecycle, repositories};
use wharf_types::RepositoryRef;

use super::act::{Done, Step, act, expire_referrers, note_orphans};
use super::plan::{LifecycleExplanation, Plan};
use super::record::{self, PolicyRecord};
use super::{parse, parse_stored, require_policy};
use crate::jobs::{LEASE_MICROS, Outcome as JobOutcome};
use crate::repositories::{from_row, hold_repository};
use crate::uninterrupted::uninterrupted;
use crate::{Progress, Registry, RegistryError, Repository};

/// Images that one transaction acts on: other writes wait for it.
const BATCH: usize = 20;
/// Repositories that are looked up at a time.
const PAGE: usize = 100;
/// How long a run that failed waits for the next attempt.
const RETRY: Duration = Duration::from_secs(60);

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LifecycleReport {
    /// Repositories whose policies were evaluated.
    pub repositories: u64,
    /// Images looked at.
    pub images: u64,
    /// Images deleted.
    pub expired: u64,
    /// Images archived.
    pub archived: u64,
    /// Tags taken from images that stay.
    pub untagged: u64,
    /// Referrers that went with their subjects.
    pub referrers: u64,
    /// Images that changed, or came into use, between their evaluation and their turn: the next run looks again.
    pub postponed: u64,
    /// Images that a rule would act on and cannot.
    pub failures: Vec<LifecycleFailure>,
}

/// An image that a rule would act on and cannot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LifecycleFailure {
    /// Where.
    pub repository: String,
    /// Which.
    pub digest: String,
    /// The rule's priority.
    pub rule: u64,
    /// `ImageReferencedByManifestList` or `ImageInUse`.
    pub code: &'static str,
}

/// Failures that a report lists.
const FAILURES: usize = 1000;
/// Failures that are recorded for the audit log: they are the same at every run.
const RECORDED_FAILURES: usize = 90;

impl Registry {
    /// Carries out the policy of one repository, or of every one, now. Runs from wherever the last one stopped: what is
    /// done is done.
    ///
    /// # Errors
    /// `LifecyclePolicyNotFound` for a named repository without one; a failure of a store.
    pub async fn run_lifecycle(
        &self,
        only: Option<&RepositoryRef>,
        progress: &dyn Progress,
    ) -> Result<LifecycleReport, RegistryError> {
        let mut report = LifecycleReport::default();
        if let Some(name) = only {
            let found = self.find_repository(name).await?;
            let repository = found.ok_or_else(|| RegistryError::RepositoryNotFound(name.clone()))?;
            if !self.run_lifecycle_of(&repository, progress, &mut report).await? {
                return Err(RegistryError::LifecyclePolicyNotFound(name.clone()));
            }
            return Ok(report);
        }
        let mut after = 0;
        loop {
            let read = move |tx: &mut Tx<'_>| lifecycle::repositories_with_policy(tx, after, PAGE);
            let page = self.inner.meta.read_background(read).await.map_err(RegistryError::from)?;
            let Some(last) = page.last() else { return Ok(report) };
            after = *last;
            for id in page {
                if let Some(repository) = self.repository_by_id(id).await? {
                    self.run_lifecycle_of(&repository, progress, &mut report).await?;
                }
            }
        }
    }

    /// What a policy, or the stored one, would do with every image now.
    ///
    /// # Errors
    /// As [`put_lifecycle_policy`](Self::put_lifecycle_policy); `LifecyclePolicyNotFound`.
    pub async fn explain_lifecycle(
        &self,
        name: &RepositoryRef,
        document: Option<&str>,
    ) -> Result<LifecycleExplanation, RegistryError> {
        let found = self.find_repository(name).await?;
        let repository = found.ok_or_else(|| RegistryError::RepositoryNotFound(name.clone()))?;
        let policy = match document {
            Some(document) => parse(document, &self.inner.options)?,
            None => {
                let stored = Arc::clone(&repository);
                let row = self.inner.meta.read(move |tx| require_policy(tx, &stored)).await?;
                parse_stored(&row.document)?
            }
        };
        let plan = self.lifecycle_plan(&repository, policy, self.inner.clock.now()).await?;
        let id = repository.id;
        let uses = self.inner.meta.read_background(move |tx| lifecycle::blob_uses(tx, id)).await;
        Ok(plan.explain(uses.map_err(RegistryError::from)?))
    }

    /// One turn of a repository's job.
    pub(crate) async fn run_lifecycle_job(&self, job: &Job) -> Result<JobOutcome, RegistryError> {
        let id = job.key.parse().unwrap_or_default();
        let Some(repository) = self.repository_by_id(id).await? else { return Ok(JobOutcome::Finished) };
        let mut report = LifecycleReport::default();
        let lease = Lease { registry: self.clone(), job: job.clone() };
        let next = match self.act_on(&repository, &(), &mut report, Some(&lease)).await {
            // Told to stop in the middle: whoever starts next goes on at once.
            Ok(true) if self.inner.stop.is_cancelled() => return Ok(JobOutcome::Again(Duration::ZERO)),
            Ok(true) => self.inner.options.lifecycle_interval,
            Ok(false) => return Ok(JobOutcome::Finished),
            Err(error) => {
                tracing::warn!(%error, repository = %repository.name.name, "a lifecycle policy is tried again");
                return Ok(JobOutcome::Failed(RETRY));
            }
        };
        tracing::info!(
            repository = %repository.name.name, expired = report.expired, archived = report.archived,
            postponed = report.postponed, failures = report.failures.len(), "a lifecycle policy was carried out"
        );
        Ok(JobOutcome::Again(next))
    }

    async fn run_lifecycle_of(
        &self,
        repository: &Arc<Repository>,
        progress: &dyn Progress,
        report: &mut LifecycleReport,
    ) -> Result<bool, RegistryError> {
        self.act_on(repository, progress, report, None).await
    }

    /// Evaluates the stored policy and acts; `false` if there is none.
    async fn act_on(
        &self,
        repository: &Arc<Repository>,
        progress: &dyn Progress,
        report: &mut LifecycleReport,
        lease: Option<&Lease>,
    ) -> Result<bool, RegistryError> {
        let id = repository.id;
        let found = self.inner.meta.read(move |tx| lifecycle::find_policy(tx, id)).await;
        let Some(stored) = found.map_err(RegistryError::from)? else { return Ok(false) };
        let now = self.inner.clock.now();
        let plan = self.lifecycle_plan(repository, parse_stored(&stored.document)?, now).await?;
        report.repositories += 1;
        report.images += plan.images.len() as u64;
        let policy = PolicyRecord::of(&stored);
        self.list_failures(repository, &plan, &policy, report).await?;
        let steps: Vec<Step> = plan
            .acted_on()
            .into_iter()
            .filter_map(|index| {
                let rule = plan.priority(plan.verdicts[index].claimed_by)?;
                let outcome = plan.verdicts[index].outcome.clone();
                Some(Step { image: plan.images[index].clone(), outcome, rule })
            })
            .collect();
        let total = steps.len() as u64;
        for (number, batch) in steps.chunks(BATCH).enumerate() {
            if self.inner.stop.is_cancelled() {
                return Ok(true);
            }
            if let Some(lease) = lease {
                lease.hold().await?;
            }
            if !self.act_on_batch(repository, (stored.version, &policy), batch.to_vec(), report).await? {
                // The policy was changed or taken away meanwhile: what it said no longer counts.
                return Ok(true);
            }
            progress.report("images", ((number + 1) * BATCH).min(steps.len()) as u64, total);
        }
        self.expire_orphans(repository, &plan, &policy, report).await?;
        let version = stored.version;
        let set = move |tx: &mut Tx<'_>| lifecycle::set_evaluated(tx, id, version, now.as_micros());
        self.inner.meta.write(set).await.map_err(RegistryError::from)?;
        Ok(true)
    }

    /// `false` if the policy is no longer the one that was evaluated.
    async fn act_on_batch(
        &self,
        repository: &Arc<Repository>,
        (version, policy): (i64, &PolicyRecord),
        batch: Vec<Step>,
        report: &mut LifecycleReport,
    ) -> Result<bool, RegistryError> {
        let (work, steps, moves) = (Arc::clone(repository), batch.clone(), self.inner.archive.is_some());
        let policy = policy.clone();
        let done = self
            .change_images(repository, move |tx| {
                let current = lifecycle::find_policy(tx, work.id)?.map(|policy| policy.version);
                if current != Some(version) {
                    return Ok(None);
                }
                hold_repository(tx, &work)?;
                let mut done = Vec::with_capacity(steps.len());
                for step in &steps {
                    done.push((step.clone(), act(tx, &work, step, moves)?));
                }
                record::note_done(tx, &work, &policy, &done)?;
                Ok(Some(done.into_iter().map(|(_, done)| done).collect::<Vec<_>>()))
            })
            .await?;
        let Some(done) = done else { return Ok(false) };
        for (step, done) in batch.iter().zip(done) {
            report.count(repository, step, &done);
        }
        Ok(true)
    }

    /// Referrers whose subject was deleted by other means. One that was pushed before its subject stays.
    async fn expire_orphans(
        &self,
        repository: &Arc<Repository>,
        plan: &Plan,
        policy: &PolicyRecord,
        report: &mut LifecycleReport,
    ) -> Result<(), RegistryError> {
        let orphaned = plan.images.iter().filter(|image| !image.follows_subject);
        let subjects: std::collections::BTreeSet<String> =
            orphaned.filter_map(|image| image.row.subject.clone()).collect();
        for subject in subjects {
            let (work, policy) = (Arc::clone(repository), policy.clone());
            let gone = self
                .change_images(repository, move |tx| {
                    hold_repository(tx, &work)?;
                    let absent = lifecycle::find_image(tx, work.id, &subject)?.is_none();
                    if !absent || !lifecycle::was_deleted(tx, work.id, &subject)? {
                        return Ok(Vec::new());
                    }
                    let referrers = expire_referrers(tx, &work, &subject)?;
                    note_orphans(tx, &work, &referrers)?;
                    record::note_orphans(tx, &work, &policy, &referrers)?;
                    Ok(vec![Done::Expired { images: Vec::new(), referrers }])
                })
                .await?;
            for done in gone {
                if let Done::Expired { referrers, .. } = done {
                    report.referrers += referrers.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// Reports and records the images that a rule would act on and cannot.
    async fn list_failures(
        &self,
        repository: &Arc<Repository>,
        plan: &Plan,
        policy: &PolicyRecord,
        report: &mut LifecycleReport,
    ) -> Result<(), RegistryError> {
        let mut recorded = Vec::new();
        for (image, verdict) in plan.images.iter().zip(&plan.verdicts) {
            let claimed = plan.priority(verdict.claimed_by);
            if let (Outcome::Blocked(_, by), Some(rule)) = (&verdict.outcome, claimed) {
                report.fail(repository, &image.row.digest, rule, *by);
                if recorded.len() < RECORDED_FAILURES {
                    recorded.push(record::failure(image, rule, failure_code(*by)));
                }
            }
        }
        if recorded.is_empty() {
            return Ok(());
        }
        let (work, policy) = (Arc::clone(repository), policy.clone());
        let write = move |tx: &mut Tx<'_>| record::note_failures(tx, &work, &policy, &recorded);
        self.inner.meta.write(write).await
    }

    /// Changes images in one transaction and forgets what is remembered of them before anybody is told.
    async fn change_images<T: Changed>(
        &self,
        repository: &Arc<Repository>,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let (registry, repository) = (self.clone(), Arc::clone(repository));
        uninterrupted(async move {
            let outcome = registry.inner.meta.write(change).await;
            registry.inner.images.lists.forget(repository.id);
            if let Ok(changed) = &outcome {
                for done in changed.changes() {
                    registry.forget_changed(&repository, done).await;
                }
            }
            outcome
        })
        .await
    }

    async fn forget_changed(&self, repository: &Repository, done: &Done) {
        match done {
            Done::Expired { images, referrers } => {
                self.forget_images(repository, images).await;
                self.forget_images(repository, referrers).await;
            }
            Done::Untagged(images) => self.forget_images(repository, images).await,
            Done::Archived { images } => {
                self.forget_moved(repository.id, images);
                self.inner.jobs.wake();
            }
            Done::Changed | Done::Held => {}
        }
    }

    /// A repository by its id; one that is being removed too.
    pub(crate) async fn repository_by_id(&self, id: i64) -> Result<Option<Arc<Repository>>, RegistryError> {
        let row = self.inner.meta.read(move |tx| repositories::find_by_id(tx, id)).await;
        row.map_err(RegistryError::from)?.map(|row| from_row(row).map(Arc::new)).transpose()
    }
}

/// What a transaction did with images.
trait Changed: Send + 'static {
    fn changes(&self) -> &[Done];
}

impl Changed for Vec<Done> {
    fn changes(&self) -> &[Done] {
        self
    }
}

impl Changed for Option<Vec<Done>> {
    fn changes(&self) -> &[Done] {
        self.as_deref().unwrap_or_default()
    }
}

/// The lease of the job that a run belongs to.
struct Lease {
    registry: Registry,
    job: Job,
}

impl Lease {
    /// Extends it.
    ///
    /// # Errors
    /// When somebody else has taken the job over.
    async fn hold(&self) -> Result<(), RegistryError> {
        let job = self.job.clone();
        let held = self.registry.inner.meta.write(move |tx| jobs::hold(tx, &job, LEASE_MICROS)).await;
        match held.map_err(RegistryError::from)? {
            true => Ok(()),
            false => Err(RegistryError::Internal("the lease of a job was lost".to_owned())),
        }
    }
}

impl LifecycleReport {
    fn count(&mut self, repository: &Repository, step: &Step, done: &Done) {
        match done {
            Done::Expired { referrers, .. } => {
                self.expired += 1;
                self.referrers += referrers.len() as u64;
            }
            Done::Archived { images } => {
                self.archived += 1;
                self.referrers += images.len() as u64 - 1;
            }
            Done::Untagged(images) => self.untagged += images.len() as u64,
            Done::Changed => self.postponed += 1,
            Done::Held => {
                self.fail(repository, &step.image.row.digest, step.rule, Protection::ReferencedByManifestList)
            }
        }
    }

    fn fail(&mut self, repository: &Repository, digest: &str, rule: u64, by: Protection) {
        if self.failures.len() < FAILURES {
            self.failures.push(LifecycleFailure {
                repository: repository.name.name.to_string(),
                digest: digest.to_owned(),
                rule,
                code: failure_code(by),
            });
        }
    }
}

/// The record's and the report's word for what protects an image.
fn failure_code(by: Protection) -> &'static str {
    match by {
        Protection::ReferencedByManifestList => "ImageReferencedByManifestList",
        Protection::InUse => "ImageInUse",
    }
}
