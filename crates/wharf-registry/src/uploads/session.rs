//! One request's turn at an upload: it takes bytes, then either acknowledges them or leaves the upload as it was.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use wharf_store::meta::uploads::{self, NewUpload, Progress, Start, UploadRow};
use wharf_store::meta::{MetaError, jobs};
use wharf_store::object::sealed::{SealedWriter, UploadState, WriteError};
use wharf_store::object::{ObjectError, ObjectId, WriterState};
use wharf_store::seal::ContentKeys;

use super::active::Claim;
use super::turn::Turn;
use super::{BodyStream, Found, SMALL, SMALLEST_PART, UploadProgress, out_of_order};
use crate::{Registry, RegistryError, Repository};

/// First byte of an upload's state: the content so far, which has no file.
const SMALL_STATE: u8 = 0;
/// First byte of an upload's state: what a writer needs to go on.
const WRITER_STATE: u8 = 1;
/// Bytes that one request takes between two looks at the space that is left.
const LOOK_EVERY: u64 = 8 << 20;

/// Where the bytes go.
pub(super) enum Sink {
    /// Into memory, while they are few.
    Small(Vec<u8>),
    /// Into the object store.
    Stream(Box<SealedWriter>),
}

/// What this request has left in the object store that nobody has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dirt {
    /// Nothing.
    Clean,
    /// Bytes after the last checkpoint.
    Tail,
    /// A whole file that no state in the row knows of.
    File,
}

/// One request's turn.
pub(super) struct Session {
    pub(super) registry: Registry,
    pub(super) repository: Arc<Repository>,
    pub(super) row: UploadRow,
    pub(super) keys: Option<Arc<ContentKeys>>,
    pub(super) sink: Sink,
    pub(super) dirt: Dirt,
    /// The upload begins and ends with this request, so it goes if the request fails.
    pub(super) whole: bool,
    /// There are no rows of it, so nothing to clean up either.
    pub(super) unwritten: bool,
    /// A change of the row has been tried, so that it may rest on the bytes this request has written.
    pub(super) recorded: bool,
    received: u64,
    /// The space that is left was looked at when so much had been received.
    looked_at: u64,
    claim: Option<Claim>,
    /// The claim among all nodes, where there are others and the upload has rows.
    pub(super) turn: Option<Turn>,
}

impl Session {
    /// The only turn at an upload: it begins and ends with this request.
    pub(super) async fn whole(
        registry: &Registry,
        repository: Arc<Repository>,
        found: Found,
        claim: Claim,
    ) -> Result<Self, RegistryError> {
        let mut session = Self::resume(registry, repository, found, claim).await?;
        session.whole = true;
        Ok(session)
    }

