//! Uploads: how blob content comes in. Acknowledged bytes are durable; a finished blob is linked in one transaction.
//!
//! Content of at most 64 KiB never touches the object store: until it is finished it lies in the upload's row
//! (sealed), afterwards in the object's row. Larger content streams through a [`SealedWriter`] into an object whose
//! row was committed first; each acknowledged chunk is synced, then recorded by compare-and-set.
//!
//! [`SealedWriter`]: wharf_store::object::sealed::SealedWriter

mod active;
mod finish;
mod mount;
mod session;
mod turn;

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use wharf_store::meta::uploads::{self, Progress, UploadRow};
use wharf_store::meta::{MetaError, Tx};
use wharf_store::object::ObjectId;
use wharf_store::object::sealed::WriteError;
use wharf_types::{ByteRange, RepositoryRef, Timestamp, UploadId};

pub(crate) use self::active::ActiveUploads;
pub use self::mount::MountOutcome;
use self::session::Session;
pub(crate) use self::turn::TURN;
use crate::{Authorized, Registry, RegistryError, Repository};

/// Content of at most this many bytes is kept in the metadata.
pub(crate) const SMALL: usize = 64 * 1024;
/// A part that is not the last must have this many bytes (ECR: 5 MiB).
const SMALLEST_PART: u64 = 5 << 20;
/// What `InitiateLayerUpload` answers as `partSize`.
const PART_SIZE: u64 = 10 << 20;

/// The body of a request, or of an answer.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// A body that broke off: the client went away, was idle for too long, or the content could not be read on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct BodyError {
    /// What happened, for the log.
    pub message: String,
}

/// A new upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Bytes received: 0.
    pub received: u64,
    /// The part size that suits the registry, in bytes.
    pub part_size: u64,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadProgress {
    /// Durable bytes; the next chunk begins here.
    pub received: u64,
}

impl Registry {
    /// Begins an upload. Nothing is written: the id itself says that it was issued, for this repository, and when. The
    /// upload gets its rows with its first byte, or never, if its content is small and comes with the request that
    /// finishes it.
    ///
    /// # Errors
    /// `RepositoryNotFound`; `StorageFull`; `Kms` when the repository's key may not be used.
    pub async fn start_upload(&self, at: &Authorized<RepositoryRef>) -> Result<Upload, RegistryError> {
        let repository = self.repository(at).await?;
        self.refuse_when_full().await?;
        self.inner.keys.check_domain(&repository.domain)?;
        let (seconds, number) = (self.inner.clock.now().as_seconds(), self.inner.uploads.next_number());
        let id = self.inner.keys.issue_upload_id(repository.id, seconds, number)?;
        self.inner.stats.uploads_started.fetch_add(1, Relaxed);
        Ok(Upload { id, received: 0, part_size: PART_SIZE })
    }

    /// Adds a chunk. Its bytes are durable when this returns.
    ///
    /// # Errors
    /// `UploadNotFound`; `UploadBusy`; `InvalidLayerPart` for a chunk out of order or of another length than it says;
    /// `TooLarge`; `BodyBroken`; `StorageFull`; `Kms`. The upload then stands where it stood.
    pub async fn append_upload(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
        chunk: Option<ByteRange>,
        body: BodyStream,
    ) -> Result<UploadProgress, RegistryError> {
        let repository = self.repository(at).await?;
        let claim = self.inner.uploads.claim(id).await?;
        let found = self.find_upload(&repository, id).await?;
        self.check_start(&repository, &found.row, chunk.map(|chunk| chunk.first))?;
        self.refuse_when_full().await?;
        let mut session = Session::resume(self, repository, found, claim).await?;
        let length = session.receive(body, chunk.map(|chunk| chunk.length())).await?;
        session.acknowledge(length).await
    }

    /// Adds a part of the JSON API: bytes `first` to `last` of the layer.
    ///
    /// # Errors
    /// As [`append_upload`](Self::append_upload), and `LimitExceeded` for more parts than are allowed.
    pub async fn upload_part(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
        first: u64,
        last: u64,
        part: Bytes,
    ) -> Result<UploadProgress, RegistryError> {
        let repository = self.repository(at).await?;
        let limits = self.inner.options.limits;
        if part.len() as u64 > limits.part {
            return Err(RegistryError::TooLarge { what: "layer part", limit: limits.part });
        }
        let claim = self.inner.uploads.claim(id).await?;
        let found = self.find_upload(&repository, id).await?;
        let row = &found.row;
        if last.checked_sub(first).and_then(|span| span.checked_add(1)) != Some(part.len() as u64) {
            return Err(out_of_order(&repository, row));
        }
        self.check_start(&repository, row, Some(first))?;
        if row.progress.parts >= limits.parts {
            return Err(RegistryError::LimitExceeded(format!(
                "The layer already has the maximum number of parts ({})",
                limits.parts
            )));
        }
        self.refuse_when_full().await?;
        let mut session = Session::resume(self, repository, found, claim).await?;
        let length = session.receive(stream::iter([Ok(part)]).boxed(), None).await?;
        session.acknowledge(length).await
    }

