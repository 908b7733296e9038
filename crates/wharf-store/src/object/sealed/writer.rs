//! The write path: copy into the batch, hash, seal in place, append. One pass; two batches of 512 KiB per upload at
//! most, one being filled from the network while the other is hashed, sealed and written.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use super::UploadState;
use crate::object::{ObjectError, ObjectId, ObjectStore, ObjectWriter};
use crate::seal::sealer::Sealing;
use crate::seal::{ContentKeys, SealError, SegmentSealer};

/// Batches up to this many bytes are hashed and sealed where they arrive (about 30 µs); larger ones elsewhere.
const INLINE: usize = 32 * 1024;

/// Batches that are worked on at once, over all uploads: enough for every processor and for the disk. The others wait
/// with one batch each and not two. Only work is waited for here, never a client, so nobody can hold it up.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(4 * std::thread::available_parallelism().map_or(2, usize::from)));

/// Why content could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The content is larger than allowed. Nothing of the chunk that would have exceeded the limit was taken.
    #[error("content would have {at_least} bytes, {limit} are allowed")]
    TooLarge {
        /// The most bytes allowed.
        limit: u64,
        /// The bytes that the content would have had with the refused chunk.
        at_least: u64,
    },
    /// The store failed. Resume from the last checkpoint.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Sealing failed, or the state to resume from is not one.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An earlier call failed or was given up half-way. Resume from the last checkpoint.
    #[error("the writer failed before")]
    Failed,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of content.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Bytes in storage.
    pub stored_size: u64,
}

/// Writes one object: hashes, seals and appends. Given up by dropping it; what follows the last checkpoint is lost.
///
/// A future of this type that is dropped before it is done, or that fails with anything but
/// [`WriteError::TooLarge`], ends the writer's use: resume from the last checkpoint.
pub struct SealedWriter {
    sealing: Sealing,
    front: SegmentSealer,
    lane: Lane,
    offset: u64,
    max_size: u64,
}

/// Hash and store, one step behind the front.
enum Lane {
    Idle(Box<Stage>),
    Busy(JoinHandle<Result<Staged, WriteError>>),
    Failed,
}

struct Stage {
    writer: Box<dyn ObjectWriter>,
    hash: Sha256,
}

/// A stage after a batch, with what it could not append on the blocking thread.
type Staged = (Box<Stage>, Bytes);

impl Stage {
    /// Hashes and seals a batch and appends it where the store can do that on this thread; one hop for all three.
    fn work(mut self: Box<Self>, mut batch: SegmentSealer, last: bool) -> Result<Staged, WriteError> {
        batch.hash_new(&mut self.hash);
        let sealed = batch.seal(last)?;
        match self.writer.append_blocking(&sealed) {
            Some(written) => written.map(|()| (self, Bytes::new())).map_err(WriteError::from),
            None => Ok((self, sealed)),
        }
    }

    fn spawn(
        self: Box<Self>,
        turn: SemaphorePermit<'static>,
        batch: SegmentSealer,
        last: bool,
    ) -> JoinHandle<Result<Staged, WriteError>> {
        tokio::task::spawn_blocking(move || {
            let staged = self.work(batch, last);
            drop(turn);
            staged
        })
    }

    /// Waits for a turn of [`TURNS`].
    async fn turn() -> Result<SemaphorePermit<'static>, WriteError> {
        TURNS.acquire().await.map_err(|_| WriteError::Failed)
    }

    /// Appends what is left of a batch.
    async fn settle((mut stage, unwritten): Staged) -> Result<Box<Self>, WriteError> {
        if !unwritten.is_empty() {
            stage.writer.append(unwritten).await?;
        }
        Ok(stage)
    }

    /// Hashes, seals and appends a batch; marks its end as the object's last segment if `last`.
    async fn write(
        mut self: Box<Self>,
        mut batch: SegmentSealer,
        last: bool,
    ) -> Result<Box<Self>, WriteError> {
        if batch.len() > INLINE {
            let staged =
                self.spawn(Self::turn().await?, batch, last).await.map_err(|_| WriteError::Failed)??;
            return Self::settle(staged).await;
        }
        batch.hash_new(&mut self.hash);
        let sealed = batch.seal(last)?;
        Self::settle((self, sealed)).await
    }
}

impl SealedWriter {
    /// Begins an object of at most `max_size` bytes of content, sealed with `keys` or stored as it is.
    pub async fn create(
        store: &dyn ObjectStore,
        object: ObjectId,
        keys: Option<Arc<ContentKeys>>,
        max_size: u64,
    ) -> Result<Self, WriteError> {
        let writer = store.create(object).await?;
        let sealing = Sealing { object, keys };
        Ok(Self {
            front: SegmentSealer::new(sealing.clone()),
            sealing,
            lane: Lane::Idle(Box::new(Stage { writer, hash: Sha256::new() })),
            offset: 0,
            max_size,
        })
    }

