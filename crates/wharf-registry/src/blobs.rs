//! Blobs: looked up, read, forgotten. Every byte of sealed content is authenticated before it is served.

mod cache;
mod read;

use std::sync::Arc;

use bytes::Bytes;
use wharf_store::meta::blobs::{self, LinkedBlob, Unlinked};
use wharf_store::meta::current;
use wharf_store::meta::objects::{ObjectState, Place};
use wharf_store::object::ObjectId;
use wharf_store::seal::{ContentKeys, open_small};
use wharf_types::{Digest, MediaType, RepositoryRef, Timestamp};

pub(crate) use self::cache::BlobCache;
pub use self::read::BlobReader;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, KeyDomain, Registry, RegistryError, Repository};

/// A blob of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// After an upload or a mount: the repository had it before. Otherwise true.
    pub already_existed: bool,
}

/// One layer that `BatchCheckLayerAvailability` was asked about.
#[derive(Clone, Debug)]
pub struct LayerCheck {
    /// As the client wrote it.
    pub digest: String,
    /// What is known about it.
    pub state: LayerState,
}

/// What is known about a layer.
#[derive(Clone, Debug)]
pub enum LayerState {
    /// The repository has it.
    Available {
        /// Bytes.
        size: u64,
        /// Not recorded: a blob has a type only in the manifests that name it.
        media_type: Option<MediaType>,
    },
    /// The repository has it, for archived images only.
    Archived {
        /// Bytes.
        size: u64,
    },
    /// It has to be uploaded.
    Unavailable,
    /// Not a digest; the text says why.
    InvalidDigest(String),
    /// Empty text.
    MissingDigest,
}

/// A blob as the cache keeps it: where its content is and how it opens.
#[derive(Clone)]
pub(crate) struct BlobEntry {
    digest: Digest,
    size: u64,
    object: ObjectId,
    place: Place,
    /// What its content is sealed for.
    sealed_as: ObjectId,
    /// Only archived images name it.
    archived: bool,
    keys: Option<Arc<ContentKeys>>,
    /// The content itself where it is small: opened, authenticated.
    inline: Option<Bytes>,
    domain: KeyDomain,
    /// Since when no manifest has named it, as of `read_at`.
    unreferenced_since: Option<i64>,
    read_at: Timestamp,
}

impl BlobEntry {
    fn info(&self) -> BlobInfo {
        BlobInfo { digest: self.digest, size: self.size, already_existed: true }
    }
}

