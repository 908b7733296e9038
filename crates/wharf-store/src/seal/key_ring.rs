//! The local ring of keys: a root key on the machine wraps the registry's wrapping keys and secrets; a wrapping key
//! wraps the data keys of objects. Every wrapping is bound to what it is for, so that wrapped bytes moved to
//! another place do not open there. Key bytes are wiped on drop and never printed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::LessSafeKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::SealError;
use super::segment::{cipher, open_layer, seal_layer};

const NONCE: usize = 12;
const TAG: usize = 16;
/// First byte of a data key wrapped by a [`WrappingKey`]: `1 || version (4, big endian) || nonce || ciphertext || tag`.
const FORMAT_WRAPPED: u8 = 1;
/// First byte of a secret wrapped by the [`RootKey`]: `2 || nonce || ciphertext || tag`.
const FORMAT_ROOT: u8 = 2;

/// A random 256-bit key that seals the content of one object (or one layer of it).
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A fresh random key. Fails with [`SealError::Library`] when the system gives no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| SealError::Library)?;
        Ok(Self(key))
    }

    /// A key from bytes that a key provider returned. Fails with [`SealError::Corrupt`] unless there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        bytes.try_into().map(|key| Self(Zeroizing::new(key))).map_err(|_| SealError::Corrupt)
    }

    /// The key itself: for ciphers and wrapping only.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// One version of a key domain's key. It wraps data keys; rotating makes a new version and wraps them again.
pub struct WrappingKey {
    id: String,
    version: u32,
    key: LessSafeKey,
}

impl std::fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrappingKey")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl WrappingKey {
    /// Version `version` of the key named `id`, made of secret key bytes.
    pub fn new(id: impl Into<String>, version: u32, secret: &DataKey) -> Self {
        Self { id: id.into(), version, key: cipher(secret.bytes()) }
    }

    /// The key's name, e.g. its ARN. Bound into everything it wraps.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key's version. Written into everything it wraps.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Makes a data key and wraps it for the key domain `aad`.
    pub fn generate_data_key(&self, aad: &[u8]) -> Result<(DataKey, Vec<u8>), SealError> {
        let key = DataKey::generate()?;
        let wrapped = self.wrap(&key, aad)?;
        Ok((key, wrapped))
    }

    /// Wraps a data key for the key domain `aad`: 65 bytes that name their format and key version.
    pub fn wrap(&self, data_key: &DataKey, aad: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut head = vec![FORMAT_WRAPPED];
        head.extend_from_slice(&self.version.to_be_bytes());
        seal_after(&self.key, head, &[b"data-key", self.id.as_bytes(), aad], data_key.bytes())
    }

    /// Unwraps what [`Self::wrap`] wrapped for the same domain. Fails with [`SealError::WrongKey`] when another
    /// version wrapped it, [`SealError::Unsupported`] for another format, [`SealError::Corrupt`] otherwise.
    pub fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, SealError> {
        let found = wrapped_version(wrapped)?;
        if found != self.version {
            return Err(SealError::WrongKey { expected: self.version, found });
        }
        let opened = open_after(&self.key, 5, &[b"data-key", self.id.as_bytes(), aad], wrapped)?;
        DataKey::from_bytes(&opened)
    }
}