    /// Goes on with an object from a checkpoint. Fails with [`SealError::Corrupt`] if the state contradicts itself.
    pub async fn resume(
        store: &dyn ObjectStore,
        object: ObjectId,
        keys: Option<Arc<ContentKeys>>,
        max_size: u64,
        state: UploadState,
    ) -> Result<Self, WriteError> {
        let sealing = Sealing { object, keys };
        let layers = sealing.layers();
        let hash = restore(&state.sha256_state).ok_or(SealError::Corrupt)?;
        let front = SegmentSealer::resume(sealing.clone(), state.next_segment, &state.tail)?;
        let sealed = state.offset.checked_sub(state.tail.len() as u64);
        let expected = match layers {
            crate::seal::Layers::Plain => Some(state.offset),
            _ => state.next_segment.checked_mul(crate::seal::SEGMENT_SIZE as u64),
        };
        if sealed.is_none() || sealed != expected {
            return Err(SealError::Corrupt.into());
        }
        let stored_len = state.stored_len(layers);
        let writer = store.resume(object, state.writer, stored_len).await?;
        let lane = Lane::Idle(Box::new(Stage { writer, hash }));
        Ok(Self { sealing, front, lane, offset: state.offset, max_size })
    }

    /// Bytes of content taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes content. Returns when it is in memory of bounded size, not when it is stored.
    pub async fn append(&mut self, mut chunk: &[u8]) -> Result<(), WriteError> {
        let at_least = self.offset.saturating_add(chunk.len() as u64);
        if at_least > self.max_size {
            return Err(WriteError::TooLarge { limit: self.max_size, at_least });
        }
        while !chunk.is_empty() {
            if self.front.is_full() {
                // More follows, so no segment of the batch is the last.
                let stage = self.idle().await?;
                let turn = Stage::turn().await?;
                let batch = self.front.take();
                self.lane = Lane::Busy(stage.spawn(turn, batch, false));
            }
            let taken = self.front.fill(chunk);
            self.offset += taken as u64;
            chunk = &chunk[taken..];
        }
        Ok(())
    }

    /// Makes everything taken durable and returns what [`Self::resume`] needs; the caller stores it before
    /// acknowledging anything.
    pub async fn checkpoint(&mut self) -> Result<UploadState, WriteError> {
        let mut stage = self.idle().await?;
        self.front.hash_new(&mut stage.hash);
        let head = self.front.split_tail();
        let mut stage = stage.write(head, false).await?;
        let writer = stage.writer.checkpoint().await?;
        let state = UploadState {
            offset: self.offset,
            next_segment: self.front.next_index(),
            tail: self.front.tail(),
            sha256_state: stage.hash.serialize().to_vec(),
            writer,
        };
        self.lane = Lane::Idle(stage);
        Ok(state)
    }

    /// Completes the object: the rest sealed, everything durable.
    pub async fn finish(self) -> Result<Finished, WriteError> {
        let (finished, writer) = self.seal_rest().await?;
        writer.finish().await?;
        Ok(finished)
    }

    /// Hashes, seals and appends the rest, but makes nothing durable: for callers that compare the digest first and
    /// then [`finish`](ObjectWriter::finish) the writer, or [`abort`](ObjectWriter::abort) it and save the syncs.
    pub async fn seal_rest(mut self) -> Result<(Finished, Box<dyn ObjectWriter>), WriteError> {
        let stage = self.idle().await?;
        let rest = self.front.take();
        let stage = *stage.write(rest, true).await?;
        let sha256 = stage.hash.finalize().into();
        let stored_size = self.sealing.layers().stored_size(self.offset);
        Ok((Finished { size: self.offset, sha256, stored_size }, stage.writer))
    }

    /// Gives the object up and removes it.
    pub async fn abort(mut self) -> Result<(), WriteError> {
        Ok(self.idle().await?.writer.abort().await?)
    }

    /// Waits for the batch under way and takes the lane. It stays taken if the caller fails or is dropped.
    async fn idle(&mut self) -> Result<Box<Stage>, WriteError> {
        if let Lane::Busy(task) = &mut self.lane {
            let done = task.await;
            self.lane = Lane::Failed;
            return Stage::settle(done.map_err(|_| WriteError::Failed)??).await;
        }
        match std::mem::replace(&mut self.lane, Lane::Failed) {
            Lane::Idle(stage) => Ok(stage),
            _ => Err(WriteError::Failed),
        }
    }
}

fn restore(state: &[u8]) -> Option<Sha256> {
    Sha256::deserialize(&SerializedState::<Sha256>::try_from(state).ok()?).ok()
}