    /// Goes on from what was acknowledged last.
    pub(super) async fn resume(
        registry: &Registry,
        repository: Arc<Repository>,
        found: Found,
        claim: Claim,
    ) -> Result<Self, RegistryError> {
        let Found { mut row, unwritten } = found;
        let mut turn = None;
        if registry.has_peers() && !unwritten {
            let before = row.progress.received;
            let taken;
            (row, taken) = registry.take_turn(&row).await?;
            turn = Some(taken);
            if row.progress.received != before {
                registry.give_turn_of(turn).await;
                // It was at the place where the client thinks it is, and is not any more.
                return Err(out_of_order(&repository, &row));
            }
        }
        let opened = open(registry, &repository, &mut row, unwritten).await;
        let (keys, sink) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                registry.give_turn_of(turn).await;
                return Err(error);
            }
        };
        let received = row.progress.received;
        Ok(Self {
            registry: registry.clone(),
            repository,
            row,
            keys,
            sink,
            dirt: Dirt::Clean,
            whole: false,
            unwritten,
            recorded: false,
            received,
            looked_at: received,
            claim: Some(claim),
            turn,
        })
    }

    /// Commits the rows of the upload and of its object, if it has none yet: before the first byte is stored.
    pub(super) async fn record(&mut self) -> Result<(), RegistryError> {
        if !self.unwritten {
            return Ok(());
        }
        let (new, asked, shared) =
            (self.begin_writing(), Instant::now(), !self.whole && self.registry.has_peers());
        let started = self.registry.inner.meta.write(move |tx| {
            let start = uploads::start(tx, &new)?;
            let turn = match start {
                Start::Begun if shared => Turn::take(tx, new.id, asked)?,
                _ => None,
            };
            Ok::<_, MetaError>((start, turn))
        });
        let (start, turn) = started.await.map_err(RegistryError::from)?;
        self.turn = turn;
        self.check_start(start)
    }

    /// What its rows will be. From here on they may be there.
    fn begin_writing(&mut self) -> NewUpload {
        self.unwritten = false;
        NewUpload {
            id: self.row.id,
            repository_id: self.row.repository_id,
            domain_id: self.repository.domain.id,
            object: self.row.object,
            keys: self.row.keys.clone(),
            now: self.registry.inner.clock.now().as_micros(),
            expires_at: self.row.expires_at,
        }
    }

    fn check_start(&self, start: Start) -> Result<(), RegistryError> {
        match start {
            Start::Begun => Ok(()),
            Start::NoRepository => Err(RegistryError::RepositoryNotFound(self.repository.name.clone())),
            Start::NotFresh => Err(RegistryError::UploadNotFound(self.row.id.to_string())),
        }
    }

    /// Takes a body of `expected` bytes, if that is known, and gives its length.
    pub(super) async fn receive(
        &mut self,
        mut body: BodyStream,
        expected: Option<u64>,
    ) -> Result<u64, RegistryError> {
        let mut length = 0_u64;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| RegistryError::BodyBroken(error.message))?;
            length += chunk.len() as u64;
            if expected.is_some_and(|expected| length > expected) {
                return Err(out_of_order(&self.repository, &self.row));
            }
            self.take(&chunk).await?;
        }
        if expected.is_some_and(|expected| length != expected) {
            return Err(out_of_order(&self.repository, &self.row));
        }
        Ok(length)
    }

    /// Takes bytes.
    pub(super) async fn take(&mut self, chunk: &Bytes) -> Result<(), RegistryError> {
        let limit = self.registry.inner.options.limits.blob;
        let total = self.received.saturating_add(chunk.len() as u64);
        if total > limit {
            return Err(RegistryError::TooLarge { what: "blob", limit });
        }
        if total - self.looked_at > LOOK_EVERY {
            self.registry.refuse_below_watermark().await?;
            self.looked_at = total;
        }
        match &mut self.sink {
            Sink::Small(content) if content.len() + chunk.len() <= SMALL => content.extend_from_slice(chunk),
            Sink::Small(_) => {
                self.spill().await?;
                self.write(chunk).await?;
            }
            Sink::Stream(_) => self.write(chunk).await?,
        }
        self.received = total;
        self.registry.inner.stats.bytes_in.fetch_add(chunk.len() as u64, Relaxed);
        Ok(())
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), RegistryError> {
        if let Some(turn) = &mut self.turn {
            self.registry.keep_turn(turn).await?;
        }
        if let Sink::Stream(writer) = &mut self.sink {
            if self.dirt == Dirt::Clean {
                self.dirt = Dirt::Tail;
            }
            writer.append(chunk).await.map_err(|error| self.registry.write_error(error))?;
        }
        Ok(())
    }

    /// Moves on from memory to the object store.
    async fn spill(&mut self) -> Result<(), RegistryError> {
        if self.unwritten {
            self.record().await?;
        } else if self.registry.inner.objects.is_shared() {
            // Another node may be filling the object that the row names: each is filled by one session.
            self.replace_object().await?;
        }
        // Before the file is there: the future may be dropped while it is being created.
        self.dirt = Dirt::File;
        let writer = match self.create().await {
            // An earlier process left a file that the row knows nothing of. Names are not used twice.
            Err(WriteError::Object(ObjectError::AlreadyExists(_))) => {
                self.replace_object().await?;
                self.create().await
            }
            outcome => outcome,
        };
        let writer = writer.map_err(|error| self.registry.write_error(error))?;
        let before = std::mem::replace(&mut self.sink, Sink::Stream(Box::new(writer)));
        match before {
            Sink::Small(content) => self.write(&content).await,
            Sink::Stream(_) => Err(RegistryError::Internal("an upload was spilled twice".into())),
        }
    }

    async fn create(&self) -> Result<SealedWriter, WriteError> {
        let inner = &self.registry.inner;
        SealedWriter::create(&*inner.objects, self.row.object, self.keys.clone(), inner.options.limits.blob)
            .await
    }

    /// Gives the upload a fresh object with fresh keys.
    async fn replace_object(&mut self) -> Result<(), RegistryError> {
        let (row, keys) = replace_object(&self.registry, &self.repository, &self.row).await?;
        self.row = row;
        self.keys = keys;
        Ok(())
    }

    /// Makes the bytes taken durable and records them; `length` of them are this request's part.
    pub(super) async fn acknowledge(mut self, length: u64) -> Result<UploadProgress, RegistryError> {
        if length == 0 {
            return Ok(UploadProgress { received: self.received });
        }
        let state = match &mut self.sink {
            Sink::Small(content) => [&[SMALL_STATE], content.as_slice()].concat(),
            Sink::Stream(writer) => {
                let state = writer.checkpoint().await.map_err(|error| self.registry.write_error(error))?;
                [&[WRITER_STATE], state.encode().as_slice()].concat()
            }
        };
        let inner = &self.registry.inner;
        let state = inner.keys.seal_state(&self.row.id.to_string(), &zeroize::Zeroizing::new(state))?;
        let to = self.progress_with(length);
        let expires_at = inner.clock.now().plus(inner.options.upload_lifetime).as_micros();
        let (from, turn) = (self.row.clone(), self.turn.clone());
        self.recorded = true;
        let new = self.unwritten.then(|| self.begin_writing());
        let (start, moved, there) = self
            .registry
            .inner
            .meta
            .write(move |tx| {
                let start = new.as_ref().map_or(Ok(Start::Begun), |new| uploads::start(tx, new))?;
                let moved = start == Start::Begun && uploads::advance(tx, &from, &to, &state, expires_at)?;
                if let (true, Some(turn)) = (moved, &turn) {
                    jobs::give_turn(tx, &turn.lease)?;
                }
                let there = moved || uploads::find(tx, from.repository_id, from.id)?.is_some();
                Ok::<_, MetaError>((start, moved, there))
            })
            .await
            .map_err(RegistryError::from)?;
        self.check_start(start)?;
        if !moved {
            // Another node went on with it, or ended it.
            return Err(match there {
                true => RegistryError::UploadBusy,
                false => RegistryError::UploadNotFound(self.row.id.to_string()),
            });
        }
        self.turn = None;
        self.dirt = Dirt::Clean;
        Ok(UploadProgress { received: self.received })
    }

    /// The upload's progress with a part of `length` bytes added.
    pub(super) fn progress_with(&self, length: u64) -> Progress {
        let before = &self.row.progress;
        if length == 0 {
            return before.clone();
        }
        Progress {
            received: self.received,
            parts: before.parts + 1,
            last_part: length,
            short_part: before.short_part || (before.parts > 0 && before.last_part < SMALLEST_PART),
        }
    }

    /// The upload became a blob: there is nothing to clean up.
    pub(super) fn settle(mut self) {
        self.turn = None;
        self.dirt = Dirt::Clean;
        self.whole = false;
    }

    /// Ends the upload for good: its content is not what it was said to be.
    pub(super) async fn give_up(mut self) {
        self.dirt = Dirt::Clean;
        if self.unwritten {
            let id = self.row.id;
            let ended = self.registry.inner.meta.write(move |tx| uploads::remember_end(tx, id)).await;
            if let Err(error) = ended {
                tracing::debug!(%error, upload.id = %id, "a failed upload may be tried again");
            }
            return;
        }
        let cleanup = Cleanup::of(&mut self, true);
        cleanup.run(Dirt::File).await;
    }
}