/// The version of the key that wrapped these bytes, read without any key.
pub fn wrapped_version(wrapped: &[u8]) -> Result<u32, SealError> {
    match wrapped {
        [FORMAT_WRAPPED, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [FORMAT_WRAPPED, ..] | [] => Err(SealError::Corrupt),
        [format, ..] => Err(SealError::Unsupported(*format)),
    }
}

/// The key at the root of the local ring. It wraps wrapping keys, secret access keys and the keys that seal tokens.
pub struct RootKey(LessSafeKey);

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// Why the root key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The text is neither 32 bytes in base64 nor 64 hexadecimal digits.
    #[error("the root key must be 32 bytes as base64 or as 64 hexadecimal digits")]
    Malformed,
    /// Others may read the file.
    #[error("{path} can be read by others (mode {mode:03o}); set it to 600")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file could not be read or written.
    #[error("cannot use the root key file {path}")]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There was no randomness for a new key.
    #[error("cannot make a root key")]
    Random(#[from] SealError),
}

impl RootKey {
    /// The root key from 32 bytes.
    pub fn from_key(key: &DataKey) -> Self {
        Self(cipher(key.bytes()))
    }

    /// The root key from text (an environment variable): 64 hexadecimal digits, or base64 of 32 bytes.
    pub fn from_text(text: &str) -> Result<Self, RootKeyError> {
        let text = text.trim();
        let bytes = match hex::decode(text) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(_) => Zeroizing::new(STANDARD.decode(text).map_err(|_| RootKeyError::Malformed)?),
        };
        DataKey::from_bytes(&bytes).map(|key| Self::from_key(&key)).map_err(|_| RootKeyError::Malformed)
    }

    /// Reads the root key from `path`, making it first when there is none. A new key is complete and durable (file
    /// and directory synced) before it is used: losing it would lose everything it wraps.
    /// Refuses a file that others may read.
    pub fn load_or_create(path: &Path) -> Result<Self, RootKeyError> {
        let failed = |source| RootKeyError::File { path: path.to_owned(), source };
        match Self::load(path) {
            Err(RootKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
        let key = DataKey::generate()?;
        // Written beside and linked into place, so that a crash leaves no half-written key under the name, and of
        // two starting processes one wins and both use its key.
        let suffix = DataKey::generate()?;
        let beside = path.with_extension(format!("new-{}", hex::encode(&suffix.bytes()[..8])));
        let written = write_key(&beside, &key).and_then(|()| fs::hard_link(&beside, path));
        let removed = fs::remove_file(&beside);
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => removed.map_err(failed)?,
        }
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Self::load(path)
    }

    /// Reads the root key from an existing file.
    pub fn load(path: &Path) -> Result<Self, RootKeyError> {
        let failed = |source| RootKeyError::File { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RootKeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(256));
        Read::take(&mut file, 200).read_to_string(&mut text).map_err(failed)?;
        Self::from_text(&text)
    }

    /// Wraps a secret for one purpose (e.g. `access-key`) and context (e.g. the access key id).
    pub fn wrap(&self, purpose: &str, context: &[u8], secret: &[u8]) -> Result<Vec<u8>, SealError> {
        seal_after(&self.0, vec![FORMAT_ROOT], &[b"root", purpose.as_bytes(), context], secret)
    }

    /// Unwraps what [`Self::wrap`] wrapped for the same purpose and context; [`SealError::Corrupt`] otherwise.
    pub fn unwrap(
        &self,
        purpose: &str,
        context: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match wrapped.first() {
            Some(&FORMAT_ROOT) => open_after(&self.0, 1, &[b"root", purpose.as_bytes(), context], wrapped),
            Some(format) => Err(SealError::Unsupported(*format)),
            None => Err(SealError::Corrupt),
        }
    }
}

fn write_key(path: &Path, key: &DataKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(key.bytes()))));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Seals `secret` after a head that is authenticated together with `parts` (each with its length, so that no two
/// lists of parts look alike).
fn seal_after(
    key: &LessSafeKey,
    head: Vec<u8>,
    parts: &[&[u8]],
    secret: &[u8],
) -> Result<Vec<u8>, SealError> {
    let aad = bind(&head, parts);
    let start = head.len();
    // The exact capacity: growing would leave copies of the secret in freed memory.
    let mut out = Vec::with_capacity(start + NONCE + secret.len() + TAG);
    out.extend_from_slice(&head);
    out.resize(start + NONCE, 0);
    out.extend_from_slice(secret);
    out.resize(start + NONCE + secret.len() + TAG, 0);
    match seal_layer(key, &aad, &mut out[start..]) {
        Ok(()) => Ok(out),
        Err(error) => {
            out.zeroize();
            Err(error)
        }
    }
}

fn open_after(
    key: &LessSafeKey,
    head: usize,
    parts: &[&[u8]],
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (head, record) = wrapped.split_at_checked(head).ok_or(SealError::Corrupt)?;
    let mut record = Zeroizing::new(record.to_vec());
    let plain = open_layer(key, &bind(head, parts), &mut record)?;
    Ok(Zeroizing::new(plain.to_vec()))
}

fn bind(head: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut aad = head.to_vec();
    for part in parts {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapping(version: u32) -> WrappingKey {
        WrappingKey::new("arn:aws:kms:us-east-1:123456789012:key/1", version, &DataKey::generate().unwrap())
    }

    #[test]
    fn a_data_key_opens_only_in_its_domain() {
        let ring = wrapping(7);
        let (key, wrapped) = ring.generate_data_key(b"domain a").unwrap();
        assert_eq!(wrapped.len(), 65);
        assert_eq!(wrapped_version(&wrapped), Ok(7));
        assert_eq!(ring.unwrap(&wrapped, b"domain a").unwrap().bytes(), key.bytes());
        assert_eq!(ring.unwrap(&wrapped, b"domain b").unwrap_err(), SealError::Corrupt);
    }

    #[test]
    fn every_changed_byte_of_a_wrapped_key_is_seen() {
        let ring = wrapping(1);
        let (_, wrapped) = ring.generate_data_key(b"d").unwrap();
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            let expected = match at {
                0 => SealError::Unsupported(0),
                1..=4 => SealError::WrongKey { expected: 1, found: wrapped_version(&changed).unwrap() },
                _ => SealError::Corrupt,
            };
            assert_eq!(ring.unwrap(&changed, b"d").unwrap_err(), expected, "byte {at}");
            assert_eq!(ring.unwrap(&wrapped[..at], b"d").unwrap_err(), SealError::Corrupt);
        }
        let same_name = wrapping(1);
        assert_eq!(same_name.unwrap(&wrapped, b"d").unwrap_err(), SealError::Corrupt);
        assert!(matches!(
            wrapping(2).unwrap(&wrapped, b"d"),
            Err(SealError::WrongKey { expected: 2, found: 1 })
        ));
    }

    #[test]
    fn a_secret_opens_only_for_its_purpose_and_context() {
        let root = RootKey::from_key(&DataKey::generate().unwrap());
        let wrapped = root.wrap("access-key", b"AKIA1", b"secret").unwrap();
        assert_eq!(&*root.unwrap("access-key", b"AKIA1", &wrapped).unwrap(), b"secret");
        assert_eq!(root.unwrap("access-key", b"AKIA2", &wrapped), Err(SealError::Corrupt));
        assert_eq!(root.unwrap("access-keyA", b"KIA1", &wrapped), Err(SealError::Corrupt));
        assert_eq!(root.unwrap("access-key", b"AKIA1", b""), Err(SealError::Corrupt));
        assert_eq!(root.unwrap("access-key", b"AKIA1", &[9]), Err(SealError::Unsupported(9)));
    }

    #[test]
    fn the_root_key_file_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        let wrapped = RootKey::load_or_create(&path).unwrap().wrap("p", b"", b"s").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the key");
        let again = RootKey::load_or_create(&path).unwrap();
        assert_eq!(&*again.unwrap("p", b"", &wrapped).unwrap(), b"s");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(RootKey::load_or_create(&path), Err(RootKeyError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "cut").unwrap();
        assert!(matches!(RootKey::load_or_create(&path), Err(RootKeyError::Malformed)), "never replaced");
    }

    #[test]
    fn text_may_be_hex_or_base64() {
        let key = DataKey::generate().unwrap();
        let wrapped = RootKey::from_key(&key).wrap("p", b"c", b"s").unwrap();
        for text in [hex::encode(key.bytes()), format!(" {}\n", STANDARD.encode(key.bytes()))] {
            assert_eq!(&*RootKey::from_text(&text).unwrap().unwrap("p", b"c", &wrapped).unwrap(), b"s");
        }
        assert!(matches!(RootKey::from_text("c2hvcnQ="), Err(RootKeyError::Malformed)));
        assert!(matches!(RootKey::from_text(""), Err(RootKeyError::Malformed)));
    }

    #[test]
    fn debug_prints_no_key_bytes() {
        let key = DataKey(Zeroizing::new([0xAB; 32]));
        let ring = WrappingKey::new("id", 1, &key);
        let text = format!("{key:?} {ring:?} {:?}", RootKey::from_key(&key));
        assert!(!text.to_lowercase().contains("ab") && !text.contains("171"), "{text}");
    }
}
