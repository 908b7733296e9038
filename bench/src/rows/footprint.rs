//! Rows about a server that does nothing yet.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{Contents, lists};
use crate::process;
use crate::server::{Kind, Programs, Server};

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Footprint {
    /// Milliseconds from the start of the process to its first answer.
    Start {
        /// What is stored before; with none, each start is in an empty directory.
        images: u64,
    },
    /// Resident memory, in MiB, a second after the start in an empty directory.
    Idle,
}

impl Footprint {
    /// Stores what must be there before, below `parent`.
    ///
    /// # Errors
    /// If that fails.
    pub fn prepare(
        self,
        kind: Kind,
        programs: &Programs,
        parent: &Path,
        contents: &Contents,
    ) -> anyhow::Result<()> {
        if let Self::Start { images: count @ 1.. } = self {
            let server = Server::start(kind, programs, parent)?;
            lists::fill(&server, contents, count)?;
            server.stop()?;
        }
        Ok(())
    }

    /// Starts, looks, stops.
    ///
    /// # Errors
    /// If the server does not start or stop.
    pub fn sample(self, kind: Kind, programs: &Programs, parent: &Path, round: usize) -> anyhow::Result<f64> {
        let fresh = parent.join(format!("round-{round}"));
        let parent = if matches!(self, Self::Start { images: 1.. }) { parent } else { &fresh };
        let server = Server::start(kind, programs, parent)?;
        let value = match self {
            Self::Start { .. } => server.started_in.as_secs_f64() * 1000.0,
            Self::Idle => {
                thread::sleep(Duration::from_secs(1));
                process::resident_mib(server.pid())?
            }
        };
        server.stop()?;
        Ok(value)
    }
}
