//! Content sealed in segments: 64 KiB of plaintext each, AES-256-GCM, a random nonce stored beside it.
//!
//! One layer stores a segment as `nonce (12) || ciphertext || tag (16)`. Two layers store it as
//! `outer nonce || E_outer(inner nonce || E_inner(plaintext) || inner tag) || outer tag`. Authenticated with each
//! layer: the object's id, the segment's index, and whether it is the last one; so a segment that was flipped,
//! cut, swapped, reordered or taken from another object does not open. Empty content is one empty last segment.

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{DataKey, SealError};
use crate::object::ObjectId;

/// Plaintext bytes in every segment but the last, which may be shorter.
pub const SEGMENT_SIZE: usize = 64 * 1024;
/// The most plaintext that [`seal_small`] and [`seal_state`] seal in one piece (manifests have up to 4 MiB).
pub const SMALL_LIMIT: usize = 8 * 1024 * 1024;
const NONCE: usize = 12;
const TAG: usize = 16;

/// How many times content is sealed, and all sizes that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layers {
    /// Stored as it is.
    Plain,
    /// `AES256` and `KMS`.
    Single,
    /// `KMS_DSSE`: sealed twice under independent keys.
    Double,
}

impl Layers {
    const fn count(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Single => 1,
            Self::Double => 2,
        }
    }

    /// Bytes stored before a segment's ciphertext (its nonces).
    pub const fn header(self) -> usize {
        self.count() * NONCE
    }

    /// Bytes stored after a segment's ciphertext (its tags).
    pub const fn trailer(self) -> usize {
        self.count() * TAG
    }

    /// Bytes by which a stored segment is longer than its plaintext: 0, 28 or 56.
    pub const fn overhead(self) -> usize {
        self.header() + self.trailer()
    }

    /// Bytes of a stored segment that is not the last: 65,536, 65,564 or 65,592.
    pub const fn stored_segment(self) -> usize {
        SEGMENT_SIZE + self.overhead()
    }

    /// Index of the last segment of content of `size` plaintext bytes (0 for empty content).
    pub const fn last_index(self, size: u64) -> u64 {
        size.saturating_sub(1) / SEGMENT_SIZE as u64
    }

    /// Bytes that content of `size` plaintext bytes takes in storage.
    pub const fn stored_size(self, size: u64) -> u64 {
        size + (self.last_index(size) + 1) * self.overhead() as u64
    }

    /// Where the stored bytes of segment `index` begin.
    pub const fn stored_offset(self, index: u64) -> u64 {
        index * self.stored_segment() as u64
    }

    /// Plaintext bytes in segment `index` of content of `size` bytes.
    pub const fn segment_len(self, index: u64, size: u64) -> usize {
        let rest = size.saturating_sub(index * SEGMENT_SIZE as u64);
        if rest < SEGMENT_SIZE as u64 { rest as usize } else { SEGMENT_SIZE }
    }

    /// The segments that hold a plaintext range of content of `size` bytes. An empty range inside the content still
    /// names one segment, so that reading it verifies something.
    pub fn segments_of(self, range: &Range<u64>, size: u64) -> Range<u64> {
        let segment = SEGMENT_SIZE as u64;
        let first = (range.start / segment).min(self.last_index(size));
        let end = range.end.min(size).div_ceil(segment).max(first + 1);
        first..end
    }

    /// The stored bytes of whole segments of content of `size` bytes.
    pub fn stored_range(self, segments: &Range<u64>, size: u64) -> Range<u64> {
        let end = if segments.end > self.last_index(size) {
            self.stored_size(size)
        } else {
            self.stored_offset(segments.end)
        };
        self.stored_offset(segments.start)..end
    }
}

/// The key or keys of one object's content. Never printed; wiped on drop by the cryptographic library.
pub enum ContentKeys {
    /// One layer (`AES256`, `KMS`).
    Single(LessSafeKey),
    /// Two layers under independent keys (`KMS_DSSE`).
    Double {
        /// Seals the plaintext.
        inner: LessSafeKey,
        /// Seals what the inner layer stored.
        outer: LessSafeKey,
    },
}

