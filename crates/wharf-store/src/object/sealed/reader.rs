//! The read path: whole segments are read and opened in chunks of 256 KiB. What is in the page cache is read and opened
//! where it is asked for (well under half a millisecond); a chunk that must come from the disk goes to a thread that
//! may wait, reading and opening in one go. The kernel reads ahead on files; for other stores one chunk is fetched
//! ahead.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256, Sha512};

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
        let ahead = if self.object.file().is_some() { 1 } else { 2 };
        let groups = segments.clone().step_by(CHUNK_SEGMENTS);
        let reader = self.clone();
        let chunks = stream::iter(groups)
            .map(move |first| {
                let group = first..segments.end.min(first + CHUNK_SEGMENTS as u64);
                reader.clone().read_group(group, range.clone())
            })
            .buffered(ahead)
            .try_filter(|chunk| std::future::ready(!chunk.is_empty()));
        until_error(chunks)
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

    /// Reads and opens a group of segments and returns what of `range` is in it.
    async fn read_group(self, group: Range<u64>, range: Range<u64>) -> Result<Bytes, ReadError> {
        let start = group.start * SEGMENT_SIZE as u64;
        let stored = self.sealing.layers().stored_range(&group, self.size);
        let len = (stored.end - stored.start) as usize;
        let plain = match self.object.file() {
            Some(file) => {
                let mut raw = Buffer::take(len);
                if read_cached_at(file, raw.as_mut(), stored.start) {
                    self.open_group(group, raw)?
                } else {
                    off_thread(move || self.read_file(group, raw, stored.start)).await?
                }
            }
            None => {
                let bytes = self.object.read_at(stored.start, len).await?;
                if bytes.len() != len {
                    return Err(ended_early());
                }
                let mut raw = Buffer::take(len);
                raw.as_mut().copy_from_slice(&bytes);
                off_thread(move || self.open_group(group, raw)).await?
            }
        };
        let from = range.start.saturating_sub(start).min(plain.len() as u64);
        let to = range.end.saturating_sub(start).min(plain.len() as u64);
        Ok(plain.slice(from as usize..to as usize))
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

async fn off_thread(
    act: impl FnOnce() -> Result<Bytes, ReadError> + Send + 'static,
) -> Result<Bytes, ReadError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(ObjectError::from_io("reading an object", io::Error::other(stopped)).into()),
    }
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
