//! Whose turn it is to write to an upload, where any node may get the next chunk.
//!
//! The bytes of an upload lie in one object, and whoever goes on with it cuts off what nobody has acknowledged. So while
//! one node writes, no other may: a turn is a lease in the metadata, extended while bytes come and given back in the
//! transaction that acknowledges them. A node that dies loses its turn when the lease runs out. A holder stops writing
//! before that: what counts for him is the monotonic clock, from before he asked.

use std::time::{Duration, Instant};

use wharf_store::meta::jobs::{self, Job};
use wharf_store::meta::uploads::{self, UploadRow};
use wharf_store::meta::{MetaError, Tx};
use wharf_types::UploadId;

use crate::{Registry, RegistryError};

/// What turns are called among the leases.
pub(crate) const TURN: &str = "upload-turn";
/// How long a turn lasts, and how long before its end it must have been extended.
const LEASE: Duration = Duration::from_secs(12);
const EXTEND_BEFORE: Duration = Duration::from_secs(8);

/// The right to write to one upload, among all nodes.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) lease: Job,
    until: Instant,
}

impl Turn {
    fn new(lease: Job, asked: Instant) -> Self {
        Self { lease, until: asked + LEASE }
    }

    /// Takes the turn in this transaction; `None` while another node has it.
    pub(super) fn take(tx: &mut Tx<'_>, id: UploadId, asked: Instant) -> Result<Option<Self>, MetaError> {
        let lease = jobs::take_turn(tx, TURN, &id.to_string(), micros(LEASE))?;
        Ok(lease.map(|lease| Self::new(lease, asked)))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl Registry {
    /// Takes the turn at an upload that has begun, and reads where it stands now.
    ///
    /// # Errors
    /// `UploadBusy` while another node has it; `UploadNotFound` when it is over.
    pub(super) async fn take_turn(&self, row: &UploadRow) -> Result<(UploadRow, Turn), RegistryError> {
        let (asked, repository_id, id) = (Instant::now(), row.repository_id, row.id);
        let taken = self.inner.meta.write(move |tx| {
            let Some(turn) = Turn::take(tx, id, asked)? else { return Ok(None) };
            Ok::<_, MetaError>(Some((uploads::find(tx, repository_id, id)?, turn)))
        });
        match taken.await.map_err(RegistryError::from)? {
            None => Err(RegistryError::UploadBusy),
            Some((Some(row), turn)) => Ok((row, turn)),
            Some((None, turn)) => {
                self.give_turn(turn).await;
                Err(RegistryError::UploadNotFound(id.to_string()))
            }
        }
    }

    /// Extends a turn that would end soon.
    ///
    /// # Errors
    /// `UploadBusy` when another node has taken over.
    pub(super) async fn keep_turn(&self, turn: &mut Turn) -> Result<(), RegistryError> {
        let asked = Instant::now();
        if asked + EXTEND_BEFORE < turn.until {
            return Ok(());
        }
        let lease = turn.lease.clone();
        let kept = self.inner.meta.write(move |tx| jobs::hold(tx, &lease, micros(LEASE))).await;
        if !kept.map_err(RegistryError::from)? {
            return Err(RegistryError::UploadBusy);
        }
        turn.until = asked + LEASE;
        Ok(())
    }

    /// Gives a turn back, if there is one.
    pub(super) async fn give_turn_of(&self, turn: Option<Turn>) {
        if let Some(turn) = turn {
            self.give_turn(turn).await;
        }
    }

    /// Gives a turn back. If that fails, its lease runs out.
    pub(super) async fn give_turn(&self, turn: Turn) {
        let id = turn.lease.key.clone();
        let given = self.inner.meta.write(move |tx| jobs::give_turn(tx, &turn.lease)).await;
        if let Err(error) = given {
            tracing::debug!(%error, upload.id = %id, "a turn at an upload runs out by itself");
        }
    }
}
