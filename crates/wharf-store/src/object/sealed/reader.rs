//! The read path: whole segments are read and opened in chunks of 256 KiB. What is in the page cache is read and opened
//! where it is asked for (well under half a millisecond); a chunk that must come from the disk goes to a thread that
//! may wait, reading and opening in one go. The kernel reads ahead on files. From other stores the chunks are fetched in
//! windows that grow to what the store likes, one ahead of the one that is being opened.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256, Sha512};
use tokio::task::{JoinError, JoinHandle};

use crate::object::buffers::Buffer;
use crate::object::fs::{read_cached_at, read_full_at};
use crate::object::{ObjectError, ObjectId, ObjectReader, ObjectStore};
use crate::seal::sealer::Sealing;
use crate::seal::{ContentKeys, SEGMENT_SIZE, SegmentOpener};

/// Segments read and opened together (256 KiB).
const CHUNK_SEGMENTS: usize = 4;

/// Why content could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stored bytes are not those that were written: quarantine the object.
    #[error("object {object} is corrupt in segment {segment}")]
    Corrupt {
        /// The object.
        object: ObjectId,
        /// The first segment that does not open.
        segment: u64,
    },
    /// The store failed; another try may succeed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// More bytes were asked for at once than fit in memory by the caller's own limit.
    #[error("content has {size} bytes, {limit} may be read at once")]
    TooLarge {
        /// Bytes of content.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
}

/// Reads the content of one object. Cheap to clone.
#[derive(Clone)]
pub struct SealedReader {
    sealing: Sealing,
    object: Arc<dyn ObjectReader>,
    size: u64,
}

impl SealedReader {
    /// Opens an object whose content has `size` bytes, sealed with `keys` or stored as it is. Fails with
    /// [`ReadError::Corrupt`] when it is stored with another size than it must have.
    pub async fn open(
        store: &dyn ObjectStore,
        id: ObjectId,
        keys: Option<Arc<ContentKeys>>,
        size: u64,
    ) -> Result<Self, ReadError> {
        Self::open_copy(store, id, id, keys, size).await
    }

    /// As [`open`](Self::open), for an object whose content is sealed for another one: a copy of it, byte for byte.
    /// Errors name the object that the content is sealed for.
    pub async fn open_copy(
        store: &dyn ObjectStore,
        id: ObjectId,
        sealed_as: ObjectId,
        keys: Option<Arc<ContentKeys>>,
        size: u64,
    ) -> Result<Self, ReadError> {
        let object = store.open(id).await?;
        let reader = Self { sealing: Sealing { object: sealed_as, keys }, object, size };
        let expected = reader.sealing.layers().stored_size(size);
        match reader.object.size() {
            found if found == expected => Ok(reader),
            found => {
                Err(reader.corrupt(found.min(expected) / reader.sealing.layers().stored_segment() as u64))
            }
        }
    }

    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file that holds exactly the content, where the content is stored as it is: for sendfile.
    pub fn plain_file(&self) -> Option<&std::fs::File> {
        if self.sealing.keys.is_some() { None } else { self.object.file() }
    }

