//! Copies the write-ahead log into the database on a thread and a connection of its own, so that no write waits for
//! more than the rest.

use std::{path::Path, sync::mpsc, thread::JoinHandle};

use rusqlite::Connection;

use super::{SqliteOptions, open_copier};
use crate::meta::error::MetaError;

/// Says what became of a copy; false if nobody listens any more.
pub(super) type Report = Box<dyn Fn(Result<(), MetaError>) -> bool + Send>;

pub(super) struct Copier {
    work: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    /// Starts the thread.
    pub fn start(path: &Path, options: &SqliteOptions, report: Report) -> Result<Copier, MetaError> {
        let conn = open_copier(path, options)?;
        let (work, orders) = mpsc::channel();
        let run = move || {
            while let Ok(()) = orders.recv() {
                if !report(state(&conn, "PRAGMA wal_checkpoint(PASSIVE)").map(drop)) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("metadata-copier".into())
            .spawn(run)
            .map_err(|error| MetaError::Io(error.to_string().into()))?;
        Ok(Copier { work: Some(work), thread: Some(thread) })
    }

    /// Has the log copied as far as it goes now; answered by a report. False if the thread is gone.
    pub fn copy(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.send(()).is_ok())
    }

    /// Ends the thread, after what it is doing.
    pub fn stop(&mut self) {
        self.work.take();
        if let Some(thread) = self.thread.take() {
            // It panics nowhere, and if it did there would be nothing to mend.
            let _ = thread.join();
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a checkpoint, or with `NOOP` only looks. Answers the frames in the log and how many of them are in the database.
pub(super) fn state(conn: &Connection, pragma: &'static str) -> Result<(u64, u64), MetaError> {
    let (frames, copied): (i64, i64) =
        conn.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok((u64::try_from(frames).unwrap_or(0), u64::try_from(copied).unwrap_or(0)))
}