impl std::fmt::Debug for ContentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "ContentKeys::Single(..)",
            Self::Double { .. } => "ContentKeys::Double(..)",
        })
    }
}

impl ContentKeys {
    /// Keys of content with one layer.
    pub fn single(key: &DataKey) -> Self {
        Self::Single(cipher(key.bytes()))
    }

    /// Keys of content with two layers.
    pub fn double(inner: &DataKey, outer: &DataKey) -> Self {
        Self::Double { inner: cipher(inner.bytes()), outer: cipher(outer.bytes()) }
    }

    /// How many layers these keys make.
    pub fn layers(&self) -> Layers {
        match self {
            Self::Single(_) => Layers::Single,
            Self::Double { .. } => Layers::Double,
        }
    }

    /// Seals one segment in place: `stored` is header room, plaintext, trailer room. Fails with
    /// [`SealError::Library`] when there is no randomness for the nonces.
    pub fn seal(&self, object: ObjectId, index: u64, last: bool, stored: &mut [u8]) -> Result<(), SealError> {
        let aad = Context { object, index, last }.aad();
        match self {
            Self::Single(key) => seal_layer(key, &aad, stored),
            Self::Double { inner, outer } => {
                let end = stored.len().checked_sub(TAG).ok_or(SealError::Corrupt)?;
                let within = stored.get_mut(NONCE..end).ok_or(SealError::Corrupt)?;
                seal_layer(inner, &aad, within)?;
                seal_layer(outer, &aad, stored)
            }
        }
    }
}

/// The AES-256-GCM cipher of a 32-byte key.
pub(crate) fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes"))
}

struct Context {
    object: ObjectId,
    index: u64,
    last: bool,
}

impl Context {
    fn aad(&self) -> [u8; 25] {
        let mut aad = [0; 25];
        aad[..16].copy_from_slice(self.object.as_bytes());
        aad[16..24].copy_from_slice(&self.index.to_be_bytes());
        aad[24] = u8::from(self.last);
        aad
    }
}

/// Seals `nonce room || plaintext || tag room` in place under a fresh random nonce.
pub(crate) fn seal_layer(key: &LessSafeKey, aad: &[u8], record: &mut [u8]) -> Result<(), SealError> {
    let (nonce, body, tag) = split_record(record)?;
    let mut fresh = [0; NONCE];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| SealError::Library)?;
    nonce.copy_from_slice(&fresh);
    let made = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(fresh), Aad::from(aad), body)
        .map_err(|_| SealError::Library)?;
    tag.copy_from_slice(made.as_ref());
    Ok(())
}

/// Opens a record made by [`seal_layer`] in place and returns the plaintext inside it.
pub(crate) fn open_layer<'a>(
    key: &LessSafeKey,
    aad: &[u8],
    record: &'a mut [u8],
) -> Result<&'a mut [u8], SealError> {
    let (nonce, body, tag) = split_record(record)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Corrupt)?;
    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, body).map_err(|_| SealError::Corrupt)
}

/// Nonce, ciphertext and tag of a record.
type Record<'a> = (&'a mut [u8], &'a mut [u8], &'a mut [u8]);

fn split_record(record: &mut [u8]) -> Result<Record<'_>, SealError> {
    let (nonce, rest) = record.split_at_mut_checked(NONCE).ok_or(SealError::Corrupt)?;
    let at = rest.len().checked_sub(TAG).ok_or(SealError::Corrupt)?;
    let (body, tag) = rest.split_at_mut(at);
    Ok((nonce, body, tag))
}

/// Opens segments of one object, in any order.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOpener<'a> {
    keys: &'a ContentKeys,
    object: ObjectId,
}

impl<'a> SegmentOpener<'a> {
    /// An opener for the segments of `object`.
    pub fn new(keys: &'a ContentKeys, object: ObjectId) -> Self {
        Self { keys, object }
    }

