//! The name of an object in storage.

use std::fmt;
use std::str::FromStr;

/// The 128-bit name of one object. Never used twice, so that neither a late writer nor a late delete can
/// touch anybody else's bytes. Shown as 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 16]);

/// The text is not 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an object id has 32 lowercase hexadecimal digits")]
pub struct ObjectIdError;

impl ObjectId {
    /// A fresh random id.
    ///
    /// # Panics
    /// When the operating system has no randomness, without which nothing safe can be stored.
    pub fn random() -> Self {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).expect("the operating system gives randomness");
        Self(id)
    }

    /// A fresh id for content that is kept in the metadata: the time, then 64 random bits. Rows that are inserted
    /// together then lie together in the trees of their ids.
    ///
    /// # Panics
    /// As [`random`](Self::random).
    pub fn random_after(now_micros: i64) -> Self {
        let mut id = Self::random();
        id.0[..8].copy_from_slice(&now_micros.to_be_bytes());
        id
    }

    /// The id of these bytes, as kept in the metadata.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ObjectIdError);
        }
        hex::decode_to_slice(text, &mut id).map_err(|_| ObjectIdError)?;
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_id_agree_in_both_directions() {
        let id = ObjectId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, ObjectId::random());
        let (early, late) = (ObjectId::random_after(1 << 40), ObjectId::random_after((1 << 40) + 1));
        assert!(early < late && early.to_string() < late.to_string());
        assert_ne!(late, ObjectId::random_after((1 << 40) + 1));
        assert_eq!(ObjectId::from_bytes([0xAB; 16]).to_string(), "ab".repeat(16));
        for text in ["", "ab", &"AB".repeat(16), &"ab".repeat(17), &"zz".repeat(16)] {
            assert_eq!(text.parse::<ObjectId>(), Err(ObjectIdError), "{text}");
        }
    }
}
