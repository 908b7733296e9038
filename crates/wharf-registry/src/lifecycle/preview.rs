//! Previews: what a policy would do, computed in the background and kept for a day.

use std::time::Duration;

use wharf_lifecycle::{Action, Outcome};
use wharf_store::meta::jobs::{self, Job};
use wharf_store::meta::lifecycle::{self, PreviewImageRow, PreviewRow};
use wharf_store::meta::{MetaError, Tx};
use wharf_types::{Digest, RepositoryRef, Tag, Timestamp};

use super::plan::Plan;
use super::{DROP_PREVIEW, PREVIEW, parse, parse_stored, require_policy};
use crate::jobs::Outcome as JobOutcome;
use crate::repositories::{hold_repository, stored};
use crate::{Authorized, ImageId, PageRequest, Registry, RegistryError, TagStatus};

/// How long a finished preview is shown.
const SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// Rows that one transaction writes or drops.
const BATCH: usize = 200;
/// How long a preview that failed for want of a store waits for the next attempt, and how many there are.
const RETRY: Duration = Duration::from_secs(2);
const ATTEMPTS: i64 = 5;

/// How far a preview is (`LifecyclePolicyPreviewStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewStatus {
    /// It is being computed.
    InProgress,
    /// It is done.
    Complete,
    /// It is a day old.
    Expired,
    /// It could not be computed.
    Failed,
}

impl PreviewStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Complete => "COMPLETE",
            Self::Expired => "EXPIRED",
            Self::Failed => "FAILED",
        }
    }
}

/// Which of a preview's images are asked for.
#[derive(Clone, Debug)]
pub enum PreviewFilter {
    /// A page of them.
    Page(TagStatus, PageRequest),
    /// These, as far as the policy would act on them.
    Images(Vec<ImageId>),
}

/// An image that a policy would act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewImage {
    /// Which.
    pub digest: Digest,
    /// Its tags in order of name.
    pub tags: Vec<Tag>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
    /// Whether it would go to the archive rather than for good.
    pub archive: bool,
    /// The rule that decided.
    pub rule_priority: u64,
    /// Whether it lies in the archive.
    pub archived: bool,
}

/// A preview, or one page of it.
#[derive(Clone, Debug)]
pub struct LifecyclePreview {
    /// The policy it is of.
    pub document: String,
    /// How far it is.
    pub status: PreviewStatus,
    /// The images, the oldest first; none unless it is complete.
    pub images: Vec<PreviewImage>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// Images it would delete, on all pages.
    pub expiring: u64,
    /// Images it would archive, on all pages.
    pub archiving: u64,
}

impl Registry {
    /// `StartLifecyclePolicyPreview`, of the stored policy unless one is given; answers its text.
    ///
    /// # Errors
    /// `InvalidParameterException`; `LifecyclePolicyNotFoundException`; `LifecyclePolicyPreviewInProgressException`.
    pub async fn start_lifecycle_preview(
        &self,
        at: &Authorized<RepositoryRef>,
        document: Option<&str>,
    ) -> Result<String, RegistryError> {
        if let Some(document) = document {
            parse(document, &self.inner.options)?;
        }
        let (repository, document) = (self.repository(at).await?, document.map(str::to_owned));
        let id = uuid::Uuid::new_v4().to_string();
        let started = self
            .inner
            .meta
            .write(move |tx| {
                hold_repository(tx, &repository)?;
                let document = match &document {
                    Some(document) => document.clone(),
                    None => require_policy(tx, &repository)?.document,
                };
                let running = lifecycle::find_preview(tx, repository.id)?;
                if running.is_some_and(|preview| preview.status == "IN_PROGRESS") {
                    return Err(RegistryError::LifecyclePreviewInProgress(repository.name.clone()));
                }
                discard(tx, repository.id)?;
                lifecycle::insert_preview(tx, repository.id, &id, &document)?;
                let now = tx.now_micros();
                jobs::put(tx, PREVIEW, &repository.id.to_string(), now)?;
                Ok(document)
            })
            .await?;
        self.inner.jobs.wake();
        Ok(started)
    }

