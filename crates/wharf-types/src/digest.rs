//! Content digests, `sha256:<64 hex>` and `sha512:<128 hex>` (OCI image-spec, "Digests").

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A content digest of a registered algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// The default of every client.
    Sha256([u8; 32]),
    /// Optional in the OCI specification; supported everywhere here.
    Sha512([u8; 64]),
}

/// Which hash a digest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Text that is not a digest this registry can check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:hex` shape, wrong length, or upper-case hex.
    #[error("not a digest: {0:?}")]
    Syntax(String),
    /// A well-formed digest of an algorithm that is neither sha256 nor sha512.
    #[error("unsupported digest algorithm {0:?}")]
    Algorithm(String),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// The SHA-512 digest of `bytes`.
    pub fn sha512(bytes: &[u8]) -> Self {
        Self::Sha512(sha2::Sha512::digest(bytes).into())
    }

    /// The digest of `bytes` under `algorithm`.
    pub fn of(algorithm: DigestAlgorithm, bytes: &[u8]) -> Self {
        match algorithm {
            DigestAlgorithm::Sha256 => Self::sha256(bytes),
            DigestAlgorithm::Sha512 => Self::sha512(bytes),
        }
    }

    /// Which hash it is.
    pub fn algorithm(&self) -> DigestAlgorithm {
        match self {
            Self::Sha256(_) => DigestAlgorithm::Sha256,
            Self::Sha512(_) => DigestAlgorithm::Sha512,
        }
    }

    /// The lower-case hex part, without the algorithm.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(bytes) => hex::encode(bytes),
            Self::Sha512(bytes) => hex::encode(bytes),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(160).collect::<String>();
        let (algorithm, encoded) = text.split_once(':').ok_or_else(|| DigestError::Syntax(shown()))?;
        if encoded.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(DigestError::Syntax(shown()));
        }
        match algorithm {
            "sha256" => decode(encoded).map(Self::Sha256).ok_or_else(|| DigestError::Syntax(shown())),
            "sha512" => decode(encoded).map(Self::Sha512).ok_or_else(|| DigestError::Syntax(shown())),
            _ if is_algorithm(algorithm) && is_encoded(encoded) => {
                Err(DigestError::Algorithm(algorithm.into()))
            }
            _ => Err(DigestError::Syntax(shown())),
        }
    }
}

fn decode<const N: usize>(encoded: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(encoded, &mut bytes).ok()?;
    Some(bytes)
}

/// `algorithm-component *[algorithm-separator algorithm-component]` of the OCI grammar.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 135];
        let (prefix, bytes): (&[u8], &[u8]) = match self {
            Self::Sha256(bytes) => (b"sha256:", bytes),
            Self::Sha512(bytes) => (b"sha512:", bytes),
        };
        let end = prefix.len() + bytes.len() * 2;
        buffer[..prefix.len()].copy_from_slice(prefix);
        hex::encode_to_slice(bytes, &mut buffer[prefix.len()..end])
            .expect("the buffer holds both algorithms");
        f.pad(std::str::from_utf8(&buffer[..end]).expect("hex is ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_blob() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::sha256(b""));
    }

    #[test]
    fn what_is_not_a_digest() {
        let long = format!("sha256:{}", "a".repeat(63));
        let upper = format!("sha256:{}", "A".repeat(64));
        for bad in
            ["", "sha256", "sha256:", "sha256:abc", &long, &upper, "../etc/passwd", "sha256:../x", ":aa"]
        {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::Syntax(_))), "{bad:?}");
        }
        assert_eq!("md5:abcdef".parse::<Digest>(), Err(DigestError::Algorithm("md5".into())));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,200}", bytes in any::<[u8; 32]>()) {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
            let digest = Digest::Sha256(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }
}
