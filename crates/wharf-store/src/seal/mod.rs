//! Encryption at rest: content in authenticated segments, and the local ring of keys that wraps data keys.
//!
//! [`segment`] says how bytes look when sealed, [`sealer`] seals a stream of them, [`key_ring`] keeps the keys.

pub mod key_ring;
pub mod sealer;
pub mod segment;

pub use key_ring::{DataKey, RootKey, RootKeyError, WrappingKey};
pub use sealer::SegmentSealer;
pub use segment::{
    ContentKeys, Layers, SEGMENT_SIZE, SegmentOpener, open_small, open_state, seal_small, seal_state,
};

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The sealed bytes were changed, cut, moved or belong to something else (or the key is not theirs).
    #[error("sealed bytes do not authenticate")]
    Corrupt,
    /// The bytes say that another version of the key sealed them.
    #[error("sealed under key version {found}, this is version {expected}")]
    WrongKey {
        /// Version of the key at hand.
        expected: u32,
        /// Version written in the sealed bytes.
        found: u32,
    },
    /// The bytes start with a format this program does not know.
    #[error("unknown sealing format {0}")]
    Unsupported(u8),
    /// More plaintext than is sealed in one piece.
    #[error("{0} bytes are too many to seal in one piece")]
    TooLong(usize),
    /// The operating system gave no randomness, or the cipher refused its input.
    #[error("the cryptographic library failed")]
    Library,
}