    /// The content in `range` (cut at the end of the content), in order, in chunks of up to 256 KiB. Ends after the
    /// first error. Every byte given out was authenticated.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let range = range.start.min(self.size)..range.end.min(self.size);
        // An empty object has one segment, which is verified; an empty range of another reads nothing.
        let segments = if range.is_empty() && self.size > 0 {
            0..0
        } else {
            self.sealing.layers().segments_of(&range, self.size)
        };
        let chunks = match self.object.file() {
            Some(_) => self.stream_file(segments, range).left_stream(),
            None => self.stream_windows(segments, range).right_stream(),
        };
        until_error(chunks.try_filter(|chunk| std::future::ready(!chunk.is_empty())))
    }

    fn stream_file(
        &self,
        segments: Range<u64>,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let reader = self.clone();
        stream::iter(groups(segments)).then(move |group| reader.clone().read_group(group, range.clone()))
    }

    fn stream_windows(
        &self,
        segments: Range<u64>,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let group = CHUNK_SEGMENTS * self.sealing.layers().stored_segment();
        let most = (self.object.window() / group).max(1) as u64 * CHUNK_SEGMENTS as u64;
        let (fetching, opening) = (self.clone(), self.clone());
        stream::iter(windows(segments, most))
            // Fetched by tasks of their own, so that it goes on while a window is opened and sent.
            .map(move |window| Fetching::new(fetching.clone(), window))
            .buffered(2)
            .map_ok(move |(window, raw)| opening.open_window(window, raw, range.clone()))
            .try_flatten()
    }

    fn open_window(
        &self,
        window: Range<u64>,
        raw: Bytes,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let (reader, size) = (self.clone(), self.size);
        let start = reader.sealing.layers().stored_range(&window, size).start;
        stream::iter(groups(window)).then(move |group| {
            let stored = reader.sealing.layers().stored_range(&group, size);
            let raw = raw.slice((stored.start - start) as usize..(stored.end - start) as usize);
            let (reader, wanted) = (reader.clone(), range.clone());
            async move {
                let opening = reader.clone();
                let of_group = group.clone();
                let plain = off_thread(move || {
                    // Opened in memory that is used again and may be changed.
                    let mut buffer = Buffer::take(raw.len());
                    buffer.as_mut().copy_from_slice(&raw);
                    opening.open_group(of_group, buffer)
                });
                Ok(reader.cut(&group, plain.await?, &wanted))
            }
        })
    }

    /// All content at once, of at most `limit` bytes.
    pub async fn read_all(&self, limit: u64) -> Result<Bytes, ReadError> {
        if self.size > limit {
            return Err(ReadError::TooLarge { size: self.size, limit });
        }
        let mut chunks = std::pin::pin!(self.stream(0..self.size));
        let first = chunks.try_next().await?.unwrap_or_default();
        if first.len() as u64 == self.size {
            return Ok(first);
        }
        let mut all = Vec::with_capacity(self.size as usize);
        all.extend_from_slice(&first);
        while let Some(chunk) = chunks.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }

    fn corrupt(&self, segment: u64) -> ReadError {
        ReadError::Corrupt { object: self.sealing.object, segment }
    }

    /// Reads and opens a group of segments of a file and returns what of `range` is in it.
    async fn read_group(self, group: Range<u64>, range: Range<u64>) -> Result<Bytes, ReadError> {
        let stored = self.sealing.layers().stored_range(&group, self.size);
        let mut raw = Buffer::take((stored.end - stored.start) as usize);
        let cached = self.object.file().is_some_and(|file| read_cached_at(file, raw.as_mut(), stored.start));
        let plain = if cached {
            self.open_group(group.clone(), raw)?
        } else {
            let (reader, group) = (self.clone(), group.clone());
            off_thread(move || reader.read_file(group, raw, stored.start)).await?
        };
        Ok(self.cut(&group, plain, &range))
    }

    /// What of `range` is in the content of a group.
    fn cut(&self, group: &Range<u64>, plain: Bytes, range: &Range<u64>) -> Bytes {
        let start = group.start * SEGMENT_SIZE as u64;
        let from = range.start.saturating_sub(start).min(plain.len() as u64);
        let to = range.end.saturating_sub(start).min(plain.len() as u64);
        plain.slice(from as usize..to as usize)
    }

    async fn fetch(self, window: Range<u64>) -> Result<(Range<u64>, Bytes), ReadError> {
        let stored = self.sealing.layers().stored_range(&window, self.size);
        let len = (stored.end - stored.start) as usize;
        let raw = self.object.read_at(stored.start, len).await?;
        if raw.len() == len { Ok((window, raw)) } else { Err(ended_early()) }
    }

    fn read_file(&self, group: Range<u64>, mut raw: Buffer, offset: u64) -> Result<Bytes, ReadError> {
        let failed = |error| ReadError::from(ObjectError::from_io("reading an object", error));
        let Some(file) = self.object.file() else { return Err(ended_early()) };
        let read = read_full_at(file, raw.as_mut(), offset).map_err(failed)?;
        if read == raw.as_ref().len() {
            return self.open_group(group, raw);
        }
        // The file was opened with its right size: somebody has cut it since.
        if file.metadata().map_err(failed)?.len() < self.object.size() {
            return Err(self.corrupt(group.start));
        }
        Err(ended_early())
    }

    fn open_group(&self, group: Range<u64>, mut raw: Buffer) -> Result<Bytes, ReadError> {
        let Some(keys) = self.sealing.keys.as_deref() else {
            return Ok(raw.freeze());
        };
        let layers = keys.layers();
        let last = layers.last_index(self.size);
        let opener = SegmentOpener::new(keys, self.sealing.object);
        let mut plain =
            Buffer::take(raw.as_ref().len() - (group.end - group.start) as usize * layers.overhead());
        let stored = raw.as_mut().chunks_mut(layers.stored_segment());
        let opened = plain.as_mut().chunks_mut(SEGMENT_SIZE);
        if self.size == 0 {
            opener.open_into(0, true, raw.as_mut(), &mut []).map_err(|_| self.corrupt(0))?;
            return Ok(Bytes::new());
        }
        for (index, (stored, opened)) in group.zip(stored.zip(opened)) {
            opener.open_into(index, index == last, stored, opened).map_err(|_| self.corrupt(index))?;
        }
        Ok(plain.freeze())
    }
}