    /// Opens segment `index` from `stored` into `plaintext`, which must be exactly as long as the segment's
    /// plaintext. `stored` is scratch afterwards. Fails with [`SealError::Corrupt`] when anything differs from what
    /// was sealed; `plaintext` must not be used then.
    pub fn open_into(
        &self,
        index: u64,
        last: bool,
        stored: &mut [u8],
        plaintext: &mut [u8],
    ) -> Result<(), SealError> {
        let aad = Context { object: self.object, index, last }.aad();
        let (key, record) = match self.keys {
            ContentKeys::Single(key) => (key, stored),
            ContentKeys::Double { inner, outer } => (inner, open_layer(outer, &aad, stored)?),
        };
        let (nonce, body, tag) = split_record(record)?;
        if body.len() != plaintext.len() {
            return Err(SealError::Corrupt);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Corrupt)?;
        // Out of place: the plaintext of neighbouring segments lands side by side without being moved again.
        key.open_separate_gather(nonce, Aad::from(aad), body, tag, plaintext).map_err(|_| SealError::Corrupt)
    }
}

/// Seals a small blob or a manifest that is kept inside the metadata, in one piece, in the format of a last segment
/// 0. Fails with [`SealError::TooLong`] for more than [`SMALL_LIMIT`] bytes.
pub fn seal_small(keys: &ContentKeys, object: ObjectId, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_one(keys, Context { object, index: 0, last: true }, plaintext)
}

/// Opens what [`seal_small`] sealed, reusing its buffer for the plaintext. Fails with [`SealError::Corrupt`] when
/// the bytes, the key or the object are not those of the sealing.
pub fn open_small(keys: &ContentKeys, object: ObjectId, stored: Vec<u8>) -> Result<Vec<u8>, SealError> {
    open_one(keys, Context { object, index: 0, last: true }, stored)
}

/// Seals the annotations of the manifest that is sealed as `manifest`. Their index keeps them apart from its content.
pub fn seal_annotations(keys: &ContentKeys, manifest: ObjectId, text: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_one(keys, Context { object: manifest, index: u64::MAX - 1, last: false }, text)
}

/// Opens what [`seal_annotations`] sealed; fails like [`open_small`].
pub fn open_annotations(
    keys: &ContentKeys,
    manifest: ObjectId,
    stored: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    open_one(keys, Context { object: manifest, index: u64::MAX - 1, last: false }, stored)
}

/// Seals the state of an unfinished upload of `object`. Index `u64::MAX` keeps it apart from content.
pub fn seal_state(keys: &ContentKeys, object: ObjectId, state: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_one(keys, Context { object, index: u64::MAX, last: false }, state)
}

/// Opens what [`seal_state`] sealed; fails like [`open_small`].
pub fn open_state(keys: &ContentKeys, object: ObjectId, stored: Vec<u8>) -> Result<Vec<u8>, SealError> {
    open_one(keys, Context { object, index: u64::MAX, last: false }, stored)
}

fn seal_one(keys: &ContentKeys, context: Context, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > SMALL_LIMIT {
        return Err(SealError::TooLong(plaintext.len()));
    }
    let layers = keys.layers();
    let mut stored = Vec::with_capacity(plaintext.len() + layers.overhead());
    stored.resize(layers.header(), 0);
    stored.extend_from_slice(plaintext);
    stored.resize(plaintext.len() + layers.overhead(), 0);
    keys.seal(context.object, context.index, context.last, &mut stored)?;
    Ok(stored)
}

