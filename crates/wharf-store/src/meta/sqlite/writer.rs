//! The one writer: a thread that runs queued jobs as savepoints of a shared transaction and answers them after its sync.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    SqliteOptions,
    copier::{self, Copier},
    run,
};
use crate::meta::{error::MetaError, stats::Counters, testing::Site, tx::Tx};

/// What the writer is asked to do.
pub(super) enum Message {
    Run(Box<dyn Job>),
    /// The copier has copied the log as far as it went.
    Copied(Result<(), MetaError>),
    Close,
}

/// A write transaction on its way.
pub(super) trait Job: Send {
    /// Runs the work, perhaps not for the first time; true if its changes are to be kept.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Answers with what the work returned, or with the failure of the batch.
    fn answer(self: Box<Self>, failure: Option<&MetaError>);
}

pub(super) struct Write<F, T, E> {
    work: F,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Write<F, T, E> {
    pub fn new(work: F) -> (Box<Self>, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Write { work, outcome: None, reply }), answer)
    }
}

impl<F, T, E> Job for Write<F, T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<MetaError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.outcome = None;
        self.outcome.insert((self.work)(tx)).is_ok()
    }

    fn answer(self: Box<Self>, failure: Option<&MetaError>) {
        let result = match (failure, self.outcome) {
            (Some(error), _) => Err(error.clone().into()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(MetaError::other("a write transaction panicked").into()),
        };
        // Nobody waits any more if the caller was cancelled; the change stands.
        let _ = self.reply.send(result);
    }
}

/// Durability is lost, the hook has been told, and nothing may be written any more.
struct Lost;

pub(super) struct Writer {
    conn: Connection,
    queue: mpsc::Receiver<Message>,
    options: SqliteOptions,
    counters: Arc<Counters>,
    page_bytes: u64,
    /// What was taken from the queue and has its turn after this batch.
    next: Option<Message>,
    /// Frames in the log at the last checkpoint that could not finish.
    tried_at: u64,
    copier: Copier,
    copying: Copying,
}

/// How far a checkpoint has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copying {
    /// None is under way.
    Idle,
    /// The copier works, for the so manieth time.
    Round(u32),
    /// The copier has done that many rounds; what the log has got meanwhile is left.
    Done(u32),
}

/// After so many rounds the writer copies the rest, however much that is.
const ROUNDS: u32 = 3;

impl Writer {
    pub fn new(
        conn: Connection,
        queue: mpsc::Receiver<Message>,
        options: SqliteOptions,
        counters: Arc<Counters>,
        copier: Copier,
    ) -> Result<Writer, MetaError> {
        let page_bytes: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let page_bytes = u64::try_from(page_bytes).unwrap_or(4096).max(512);
        Ok(Writer {
            conn,
            queue,
            options,
            counters,
            page_bytes,
            next: None,
            tried_at: 0,
            copier,
            copying: Copying::Idle,
        })
    }

    /// Runs until the queue is closed and empty, or durability is lost.
    pub fn run(mut self) {
        while let Some(message) = self.next_message() {
            let done = match message {
                Message::Close => {
                    self.queue.close();
                    Ok(())
                }
                Message::Run(job) => self.serve(job).and_then(|()| self.checkpoint_if_due()),
                Message::Copied(outcome) => self.copied(outcome).and_then(|()| self.checkpoint_if_due()),
            };
            if let Err(Lost) = done {
                return;
            }
        }
        self.copier.stop();
        // If this fails, the next start reads the log.
        let _ = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn next_message(&mut self) -> Option<Message> {
        self.next.take().or_else(|| self.queue.blocking_recv())
    }

    /// Runs `first` and what waits behind it in one commit, and answers.
    fn serve(&mut self, first: Box<dyn Job>) -> Result<(), Lost> {
        let mut jobs = vec![first];
        let result = self.batch(&mut jobs, true);
        if jobs.len() > 1 && matches!(result, Err(MetaError::Constraint { .. })) {
            // A deferred constraint failed at the commit. Nobody knows whose: one by one, only its breaker fails.
            return jobs.into_iter().try_for_each(|job| {
                let mut alone = vec![job];
                let result = self.batch(&mut alone, false);
                self.answer(alone, result)
            });
        }
        self.answer(jobs, result)
    }

    fn answer(&mut self, jobs: Vec<Box<dyn Job>>, result: Result<(), MetaError>) -> Result<(), Lost> {
        self.counters.count_batch(jobs.len());
        let failure = result.err();
        let mut standing = Ok(());
        if let Some(error) = &failure {
            self.counters.failed_batches.fetch_add(1, Relaxed);
            tracing::error!(%error, jobs = jobs.len(), "cannot commit to the metadata");
            // Before anybody hears of it: what a failed sync has kept is unknown until the next start.
            standing = self.unless_lost(error);
        }
        for job in jobs {
            job.answer(failure.as_ref());
        }
        standing?;
        match failure {
            // Room may be left in the database though not in the log.
            Some(MetaError::Full) => self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)"),
            _ => Ok(()),
        }
    }

    fn batch(&mut self, jobs: &mut Vec<Box<dyn Job>>, take_more: bool) -> Result<(), MetaError> {
        let result = self.transaction(jobs, take_more);
        if let Err(error) = &result {
            let _ = self.undo().inspect_err(|second| tracing::error!(%second, %error, "cannot roll back"));
        }
        result
    }

