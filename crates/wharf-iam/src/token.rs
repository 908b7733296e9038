//! Sealed text: registry passwords, page tokens, download URLs, upload states.
//!
//! What leaves the server and must come back unchanged is sealed with AES-256-GCM. A sealed text is base64url of
//! `version (1) | key id (4, big-endian) | nonce (12) | ciphertext and tag`. Each purpose has its own subkey, so text
//! sealed for one purpose never opens for another, even if an operator configures the same key twice.

mod registry;
mod sealer;

pub use registry::{Token, TokenError, TokenSealer};
pub use sealer::{OpenError, Purpose, SealError, Sealer, SealingKey};
