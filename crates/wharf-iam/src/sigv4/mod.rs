//! AWS Signature Version 4, HMAC-SHA256 only: a verifier, and the signer that tests and benches use.
//!
//! Verification has two phases, so that headers are judged before a large body is buffered:
//!
//! 1. [`Presented::parse`] reads the signature a request carries and checks its date, scope and clock;
//! 2. [`Presented::verify`] checks it against the key's record and the hash of the body received.

mod canonical;
pub mod cases;
mod credential;
mod date;
mod error;
mod key;
mod request;
mod sign;
mod verify;

pub use canonical::{canonical_path, canonical_query};
pub use credential::{Form, Scope};
pub use error::{Explanation, Protocol, SignatureError};
pub use key::{KeyRecord, KeyStatus, Secret, SigningKey, SigningKeyCache};
pub use request::SignedRequest;
pub use sign::Signer;
pub use verify::{AcceptedRegions, Endpoint, Presented, VerifyOptions};

/// The only algorithm there is here.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The last part of every credential scope.
const TERMINATOR: &str = "aws4_request";

/// SHA-256 of a body held in memory; a server hashes while it reads and needs no such call.
pub fn body_sha256(body: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref());
    hash
}