    /// `GetLifecyclePolicyPreview`.
    ///
    /// # Errors
    /// `LifecyclePolicyPreviewNotFoundException`; `InvalidParameterException` for a token of another preview.
    pub async fn lifecycle_preview(
        &self,
        at: &Authorized<RepositoryRef>,
        filter: PreviewFilter,
    ) -> Result<LifecyclePreview, RegistryError> {
        let repository = self.repository(at).await?;
        let id = repository.id;
        let found = self.inner.meta.read(move |tx| lifecycle::find_preview(tx, id)).await;
        let found: Option<PreviewRow> = found.map_err(|error: MetaError| RegistryError::from(error))?;
        let Some(preview) = found else {
            return Err(RegistryError::LifecyclePreviewNotFound(repository.name.clone()));
        };
        let status = self.status_of(&preview);
        let (rows, next) = match status {
            PreviewStatus::Complete => self.preview_rows(&preview.id, filter).await?,
            _ => (Vec::new(), None),
        };
        let counts =
            if status == PreviewStatus::Complete { (preview.expiring, preview.archiving) } else { (0, 0) };
        Ok(LifecyclePreview {
            document: preview.document,
            status,
            images: rows.into_iter().map(preview_image).collect::<Result<_, _>>()?,
            next,
            expiring: counts.0.unsigned_abs(),
            archiving: counts.1.unsigned_abs(),
        })
    }

    fn status_of(&self, preview: &PreviewRow) -> PreviewStatus {
        let over = |finished: i64| self.inner.clock.now() >= Timestamp::from_micros(finished).plus(SHOWN_FOR);
        match (preview.status.as_str(), preview.finished_at) {
            ("IN_PROGRESS", _) => PreviewStatus::InProgress,
            (_, Some(finished)) if over(finished) => PreviewStatus::Expired,
            ("COMPLETE", _) => PreviewStatus::Complete,
            _ => PreviewStatus::Failed,
        }
    }

    async fn preview_rows(
        &self,
        preview: &str,
        filter: PreviewFilter,
    ) -> Result<(Vec<PreviewImageRow>, Option<String>), RegistryError> {
        let (status, page) = match filter {
            PreviewFilter::Images(ids) => return Ok((self.preview_rows_of(preview, ids).await?, None)),
            PreviewFilter::Page(status, page) => (status, page),
        };
        let key = format!("{status:?}");
        let query = ["GetLifecyclePolicyPreview", preview, key.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let after: i64 = after.parse().unwrap_or(-1);
        let tagged = match status {
            TagStatus::Any => None,
            TagStatus::Tagged => Some(true),
            TagStatus::Untagged => Some(false),
        };
        let (wanted, limit) = (preview.to_owned(), page.limit);
        let read = move |tx: &mut Tx<'_>| lifecycle::preview_images(tx, &wanted, after, tagged, limit + 1);
        let mut rows =
            self.inner.meta.read(read).await.map_err(|error: MetaError| RegistryError::from(error))?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| more) {
            Some(last) => Some(self.seal_page(&query, vec![last.place.to_string()])?),
            None => None,
        };
        Ok((rows, next))
    }

    /// At most a hundred ids are asked for, so that all of a preview is walked in pages only where they are.
    async fn preview_rows_of(
        &self,
        preview: &str,
        ids: Vec<ImageId>,
    ) -> Result<Vec<PreviewImageRow>, RegistryError> {
        let preview = preview.to_owned();
        let read = move |tx: &mut Tx<'_>| {
            let (mut found, mut after) = (Vec::new(), -1);
            loop {
                let page = lifecycle::preview_images(tx, &preview, after, None, BATCH)?;
                let Some(last) = page.last() else { return Ok(found) };
                after = last.place;
                found.extend(page.into_iter().filter(|row| ids.iter().any(|id| is_meant(id, row))));
            }
        };
        self.inner.meta.read_background(read).await.map_err(|error: MetaError| RegistryError::from(error))
    }

    /// One turn of a preview's job. What is computed twice is written twice, to the same rows.
    pub(crate) async fn run_preview_job(&self, job: &Job) -> Result<JobOutcome, RegistryError> {
        let id: i64 = job.key.parse().unwrap_or_default();
        let found = self.inner.meta.read(move |tx| lifecycle::find_preview(tx, id)).await;
        let found: Option<PreviewRow> = found.map_err(|error: MetaError| RegistryError::from(error))?;
        let Some(preview) = found.filter(|preview| preview.status == "IN_PROGRESS") else {
            return Ok(JobOutcome::Finished);
        };
        match self.compute_preview(id, &preview).await {
            Ok(()) => Ok(JobOutcome::Finished),
            Err(error) if job.attempts < ATTEMPTS => {
                tracing::warn!(%error, "a lifecycle preview is tried again");
                Ok(JobOutcome::Failed(RETRY))
            }
            Err(error) => {
                tracing::warn!(%error, "a lifecycle preview failed");
                let wanted = preview.id.clone();
                let fail = move |tx: &mut Tx<'_>| lifecycle::finish_preview(tx, &wanted, "FAILED", (0, 0));
                self.inner.meta.write(fail).await.map_err(|error: MetaError| RegistryError::from(error))?;
                Ok(JobOutcome::Finished)
            }
        }
    }

    async fn compute_preview(&self, repository: i64, preview: &PreviewRow) -> Result<(), RegistryError> {
        let Some(repository) = self.repository_by_id(repository).await? else { return Ok(()) };
        let policy = parse_stored(&preview.document)?;
        let plan = self.lifecycle_plan(&repository, policy, self.inner.clock.now()).await?;
        let rows = preview_rows(&plan)?;
        let archiving = rows.iter().filter(|row| row.action == "TRANSITION").count() as u64;
        let expiring = rows.len() as u64 - archiving;
        for batch in rows.chunks(BATCH) {
            let (id, batch) = (preview.id.clone(), batch.to_vec());
            let write = move |tx: &mut Tx<'_>| {
                batch.iter().try_for_each(|row| lifecycle::insert_preview_image(tx, &id, row))
            };
            self.inner.meta.write(write).await.map_err(|error: MetaError| RegistryError::from(error))?;
        }
        let id = preview.id.clone();
        let finish = move |tx: &mut Tx<'_>| {
            if !lifecycle::finish_preview(tx, &id, "COMPLETE", (expiring, archiving))? {
                // Its repository went away meanwhile.
                let now = tx.now_micros();
                jobs::put(tx, DROP_PREVIEW, &id, now)?;
            }
            Ok(())
        };
        self.inner.meta.write(finish).await.map_err(|error: MetaError| RegistryError::from(error))
    }

    /// One turn of dropping what a preview found.
    pub(crate) async fn run_drop_preview_job(&self, job: &Job) -> Result<JobOutcome, RegistryError> {
        loop {
            let id = job.key.clone();
            let step = move |tx: &mut Tx<'_>| lifecycle::drop_preview_images(tx, &id, BATCH);
            let dropped =
                self.inner.meta.write(step).await.map_err(|error: MetaError| RegistryError::from(error))?;
            if dropped < BATCH as u64 {
                return Ok(JobOutcome::Finished);
            }
        }
    }
}

