//! The seam for blob bytes: objects under random names, written once, read by range, deleted, listed.
//!
//! [`ObjectStore`] is the contract; [`DiskObjects`] keeps objects as files, [`CloudObjects`] in a bucket,
//! [`MemoryObjects`] in memory.
//! [`sealed`] puts hashing and encryption on top. [`testing`] has the contract suite and the faults.

pub mod buffers;
pub mod cloud;
pub mod copy;
pub mod disk;
pub mod fs;
mod id;
pub mod memory;
pub mod sealed;
pub mod testing;

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use cloud::{CloudObjects, CloudUrl, CloudUrlError};
pub use disk::DiskObjects;
pub use id::{ObjectId, ObjectIdError};
pub use memory::MemoryObjects;

/// Why the store of objects did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// No object has this id.
    #[error("object {0} not found")]
    NotFound(ObjectId),
    /// An object with this id exists; ids are never used twice.
    #[error("object {0} exists already")]
    AlreadyExists(ObjectId),
    /// There is no room (disk full, or a quota of the disk).
    #[error("no space left while {doing}")]
    Full {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The storage may be read but not written.
    #[error("storage is read-only while {doing}")]
    ReadOnly {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Any other failure of the storage.
    #[error("storage failed while {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The object has fewer bytes than were acknowledged to its writer.
    #[error("object {id} has {found} of {expected} acknowledged bytes")]
    Short {
        /// The object.
        id: ObjectId,
        /// Bytes it must have at least.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// Another writer resumed this object; this one may not write any more.
    #[error("object {0} has a newer writer")]
    Superseded(ObjectId),
    /// An earlier call of this writer failed; what it has written is unknown. Resume from the last checkpoint.
    #[error("the writer of object {0} failed before")]
    Poisoned(ObjectId),
    /// The directory or its marker is not of a form this program knows.
    #[error("object storage has an unknown layout: {0}")]
    Layout(String),
}

impl ObjectError {
    /// Sorts a system error into what a caller can react to.
    pub fn from_io(doing: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing, source },
            _ => Self::Io { doing, source },
        }
    }
}

/// What a store needs to go on writing an object after a restart or on another node. Opaque: kept in the upload's
/// row and handed back to [`ObjectStore::resume`]. Empty for disks; an object store keeps its multipart upload here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriterState(pub Vec<u8>);

