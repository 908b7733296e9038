//! Objects in a bucket of a real server: moto's by default, Garage with `WHARF_TEST_S3=garage` (see `./test s3`). Where
//! the server is not installed, the tests say so and do nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod faults;
mod nodes;
mod proxy;
mod reading;
mod server;

use bytes::Bytes;
use wharf_store::object::{ObjectId, ObjectStore};

/// Bytes that are the same at every run and nowhere alike.
fn bytes(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut all = Vec::with_capacity(len + 8);
    while all.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(len);
    all.into()
}

async fn read_whole(store: &dyn ObjectStore, id: ObjectId) -> Bytes {
    let reader = store.open(id).await.unwrap();
    reader.read_at(0, reader.size() as usize).await.unwrap()
}
