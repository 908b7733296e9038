//! Temporary credentials: made, and recognised again.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use wharf_types::{AccountId, Timestamp};
use zeroize::Zeroizing;

use super::Session;
use crate::accounts::{KEY_ID_ALPHABET, SECRET_ALPHABET, random_text};
use crate::{Caller, Registry, RegistryError};

/// What every id of a temporary access key begins with.
const PREFIX: &str = "ASIA";
const KEY_ID: usize = 20;
/// Characters of an id that say whose it is, as nothing else is kept of it.
const ACCOUNT: usize = 8;
const SECRET: usize = 40;
/// Longer text is no token of ours and is not even opened.
const LONGEST: usize = 64 * 1024;

/// New temporary credentials; nothing of them is kept.
#[derive(Clone)]
pub struct SessionCredentials {
    /// `ASIA` and 16 of `[A-Z2-7]`.
    pub access_key_id: String,
    /// 40 characters of base64's alphabet.
    pub secret_access_key: Zeroizing<String>,
    /// What every request must carry.
    pub session_token: String,
    /// From when on they are refused.
    pub expires_at: Timestamp,
}

impl fmt::Debug for SessionCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What the verification of a signature needs to know of a temporary key.
#[derive(Clone)]
pub struct SessionKey {
    /// The secret access key.
    pub secret: Zeroizing<String>,
    /// Who uses it, as they are now.
    pub caller: Caller,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").field("identity", &self.caller.identity).finish_non_exhaustive()
    }
}

impl Registry {
    /// Makes credentials for a session.
    pub(super) fn issue_session(&self, session: &Session) -> Result<SessionCredentials, RegistryError> {
        let random = random_text(KEY_ID - PREFIX.len() - ACCOUNT, KEY_ID_ALPHABET)?;
        let access_key_id = format!("{PREFIX}{}{}", account_text(session.account), &*random);
        let secret_access_key = random_text(SECRET, SECRET_ALPHABET)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(1024));
        plain.extend_from_slice(access_key_id.as_bytes());
        plain.extend_from_slice(secret_access_key.as_bytes());
        plain.extend_from_slice(&session.encode());
        let sealed = self.inner.sealers.session.seal(&plain);
        let session_token = sealed.map_err(|error| RegistryError::Internal(error.to_string()))?;
        Ok(SessionCredentials {
            access_key_id,
            secret_access_key,
            session_token,
            expires_at: session.expires_at,
        })
    }

    /// The temporary key with this id, if `token` was issued with it and its principal still exists; over or not, which
    /// is for the caller to look at when the signature has proved genuine.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn authenticate_session(
        &self,
        access_key_id: &str,
        token: &str,
    ) -> Result<Option<SessionKey>, RegistryError> {
        let opened = self.open_anywhere(|| self.open_session(access_key_id, token).ok_or(())).await;
        let Ok((secret, session)) = opened else { return Ok(None) };
        let mut presented = [0; 32];
        presented.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let expires_at = session.expires_at;
        let caller = self.session_caller(&presented, access_key_id, session).await?;
        Ok(caller.map(|caller| SessionKey { secret, caller, expires_at }))
    }

    fn open_session(&self, access_key_id: &str, token: &str) -> Option<(Zeroizing<String>, Session)> {
        if token.len() > LONGEST {
            return None;
        }
        let plain = Zeroizing::new(self.inner.sealers.session.open(token).ok()?);
        let (id, rest) = plain.split_at_checked(KEY_ID)?;
        let (secret, session) = rest.split_at_checked(SECRET)?;
        if id != access_key_id.as_bytes() {
            return None;
        }
        let secret = Zeroizing::new(std::str::from_utf8(secret).ok()?.to_owned());
        Some((secret, Session::decode(session)?))
    }
}

/// The account a temporary access key is of, as its id says; `None` for other ids.
pub(super) fn account_of_key(access_key_id: &str) -> Option<AccountId> {
    let text = access_key_id.strip_prefix(PREFIX).filter(|rest| rest.len() == KEY_ID - PREFIX.len())?;
    let digit = |byte: u8| KEY_ID_ALPHABET.iter().position(|known| *known == byte);
    let number =
        text.bytes().take(ACCOUNT).try_fold(0_u64, |sum, byte| Some(sum * 32 + digit(byte)? as u64))?;
    format!("{number:012}").parse().ok()
}

/// Twelve digits are 40 bits, eight of the alphabet's 32 characters.
fn account_text(account: AccountId) -> String {
    let number: u64 = account.as_str().parse().unwrap_or_default();
    let at = |place: u32| char::from(KEY_ID_ALPHABET[(number >> (5 * place)) as usize % 32]);
    (0..ACCOUNT as u32).rev().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_key_s_id_says_whose_it_is() {
        for digits in ["000000000001", "123456789012", "999999999999"] {
            let account: AccountId = digits.parse().unwrap();
            let text = account_text(account);
            assert_eq!(text.len(), ACCOUNT);
            assert_eq!(account_of_key(&format!("ASIA{text}ABCDEFGH")), Some(account));
        }
        for other in ["", "AKIAABCDEFGHIJKLMNOP", "ASIAABCD", "ASIAabcdefghijklmnop", "ASIA7777777777777777"]
        {
            assert_eq!(account_of_key(other), None, "{other}");
        }
    }
}
