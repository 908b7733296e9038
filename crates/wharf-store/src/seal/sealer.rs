//! Gathers plaintext in the layout of stored segments and seals a whole batch in place: bytes are copied once,
//! from the network buffer to where they will be encrypted.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{ContentKeys, Layers, SEGMENT_SIZE, SealError};
use crate::object::ObjectId;
use crate::object::buffers::Buffer;

/// Segments gathered before they are hashed, sealed and written together (512 KiB of plaintext): enough that handing a
/// batch to another thread does not count beside the work on it.
pub const BATCH_SEGMENTS: usize = 8;
const BATCH: usize = BATCH_SEGMENTS * SEGMENT_SIZE;

/// What seals one object: its keys (none for content stored as it is) and its id.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// The object whose id is authenticated with every segment.
    pub object: ObjectId,
    /// The keys, or `None` when the content is stored as it is.
    pub keys: Option<Arc<ContentKeys>>,
}

impl Sealing {
    /// How many layers the content gets.
    pub fn layers(&self) -> Layers {
        self.keys.as_ref().map_or(Layers::Plain, |keys| keys.layers())
    }
}

/// A batch of consecutive segments of one object, being filled. The last segment is held back until it is known
/// whether more follows, because its mark is sealed with it.
#[derive(Debug)]
pub struct SegmentSealer {
    sealing: Sealing,
    first_index: u64,
    buffer: Buffer,
    filled: usize,
    hashed: usize,
}

impl SegmentSealer {
    /// An empty batch at the start of an object.
    pub fn new(sealing: Sealing) -> Self {
        Self { sealing, first_index: 0, buffer: Buffer::default(), filled: 0, hashed: 0 }
    }

    /// A batch that goes on at segment `next_index` with the plaintext of its beginning, which has been hashed
    /// before. Fails with [`SealError::TooLong`] when the tail is more than one segment.
    pub fn resume(sealing: Sealing, next_index: u64, tail: &[u8]) -> Result<Self, SealError> {
        if tail.len() > SEGMENT_SIZE {
            return Err(SealError::TooLong(tail.len()));
        }
        let mut sealer = Self { first_index: next_index, ..Self::new(sealing) };
        sealer.fill(tail);
        sealer.hashed = tail.len();
        Ok(sealer)
    }

    /// Takes as much of `plaintext` as the batch has room for and returns how much that was.
    pub fn fill(&mut self, plaintext: &[u8]) -> usize {
        let layers = self.sealing.layers();
        let taken = plaintext.len().min(BATCH - self.filled);
        let mut rest = &plaintext[..taken];
        let batch_room = BATCH_SEGMENTS * layers.stored_segment();
        if self.buffer.capacity() < batch_room && self.filled + taken > SEGMENT_SIZE {
            let mut large = Buffer::with_room(batch_room);
            large.vec().extend_from_slice(self.buffer.as_ref());
            self.buffer = large;
        }
        let buffer = self.buffer.vec();
        while !rest.is_empty() {
            let within = self.filled % SEGMENT_SIZE;
            if within == 0 {
                let gap = if self.filled == 0 { layers.header() } else { layers.overhead() };
                buffer.resize(buffer.len() + gap, 0);
            }
            let (now, later) = rest.split_at(rest.len().min(SEGMENT_SIZE - within));
            buffer.extend_from_slice(now);
            self.filled += now.len();
            rest = later;
        }
        taken
    }

    /// Whether the batch has no room left.
    pub fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// Plaintext bytes in the batch.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing was filled in.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Index of the first segment of the batch.
    pub fn next_index(&self) -> u64 {
        self.first_index
    }

    /// Feeds the bytes that were not hashed yet to `hash`.
    pub fn hash_new(&mut self, hash: &mut Sha256) {
        while self.hashed < self.filled {
            let (index, within) = (self.hashed / SEGMENT_SIZE, self.hashed % SEGMENT_SIZE);
            let len = (SEGMENT_SIZE - within).min(self.filled - self.hashed);
            let start = self.plaintext_start(index) + within;
            hash.update(&self.buffer.as_ref()[start..start + len]);
            self.hashed += len;
        }
    }

    /// Takes the batch away to be sealed, leaving an empty one after it. Only for a full batch that more plaintext
    /// follows, or as the last act.
    pub fn take(&mut self) -> Self {
        let next = self.first_index + self.filled.div_ceil(SEGMENT_SIZE) as u64;
        let after = Self { first_index: next, ..Self::new(self.sealing.clone()) };
        std::mem::replace(self, after)
    }

    /// Splits off what may be written before it is known whether more follows: every segment but the last one, whose
    /// plaintext stays behind (content stored as it is leaves nothing behind). Hash first.
    pub fn split_tail(&mut self) -> Self {
        let layers = self.sealing.layers();
        if layers == Layers::Plain {
            let mut all = self.take();
            // A plain batch may end inside a segment; positions go on by bytes, so the index has no meaning.
            all.hashed = all.filled;
            return all;
        }
        let whole = self.filled.saturating_sub(1) / SEGMENT_SIZE;
        let tail_at = self.plaintext_start(whole).min(self.buffer.as_ref().len());
        let mut after =
            Self { first_index: self.first_index + whole as u64, ..Self::new(self.sealing.clone()) };
        after.fill(&self.buffer.as_ref()[tail_at..]);
        after.hashed = after.filled;
        let mut head = std::mem::replace(self, after);
        head.filled = whole * SEGMENT_SIZE;
        head.hashed = head.filled;
        // `fill` makes room for a trailer only when the next segment begins; `seal` adds the final one.
        head.buffer.vec().truncate((whole * layers.stored_segment()).saturating_sub(layers.trailer()));
        head
    }

    /// The plaintext held back; at most one segment after [`Self::split_tail`].
    pub fn tail(&self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(self.filled);
        let mut at = 0;
        while at < self.filled {
            let len = SEGMENT_SIZE.min(self.filled - at);
            let start = self.plaintext_start(at / SEGMENT_SIZE);
            tail.extend_from_slice(&self.buffer.as_ref()[start..start + len]);
            at += len;
        }
        tail
    }

    /// Seals every segment of the batch in place, the final one as the object's last if `last`, and gives the
    /// stored bytes. Fails only with [`SealError::Library`].
    pub fn seal(mut self, last: bool) -> Result<Bytes, SealError> {
        let Some(keys) = self.sealing.keys.clone() else {
            return Ok(self.buffer.freeze());
        };
        let layers = keys.layers();
        if self.filled == 0 {
            if !last {
                return Ok(Bytes::new());
            }
            self.buffer.vec().resize(layers.header(), 0);
        }
        let end = self.buffer.as_ref().len() + layers.trailer();
        self.buffer.vec().resize(end, 0);
        let count = self.filled.div_ceil(SEGMENT_SIZE).max(1);
        for (at, stored) in self.buffer.as_mut().chunks_mut(layers.stored_segment()).enumerate() {
            keys.seal(self.sealing.object, self.first_index + at as u64, last && at + 1 == count, stored)?;
        }
        Ok(self.buffer.freeze())
    }

    fn plaintext_start(&self, index: usize) -> usize {
        let layers = self.sealing.layers();
        index * layers.stored_segment() + layers.header()
    }
}
