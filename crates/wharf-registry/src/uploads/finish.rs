//! Finishing an upload: the content is checked, made durable, and linked in one transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wharf_store::meta::blobs::{self, Kept, NewBlob};
use wharf_store::meta::objects::Content;
use wharf_store::meta::{Tx, jobs, uploads};
use wharf_store::object::ObjectId;
use wharf_store::object::sealed::{Finished, SealedReader, rehash_sha512};
use wharf_store::seal::{ContentKeys, seal_small};
use wharf_types::{ByteRange, Digest, RepositoryRef, UploadId};

use super::active::Finishing;
use super::session::{Dirt, Session, Sink};
use super::{BodyStream, Found};
use crate::repositories::hold_repository;
use crate::{Authorized, BlobInfo, Dialect, Registry, RegistryError, Repository};

/// Whose rules about parts hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// OCI's: any size, in the `spec` dialect.
    Chunks,
    /// The JSON API's: at least one, and 5 MiB for each but the last.
    LayerParts,
}

impl Registry {
    /// Adds the last chunk, if there is one, and makes the upload a blob of the repository. Of `expected`, one digest
    /// must be the content's; that one is answered. Repeating it after a lost answer gives the same answer, as long
    /// as this process remembers; where there are several, from any of them.
    ///
    /// # Errors
    /// Those of [`append_upload`](Self::append_upload); `InvalidLayer`, after which the upload is gone;
    /// `LayerPartTooSmall` in the `ecr` dialect.
    pub async fn finish_upload(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
        expected: &[Digest],
        chunk: Option<ByteRange>,
        body: Option<BodyStream>,
    ) -> Result<BlobInfo, RegistryError> {
        self.finish(at, id, expected, chunk, body, Parts::Chunks).await
    }

    /// As [`finish_upload`](Self::finish_upload), by the rules of the JSON API's `CompleteLayerUpload`.
    ///
    /// # Errors
    /// Besides: `EmptyUpload` without a part, `LayerPartTooSmall` in every dialect.
    pub async fn complete_layer_upload(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
        expected: &[Digest],
    ) -> Result<BlobInfo, RegistryError> {
        self.finish(at, id, expected, None, None, Parts::LayerParts).await
    }

    async fn finish(
        &self,
        at: &Authorized<RepositoryRef>,
        id: UploadId,
        expected: &[Digest],
        chunk: Option<ByteRange>,
        body: Option<BodyStream>,
        rules: Parts,
    ) -> Result<BlobInfo, RegistryError> {
        let repository = self.repository(at).await?;
        match self.finish_now(&repository, id, expected, chunk, body, rules).await {
            // It was finished before, or an earlier try was still being committed.
            Err(RegistryError::UploadNotFound(text)) => {
                let before = self.finished_before(&repository, id, expected).await?;
                before.ok_or(RegistryError::UploadNotFound(text))
            }
            outcome => outcome,
        }
    }

    async fn finish_now(
        &self,
        repository: &Arc<Repository>,
        id: UploadId,
        expected: &[Digest],
        chunk: Option<ByteRange>,
        body: Option<BodyStream>,
        rules: Parts,
    ) -> Result<BlobInfo, RegistryError> {
        let claim = self.inner.uploads.claim(id).await?;
        let found = self.find_upload(repository, id).await?;
        if rules == Parts::LayerParts && found.row.progress.parts == 0 {
            return Err(RegistryError::EmptyUpload);
        }
        self.check_start(repository, &found.row, chunk.map(|chunk| chunk.first))?;
        self.refuse_when_full().await?;
        let mut session = Session::resume(self, Arc::clone(repository), found, claim).await?;
        let length = match body {
            Some(body) => session.receive(body, chunk.map(|chunk| chunk.length())).await?,
            None => 0,
        };
        let strict = rules == Parts::LayerParts || self.inner.options.dialect == Dialect::Ecr;
        if strict && session.progress_with(length).short_part {
            return Err(RegistryError::LayerPartTooSmall);
        }
        self.complete(session, expected).await
    }

