//! Large buffers that are used again: a chunk of a blob is read, opened and sent, or gathered, sealed and written, in
//! memory that is neither allocated nor zeroed for every chunk. (Fresh pages cost more than the copy into them.)

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Smaller ones are cheap to make, and a slow client must not hold a large one for a few bytes.
const SMALLEST: usize = 64 * 1024;

/// Buffers of about one size that wait to be used again.
struct Shelf {
    /// Larger buffers are not kept here.
    largest: usize,
    /// More are freed.
    kept: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// At most 6 MiB for chunks that are read, and 8 MiB for batches that are written.
static SHELVES: [Shelf; 2] = [Shelf::new(384 * 1024, 16), Shelf::new(544 * 1024, 16)];

impl Shelf {
    const fn new(largest: usize, kept: usize) -> Self {
        Self { largest, kept, free: Mutex::new(Vec::new()) }
    }

    /// The one for buffers of this size, if such are kept.
    fn of(size: usize) -> Option<&'static Self> {
        SHELVES.iter().find(|shelf| size <= shelf.largest).filter(|_| size >= SMALLEST)
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer, returned for reuse when dropped.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// A buffer of `len` bytes whose content is arbitrary.
    pub fn take(len: usize) -> Self {
        let mut bytes = Shelf::of(len).and_then(|shelf| shelf.free().pop()).unwrap_or_default();
        bytes.resize(len, 0);
        Self(bytes)
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_room(capacity: usize) -> Self {
        let shelf = Shelf::of(capacity);
        let mut bytes = shelf.and_then(|shelf| shelf.free().pop()).unwrap_or_default();
        bytes.clear();
        // All of a shelf alike, so that whatever is taken from it next fits.
        bytes.reserve_exact(shelf.map_or(capacity, |shelf| shelf.largest));
        Self(bytes)
    }

    /// The bytes, to be added to or cut.
    pub fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Bytes that fit without moving to other memory.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The buffer as shared bytes; it is reused when the last of them is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(shelf) = Shelf::of(self.0.capacity()) else { return };
        let mut free = shelf.free();
        if free.len() < shelf.kept {
            free.push(std::mem::take(&mut self.0));
        }
    }
}
