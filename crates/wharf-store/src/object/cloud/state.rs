//! What another node needs to go on with an object: kept in the upload's row as [`WriterState`].

use serde::{Deserialize, Serialize};

use crate::object::WriterState;

/// Form of the state; others are refused.
const FORMAT: u8 = 1;

/// The tail of a checkpoint: what is less than a part. Multipart uploads take no part below 5 MiB but the last, so the
/// tail is kept beside them until it is part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tail {
    /// Few bytes: here.
    Inline(#[serde(with = "hexed")] Vec<u8>),
    /// In an object of its own, under this name beside what else belongs to the unfinished object.
    Aside {
        /// The last part of its key.
        name: String,
        /// Its bytes.
        len: u64,
    },
}

impl Tail {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Aside { len, .. } => *len,
        }
    }
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u8,
    /// The multipart upload.
    pub upload: String,
    /// Bytes of each part.
    pub part_size: u64,
    /// What the store called the parts, in order.
    pub parts: Vec<String>,
    /// What follows them.
    pub tail: Tail,
    /// Objects beside it that nobody needs once this state is recorded.
    pub outdated: Vec<String>,
    /// ETag of an object that an earlier upload was completed to and that this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl State {
    pub(super) fn new(
        upload: String,
        part_size: u64,
        parts: Vec<String>,
        tail: Tail,
        outdated: Vec<String>,
    ) -> Self {
        Self { format: FORMAT, upload, part_size, parts, tail, outdated, replaces: None }
    }

    /// Bytes that are durable.
    pub(super) fn len(&self) -> u64 {
        self.part_size.saturating_mul(self.parts.len() as u64).saturating_add(self.tail.len())
    }

    pub(super) fn encode(&self) -> WriterState {
        WriterState(serde_json::to_vec(self).unwrap_or_default())
    }

    /// `None` for anything that [`Self::encode`] has not written.
    pub(super) fn decode(state: &WriterState) -> Option<Self> {
        let state: Self = serde_json::from_slice(&state.0).ok()?;
        (state.format == FORMAT && state.part_size > 0).then_some(state)
    }
}

mod hexed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        hex::decode(&*text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for tail in
            [Tail::Inline(vec![0, 255, 7]), Tail::Aside { name: "tail-00ff".to_owned(), len: 5 << 20 }]
        {
            let parts = vec!["\"etag\"".to_owned(), "b".to_owned()];
            let state = State::new("upload".to_owned(), 8 << 20, parts, tail, vec!["tail-1".to_owned()]);
            assert_eq!(State::decode(&state.encode()), Some(state.clone()));
            assert_eq!(state.len(), (16 << 20) + state.tail.len());
            let later = State { format: 2, ..state };
            assert_eq!(State::decode(&later.encode()), None);
        }
        assert_eq!(State::decode(&WriterState::default()), None);
        assert_eq!(State::decode(&WriterState(b"{}".to_vec())), None);
    }
}
