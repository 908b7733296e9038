//! Reading blobs, and what happens when stored content is not what was stored.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use wharf_store::meta::objects;
use wharf_store::object::sealed::{ReadError, SealedReader};
use wharf_store::object::{ObjectError, ObjectId};
use wharf_types::ByteRange;

use super::{BlobEntry, BlobInfo};
use crate::uninterrupted::uninterrupted;
use crate::uploads::{BodyError, BodyStream};
use crate::{Registry, RegistryError};

/// An open blob.
pub struct BlobReader {
    /// What it is.
    pub info: BlobInfo,
    registry: Registry,
    object: ObjectId,
    content: Source,
}

enum Source {
    Memory(Bytes),
    Store(SealedReader),
}

impl BlobReader {
    pub(super) async fn open(
        registry: &Registry,
        repository_id: i64,
        entry: Arc<BlobEntry>,
    ) -> Result<Self, RegistryError> {
        let content = match &entry.inline {
            Some(content) => Source::Memory(content.clone()),
            None => {
                let (objects, keys) = (&**registry.store(entry.place)?, entry.keys.clone());
                match SealedReader::open_copy(objects, entry.object, entry.sealed_as, keys, entry.size).await
                {
                    Ok(reader) => Source::Store(reader),
                    Err(error) => {
                        registry.inner.blobs.forget(repository_id, entry.digest);
                        return Err(registry.unreadable(error, &entry).await);
                    }
                }
            }
        };
        Ok(Self { info: entry.info(), registry: registry.clone(), object: entry.object, content })
    }

    /// The content, or a range of it, in order, in chunks of up to 256 KiB. The first is read before this returns.
    /// Content that does not authenticate ends the stream with an error before a byte of it is given out, and is
    /// quarantined.
    ///
    /// # Errors
    /// `Damaged`, or a failure of the store, if that concerns the first chunk.
    pub async fn stream(self, range: Option<ByteRange>) -> Result<BodyStream, RegistryError> {
        let size = self.info.size;
        let (start, end) =
            range.map_or((0, size), |range| (range.first.min(size), range.last.saturating_add(1).min(size)));
        let (registry, object) = (self.registry, self.object);
        match self.content {
            Source::Memory(content) => {
                let part = content.slice(start as usize..end.max(start) as usize);
                registry.inner.stats.bytes_out.fetch_add(part.len() as u64, Relaxed);
                Ok(stream::iter((!part.is_empty()).then_some(Ok(part))).boxed())
            }
            Source::Store(reader) => {
                let counting = registry.clone();
                let mut chunks = reader
                    .stream(start..end.max(start))
                    .inspect_ok(move |chunk| {
                        counting.inner.stats.bytes_out.fetch_add(chunk.len() as u64, Relaxed);
                    })
                    .boxed();
                let first = match chunks.try_next().await {
                    Ok(first) => first,
                    Err(ReadError::Corrupt { .. }) => {
                        registry.quarantine(object).await;
                        return Err(RegistryError::Damaged(self.info.digest));
                    }
                    Err(error) => return Err(registry.read_error(error)),
                };
                let rest = chunks.or_else(move |error| {
                    let registry = registry.clone();
                    async move {
                        if matches!(error, ReadError::Corrupt { .. }) {
                            registry.quarantine(object).await;
                        }
                        Err(BodyError { message: error.to_string() })
                    }
                });
                Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
            }
        }
    }

    /// All content at once, of at most `limit` bytes.
    ///
    /// # Errors
    /// `TooLarge`; `Damaged`; a failure of the store.
    pub async fn read_all(self, limit: u64) -> Result<Bytes, RegistryError> {
        if self.info.size > limit {
            return Err(RegistryError::TooLarge { what: "blob", limit });
        }
        let content = match &self.content {
            Source::Memory(content) => content.clone(),
            Source::Store(reader) => match reader.read_all(limit).await {
                Ok(content) => content,
                Err(ReadError::Corrupt { .. }) => {
                    self.registry.quarantine(self.object).await;
                    return Err(RegistryError::Damaged(self.info.digest));
                }
                Err(error) => return Err(self.registry.read_error(error)),
            },
        };
        self.registry.inner.stats.bytes_out.fetch_add(content.len() as u64, Relaxed);
        Ok(content)
    }

    /// The content where it is small and in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            Source::Memory(content) => Some(content),
            Source::Store(_) => None,
        }
    }

    /// The file that holds exactly the content, where it is stored plain on local disk: for sendfile.
    pub fn plain_file(&self) -> Option<&File> {
        match &self.content {
            Source::Memory(_) => None,
            Source::Store(reader) => reader.plain_file(),
        }
    }
}

impl Registry {
    /// Takes an object that does not authenticate out of service. Its blob stays, so that a push of the same content
    /// replaces it. An object that is not live any more is left as it is.
    pub(crate) async fn quarantine(&self, object: ObjectId) {
        let registry = self.clone();
        let done = uninterrupted(async move {
            let changed = registry.inner.meta.write(move |tx| objects::quarantine(tx, object)).await;
            registry.inner.blobs.forget_object(object);
            let changed = changed.map_err(RegistryError::from)?;
            if changed {
                registry.inner.stats.objects_quarantined.fetch_add(1, Relaxed);
                tracing::error!(object.id = %object, "stored content is damaged; quarantined object {object}");
            }
            Ok(())
        });
        if let Err(error) = done.await {
            // It is not served either way: the next read meets the same damage.
            tracing::error!(%error, object.id = %object, "cannot quarantine object {object}");
        }
    }

    /// What it means that a blob's object cannot be opened.
    async fn unreadable(&self, error: ReadError, entry: &BlobEntry) -> RegistryError {
        match error {
            ReadError::Corrupt { .. } | ReadError::Object(ObjectError::NotFound(_)) => {
                let id = entry.object;
                match self.inner.meta.read_quick(move |tx| objects::state(tx, id)).await {
                    // The link was dropped and the object collected since the entry was read.
                    Ok(Some(objects::ObjectState::Trashed | objects::ObjectState::Deleting) | None) => {
                        RegistryError::BlobUnknown(entry.digest)
                    }
                    Ok(_) => {
                        self.quarantine(id).await;
                        RegistryError::Damaged(entry.digest)
                    }
                    Err(error) => RegistryError::from(error),
                }
            }
            other => self.read_error(other),
        }
    }

    /// A failure to read as clients hear of it.
    pub(crate) fn read_error(&self, error: ReadError) -> RegistryError {
        self.inner.stats.store_errors.fetch_add(1, Relaxed);
        match error {
            ReadError::Object(error) => error.into(),
            other => RegistryError::Internal(other.to_string()),
        }
    }
}