    /// The answer to a finish whose first answer was lost: this process has tried to finish the upload with content of
    /// this digest, the upload is gone, and the repository is linked to the blob.
    async fn finished_before(
        &self,
        repository: &Repository,
        id: UploadId,
        expected: &[Digest],
    ) -> Result<Option<BlobInfo>, RegistryError> {
        let remembered = self.inner.uploads.finishing(id);
        let Some(Finishing { digest, size, .. }) = remembered
            .filter(|upload| upload.repository_id == repository.id && expected.contains(&upload.digest))
        else {
            return self.finished_elsewhere(repository, id, expected).await;
        };
        let (repository_id, text) = (repository.id, digest.to_string());
        let linked = self.inner.meta.read_quick(move |tx| blobs::link_exists(tx, repository_id, &text)).await;
        Ok(linked.map_err(RegistryError::from)?.then_some(BlobInfo { digest, size, already_existed: false }))
    }

    /// As [`finished_before`](Self::finished_before), on another node: the upload is over, and the repository has what
    /// it was to become. Whoever cancelled it has no other use for the answer.
    async fn finished_elsewhere(
        &self,
        repository: &Repository,
        id: UploadId,
        expected: &[Digest],
    ) -> Result<Option<BlobInfo>, RegistryError> {
        if !self.has_peers() {
            return Ok(None);
        }
        let (repository_id, expected) = (repository.id, expected.to_vec());
        let read = move |tx: &mut Tx<'_>| {
            if uploads::is_over(tx, id)? {
                for digest in &expected {
                    if let Some(size) = blobs::linked_size(tx, repository_id, &digest.to_string())? {
                        return Ok(Some(BlobInfo { digest: *digest, size, already_existed: false }));
                    }
                }
            }
            Ok(None)
        };
        self.inner.meta.read_quick(read).await
    }

    /// A whole blob in one request.
    ///
    /// # Errors
    /// `InvalidLayer`, `TooLarge`, `BodyBroken`, `StorageFull`, `Kms`, `RepositoryNotFound`. Nothing is left then.
    pub async fn put_blob(
        &self,
        at: &Authorized<RepositoryRef>,
        expected: Digest,
        body: BodyStream,
    ) -> Result<BlobInfo, RegistryError> {
        let repository = self.repository(at).await?;
        self.refuse_when_full().await?;
        let id = UploadId::random();
        let claim = self.inner.uploads.claim(id).await?;
        let expires_at = self.inner.clock.now().plus(self.inner.options.upload_lifetime).as_micros();
        let found = Found::unwritten(id, repository.id, expires_at);
        let mut session = Session::whole(self, repository, found, claim).await?;
        self.inner.stats.uploads_started.fetch_add(1, Relaxed);
        session.receive(body, None).await?;
        self.complete(session, &[expected]).await
    }

    /// Checks the content, makes it durable, and links it.
    async fn complete(&self, mut session: Session, expected: &[Digest]) -> Result<BlobInfo, RegistryError> {
        let sink = std::mem::replace(&mut session.sink, Sink::Small(Vec::new()));
        if session.unwritten {
            session.row.object = ObjectId::random_after(self.inner.clock.now().as_micros());
        }
        let checked = match sink {
            Sink::Small(content) => match match_bytes(expected, &content) {
                Ok(digest) => Ok(seal_inline(session.row.object, session.keys.as_deref(), digest, content)
                    .map(|content| (digest, content))?),
                Err(error) => Err(error),
            },
            Sink::Stream(writer) => {
                if session.dirt == Dirt::Clean {
                    session.dirt = Dirt::Tail;
                }
                let finished = writer.finish().await.map_err(|error| self.write_error(error))?;
                self.match_stored(&session, expected, &finished).await.map(|digest| {
                    let Finished { size, stored_size, .. } = finished;
                    (digest, Content { digest: digest.to_string(), size, stored_size, inline: None })
                })
            }
        };
        let (digest, content) = match checked {
            Ok(checked) => checked,
            Err(error @ RegistryError::InvalidLayer { .. }) => {
                session.give_up().await;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let size = content.size;
        let finishing = Finishing { repository_id: session.repository.id, digest, size };
        self.inner.uploads.note_finishing(session.row.id, finishing);
        session.recorded = true;
        let in_store = content.inline.is_none();
        let (already_existed, ours) = self.link_finished(&session, content).await?;
        let (object, resumed) = (session.row.object, session.row.state.is_some());
        session.settle();
        if in_store && !ours {
            self.remove_second_copy(object);
        } else if in_store && resumed && self.inner.objects.is_shared() {
            self.tell_settled(object);
        }
        self.inner.stats.uploads_finished.fetch_add(1, Relaxed);
        Ok(BlobInfo { digest, size, already_existed })
    }

    /// Frees what was kept for resuming, without keeping the client waiting. What fails here goes with the object.
    fn tell_settled(&self, object: ObjectId) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = registry.inner.objects.settled(object).await {
                tracing::debug!(%error, object.id = %object, "what an upload left stays beside its object");
            }
        });
    }

    /// Frees the space of content that was there already, without keeping its client waiting. What fails here is left
    /// to the collector.
    fn remove_second_copy(&self, object: ObjectId) {
        let registry = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error) = registry.sweep_object(object).await {
                tracing::debug!(%error, object.id = %object, "a second copy waits for the collector");
            }
        });
    }

    /// The transaction that ends an upload. Answers whether the repository was linked to the blob before, and whether
    /// the upload's object is the one that is kept.
    async fn link_finished(
        &self,
        session: &Session,
        content: Content,
    ) -> Result<(bool, bool), RegistryError> {
        let (row, repository) = (session.row.clone(), Arc::clone(&session.repository));
        let turn = session.turn.as_ref().map(|turn| turn.lease.clone());
        // Content that came with the first request needs no upload: one transaction, no file.
        let has_row = !session.unwritten;
        let new = NewBlob {
            repository_id: repository.id,
            domain_id: repository.domain.id,
            object: row.object,
            keys: if has_row { None } else { row.keys.clone() },
            has_row,
            content,
            now: self.inner.clock.now().as_micros(),
        };
        self.inner
            .meta
            .write(move |tx| {
                let lost = || RegistryError::UploadNotFound(row.id.to_string());
                hold_repository(tx, &repository)?;
                if !(if has_row { uploads::take(tx, &row)? } else { uploads::is_fresh(tx, row.id)? }) {
                    return Err(lost());
                }
                if let Some(turn) = &turn {
                    jobs::give_turn(tx, turn)?;
                }
                match blobs::keep(tx, &new)? {
                    Kept::Linked { already, ours } => {
                        if !has_row {
                            uploads::remember_end(tx, row.id)?;
                        }
                        Ok((already, ours))
                    }
                    Kept::Lost => Err(lost()),
                }
            })
            .await
    }

    /// The digest among `expected` that stored content has. SHA-256 is known; SHA-512 is read back once.
    async fn match_stored(
        &self,
        session: &Session,
        expected: &[Digest],
        finished: &Finished,
    ) -> Result<Digest, RegistryError> {
        let sha256 = Digest::Sha256(finished.sha256);
        if expected.contains(&sha256) {
            return Ok(sha256);
        }
        let first = *expected.first().ok_or_else(no_digest)?;
        if !expected.iter().any(|digest| matches!(digest, Digest::Sha512(_))) {
            return Err(RegistryError::InvalidLayer { expected: first, actual: sha256 });
        }
        let failed = |error| self.read_error(error);
        let (object, keys) = (session.row.object, session.keys.clone());
        let reader =
            SealedReader::open(&*self.inner.objects, object, keys, finished.size).await.map_err(failed)?;
        let sha512 = Digest::Sha512(rehash_sha512(&reader).await.map_err(failed)?);
        if expected.contains(&sha512) {
            return Ok(sha512);
        }
        let actual = if matches!(first, Digest::Sha512(_)) { sha512 } else { sha256 };
        Err(RegistryError::InvalidLayer { expected: first, actual })
    }
}

/// The digest among `expected` that these bytes have.
fn match_bytes(expected: &[Digest], content: &[u8]) -> Result<Digest, RegistryError> {
    let first = *expected.first().ok_or_else(no_digest)?;
    let matching = expected.iter().find(|digest| Digest::of(digest.algorithm(), content) == **digest);
    matching.copied().ok_or_else(|| RegistryError::InvalidLayer {
        expected: first,
        actual: Digest::of(first.algorithm(), content),
    })
}

fn no_digest() -> RegistryError {
    RegistryError::invalid("layerDigests", "Member must have length greater than or equal to 1")
}

/// Content as it is kept in an object's row.
fn seal_inline(
    object: ObjectId,
    keys: Option<&ContentKeys>,
    digest: Digest,
    content: Vec<u8>,
) -> Result<Content, RegistryError> {
    let size = content.len() as u64;
    let stored = match keys {
        Some(keys) => seal_small(keys, object, &content)
            .map_err(|error| RegistryError::Internal(format!("sealing a small blob: {error}")))?,
        None => content,
    };
    let stored_size = stored.len() as u64;
    Ok(Content { digest: digest.to_string(), size, stored_size, inline: Some(stored.into()) })
}