fn open_one(keys: &ContentKeys, context: Context, mut stored: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let aad = context.aad();
    let layers = keys.layers();
    let len = stored.len().checked_sub(layers.overhead()).ok_or(SealError::Corrupt)?;
    match keys {
        ContentKeys::Single(key) => {
            open_layer(key, &aad, &mut stored)?;
        }
        ContentKeys::Double { inner, outer } => {
            let record = open_layer(outer, &aad, &mut stored)?;
            open_layer(inner, &aad, record)?;
        }
    }
    stored.copy_within(layers.header()..layers.header() + len, 0);
    stored.truncate(len);
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(layers: Layers) -> ContentKeys {
        match layers {
            Layers::Double => {
                ContentKeys::double(&DataKey::generate().unwrap(), &DataKey::generate().unwrap())
            }
            _ => ContentKeys::single(&DataKey::generate().unwrap()),
        }
    }

    fn layers() -> impl Strategy<Value = Layers> {
        prop_oneof![Just(Layers::Single), Just(Layers::Double)]
    }

    #[test]
    fn sizes_at_segment_borders() {
        let single = Layers::Single;
        assert_eq!(single.stored_segment(), 65_564);
        assert_eq!(Layers::Double.stored_segment(), 65_592);
        let stored = |size| single.stored_size(size);
        assert_eq!([0, 1, 65_535, 65_536].map(stored), [28, 29, 65_563, 65_564]);
        assert_eq!([65_537, 131_072, 131_073].map(stored), [65_593, 131_128, 131_157]);
        assert_eq!([0, 1, 65_536, 65_537].map(|size| single.last_index(size)), [0, 0, 0, 1]);
        assert_eq!(Layers::Plain.stored_size(0), 0);
        assert_eq!(single.segments_of(&(65_535..65_537), 131_072), 0..2);
        assert_eq!(single.segments_of(&(65_536..65_536), 131_072), 1..2);
        assert_eq!(single.stored_range(&(1..2), 65_537), 65_564..65_593);
    }

    proptest! {
        #[test]
        fn a_range_maps_to_stored_bytes_that_hold_it(
            size in 1u64..400_000, a in 0u64..400_000, b in 0u64..400_000, layers in layers()
        ) {
            let (a, b) = (a % (size + 1), b % (size + 1));
            let range = a.min(b)..a.max(b);
            let segments = layers.segments_of(&range, size);
            prop_assert!(segments.end <= layers.last_index(size) + 1);
            prop_assert!(segments.start * SEGMENT_SIZE as u64 <= range.start);
            prop_assert!(range.is_empty() || segments.end * SEGMENT_SIZE as u64 >= range.end);
            let stored = layers.stored_range(&segments, size);
            let expected: u64 = segments
                .map(|index| (layers.segment_len(index, size) + layers.overhead()) as u64)
                .sum();
            prop_assert_eq!(stored.end - stored.start, expected);
            prop_assert!(stored.end <= layers.stored_size(size));
        }

        #[test]
        fn small_bytes_come_back_and_any_flip_is_seen(
            text in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
            bit in 0u8..8, layers in layers()
        ) {
            let keys = keys(layers);
            let object = ObjectId::random();
            let sealed = seal_small(&keys, object, &text).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + layers.overhead());
            prop_assert_eq!(open_small(&keys, object, sealed.clone()).unwrap(), text);
            let mut flipped = sealed.clone();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(open_small(&keys, object, flipped), Err(SealError::Corrupt));
            let mut cut = sealed.clone();
            cut.truncate(at.index(sealed.len()));
            prop_assert_eq!(open_small(&keys, object, cut), Err(SealError::Corrupt));
            prop_assert_eq!(open_small(&keys, ObjectId::random(), sealed), Err(SealError::Corrupt));
        }
    }

    #[test]
    fn the_last_mark_and_the_index_are_authenticated() {
        let keys = keys(Layers::Single);
        let object = ObjectId::random();
        let mut sealed = vec![7; 10 + 28];
        keys.seal(object, 3, false, &mut sealed).unwrap();
        let open = |index, last| {
            let mut plain = [0; 10];
            SegmentOpener::new(&keys, object)
                .open_into(index, last, &mut sealed.clone(), &mut plain)
                .map(|()| plain)
        };
        assert_eq!(open(3, false), Ok([7; 10]));
        assert_eq!(open(3, true), Err(SealError::Corrupt));
        assert_eq!(open(4, false), Err(SealError::Corrupt));
    }

    #[test]
    fn equal_plaintexts_are_stored_differently() {
        let keys = keys(Layers::Single);
        let object = ObjectId::random();
        let once = seal_small(&keys, object, b"same").unwrap();
        assert_ne!(once, seal_small(&keys, object, b"same").unwrap());
        assert!(matches!(seal_small(&keys, object, &[0; SMALL_LIMIT + 1]), Err(SealError::TooLong(_))));
        let state = seal_state(&keys, object, b"same").unwrap();
        assert_eq!(
            open_small(&keys, object, state.clone()),
            Err(SealError::Corrupt),
            "a state is not content"
        );
        assert_eq!(open_state(&keys, object, state).unwrap(), b"same");
    }
}