/// The keys of an upload, and where its next bytes go. One without rows gets fresh keys.
async fn open(
    registry: &Registry,
    repository: &Repository,
    row: &mut UploadRow,
    unwritten: bool,
) -> Result<(Option<Arc<ContentKeys>>, Sink), RegistryError> {
    let inner = &registry.inner;
    let keys = if unwritten {
        let fresh = inner.keys.content_keys(&inner.meta, &repository.domain).await?;
        row.keys = fresh.wrapped;
        fresh.keys
    } else {
        inner.keys.open_content_keys(&inner.meta, &repository.domain, row.keys.as_deref()).await?
    };
    let keys = keys.map(Arc::new);
    let sink = open_sink(registry, row, keys.as_ref()).await?;
    Ok((keys, sink))
}

/// Where the next bytes go, after those that the row knows of.
async fn open_sink(
    registry: &Registry,
    row: &mut UploadRow,
    keys: Option<&Arc<ContentKeys>>,
) -> Result<Sink, RegistryError> {
    let Some(sealed) = &row.state else { return Ok(Sink::Small(Vec::new())) };
    let state = registry.inner.keys.open_state(&row.id.to_string(), sealed)?;
    match state.split_first() {
        Some((&SMALL_STATE, content)) => Ok(Sink::Small(content.to_vec())),
        Some((&WRITER_STATE, state)) => {
            let mut state = decode_state(state)?;
            if registry.inner.objects.is_shared() {
                take_over(registry, row, &mut state).await?;
            }
            Ok(Sink::Stream(Box::new(resume_with(registry, row, keys.cloned(), state).await?)))
        }
        _ => Err(RegistryError::Internal("the state of an upload has an unknown form".into())),
    }
}