impl Registry {
    /// Whether the repository has a blob, and its size: also one that only archived images name, which may not be pulled,
    /// since a client that pushes need not send it again. Asking keeps a blob that no manifest names for another grace
    /// period, so that a client that is told so can rely on it.
    ///
    /// # Errors
    /// `RepositoryNotFound`; `BlobUnknown`, also for damaged content, so that clients push it again; `Kms`.
    pub async fn stat_blob(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<BlobInfo, RegistryError> {
        if self.has_peers()
            && let Some((repository, entry)) = self.remembered_blob(at.target(), digest).await?
            && !self.needs_refresh(&entry)
        {
            self.inner.keys.check_domain(&repository.domain)?;
            return Ok(entry.info());
        }
        let repository = self.repository(at).await?;
        self.stat(&repository, digest).await
    }

    async fn stat(&self, repository: &Repository, digest: &Digest) -> Result<BlobInfo, RegistryError> {
        let pushed_again = |error| match error {
            RegistryError::Damaged(digest) => RegistryError::BlobUnknown(digest),
            other => other,
        };
        let mut entry = self.blob_entry(repository, digest).await.map_err(pushed_again)?;
        if self.is_stale(&entry) {
            self.inner.blobs.forget(repository.id, *digest);
            entry = self.blob_entry(repository, digest).await.map_err(pushed_again)?;
        }
        if self.needs_refresh(&entry) {
            let (id, text, now) = (repository.id, digest.to_string(), self.inner.clock.now().as_micros());
            let linked = self
                .inner
                .meta
                .write(move |tx| blobs::refresh(tx, id, &text, now))
                .await
                .map_err(RegistryError::from)?;
            self.inner.blobs.forget(repository.id, *digest);
            if !linked {
                return Err(RegistryError::BlobUnknown(*digest));
            }
        }
        Ok(entry.info())
    }

    /// As [`stat_blob`](Self::stat_blob), where memory knows the answer.
    pub fn stat_blob_now(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Option<Result<BlobInfo, RegistryError>> {
        let repository = self.cached_repository(at.target())?;
        let entry = self.inner.blobs.get(repository.id, *digest)?;
        if self.is_stale(&entry) || self.needs_refresh(&entry) {
            return None;
        }
        Some(self.inner.keys.check_domain(&entry.domain).map(|()| entry.info()))
    }

    async fn is_archived(&self, repository: &Repository, digest: &Digest) -> bool {
        self.blob_entry(repository, digest).await.is_ok_and(|entry| entry.archived)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `RepositoryNotFound`, `BlobUnknown` (also when only archived images name it), `Kms`; `Damaged` when the content is not what was stored: it is
    /// quarantined then, and served again once somebody has pushed it anew.
    pub async fn open_blob(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<BlobReader, RegistryError> {
        let remembered = match self.has_peers() {
            true => self.remembered_blob(at.target(), digest).await?,
            false => None,
        };
        let (repository, mut entry) = match remembered {
            Some(remembered) => remembered,
            None => {
                let repository = self.repository(at).await?;
                let entry = self.blob_entry(&repository, digest).await?;
                (repository, entry)
            }
        };
        loop {
            self.inner.keys.check_domain(&repository.domain)?;
            if entry.archived {
                return Err(RegistryError::BlobUnknown(*digest));
            }
            let object = entry.object;
            let unknown = match BlobReader::open(self, repository.id, entry).await {
                Err(error @ RegistryError::BlobUnknown(_)) => error,
                opened => return opened,
            };
            // Memory was behind: the object was collected. The content may have been pushed again, into another one.
            entry = self.blob_entry(&repository, digest).await?;
            if entry.object == object {
                return Err(unknown);
            }
        }
    }

    /// `BatchCheckLayerAvailability`: what is known about each layer, in the order asked for.
    ///
    /// # Errors
    /// `RepositoryNotFound`; `Kms`.
    pub async fn check_layers(
        &self,
        at: &Authorized<RepositoryRef>,
        digests: &[String],
    ) -> Result<Vec<LayerCheck>, RegistryError> {
        let repository = self.repository(at).await?;
        let mut checks = Vec::with_capacity(digests.len());
        for text in digests {
            let state = if text.is_empty() {
                LayerState::MissingDigest
            } else {
                match text.parse() {
                    Err(error) => LayerState::InvalidDigest(format!("{error}")),
                    Ok(digest) => match self.stat(&repository, &digest).await {
                        Ok(info) if self.is_archived(&repository, &digest).await => {
                            LayerState::Archived { size: info.size }
                        }
                        Ok(info) => LayerState::Available { size: info.size, media_type: None },
                        Err(RegistryError::BlobUnknown(_)) => LayerState::Unavailable,
                        Err(error) => return Err(error),
                    },
                }
            };
            checks.push(LayerCheck { digest: text.clone(), state });
        }
        Ok(checks)
    }

    /// Has the repository forget a blob; its content goes with its last link.
    ///
    /// # Errors
    /// `Unsupported` in the `ecr` dialect and for a blob that a manifest names; `BlobUnknown`; `RepositoryNotFound`.
    pub async fn delete_blob(
        &self,
        at: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        if !self.inner.options.dialect.deletes_blobs() {
            return Err(RegistryError::Unsupported("The operation is unsupported.".into()));
        }
        let repository = self.repository(at).await?;
        let (registry, digest) = (self.clone(), *digest);
        uninterrupted(async move {
            let (id, text, now) = (repository.id, digest.to_string(), registry.inner.clock.now().as_micros());
            let unlinked = registry
                .inner
                .meta
                .write(move |tx| blobs::unlink(tx, id, &text, now))
                .await
                .map_err(RegistryError::from);
            // Also after an error: the change may have been made all the same.
            registry.inner.blobs.forget(id, digest);
            match unlinked? {
                Unlinked::Dropped(_) => Ok(()),
                Unlinked::Missing => Err(RegistryError::BlobUnknown(digest)),
                Unlinked::Referenced => Err(RegistryError::Unsupported(format!(
                    "blob {digest} is referenced by a manifest; delete the manifest first"
                ))),
            }
        })
        .await
    }

    /// Has memory forget which blobs a repository has. Its id is never used again.
    pub(crate) fn forget_blobs_of(&self, repository_id: i64) {
        self.inner.blobs.forget_repository(repository_id);
    }

    /// What the repository knows of a blob, from memory where possible; the key is looked at each time.
    pub(crate) async fn blob_entry(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Arc<BlobEntry>, RegistryError> {
        self.inner.keys.check_domain(&repository.domain)?;
        if !self.has_peers()
            && let Some(entry) = self.inner.blobs.get(repository.id, *digest)
        {
            return Ok(entry);
        }
        let ticket = self.inner.blobs.ticket();
        let (id, text) = (repository.id, digest.to_string());
        let found = self.inner.meta.read_quick(move |tx| blobs::find_linked(tx, id, &text)).await;
        let row = found.map_err(RegistryError::from)?.ok_or(RegistryError::BlobUnknown(*digest))?;
        match row.state {
            ObjectState::Live => {}
            ObjectState::Quarantined => return Err(RegistryError::Damaged(*digest)),
            other => {
                return Err(RegistryError::Internal(format!(
                    "blob {digest} is in an object that is {other:?}"
                )));
            }
        }
        let entry = Arc::new(self.opened(repository, *digest, row).await?);
        self.inner.blobs.fill(ticket, repository.id, *digest, &entry);
        Ok(entry)
    }

    /// A blob from memory, where other nodes change blobs too: one look makes sure that the repository is still the one
    /// that is remembered, that it has the blob, and that the blob is where it was.
    async fn remembered_blob(
        &self,
        name: &RepositoryRef,
        digest: &Digest,
    ) -> Result<Option<(Arc<Repository>, Arc<BlobEntry>)>, RegistryError> {
        let Some(repository) = self.last_known_repository(name) else { return Ok(None) };
        let ticket = self.inner.blobs.ticket();
        let Some(known) = self.inner.blobs.get(repository.id, *digest) else { return Ok(None) };
        let (of, text) = (name.clone(), digest.to_string());
        let current = self.inner.meta.read_quick(move |tx| current::blob(tx, &of, &text)).await;
        let current = current.map_err(RegistryError::from)?;
        let current = current.filter(|current| current.repository_id == repository.id);
        let Some(link) = current.and_then(|current| current.link) else { return Ok(None) };
        if !link.is_live || link.object != known.object {
            return Ok(None);
        }
        if (known.archived, known.unreferenced_since) == (link.archived, link.unreferenced_since) {
            return Ok(Some((repository, known)));
        }
        let entry = Arc::new(BlobEntry {
            archived: link.archived,
            unreferenced_since: link.unreferenced_since,
            read_at: self.inner.clock.now(),
            ..BlobEntry::clone(&known)
        });
        self.inner.blobs.fill(ticket, repository.id, *digest, &entry);
        Ok(Some((repository, entry)))
    }

    async fn opened(
        &self,
        repository: &Repository,
        digest: Digest,
        row: LinkedBlob,
    ) -> Result<BlobEntry, RegistryError> {
        let domain = repository.domain.clone();
        let keys = self.inner.keys.open_content_keys(&self.inner.meta, &domain, row.keys.as_deref()).await?;
        let inline = match (row.inline, &keys) {
            (Some(stored), Some(keys)) => match open_small(keys, row.object, stored.into()) {
                Ok(content) if content.len() as u64 == row.size => Some(Bytes::from(content)),
                _ => {
                    self.quarantine(row.object).await;
                    return Err(RegistryError::Damaged(digest));
                }
            },
            (stored, _) => stored,
        };
        Ok(BlobEntry {
            digest,
            size: row.size,
            object: row.object,
            place: row.place,
            sealed_as: row.sealed_as,
            archived: row.archived,
            keys: keys.map(Arc::new),
            inline,
            domain,
            unreferenced_since: row.unreferenced_since,
            read_at: self.inner.clock.now(),
        })
    }

    /// A manifest may have let go of the blob since the entry was read. Looked up again soon enough for that not to
    /// matter against the grace period.
    fn is_stale(&self, entry: &BlobEntry) -> bool {
        let grace = self.inner.options.unreferenced_grace;
        self.inner.clock.now() > entry.read_at.plus((grace / 8).min(std::time::Duration::from_secs(60)))
    }

    /// Whether so much of the grace period is over that being asked for the blob must renew it.
    fn needs_refresh(&self, entry: &BlobEntry) -> bool {
        let due = |since| Timestamp::from_micros(since).plus(self.inner.options.unreferenced_grace / 8);
        entry.unreferenced_since.is_some_and(|since| self.inner.clock.now() > due(since))
    }
}
