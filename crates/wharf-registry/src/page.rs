//! Page tokens: opaque, sealed, and bound to the query they came from.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Registry, RegistryError};

/// What is inside a token.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// Hash of the query.
    query: [u8; 16],
    /// Where the next page begins.
    after: Vec<String>,
}

fn fingerprint(query: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in query {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

impl Registry {
    /// Seals the place after which the next page of `query` begins.
    pub(crate) fn seal_page(&self, query: &[&str], after: Vec<String>) -> Result<String, RegistryError> {
        let cursor = Cursor { query: fingerprint(query), after };
        let bytes =
            serde_json::to_vec(&cursor).map_err(|error| RegistryError::Internal(error.to_string()))?;
        self.inner.sealers.page.seal(&bytes).map_err(|error| RegistryError::Internal(error.to_string()))
    }

    /// Opens a token of `query` into `N` parts; without a token, `N` empty ones.
    ///
    /// # Errors
    /// `InvalidParameterException` at `nextToken` when it is not ours or comes from another query.
    pub(crate) fn open_page<const N: usize>(
        &self,
        query: &[&str],
        token: Option<&str>,
    ) -> Result<[String; N], RegistryError> {
        let Some(token) = token else { return Ok(std::array::from_fn(|_| String::new())) };
        let refused = || RegistryError::invalid("nextToken", "Invalid next token");
        let bytes = self.inner.sealers.page.open(token).map_err(|_| refused())?;
        let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| refused())?;
        if cursor.query != fingerprint(query) {
            return Err(refused());
        }
        cursor.after.try_into().map_err(|_| refused())
    }
}