    /// How far an upload has come.
    ///
    /// # Errors
    /// `UploadNotFound`.
    pub async fn upload_status(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
    ) -> Result<UploadProgress, RegistryError> {
        let repository = self.repository(at).await?;
        let found = self.find_upload(&repository, id).await?;
        Ok(UploadProgress { received: found.row.progress.received })
    }

    /// Gives an upload up. Its bytes go with the next collection.
    ///
    /// # Errors
    /// `UploadNotFound`; `UploadBusy` while another request writes to it.
    pub async fn cancel_upload(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
    ) -> Result<(), RegistryError> {
        let repository = self.repository(at).await?;
        let _claim = self.inner.uploads.claim(id).await?;
        let fresh = self.find_upload(&repository, id).await?.unwritten;
        let repository_id = repository.id;
        let ended = self.inner.meta.write(move |tx| match fresh && uploads::is_fresh(tx, id)? {
            true => uploads::remember_end(tx, id).map(|()| true),
            false => uploads::cancel(tx, repository_id, id).map(|object| object.is_some()),
        });
        match ended.await.map_err(RegistryError::from)? {
            true => Ok(()),
            false => Err(RegistryError::UploadNotFound(id.to_string())),
        }
    }

    /// Refuses to take bytes when the store is below its watermark.
    pub(crate) async fn refuse_when_full(&self) -> Result<(), RegistryError> {
        if self.inner.uploads.has_plenty() { Ok(()) } else { self.refuse_below_watermark().await }
    }

    /// As [`refuse_when_full`](Self::refuse_when_full), whatever there was a moment ago.
    async fn refuse_below_watermark(&self) -> Result<(), RegistryError> {
        let watermark = self.inner.options.low_watermark;
        if watermark == 0 {
            return Ok(());
        }
        match self.inner.objects.free_space().await? {
            Some(free) if free < watermark => Err(RegistryError::StorageFull),
            Some(free) if free / 2 > watermark => {
                self.inner.uploads.remember_plenty();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The upload, unless it is another repository's, has expired, or is over.
    async fn find_upload(&self, repository: &Repository, id: UploadId) -> Result<Found, RegistryError> {
        let now = self.inner.clock.now().as_micros();
        let issued = || {
            let seconds = id.issued_at()?;
            self.inner.keys.has_issued(repository.id, seconds, id).then_some(seconds)
        };
        let issued = match id.issued_at() {
            Some(_) => self.open_anywhere(|| issued().ok_or(())).await.ok(),
            None => None,
        };
        let expires_at = issued.map(|seconds| {
            Timestamp::from_micros(i64::from(seconds) * 1_000_000).plus(self.inner.options.upload_lifetime)
        });
        let repository_id = repository.id;
        let read = move |tx: &mut Tx<'_>| {
            if let Some(row) = uploads::find(tx, repository_id, id)? {
                return Ok(Some(Found { row, unwritten: false }));
            }
            Ok::<_, MetaError>(match expires_at {
                Some(expires_at) if !uploads::is_over(tx, id)? => {
                    Some(Found::unwritten(id, repository_id, expires_at.as_micros()))
                }
                _ => None,
            })
        };
        let found = self.inner.meta.read_quick(read).await;
        let found = found.map_err(RegistryError::from)?.filter(|found| found.row.expires_at > now);
        found.ok_or_else(|| RegistryError::UploadNotFound(id.to_string()))
    }

    fn check_start(
        &self,
        repository: &Repository,
        row: &UploadRow,
        first: Option<u64>,
    ) -> Result<(), RegistryError> {
        match first {
            Some(first) if first != row.progress.received => Err(out_of_order(repository, row)),
            _ => Ok(()),
        }
    }

    /// Counts a failure of the store and says what it means to the client.
    fn write_error(&self, error: WriteError) -> RegistryError {
        match error {
            WriteError::TooLarge { limit, .. } => RegistryError::TooLarge { what: "blob", limit },
            WriteError::Object(error) => {
                self.inner.stats.store_errors.fetch_add(1, Relaxed);
                error.into()
            }
            WriteError::Seal(error) => RegistryError::Internal(format!("sealing an upload: {error}")),
            WriteError::Failed => RegistryError::Internal("the writer of an upload failed before".into()),
        }
    }
}

/// An upload as a request finds it.
struct Found {
    row: UploadRow,
    /// The row is not in the metadata yet.
    unwritten: bool,
}

impl Found {
    /// An upload that has received nothing.
    fn unwritten(id: UploadId, repository_id: i64, expires_at: i64) -> Self {
        let row = UploadRow {
            id,
            repository_id,
            object: ObjectId::random(),
            keys: None,
            progress: Progress { received: 0, parts: 0, last_part: 0, short_part: false },
            generation: 0,
            state: None,
            expires_at,
        };
        Self { row, unwritten: true }
    }
}

fn out_of_order(repository: &Repository, row: &UploadRow) -> RegistryError {
    RegistryError::InvalidLayerPart {
        repository: repository.name.clone(),
        upload: row.id,
        received: row.progress.received,
    }
}
