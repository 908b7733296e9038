//! Upload sessions.

use std::fmt;
use std::str::FromStr;

/// The id of an upload session: a UUID that nobody can guess. It is either random, or says when it was issued and
/// carries a tag that only its issuer can make (RFC 9562 version 8: 32 bits of seconds, 28 bits that tell ids of one
/// second apart, 62 bits of tag).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(uuid::Uuid);

/// Text that is not an upload id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id")]
pub struct UploadIdError;

impl UploadId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// An id that was issued `seconds` after the epoch. Of `number` the lower 28 bits count, of the tag of the
    /// [head](Self::head) that results all but the upper two.
    pub fn issued(seconds: u32, number: u32, tag: impl FnOnce([u8; 8]) -> [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        // The version stands between its upper 16 bits and its lower 12.
        let number = (number & 0x0FFF_F000) << 4 | 0x8000 | number & 0xFFF;
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&bytes[..8]);
        bytes[8..].copy_from_slice(&tag(head));
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// When the id says it was issued, in seconds after the epoch; `None` for a random one.
    pub fn issued_at(&self) -> Option<u32> {
        let [a, b, c, d, ..] = *self.as_bytes();
        let is_issued = self.0.get_version_num() == 8 && self.0.get_variant() == uuid::Variant::RFC4122;
        is_issued.then(|| u32::from_be_bytes([a, b, c, d]))
    }

    /// What the tag of an issued id vouches for: everything before it.
    pub fn head(&self) -> [u8; 8] {
        let mut head = [0; 8];
        head.copy_from_slice(&self.as_bytes()[..8]);
        head
    }

    /// The sixteen bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the hyphenated form: the id is also a key in the metadata store.
        if text.len() != 36 {
            return Err(UploadIdError);
        }
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| UploadIdError)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issued_id_keeps_its_time_its_number_and_its_tag() {
        let id = |number| UploadId::issued(1_700_000_000, number, |_| [0xFF; 8]);
        assert_eq!(id(0).issued_at(), Some(1_700_000_000));
        assert_eq!(id(0x0FED_CBA9).to_string(), "6553f100-fedc-8ba9-bfff-ffffffffffff");
        assert_eq!(id(0x0FED_CBA9).to_string().parse(), Ok(id(0x0FED_CBA9)));
        let heads: std::collections::HashSet<_> = (0..28).map(|bit| id(1 << bit).head()).collect();
        assert_eq!(heads.len(), 28, "every bit of the number is kept");
        assert_eq!(id(1 << 28), id(0));
        assert!(id(1) < id(2) && id(0x0FFF_FFFF) < UploadId::issued(1_700_000_001, 0, |_| [0; 8]));
        let mut seen = [0; 8];
        let id = UploadId::issued(1, 2, |head| {
            seen = head;
            [0; 8]
        });
        assert_eq!(seen, id.head(), "the tag is made of what is read later");
        assert_eq!(UploadId::random().issued_at(), None);
    }
}
