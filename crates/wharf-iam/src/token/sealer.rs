//! Sealing bytes into text that nobody else can read, change or make.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use zeroize::{Zeroize, Zeroizing};

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4;
const TAG: usize = 16;

/// What sealed text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The password of `docker login`.
    RegistryToken,
    /// `nextToken` of the AWS face, `last` of the OCI face.
    PageToken,
    /// The URL that `GetDownloadUrlForLayer` answers.
    DownloadUrl,
    /// What the client carries between the requests of one upload.
    UploadState,
    /// The session token of temporary credentials.
    SessionCredentials,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::RegistryToken => b"wharf seal: registry token",
            Self::PageToken => b"wharf seal: page token",
            Self::DownloadUrl => b"wharf seal: download url",
            Self::UploadState => b"wharf seal: upload state",
            Self::SessionCredentials => b"wharf seal: session credentials",
        }
    }
}

/// 256 secret bits and the id that sealed text names them by. Wiped when dropped.
#[derive(Clone)]
pub struct SealingKey {
    id: u32,
    bytes: Zeroizing<[u8; 32]>,
}

impl SealingKey {
    /// Takes the key. Ids must not be used again for other bytes.
    pub fn new(id: u32, mut bytes: [u8; 32]) -> Self {
        let key = Self { id, bytes: Zeroizing::new(bytes) };
        bytes.zeroize();
        key
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Sealing that cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A sealer needs at least one key.
    #[error("no sealing key")]
    NoKey,
    /// Two keys have the same id.
    #[error("sealing key id {0} is used twice")]
    RepeatedId(u32),
    /// The cryptographic library failed, e.g. for want of randomness.
    #[error("cannot seal")]
    Crypto,
}

/// Text that does not open. Clients are told only that it is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not text that any sealer made.
    #[error("not sealed text")]
    Malformed,
    /// Sealed with a key that is gone, or never was.
    #[error("sealed with unknown key {0}")]
    UnknownKey(u32),
    /// Changed, or sealed for something else.
    #[error("sealed text does not authenticate")]
    Forged,
}

/// Seals for one purpose with the newest key, opens with all.
///
/// Nonces are random; a key should be replaced before it has sealed 2^32 texts.
pub struct Sealer {
    purpose: Purpose,
    keys: Vec<(u32, LessSafeKey)>,
}

impl Sealer {
    /// A sealer with these keys, the newest first.
    ///
    /// # Errors
    /// No key, or two with the same id.
    pub fn new(purpose: Purpose, keys: &[SealingKey]) -> Result<Self, SealError> {
        let mut own: Vec<(u32, LessSafeKey)> = Vec::with_capacity(keys.len());
        for key in keys {
            if own.iter().any(|(id, _)| *id == key.id) {
                return Err(SealError::RepeatedId(key.id));
            }
            own.push((key.id, subkey(purpose, key)?));
        }
        if own.is_empty() { Err(SealError::NoKey) } else { Ok(Self { purpose, keys: own }) }
    }

    /// Seals bytes into base64url without padding.
    ///
    /// # Errors
    /// [`SealError::Crypto`] only.
    pub fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        let (id, key) = self.keys.first().ok_or(SealError::NoKey)?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Crypto)?;
        let mut sealed = Vec::with_capacity(HEADER + NONCE_LEN + plain.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&id.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        let body = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.associated_data(*id),
                &mut sealed[body..],
            )
            .map_err(|_| SealError::Crypto)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens sealed text.
    ///
    /// # Errors
    /// Text that this sealer, or one with the same keys and purpose, did not make.
    pub fn open(&self, text: &str) -> Result<Vec<u8>, OpenError> {
        let mut sealed = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError::Malformed)?;
        let (header, rest) = sealed.split_at_mut_checked(HEADER).ok_or(OpenError::Malformed)?;
        let &mut [VERSION, a, b, c, d] = header else { return Err(OpenError::Malformed) };
        let id = u32::from_be_bytes([a, b, c, d]);
        let (nonce, body) = rest.split_at_mut_checked(NONCE_LEN).ok_or(OpenError::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
        let (_, key) = self.keys.iter().find(|(known, _)| *known == id).ok_or(OpenError::UnknownKey(id))?;
        let plain =
            key.open_in_place(nonce, self.associated_data(id), body).map_err(|_| OpenError::Forged)?;
        Ok(plain.to_vec())
    }

    /// Binds a text to version, key and purpose.
    fn associated_data(&self, id: u32) -> Aad<Vec<u8>> {
        let mut bytes = self.purpose.label().to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&id.to_be_bytes());
        Aad::from(bytes)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// The key of one purpose: HMAC of the purpose's label.
fn subkey(purpose: Purpose, key: &SealingKey) -> Result<LessSafeKey, SealError> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key.bytes), purpose.label());
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, tag.as_ref()).map_err(|_| SealError::Crypto)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(purpose: Purpose, ids: &[u32]) -> Sealer {
        let keys: Vec<_> = ids.iter().map(|id| SealingKey::new(*id, [*id as u8; 32])).collect();
        Sealer::new(purpose, &keys).unwrap()
    }

    #[test]
    fn keys_overlap_when_rotated() {
        let (old, both, new) = (
            sealer(Purpose::PageToken, &[1]),
            sealer(Purpose::PageToken, &[2, 1]),
            sealer(Purpose::PageToken, &[2]),
        );
        let before = old.seal(b"page").unwrap();
        assert_eq!(both.open(&before).unwrap(), b"page");
        assert_eq!(new.open(&before), Err(OpenError::UnknownKey(1)));
        let after = both.seal(b"page").unwrap();
        assert_eq!(new.open(&after).unwrap(), b"page");
        assert_eq!(old.open(&after), Err(OpenError::UnknownKey(2)));
    }

    #[test]
    fn a_purpose_does_not_open_another() {
        let sealed = sealer(Purpose::RegistryToken, &[1]).seal(b"x").unwrap();
        for other in [Purpose::PageToken, Purpose::DownloadUrl, Purpose::UploadState] {
            assert_eq!(sealer(other, &[1]).open(&sealed), Err(OpenError::Forged));
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let sealer = sealer(Purpose::DownloadUrl, &[7]);
        let text = sealer.seal(b"some state").unwrap();
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&BASE64_URL_SAFE_NO_PAD.encode(changed)).is_err(), "bit {bit}");
        }
        for cut in 0..text.len() {
            assert!(sealer.open(&text[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(sealer.open(&text).unwrap(), b"some state");
    }

    #[test]
    fn keys_must_be_there_and_distinct() {
        assert_eq!(Sealer::new(Purpose::PageToken, &[]).unwrap_err(), SealError::NoKey);
        let key = SealingKey::new(3, [0; 32]);
        let twice = [key.clone(), key];
        assert_eq!(Sealer::new(Purpose::PageToken, &twice).unwrap_err(), SealError::RepeatedId(3));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plain in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sealer = sealer(Purpose::UploadState, &[1]);
            prop_assert_eq!(sealer.open(&sealer.seal(&plain).unwrap()).unwrap(), plain);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let sealer = sealer(Purpose::UploadState, &[1]);
            prop_assert!(sealer.open(&text).is_err());
            let framed = [&[VERSION, 0, 0, 0, 1], &bytes[..]].concat();
            prop_assert!(sealer.open(&BASE64_URL_SAFE_NO_PAD.encode(framed)).is_err());
        }
    }
}
