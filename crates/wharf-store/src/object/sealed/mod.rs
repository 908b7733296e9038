//! Objects with their content hashed on the way in, sealed at rest, and verified on the way out.

mod reader;
mod state;
mod writer;

pub use reader::{ReadError, SealedReader, rehash_sha256, rehash_sha512};
pub use state::UploadState;
pub use writer::{Finished, SealedWriter, WriteError};

#[cfg(test)]
mod tests;
