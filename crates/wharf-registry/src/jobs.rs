//! Work that outlives a process: rows that are leased, done in the background, and given back. A lease that is not
//! extended runs out, so that the work of a process that died is taken over.

use std::time::Duration;

use tokio::sync::Notify;
use wharf_store::meta::jobs;
use wharf_store::meta::{MetaError, Tx, events, in_use};

use crate::archive::{ARCHIVE, RESTORE};
use crate::lifecycle::{DROP_PREVIEW, PREVIEW, RUN};
use crate::uploads::TURN;
use crate::{Registry, RegistryError};

/// How long a lease lasts; a holder extends it as he goes.
const LEASE: Duration = Duration::from_secs(60);
/// The same in the unit of the store.
pub(crate) const LEASE_MICROS: i64 = LEASE.as_micros() as i64;
/// How often the store is asked for due jobs when nobody says that there are any.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a job waits that failed without saying how long.
const RETRY: Duration = Duration::from_secs(30);
/// Rows that one transaction of the housekeeping drops.
const BATCH: usize = 500;
/// How long events are kept for those who pass them on.
const EVENTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done for good.
    Finished,
    /// It is done, and due again after a while.
    Again(Duration),
    /// It is to be tried again after a while.
    Failed(Duration),
}

/// The kinds of jobs, each with a worker of its own: a long run must not keep a preview waiting.
const KINDS: [&str; 5] = [RUN, PREVIEW, DROP_PREVIEW, ARCHIVE, RESTORE];

/// Wakes the workers of this process.
#[derive(Default)]
pub(crate) struct Jobs {
    work: Notify,
}

impl Jobs {
    /// Says that there may be work.
    pub(crate) fn wake(&self) {
        self.work.notify_waiters();
    }
}

impl Registry {
    /// Does jobs as they come due until the registry is closed.
    pub(crate) fn start_jobs(&self) {
        for kind in KINDS {
            let registry = self.clone();
            self.inner.tasks.spawn(async move {
                loop {
                    // Before the look, so that what is put after it wakes this worker.
                    let work = registry.inner.jobs.work.notified();
                    tokio::pin!(work);
                    work.as_mut().enable();
                    match registry.run_due_job(kind).await {
                        Ok(true) => continue,
                        Ok(false) => {}
                        Err(error) => tracing::warn!(%error, kind, "jobs wait for the store"),
                    }
                    tokio::select! {
                        () = registry.inner.stop.cancelled() => return,
                        () = work => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
            });
        }
    }

    /// Does every job that is due now; answers how many there were.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn run_due_jobs(&self) -> Result<u64, RegistryError> {
        let mut done = 0;
        loop {
            let before = done;
            for kind in KINDS {
                while self.run_due_job(kind).await? {
                    done += 1;
                }
            }
            if done == before {
                return Ok(done);
            }
        }
    }

    /// Does one job that is due; `false` if there is none.
    async fn run_due_job(&self, kind: &'static str) -> Result<bool, RegistryError> {
        if self.inner.stop.is_cancelled() {
            return Ok(false);
        }
        // Asked without a write first: mostly there is none.
        let now = self.inner.clock.now().as_micros();
        let is_due = self.inner.meta.read_background(move |tx| jobs::is_due(tx, kind, now)).await;
        let is_due = is_due.map_err(|error: MetaError| RegistryError::from(error))?;
        if !is_due {
            return Ok(false);
        }
        let claim = move |tx: &mut Tx<'_>| jobs::claim(tx, kind, LEASE_MICROS);
        let claimed =
            self.inner.meta.write(claim).await.map_err(|error: MetaError| RegistryError::from(error))?;
        let Some(job) = claimed else { return Ok(false) };
        let outcome = match kind {
            RUN => self.run_lifecycle_job(&job).await,
            PREVIEW => self.run_preview_job(&job).await,
            ARCHIVE | RESTORE => self.run_storage_job(&job).await,
            _ => self.run_drop_preview_job(&job).await,
        };
        let outcome = outcome.unwrap_or_else(|error| {
            tracing::warn!(%error, kind, key = job.key, "a job failed and is tried again");
            Outcome::Failed(RETRY)
        });
        let now = self.inner.clock.now();
        let release = move |tx: &mut Tx<'_>| match outcome {
            Outcome::Finished => jobs::release(tx, &job, None, true),
            Outcome::Again(after) => jobs::release(tx, &job, Some(now.plus(after).as_micros()), true),
            Outcome::Failed(after) => jobs::release(tx, &job, Some(now.plus(after).as_micros()), false),
        };
        self.inner.meta.write(release).await.map_err(|error: MetaError| RegistryError::from(error))?;
        Ok(true)
    }

    /// Forgets reports that are over and events that are old; part of the collection.
    pub(crate) async fn forget_what_is_over(&self) -> Result<(), RegistryError> {
        while !self.inner.stop.is_cancelled() {
            let now = self.inner.clock.now();
            let old = now.minus(EVENTS).as_micros();
            let drop = move |tx: &mut Tx<'_>| {
                let reports = in_use::drop_expired(tx, now.as_micros(), BATCH)?;
                let turns = jobs::forget_turns(tx, TURN, old, BATCH)?;
                Ok(reports.max(events::drop_old(tx, old, BATCH)?).max(turns))
            };
            let dropped =
                self.inner.meta.write(drop).await.map_err(|error: MetaError| RegistryError::from(error))?;
            if dropped < BATCH as u64 {
                break;
            }
        }
        Ok(())
    }
}