    fn transaction(&mut self, jobs: &mut Vec<Box<dyn Job>>, take_more: bool) -> Result<(), MetaError> {
        let started = Instant::now();
        self.undo()?;
        run(&self.conn, "BEGIN IMMEDIATE")?;
        let mut done = 0;
        let mut kept = false;
        while done < jobs.len() {
            kept |= self.savepoint(&mut *jobs[done])?;
            done += 1;
            let room = done < self.options.batch_jobs && started.elapsed() < self.options.batch_time;
            if take_more && room {
                jobs.extend(self.next_queued());
            }
        }
        if !kept {
            return self.undo();
        }
        let commit = Instant::now();
        match &self.options.faults {
            None => run(&self.conn, "COMMIT")?,
            Some(faults) => faults.around(Site::Commit, || run(&self.conn, "COMMIT"))?,
        }
        self.counters.commits.fetch_add(1, Relaxed);
        self.counters.commit_micros.fetch_add(commit.elapsed().as_micros() as u64, Relaxed);
        Ok(())
    }

    fn undo(&self) -> Result<(), MetaError> {
        match self.conn.is_autocommit() {
            true => Ok(()),
            false => run(&self.conn, "ROLLBACK"),
        }
    }

    fn next_queued(&mut self) -> Option<Box<dyn Job>> {
        match self.queue.try_recv().ok()? {
            // Its turn comes after this batch.
            copied @ Message::Copied(_) => {
                self.next = Some(copied);
                None
            }
            Message::Run(job) => Some(job),
            Message::Close => {
                self.queue.close();
                None
            }
        }
    }

    /// Runs one job; true if it changed anything to keep. Fails if the whole transaction is lost.
    fn savepoint(&self, job: &mut dyn Job) -> Result<bool, MetaError> {
        run(&self.conn, "SAVEPOINT job")?;
        let now = (self.options.clock)();
        let mut tx = Tx::on_sqlite(&self.conn, now, Site::Statement, self.options.faults.as_deref());
        let keep = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))).unwrap_or_else(|_| {
            self.counters.panics.fetch_add(1, Relaxed);
            false
        });
        if self.conn.is_autocommit() {
            // A full disk or an I/O error inside a statement rolls back everything, the jobs before included.
            return Err(tx
                .last_error()
                .unwrap_or_else(|| MetaError::other("the transaction was rolled back")));
        }
        if !keep {
            run(&self.conn, "ROLLBACK TO job")?;
        }
        run(&self.conn, "RELEASE job")?;
        Ok(keep)
    }

    /// Has the log copied into the database when it has grown large. The copier does most of it beside the writer; the
    /// writer copies the rest between two batches, for only a log that is copied whole starts over.
    fn checkpoint_if_due(&mut self) -> Result<(), Lost> {
        if let Copying::Round(_) = self.copying {
            return Ok(());
        }
        let due = self.options.checkpoint_bytes / self.page_bytes;
        let Ok((frames, copied)) = copier::state(&self.conn, "PRAGMA wal_checkpoint(NOOP)") else {
            return Ok(());
        };
        if frames < self.tried_at {
            self.tried_at = 0;
        }
        let waiting = frames.saturating_sub(copied);
        if let Copying::Done(rounds) = self.copying {
            return match waiting > due / 8 && rounds < ROUNDS {
                true => self.start_round(rounds + 1),
                false => self.finish_checkpoint(frames),
            };
        }
        let overlong = frames > due.saturating_mul(4);
        // After an attempt that a reader's snapshot stopped, wait for the log to grow a little first.
        let grown = self.tried_at == 0 || frames > self.tried_at + due / 4;
        if !grown || (waiting <= due && !overlong) {
            return Ok(());
        }
        if !overlong {
            return self.start_round(1);
        }
        // Overlapping readers keep the log from starting over: wait for them, but not for long.
        self.tried_at = frames;
        let _ = self.conn.busy_timeout(Duration::from_millis(50));
        let done = self.checkpoint("PRAGMA wal_checkpoint(RESTART)");
        let _ = self.conn.busy_timeout(self.options.busy_timeout);
        done
    }

    fn start_round(&mut self, round: u32) -> Result<(), Lost> {
        match self.copier.copy() {
            true => {
                self.copying = Copying::Round(round);
                Ok(())
            }
            // Its thread is gone.
            false => self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)"),
        }
    }

    fn finish_checkpoint(&mut self, frames: u64) -> Result<(), Lost> {
        self.copying = Copying::Idle;
        self.tried_at = frames;
        self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)")
    }

    fn copied(&mut self, outcome: Result<(), MetaError>) -> Result<(), Lost> {
        self.copying = match (self.copying, &outcome) {
            (Copying::Round(round), Ok(())) => Copying::Done(round),
            _ => Copying::Idle,
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.cannot_copy(&error),
        }
    }

    /// A checkpoint that fails leaves the log as it was, and is tried again; only a failed sync is the end.
    fn checkpoint(&self, pragma: &'static str) -> Result<(), Lost> {
        match copier::state(&self.conn, pragma) {
            Ok(_) => {
                self.counters.checkpoints.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(error) => self.cannot_copy(&error),
        }
    }

    fn cannot_copy(&self, error: &MetaError) -> Result<(), Lost> {
        tracing::warn!(%error, "cannot copy the write-ahead log into the database yet");
        self.unless_lost(error)
    }

    fn unless_lost(&self, error: &MetaError) -> Result<(), Lost> {
        if let MetaError::SyncFailed(_) = error {
            (self.options.fatal)(error);
            return Err(Lost);
        }
        Ok(())
    }
}