/// Keeps the bytes of objects.
///
/// # Contract
/// - An id is created at most once, ever. Nothing is overwritten; so no reader can see a mixture.
/// - Bytes count as kept only after [`ObjectWriter::checkpoint`] or [`ObjectWriter::finish`] returned `Ok`. After a
///   crash everything up to the last acknowledged one is there; what was appended later may be there, in part or
///   not at all, until [`resume`](Self::resume) cuts it off.
/// - An object whose writer has not finished may be invisible to `open` and `list`.
/// - A failed call leaves no state that makes a later call return wrong bytes. It may have had its effect.
/// - Dropping a returned future does not stop what it began; a writer whose future was dropped before it completed
///   must be given up, and the object resumed from its last checkpoint.
///
/// Nothing rests on conditional requests or on the order of listings across writes.
pub trait ObjectStore: Send + Sync + 'static {
    /// Begins a new object. Fails with [`ObjectError::AlreadyExists`] if the id was used.
    fn create(&self, id: ObjectId) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>>;

    /// Goes on with an object from a checkpoint: `state` is what the checkpoint returned and `stored_len` the
    /// bytes appended before it. Everything after that is cut off, and an earlier writer of the object, still
    /// running somewhere in this process, gets [`ObjectError::Superseded`] from then on and changes nothing.
    /// Fails with [`ObjectError::Short`] when acknowledged bytes are missing, [`ObjectError::NotFound`] when all are.
    fn resume(
        &self,
        id: ObjectId,
        state: WriterState,
        stored_len: u64,
    ) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>>;

    /// Whether writers of other processes may be at work in the same store. [`resume`](Self::resume) does not see those:
    /// who resumes an object has first made sure that nobody records what an earlier writer finishes. An id is given to
    /// [`create`](Self::create) by one process, once.
    fn is_shared(&self) -> bool {
        false
    }

    /// Looks whether a writer has finished the object that the upload of `state` fills, which nobody recorded: its node
    /// died. If so, what was acknowledged is put where a writer can go on from it, and the state for that is returned:
    /// it must be recorded before anybody [`resume`](Self::resume)s with it. `None`: go on with `state`.
    fn reopen(
        &self,
        id: ObjectId,
        state: WriterState,
    ) -> BoxFuture<'_, Result<Option<WriterState>, ObjectError>> {
        let _ = (id, state);
        std::future::ready(Ok(None)).boxed()
    }

    /// Told once nobody will resume the finished object: what was kept for that may go.
    fn settled(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        let _ = id;
        std::future::ready(Ok(())).boxed()
    }

    /// Opens an object for reading. Fails with [`ObjectError::NotFound`]. A reader that was opened before the object
    /// is deleted may go on or fail with `NotFound`; it never returns other bytes.
    fn open(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<dyn ObjectReader>, ObjectError>>;

    /// Removes an object, finished or not, durably. A missing object is fine.
    fn delete(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>>;

    /// Removes many objects, as [`delete`](Self::delete) does. After an error any of them may be gone.
    fn delete_many<'a>(&'a self, ids: &'a [ObjectId]) -> BoxFuture<'a, Result<(), ObjectError>> {
        async move {
            for id in ids {
                self.delete(*id).await?;
            }
            Ok(())
        }
        .boxed()
    }

    /// Up to `limit` objects after `after` in the order of their ids, each with its stored size. Memory is bounded
    /// by `limit`. Fewer than `limit` means that the end is reached.
    fn list(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(ObjectId, u64)>, ObjectError>>;

    /// The deployment whose objects these are, if it was written.
    fn deployment_marker(&self) -> BoxFuture<'_, Result<Option<String>, ObjectError>>;

    /// Writes the deployment's id (1 to 128 printable ASCII characters), durably, in place of an earlier one.
    fn write_deployment_marker<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Bytes that may still be written, where the store knows.
    fn free_space(&self) -> BoxFuture<'_, Result<Option<u64>, ObjectError>>;
}

/// Writes one object from start to end.
///
/// After an error the writer answers [`ObjectError::Poisoned`] (or [`ObjectError::Superseded`] again): a failed write or
/// sync is never retried on the same writer, because the kernel may have dropped the bytes.
pub trait ObjectWriter: Send + Sync {
    /// Adds bytes at the end. Not durable yet.
    fn append(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), ObjectError>>;

    /// Makes everything appended durable and returns what [`ObjectStore::resume`] needs to go on from here.
    fn checkpoint(&mut self) -> BoxFuture<'_, Result<WriterState, ObjectError>>;

    /// Makes the object complete and durable: its bytes and its name.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>>;

    /// Gives the object up and removes what was written.
    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>>;

    /// Appends on the calling thread, which may block, where the store is able to. `None` (the default) means that
    /// nothing was done and [`append`](Self::append) must be used.
    fn append_blocking(&mut self, chunk: &[u8]) -> Option<Result<(), ObjectError>> {
        let _ = chunk;
        None
    }
}

/// Reads one object.
pub trait ObjectReader: Send + Sync {
    /// The object's stored size in bytes.
    fn size(&self) -> u64;

    /// Up to `len` bytes from `offset`; fewer only where the object ends.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, ObjectError>>;

    /// Bytes that somebody who reads in order should ask for at once: few for a disk, whose kernel reads ahead, many
    /// where every call is a request to another machine.
    fn window(&self) -> usize {
        256 * 1024
    }

    /// The file that holds exactly the object's bytes, where there is one: for positioned reads on the caller's
    /// thread and for sendfile.
    fn file(&self) -> Option<&File>;
}