async fn resume_writer(
    registry: &Registry,
    row: &UploadRow,
    keys: Option<Arc<ContentKeys>>,
    state: &[u8],
) -> Result<SealedWriter, RegistryError> {
    resume_with(registry, row, keys, decode_state(state)?).await
}

fn decode_state(state: &[u8]) -> Result<UploadState, RegistryError> {
    UploadState::decode(state)
        .ok_or_else(|| RegistryError::Internal("the state of an upload does not decode".into()))
}

/// Makes sure that whatever another node has begun with the upload is never recorded, and that the upload can be gone on
/// with where such a node has finished the object and died.
async fn take_over(
    registry: &Registry,
    row: &mut UploadRow,
    state: &mut UploadState,
) -> Result<(), RegistryError> {
    let inner = &registry.inner;
    let lost = || RegistryError::UploadNotFound(row.id.to_string());
    let from = row.clone();
    let fenced = inner.meta.write(move |tx| uploads::fence(tx, &from)).await.map_err(RegistryError::from)?;
    if !fenced {
        return Err(lost());
    }
    let mut fresh = UploadRow { generation: row.generation + 1, ..row.clone() };
    if let Some(writer) = inner.objects.reopen(row.object, state.writer.clone()).await? {
        state.writer = writer;
        let plain = zeroize::Zeroizing::new([&[WRITER_STATE], state.encode().as_slice()].concat());
        let sealed = inner.keys.seal_state(&row.id.to_string(), &plain)?;
        let (from, recorded) = (fresh.clone(), sealed.clone());
        let moved = inner
            .meta
            .write(move |tx| uploads::advance(tx, &from, &from.progress, &recorded, from.expires_at))
            .await
            .map_err(RegistryError::from)?;
        if !moved {
            return Err(lost());
        }
        fresh = UploadRow { generation: fresh.generation + 1, state: Some(sealed), ..fresh };
    }
    *row = fresh;
    Ok(())
}

async fn resume_with(
    registry: &Registry,
    row: &UploadRow,
    keys: Option<Arc<ContentKeys>>,
    state: UploadState,
) -> Result<SealedWriter, RegistryError> {
    let inner = &registry.inner;
    SealedWriter::resume(&*inner.objects, row.object, keys, inner.options.limits.blob, state)
        .await
        .map_err(|error| registry.write_error(error))
}

/// Commits a fresh object for an upload that has acknowledged nothing in storage, and trashes the one before.
async fn replace_object(
    registry: &Registry,
    repository: &Repository,
    row: &UploadRow,
) -> Result<(UploadRow, Option<Arc<ContentKeys>>), RegistryError> {
    let inner = &registry.inner;
    let keys = inner.keys.content_keys(&inner.meta, &repository.domain).await?;
    let (object, wrapped, from) = (ObjectId::random(), keys.wrapped.clone(), row.clone());
    let (domain_id, now) = (repository.domain.id, inner.clock.now().as_micros());
    let moved = inner
        .meta
        .write(move |tx| uploads::replace_object(tx, &from, domain_id, object, wrapped.as_deref(), now))
        .await
        .map_err(RegistryError::from)?;
    if !moved {
        return Err(RegistryError::UploadNotFound(row.id.to_string()));
    }
    let row = UploadRow { object, keys: keys.wrapped, generation: row.generation + 1, ..row.clone() };
    Ok((row, keys.keys.map(Arc::new)))
}

impl Drop for Session {
    /// A request that fails, or that is dropped because its client went away, must not keep the disk full.
    fn drop(&mut self) {
        let dirt = self.dirt;
        if dirt == Dirt::Clean && (!self.whole || self.unwritten) && self.turn.is_none() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let end_upload = self.whole && !self.unwritten;
        let cleanup = Cleanup::of(self, end_upload);
        let tasks = self.registry.inner.tasks.clone();
        tasks.spawn_on(async move { cleanup.run(dirt).await }, &runtime);
    }
}

