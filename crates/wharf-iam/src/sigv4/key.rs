//! Access keys, and the signing keys derived from their secrets.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use wharf_types::Timestamp;
use zeroize::Zeroizing;

use super::TERMINATOR;
use super::credential::Scope;

/// Secret text: wiped when dropped, never printed, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for signing or sealing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `text` is the secret; the time taken depends on the lengths only.
    pub fn matches(&self, text: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), text.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// It may.
    Active,
    /// It is switched off; to the client it looks like a key that does not exist.
    Inactive,
}

/// What the verifier needs to know of an access key. Token rules follow this record, not the prefix of the id.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The secret access key.
    pub secret: Secret,
    /// Whether the key may be used.
    pub status: KeyStatus,
    /// The token every request of a temporary key must carry.
    pub session_token: Option<Secret>,
    /// When a temporary key stops working.
    pub expires: Option<Timestamp>,
}

impl KeyRecord {
    /// A long-term key that may be used.
    pub fn active(secret: impl Into<String>) -> Self {
        Self { secret: Secret::new(secret), status: KeyStatus::Active, session_token: None, expires: None }
    }
}

/// A key derived from a secret for one day, region and service.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key: four HMACs, a few microseconds.
    pub fn derive(secret: &Secret, scope: &Scope) -> Self {
        let prefixed = Zeroizing::new(format!("AWS4{}", secret.expose()));
        let mut key = hmac_sha256(prefixed.as_bytes(), &scope.date);
        for part in [scope.region.as_str(), &scope.service, TERMINATOR] {
            key = hmac_sha256(&*key, part);
        }
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }

    /// The signature of a string to sign: 64 lower-case hex digits.
    pub fn sign(&self, string_to_sign: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, string_to_sign))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

fn hmac_sha256(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// The most scopes kept for one access key: a few regions and services, today and yesterday.
const SCOPES_PER_KEY: usize = 16;

/// Signing keys already derived, for a bounded number of access keys.
///
/// An entry is used only for the secret it was derived from, so a stale one can do no harm. When the cache is full
/// it is emptied: deriving again is cheap.
pub struct SigningKeyCache {
    access_keys: usize,
    entries: Mutex<HashMap<Box<str>, Vec<Entry>>>,
}

struct Entry {
    secret: Secret,
    scope: Scope,
    key: SigningKey,
}

impl SigningKeyCache {
    /// A cache for at most `access_keys` access keys.
    pub fn new(access_keys: usize) -> Self {
        Self { access_keys: access_keys.max(1), entries: Mutex::default() }
    }

    /// The signing key of an access key, derived if it is not there yet.
    pub fn signing_key(&self, access_key_id: &str, secret: &Secret, scope: &Scope) -> SigningKey {
        let usable = |entry: &&Entry| entry.scope == *scope && entry.secret.matches(secret.expose());
        if let Some(entry) = self.lock().get(access_key_id).and_then(|of_key| of_key.iter().find(usable)) {
            return entry.key.clone();
        }
        let key = SigningKey::derive(secret, scope);
        let mut entries = self.lock();
        if entries.len() >= self.access_keys && !entries.contains_key(access_key_id) {
            entries.clear();
        }
        let of_key = entries.entry(access_key_id.into()).or_default();
        of_key.retain(|entry| entry.scope != *scope);
        if of_key.len() >= SCOPES_PER_KEY {
            of_key.remove(0);
        }
        of_key.push(Entry { secret: secret.clone(), scope: scope.clone(), key: key.clone() });
        key
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Vec<Entry>>> {
        // A panic while holding the lock cannot leave a wrong key behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SigningKeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyCache").field("access_keys", &self.access_keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(region: &str) -> Scope {
        Scope { date: "20150830".into(), region: region.into(), service: "iam".into() }
    }

    /// The example of AWS's documentation.
    #[test]
    fn the_documented_key_is_derived() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = SigningKey::derive(&secret, &scope("us-east-1"));
        let string_to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                              f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            key.sign(string_to_sign.as_bytes()),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_cached_key_is_the_derived_key_and_follows_the_secret() {
        let cache = SigningKeyCache::new(2);
        for secret in ["one", "two", "one"] {
            for (id, region) in
                [("a", "us-east-1"), ("b", "us-east-1"), ("c", "us-east-1"), ("a", "eu-west-1")]
            {
                let secret = Secret::new(secret);
                let derived = SigningKey::derive(&secret, &scope(region)).sign(b"x");
                for _ in 0..2 {
                    assert_eq!(cache.signing_key(id, &secret, &scope(region)).sign(b"x"), derived);
                }
                assert!(cache.lock().len() <= 2);
            }
        }
        for region in 0..40 {
            cache.signing_key("a", &Secret::new("s"), &scope(&region.to_string()));
        }
        assert_eq!(cache.lock()["a"].len(), SCOPES_PER_KEY);
    }

    #[test]
    fn secrets_are_not_printed() {
        let record = KeyRecord { session_token: Some(Secret::new("tok")), ..KeyRecord::active("hush") };
        let printed = format!("{record:?}");
        assert!(!printed.contains("hush") && !printed.contains("tok\""), "{printed}");
    }
}
