//! Writes one object: whole by one PUT while it is small and nobody else knows of it, else part by part.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use md5::{Digest as _, Md5};
use object_store::multipart::PartId;
use object_store::{Error, ObjectStoreExt as _, PutPayload};
use tokio::task::JoinHandle;

use super::rights::Right;
use super::state::{State, Tail};
use super::{Cloud, MAX_PARTS, PART_SIZE, failure, upload_marker};
use crate::object::{ObjectError, ObjectId, ObjectWriter, WriterState};

/// A tail of at most this many bytes is kept in the state itself.
const INLINE_TAIL: usize = 64 * 1024;

pub(super) struct CloudWriter {
    cloud: Arc<Cloud>,
    id: ObjectId,
    right: Right,
    upload: Option<String>,
    /// The id of the upload has left this writer, so somebody else may complete it.
    shared: bool,
    /// What the store called the parts that it has.
    parts: Vec<String>,
    /// The tail of the checkpoint this began at, until somebody needs it.
    unread: Option<Tail>,
    filling: Vec<Bytes>,
    filled: usize,
    sending: Option<Sending>,
    /// Tails that the next state replaces.
    outdated: Vec<String>,
    /// What no recorded state names.
    unneeded: Vec<String>,
    /// See [`State`].
    replaces: Option<String>,
    /// Set before each operation and cleared when it succeeded.
    poisoned: bool,
}

