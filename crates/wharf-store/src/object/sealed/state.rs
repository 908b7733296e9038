//! What an unfinished upload needs to go on after a restart.

use crate::object::WriterState;
use crate::seal::Layers;

const FORMAT: u8 = 1;

/// Everything needed to go on with an upload from a checkpoint. Holds plaintext (the unsealed tail and the hash
/// state): keep it sealed, see [`crate::seal::segment::seal_state`].
#[derive(Clone, PartialEq, Eq)]
pub struct UploadState {
    /// Plaintext bytes received.
    pub offset: u64,
    /// Index of the segment that the tail begins.
    pub next_segment: u64,
    /// Plaintext received but not sealed yet: at most one segment, empty for content stored as it is.
    pub tail: Vec<u8>,
    /// State of SHA-256 after `offset` bytes.
    pub sha256_state: Vec<u8>,
    /// What the store needs to go on.
    pub writer: WriterState,
}

impl std::fmt::Debug for UploadState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadState").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl UploadState {
    /// Bytes in storage at this checkpoint.
    pub fn stored_len(&self, layers: Layers) -> u64 {
        match layers {
            Layers::Plain => self.offset,
            _ => layers.stored_offset(self.next_segment),
        }
    }

    /// The state as bytes, up to about 65 KiB and what the store keeps.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.next_segment.to_be_bytes());
        for part in [&self.tail, &self.sha256_state, &self.writer.0] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, mut rest) = bytes.split_first()? else { return None };
        let offset = take_number(&mut rest)?;
        let next_segment = take_number(&mut rest)?;
        let mut part = || {
            let len = usize::try_from(take_number(&mut rest)?).ok()?;
            let (part, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(part.to_vec())
        };
        let (tail, sha256_state, writer) = (part()?, part()?, WriterState(part()?));
        rest.is_empty().then_some(Self { offset, next_segment, tail, sha256_state, writer })
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_exact() {
        let state = UploadState {
            offset: 70_000,
            next_segment: 1,
            tail: vec![1; 4464],
            sha256_state: vec![2; 105],
            writer: WriterState(vec![3, 4]),
        };
        let bytes = state.encode();
        assert_eq!(UploadState::decode(&bytes), Some(state.clone()));
        assert_eq!((0..bytes.len()).find(|&cut| UploadState::decode(&bytes[..cut]).is_some()), None);
        assert_eq!(UploadState::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(state.stored_len(Layers::Single), 65_564);
        assert_eq!(state.stored_len(Layers::Plain), 70_000);
    }
}