/// Takes a repository's preview away and leaves its rows to a job.
pub(super) fn discard(tx: &mut Tx<'_>, repository_id: i64) -> Result<(), RegistryError> {
    if let Some(id) = lifecycle::delete_preview(tx, repository_id)? {
        let now = tx.now_micros();
        jobs::put(tx, DROP_PREVIEW, &id, now)?;
    }
    Ok(())
}

fn is_meant(id: &ImageId, row: &PreviewImageRow) -> bool {
    let tags: Vec<String> = serde_json::from_str(&row.tags).unwrap_or_default();
    let digest = id.digest.as_ref().is_none_or(|digest| *digest == row.digest);
    let tag = id.tag.as_ref().is_none_or(|tag| tags.contains(tag));
    digest && tag && (id.digest.is_some() || id.tag.is_some())
}

fn preview_rows(plan: &Plan) -> Result<Vec<PreviewImageRow>, RegistryError> {
    let row = |(place, index): (i64, usize)| {
        let (image, verdict) = (&plan.images[index], &plan.verdicts[index]);
        let names: Vec<&str> = match &verdict.outcome {
            Outcome::Untag(places) => places.iter().map(|place| image.tags[*place].0.as_str()).collect(),
            _ => image.tags.iter().map(|(name, _)| name.as_str()).collect(),
        };
        let archive = verdict.outcome == Outcome::Act(Action::Archive);
        let rule = plan.priority(verdict.claimed_by).unwrap_or_default();
        let tags =
            serde_json::to_string(&names).map_err(|error| RegistryError::Internal(error.to_string()))?;
        Ok(PreviewImageRow {
            place,
            digest: image.row.digest.clone(),
            tagged: !names.is_empty(),
            tags,
            pushed_at: image.row.pushed_at,
            action: if archive { "TRANSITION" } else { "EXPIRE" }.to_owned(),
            rule_priority: i64::try_from(rule).unwrap_or(i64::MAX),
            storage_class: if image.row.status == "ARCHIVED" { "ARCHIVE" } else { "STANDARD" }.to_owned(),
        })
    };
    (0..).zip(plan.acted_on()).map(row).collect()
}

fn preview_image(row: PreviewImageRow) -> Result<PreviewImage, RegistryError> {
    let tags: Vec<String> = serde_json::from_str(&row.tags)
        .map_err(|error| RegistryError::Internal(format!("stored tags: {error}")))?;
    Ok(PreviewImage {
        digest: stored("digest", &row.digest)?,
        tags: tags.iter().map(|tag| stored("tag", tag)).collect::<Result<_, _>>()?,
        pushed_at: Timestamp::from_micros(row.pushed_at),
        archive: row.action == "TRANSITION",
        rule_priority: row.rule_priority.unsigned_abs(),
        archived: row.storage_class == "ARCHIVE",
    })
}