/// A part on its way.
struct Sending {
    len: usize,
    task: JoinHandle<Result<PartId, Error>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CloudWriter {
    pub(super) fn new(cloud: Arc<Cloud>, id: ObjectId, right: Right) -> Self {
        Self {
            cloud,
            id,
            right,
            upload: None,
            shared: false,
            parts: Vec::new(),
            unread: None,
            filling: Vec::new(),
            filled: 0,
            sending: None,
            outdated: Vec::new(),
            unneeded: Vec::new(),
            replaces: None,
            poisoned: false,
        }
    }

    pub(super) fn resumed(cloud: Arc<Cloud>, id: ObjectId, right: Right, state: State) -> Self {
        let State { upload, parts, tail, outdated, replaces, .. } = state;
        Self {
            upload: Some(upload),
            shared: true,
            parts,
            unread: Some(tail),
            unneeded: outdated,
            replaces,
            ..Self::new(cloud, id, right)
        }
    }

    fn begin(&mut self) -> Result<(), ObjectError> {
        if self.poisoned {
            return Err(ObjectError::Poisoned(self.id));
        }
        self.poisoned = true;
        Ok(())
    }

    /// Fetches the tail of the checkpoint.
    async fn read_tail(&mut self) -> Result<(), ObjectError> {
        let bytes = match self.unread.take() {
            None => return Ok(()),
            Some(Tail::Inline(bytes)) => Bytes::from(bytes),
            Some(Tail::Aside { name, len }) => {
                let doing = "reading the tail of an upload";
                let failed = |error| failure::of_object(self.id, doing, error);
                let found = self.cloud.bucket.get(&self.cloud.aside_path(self.id, &name)).await;
                let bytes = found.map_err(failed)?.bytes().await.map_err(failed)?;
                if bytes.len() as u64 != len || bytes.len() > PART_SIZE {
                    return Err(failure::invalid(doing, "it has another length"));
                }
                self.outdated.push(name);
                bytes
            }
        };
        self.filled = bytes.len();
        self.filling.push(bytes);
        Ok(())
    }

    async fn fill(&mut self, mut chunk: Bytes) -> Result<(), ObjectError> {
        drop(self.right.exercise().await?);
        self.read_tail().await?;
        while !chunk.is_empty() {
            if self.filled == PART_SIZE {
                self.send().await?;
            }
            let piece = chunk.split_to(chunk.len().min(PART_SIZE - self.filled));
            self.filled += piece.len();
            self.filling.push(piece);
        }
        Ok(())
    }

    fn take_payload(&mut self) -> PutPayload {
        self.filled = 0;
        std::mem::take(&mut self.filling).into_iter().collect()
    }

    async fn upload(&mut self) -> Result<String, ObjectError> {
        if let Some(upload) = &self.upload {
            return Ok(upload.clone());
        }
        let busy = self.right.exercise().await?;
        let upload = self.cloud.begin_upload(self.id).await?;
        drop(busy);
        self.upload = Some(upload.clone());
        Ok(upload)
    }

    /// Sends what is gathered as the next part, after the one before has arrived.
    async fn send(&mut self) -> Result<(), ObjectError> {
        self.arrive().await?;
        if self.parts.len() == MAX_PARTS {
            return Err(failure::invalid("writing an object", "the object has too many parts"));
        }
        let upload = self.upload().await?;
        let payload = self.take_payload();
        let busy = self.right.exercise().await?;
        let (cloud, path) = (Arc::clone(&self.cloud), self.cloud.object_path(self.id));
        let (number, len) = (self.parts.len(), payload.content_length());
        let task = tokio::spawn(async move {
            let _busy = busy;
            put_part(cloud, path, upload, number, payload).await
        });
        self.sending = Some(Sending { len, task });
        Ok(())
    }

    /// Waits for the part that is on its way.
    async fn arrive(&mut self) -> Result<(), ObjectError> {
        let Some(mut sending) = self.sending.take() else { return Ok(()) };
        let doing = "writing an object";
        let sent = (&mut sending.task).await;
        let part = match sent.map_err(|stopped| failure::invalid(doing, stopped.to_string()))? {
            Ok(part) => part.content_id,
            Err(error) => return Err(failure::of_store(doing, error)),
        };
        self.parts.push(part);
        Ok(())
    }

    async fn store_state(&mut self) -> Result<WriterState, ObjectError> {
        drop(self.right.exercise().await?);
        self.read_tail().await?;
        if self.filled == PART_SIZE {
            self.send().await?;
        }
        self.arrive().await?;
        let upload = self.upload().await?;
        let tail = if self.filled <= INLINE_TAIL {
            Tail::Inline(self.filling.concat())
        } else {
            let name = format!("tail-{}", ObjectId::random());
            let busy = self.right.exercise().await?;
            let path = self.cloud.aside_path(self.id, &name);
            let payload = self.filling.iter().cloned().collect();
            self.cloud.put(&path, payload, "writing the tail of an upload").await?;
            drop(busy);
            Tail::Aside { name, len: self.filled as u64 }
        };
        let mut state =
            State::new(upload, PART_SIZE as u64, self.parts.clone(), tail.clone(), self.outdated.clone());
        state.replaces.clone_from(&self.replaces);
        self.shared = true;
        if let Tail::Aside { name, .. } = tail {
            self.outdated.push(name);
        }
        self.cloud.forget(self.id, std::mem::take(&mut self.unneeded));
        Ok(state.encode())
    }

    /// Makes the object by one PUT. Nobody else knows of it, so what is found there after a lost answer is this.
    async fn put_whole(&mut self) -> Result<(), ObjectError> {
        let payload = self.take_payload();
        let size = payload.content_length() as u64;
        let _busy = self.right.exercise().await?;
        let path = self.cloud.object_path(self.id);
        let Err(error) = self.cloud.put(&path, payload, "writing an object").await else { return Ok(()) };
        match self.cloud.head(self.id).await {
            Ok(Some((found, _))) if found == size => Ok(()),
            _ => Err(error),
        }
    }

    async fn complete(&mut self) -> Result<(), ObjectError> {
        if self.filled > 0 || (self.parts.is_empty() && self.sending.is_none()) {
            self.send().await?;
        }
        // Parts that a checkpoint names are full.
        let last = self.sending.as_ref().map_or(PART_SIZE, |sending| sending.len);
        self.arrive().await?;
        let size = ((self.parts.len() - 1) * PART_SIZE + last) as u64;
        let upload = self.upload().await?;
        let parts = self.parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
        let path = self.cloud.object_path(self.id);
        let _busy = self.right.exercise().await?;
        let completed = self.cloud.bucket.complete_multipart(&path, &upload, parts).await;
        let found = self.cloud.head(self.id).await;
        match completed {
            Ok(_) => match found? {
                Some((found, _)) if found == size => {}
                Some((found, _)) => {
                    return Err(ObjectError::Short { id: self.id, expected: size, found });
                }
                None => return Err(ObjectError::NotFound(self.id)),
            },
            Err(error) => {
                // The answer may be what was lost; a repeated request then finds no upload.
                let ours = matches!(&found, Ok(Some((found, etag))) if *found == size && self.is_ours(etag.as_deref()));
                if !ours {
                    return Err(failure::of_store("completing an object", error));
                }
            }
        }
        self.unneeded.extend(upload_marker(&upload));
        Ok(())
    }

    /// Whether an object with this ETag, at this object's key and of its size, was completed with this writer's parts.
    fn is_ours(&self, etag: Option<&str>) -> bool {
        !self.shared
            || etag.is_some_and(|etag| etag_of(&self.parts).as_deref() == Some(etag.trim_matches('"')))
    }
}

/// Uploads a part. The library hashes it when its future is first polled, which takes milliseconds: not on a thread
/// that others wait for.
pub(super) async fn put_part(
    cloud: Arc<Cloud>,
    path: object_store::path::Path,
    upload: String,
    number: usize,
    payload: PutPayload,
) -> Result<PartId, Error> {
    let mut sent = async move { cloud.bucket.put_part(&path, &upload, number, payload).await }.boxed();
    let (sent, early) = tokio::task::spawn_blocking(move || {
        let early = (&mut sent).now_or_never();
        (sent, early)
    })
    .await?;
    match early {
        Some(outcome) => outcome,
        None => sent.await,
    }
}

/// The MD5 that an ETag is, if it looks like one.
pub(super) fn md5_of(etag: &str) -> Option<[u8; 16]> {
    let mut md5 = [0; 16];
    hex::decode_to_slice(etag.trim_matches('"'), &mut md5).ok()?;
    Some(md5)
}

/// The ETag of an object made of parts with these ETags, by the formula that S3 uses: MD5 of the parts' MD5s, and how
/// many they are.
fn etag_of(parts: &[String]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        all.update(md5_of(part)?);
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), parts.len()))
}

impl ObjectWriter for CloudWriter {
    fn append(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move {
            self.begin()?;
            self.fill(chunk).await?;
            self.poisoned = false;
            Ok(())
        }
        .boxed()
    }

    fn checkpoint(&mut self) -> BoxFuture<'_, Result<WriterState, ObjectError>> {
        async move {
            self.begin()?;
            let state = self.store_state().await?;
            self.poisoned = false;
            Ok(state)
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move {
            self.begin()?;
            self.read_tail().await?;
            match self.upload {
                None => self.put_whole().await?,
                Some(_) => self.complete().await?,
            }
            self.cloud.forget(self.id, std::mem::take(&mut self.unneeded));
            Ok(())
        }
        .boxed()
    }

    fn abort(mut self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move {
            drop(self.right.exercise().await?);
            self.sending = None;
            self.cloud.delete(&[self.id]).await
        }
        .boxed()
    }
}
