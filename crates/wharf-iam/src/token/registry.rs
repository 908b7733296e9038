//! The registry password: who it was issued to and until when, never what they may do.

use std::fmt;

use wharf_types::{AccountId, Region, Timestamp};

use super::sealer::{OpenError, Purpose, SealError, Sealer, SealingKey};

/// What a registry password says. It carries identity, never rights: those are looked up when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The access key it was issued to; the token dies with the key.
    pub access_key_id: String,
    /// The unique id of the principal, which a later principal of the same name does not get.
    pub principal_id: String,
    /// The account whose registry a bare host stands for.
    pub account: AccountId,
    /// The region whose registry a bare host stands for.
    pub region: Region,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// What a role's session needs to be evaluated again, opaque here.
    pub session: Option<Vec<u8>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("access_key_id", &self.access_key_id)
            .field("account", &self.account)
            .field("region", &self.region)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A password that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a password of this deployment.
    #[error("registry token is invalid")]
    Invalid(#[source] OpenError),
    /// Genuine, but over. It is handed back for the audit log.
    #[error("registry token has expired")]
    Expired(Box<Token>),
}

/// Issues and opens registry passwords.
#[derive(Debug)]
pub struct TokenSealer(Sealer);

impl TokenSealer {
    /// A sealer with these keys, the newest first.
    ///
    /// # Errors
    /// No key, or two with the same id.
    pub fn new(keys: &[SealingKey]) -> Result<Self, SealError> {
        Sealer::new(Purpose::RegistryToken, keys).map(Self)
    }

    /// The password of a token: base64url, about 150 characters.
    ///
    /// # Errors
    /// [`SealError::Crypto`] only.
    pub fn seal(&self, token: &Token) -> Result<String, SealError> {
        self.0.seal(&encode(token))
    }

    /// Opens a password and checks that it is not over.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for any text this deployment did not issue; [`TokenError::Expired`] from
    /// `expires_at` on.
    pub fn open(&self, password: &str, now: Timestamp) -> Result<Token, TokenError> {
        let plain = self.0.open(password).map_err(TokenError::Invalid)?;
        let token = decode(&plain).ok_or(TokenError::Invalid(OpenError::Malformed))?;
        if token.expires_at <= now { Err(TokenError::Expired(Box::new(token))) } else { Ok(token) }
    }
}

const WITHOUT_SESSION: u8 = 0;
const WITH_SESSION: u8 = 1;

/// `kind (1) | issued (8) | expires (8) | account (12) | length-prefixed: key id, principal id, region, session`.
fn encode(token: &Token) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.push(if token.session.is_some() { WITH_SESSION } else { WITHOUT_SESSION });
    out.extend_from_slice(&token.issued_at.as_micros().to_be_bytes());
    out.extend_from_slice(&token.expires_at.as_micros().to_be_bytes());
    out.extend_from_slice(token.account.as_str().as_bytes());
    push_block(&mut out, token.access_key_id.as_bytes());
    push_block(&mut out, token.principal_id.as_bytes());
    push_block(&mut out, token.region.as_str().as_bytes());
    if let Some(session) = &token.session {
        push_block(&mut out, session);
    }
    out
}

/// Seven bits of length a byte, least significant first, then the bytes.
fn push_block(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

fn decode(plain: &[u8]) -> Option<Token> {
    let mut rest = plain;
    let [kind] = take_array::<1>(&mut rest)?;
    let issued_at = Timestamp::from_micros(i64::from_be_bytes(take_array(&mut rest)?));
    let expires_at = Timestamp::from_micros(i64::from_be_bytes(take_array(&mut rest)?));
    let account = std::str::from_utf8(&take_array::<12>(&mut rest)?).ok()?.parse().ok()?;
    let access_key_id = take_text(&mut rest)?;
    let principal_id = take_text(&mut rest)?;
    let region = take_text(&mut rest)?.parse().ok()?;
    let session = match kind {
        WITHOUT_SESSION => None,
        WITH_SESSION => Some(take_block(&mut rest)?.to_vec()),
        _ => return None,
    };
    let token = Token { access_key_id, principal_id, account, region, issued_at, expires_at, session };
    rest.is_empty().then_some(token)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let [byte] = take_array::<1>(rest)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (block, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            return Some(block);
        }
    }
    None
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(take_block(rest)?).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer() -> TokenSealer {
        TokenSealer::new(&[SealingKey::new(1, [9; 32])]).unwrap()
    }

    fn token() -> Token {
        Token {
            access_key_id: "AKIAEXAMPLEEXAMPLE00".into(),
            principal_id: "123456789012".into(),
            account: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            issued_at: Timestamp::from_micros(1_000_000),
            expires_at: Timestamp::from_micros(2_000_000),
            session: None,
        }
    }

    #[test]
    fn a_password_opens_until_it_is_over() {
        let password = sealer().seal(&token()).unwrap();
        assert!(password.len() < 200, "{}", password.len());
        assert_eq!(sealer().open(&password, Timestamp::from_micros(1_999_999)), Ok(token()));
        assert_eq!(
            sealer().open(&password, Timestamp::from_micros(2_000_000)),
            Err(TokenError::Expired(Box::new(token())))
        );
    }

    #[test]
    fn a_stranger_is_invalid_not_expired() {
        let other = TokenSealer::new(&[SealingKey::new(1, [8; 32])]).unwrap();
        let password = other.seal(&token()).unwrap();
        assert_eq!(
            sealer().open(&password, Timestamp::from_micros(i64::MAX)),
            Err(TokenError::Invalid(OpenError::Forged))
        );
        assert_eq!(
            sealer().open("", Timestamp::from_micros(0)),
            Err(TokenError::Invalid(OpenError::Malformed))
        );
    }

    #[test]
    fn a_cut_or_longer_encoding_is_refused() {
        let whole = encode(&Token { session: Some(vec![1, 2, 3]), ..token() });
        assert!(decode(&whole).is_some());
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_none(), "cut at {cut}");
        }
        assert!(decode(&[&whole[..], b"x"].concat()).is_none());
    }

    proptest! {
        #[test]
        fn tokens_go_both_ways(
            id in ".{0,200}",
            principal in ".{0,20}",
            issued in any::<i64>(),
            session in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20_000)),
        ) {
            let token = Token {
                access_key_id: id,
                principal_id: principal,
                issued_at: Timestamp::from_micros(issued),
                session,
                ..token()
            };
            prop_assert_eq!(decode(&encode(&token)), Some(token));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&bytes);
            let _ = decode(&[&[0; 17][..], b"123456789012", &bytes[..]].concat());
        }
    }
}