/// Removes what a failed request left, holding its claim until that is done.
struct Cleanup {
    registry: Registry,
    repository: Arc<Repository>,
    row: UploadRow,
    keys: Option<Arc<ContentKeys>>,
    end_upload: bool,
    recorded: bool,
    turn: Option<Turn>,
    _claim: Option<Claim>,
}

impl Cleanup {
    fn of(session: &mut Session, end_upload: bool) -> Self {
        session.whole = false;
        if let Some(claim) = &session.claim {
            claim.cleans_up();
        }
        Self {
            registry: session.registry.clone(),
            repository: Arc::clone(&session.repository),
            row: session.row.clone(),
            keys: session.keys.clone(),
            end_upload,
            recorded: session.recorded,
            turn: session.turn.take(),
            _claim: session.claim.take(),
        }
    }

    /// Whatever fails here is found by the collector or by the next request: it is tried once and not waited for.
    async fn run(self, dirt: Dirt) {
        let mut outcome = self.tidy(dirt).await;
        if matches!(outcome, Err(RegistryError::StorageFull)) && !self.recorded {
            // These very bytes may be what leaves the metadata no room for a change, the one that removes them too.
            self.give_back(dirt).await;
            outcome = self.tidy(dirt).await;
        }
        if let Err(error) = outcome {
            tracing::debug!(%error, upload.id = %self.row.id, "what a failed upload left waits for the collector");
        }
        self.registry.give_turn_of(self.turn).await;
    }

    async fn tidy(&self, dirt: Dirt) -> Result<(), RegistryError> {
        if let Some(turn) = &self.turn {
            // Another node that took over has nothing of ours to clean up, and what is there is its own.
            self.registry.keep_turn(&mut turn.clone()).await?;
        }
        match (self.end_upload, dirt) {
            (true, _) => self.cancel().await,
            (false, Dirt::File) => self.drop_file().await,
            (false, Dirt::Tail) => self.cut_tail().await,
            (false, Dirt::Clean) => Ok(()),
        }
    }

    /// Cuts off what this request has written, without a change of the metadata: no row can rest on it.
    async fn give_back(&self, dirt: Dirt) {
        let inner = &self.registry.inner;
        let given_back = match dirt {
            Dirt::Clean => return,
            Dirt::File => inner
                .objects
                .resume(self.row.object, WriterState::default(), 0)
                .await
                .map(drop)
                .map_err(RegistryError::from),
            Dirt::Tail => self.rewind().await,
        };
        if let Err(error) = given_back {
            tracing::debug!(%error, upload.id = %self.row.id, "a failed upload's bytes wait for the collector");
        }
    }

    async fn cancel(&self) -> Result<(), RegistryError> {
        let (repository_id, id) = (self.row.repository_id, self.row.id);
        let object = self.registry.inner.meta.write(move |tx| uploads::cancel(tx, repository_id, id)).await;
        match object.map_err(RegistryError::from)? {
            Some(object) => self.registry.sweep_object(object).await,
            None => Ok(()),
        }
    }

    async fn drop_file(&self) -> Result<(), RegistryError> {
        replace_object(&self.registry, &self.repository, &self.row).await?;
        self.registry.sweep_object(self.row.object).await
    }

    async fn cut_tail(&self) -> Result<(), RegistryError> {
        if self.row.state.is_none() {
            return Ok(());
        }
        // The step that failed may have been committed all the same: then its bytes are acknowledged and stay.
        let from = self.row.clone();
        if !self
            .registry
            .inner
            .meta
            .write(move |tx| uploads::fence(tx, &from))
            .await
            .map_err(RegistryError::from)?
        {
            return Ok(());
        }
        self.rewind().await
    }

    /// Cuts the file off behind what was acknowledged last.
    async fn rewind(&self) -> Result<(), RegistryError> {
        let Some(sealed) = &self.row.state else { return Ok(()) };
        let state = self.registry.inner.keys.open_state(&self.row.id.to_string(), sealed)?;
        match state.split_first() {
            Some((&WRITER_STATE, state)) => {
                resume_writer(&self.registry, &self.row, self.keys.clone(), state).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}
