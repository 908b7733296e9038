//! Large buffers that are used again: a chunk of a blob is read, opened and sent from memory that is neither
//! allocated nor zeroed for every chunk.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers at most this many wait to be used again; more are freed. With at most [`LARGEST`] bytes each that is 6 MiB.
const KEPT: usize = 16;
/// Larger buffers are not kept.
const LARGEST: usize = 384 * 1024;
/// Smaller ones are cheap to make, and a slow client must not hold a large one for a few bytes.
const SMALLEST: usize = 64 * 1024;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of a given length with arbitrary content, returned for reuse when dropped.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// A buffer of `len` bytes whose content is arbitrary.
    pub fn take(len: usize) -> Self {
        let mut bytes = Vec::new();
        if (SMALLEST..=LARGEST).contains(&len) {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            bytes = free.pop().unwrap_or_default();
        }
        bytes.resize(len, 0);
        Self(bytes)
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
        if !(SMALLEST..=LARGEST).contains(&self.0.capacity()) {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.0));
        }
    }
}