/// Segments in groups that are opened together.
fn groups(segments: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    segments
        .clone()
        .step_by(CHUNK_SEGMENTS)
        .map(move |first| first..segments.end.min(first + CHUNK_SEGMENTS as u64))
}

/// Segments in windows that are fetched together: one group at first, then twice as many each time, up to `most`.
fn windows(mut segments: Range<u64>, most: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let mut next = CHUNK_SEGMENTS as u64;
    std::iter::from_fn(move || {
        let window = segments.start..segments.end.min(segments.start + next);
        segments.start = window.end;
        next = (next * 2).min(most);
        (!window.is_empty()).then_some(window)
    })
}

/// A window on its way; given up when dropped.
struct Fetching(JoinHandle<Result<(Range<u64>, Bytes), ReadError>>);

impl Fetching {
    fn new(reader: SealedReader, window: Range<u64>) -> Self {
        Self(tokio::spawn(reader.fetch(window)))
    }
}

impl Future for Fetching {
    type Output = Result<(Range<u64>, Bytes), ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|done| done.unwrap_or_else(|stopped| Err(failed(stopped))))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn off_thread(
    act: impl FnOnce() -> Result<Bytes, ReadError> + Send + 'static,
) -> Result<Bytes, ReadError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(failed(stopped)),
    }
}

fn failed(stopped: JoinError) -> ReadError {
    ObjectError::from_io("reading an object", io::Error::other(stopped)).into()
}

fn ended_early() -> ReadError {
    ObjectError::from_io("reading an object", io::ErrorKind::UnexpectedEof.into()).into()
}

fn until_error(
    chunks: impl Stream<Item = Result<Bytes, ReadError>> + Send,
) -> impl Stream<Item = Result<Bytes, ReadError>> + Send {
    let mut failed = false;
    chunks.take_while(move |chunk| {
        let go_on = !failed;
        failed = chunk.is_err();
        std::future::ready(go_on)
    })
}

/// Reads all content back and hashes it with SHA-512: for clients that name their blobs so.
pub async fn rehash_sha512(reader: &SealedReader) -> Result<[u8; 64], ReadError> {
    rehash::<Sha512>(reader).await.map(|hash| hash.finalize().into())
}

/// Reads all content back and hashes it with SHA-256: for scrubbing.
pub async fn rehash_sha256(reader: &SealedReader) -> Result<[u8; 32], ReadError> {
    rehash::<Sha256>(reader).await.map(|hash| hash.finalize().into())
}

async fn rehash<D: Digest + Send + 'static>(reader: &SealedReader) -> Result<D, ReadError> {
    let mut hash = D::new();
    let mut chunks = std::pin::pin!(reader.stream(0..reader.size));
    while let Some(chunk) = chunks.try_next().await? {
        let hashing = tokio::task::spawn_blocking(move || {
            hash.update(&chunk);
            hash
        });
        hash = hashing
            .await
            .map_err(|stopped| ObjectError::from_io("hashing an object", io::Error::other(stopped)))?;
    }
    Ok(hash)
}
