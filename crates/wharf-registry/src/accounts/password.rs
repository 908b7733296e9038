//! Registry passwords: issued by GetAuthorizationToken, presented with every request of `docker`.
//!
//! A password says who, never what they may. Opening one is remembered under its hash; whether its key still counts
//! is looked up every time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use wharf_iam::token::{Token, TokenError};
use wharf_types::{Region, RegistryRef, Timestamp};

use super::AccessKeyRecord;
use crate::sessions::Session;
use crate::{Caller, Registry, RegistryError};

/// Opened passwords kept in memory.
const OPENED: usize = 4096;
/// Longer text is no password of ours and is not even hashed.
const LONGEST: usize = 64 * 1024;

/// Principal id of passwords that stand for nobody; no account, user or role has it.
const ANONYMOUS: &str = "anonymous";

/// Why a password is refused.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Not ours, for another region, or its access key is switched off or gone.
    #[error("the authorization token is invalid")]
    Invalid,
    /// Genuine, but over.
    #[error("Your authorization token has expired. Reauthenticate and try again.")]
    Expired,
    /// It could not be checked.
    #[error(transparent)]
    Store(#[from] RegistryError),
}

/// Passwords by their hash, so that none is kept in memory.
#[derive(Default)]
pub(super) struct OpenedTokens(RwLock<HashMap<[u8; 32], Arc<Token>>>);

impl OpenedTokens {
    fn get(&self, hash: &[u8; 32]) -> Option<Arc<Token>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    fn insert(&self, hash: [u8; 32], token: &Arc<Token>) {
        let mut opened = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= OPENED {
            opened.clear();
        }
        opened.insert(hash, Arc::clone(token));
    }
}

impl Registry {
    /// Issues a password to a caller for one region, and says until when it is good. `ttl`: the option's (12 h)
    /// unless given.
    ///
    /// # Panics
    /// When the operating system has no randomness, without which nothing safe can be issued.
    pub fn issue_token(
        &self,
        caller: &Caller,
        region: &Region,
        ttl: Option<Duration>,
    ) -> (String, Timestamp) {
        let issued_at = self.inner.clock.now();
        let expires_at = issued_at.plus(ttl.unwrap_or(self.inner.options.token_ttl));
        let identity = &caller.identity;
        // A password of temporary credentials is no better than they are.
        let expires_at = caller.session().map_or(expires_at, |session| expires_at.min(session.expires_at));
        let token = Token {
            access_key_id: identity.access_key_id.clone(),
            principal_id: identity.principal_id.clone(),
            account: identity.account,
            region: region.clone(),
            issued_at,
            expires_at,
            session: caller.session().map(Session::encode),
        };
        let sealed = self.inner.keys.tokens().ok().and_then(|tokens| tokens.seal(&token).ok());
        (sealed.expect("the operating system gives randomness"), expires_at)
    }

    /// Who presents this password to a registry in `region`.
    ///
    /// # Errors
    /// [`PasswordError`]; a password of another region is refused like a wrong one.
    pub async fn authenticate_password(
        &self,
        password: &str,
        region: &Region,
    ) -> Result<Caller, PasswordError> {
        let (hash, token) = self.open_anywhere(|| self.open_token(password)).await?;
        self.judge(&token, region)?;
        if token.principal_id == ANONYMOUS {
            return Ok(Caller::anonymous(token.account));
        }
        if let Some(session) = &token.session {
            let session = Session::decode(session).ok_or(PasswordError::Invalid)?;
            let caller = self.session_caller(&hash, &token.access_key_id, session).await?;
            return caller.ok_or(PasswordError::Invalid);
        }
        let record = self.access_key(&token.access_key_id).await?;
        key_holder(&token, record.as_deref())
    }

    /// Issues a password that stands for nobody, for hosts that hear callers without credentials: clients that cannot
    /// do without one are content with it.
    ///
    /// # Panics
    /// When the operating system has no randomness, without which nothing safe can be issued.
    pub fn issue_anonymous_token(&self, registry: &RegistryRef, ttl: Duration) -> (String, Timestamp) {
        let caller = Caller::anonymous(registry.account);
        self.issue_token(&caller, &registry.region, Some(ttl))
    }

    /// As [`authenticate_password`](Self::authenticate_password), on the calling thread: `None` when the access key
    /// is not in memory.
    pub fn authenticate_password_now(
        &self,
        password: &str,
        region: &Region,
    ) -> Option<Result<Caller, PasswordError>> {
        if !self.is_current() {
            return None;
        }
        let opened = self.open_token(password);
        let judged = opened.and_then(|(hash, token)| self.judge(&token, region).map(|()| (hash, token)));
        let (hash, token) = match judged {
            Ok(opened) => opened,
            // Another node may have sealed it with a newer key.
            Err(PasswordError::Invalid) if self.has_peers() => return None,
            Err(refused) => return Some(Err(refused)),
        };
        if token.principal_id == ANONYMOUS {
            return Some(Ok(Caller::anonymous(token.account)));
        }
        if token.session.is_some() {
            return self.inner.principals.session(&hash).map(Ok);
        }
        let record = self.inner.access_keys.records.get(&token.access_key_id)?;
        Some(key_holder(&token, Some(&record)))
    }

    /// The region a genuine password was issued for, over or not: on a bare host, the registry is the caller's own.
    pub fn password_region(&self, password: &str) -> Option<Region> {
        self.open_token(password).ok().map(|(_, token)| token.region.clone())
    }

    /// When a password that was accepted is over.
    pub fn password_expiry(&self, password: &str) -> Option<Timestamp> {
        self.open_token(password).ok().map(|(_, token)| token.expires_at)
    }

    /// Opens a password, whether it is over or not; with its hash.
    fn open_token(&self, password: &str) -> Result<([u8; 32], Arc<Token>), PasswordError> {
        if password.len() > LONGEST {
            return Err(PasswordError::Invalid);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, password.as_bytes()).as_ref());
        if let Some(token) = self.inner.access_keys.opened.get(&hash) {
            return Ok((hash, token));
        }
        let token = match self.inner.keys.tokens()?.open(password, self.inner.clock.now()) {
            Ok(token) => Arc::new(token),
            // Not remembered: a client that goes on presenting it must not push out those that count.
            Err(TokenError::Expired(token)) => return Ok((hash, Arc::new(*token))),
            Err(TokenError::Invalid(_)) => return Err(PasswordError::Invalid),
        };
        self.inner.access_keys.opened.insert(hash, &token);
        Ok((hash, token))
    }

    /// Whether a password is for this region and not over.
    fn judge(&self, token: &Token, region: &Region) -> Result<(), PasswordError> {
        if token.region != *region {
            return Err(PasswordError::Invalid);
        }
        if token.expires_at <= self.inner.clock.now() {
            return Err(PasswordError::Expired);
        }
        Ok(())
    }
}

/// The holder of the access key that a password was issued to, if the key still counts and is still the same one's.
fn key_holder(token: &Token, record: Option<&AccessKeyRecord>) -> Result<Caller, PasswordError> {
    record
        .filter(|record| record.active)
        .filter(|record| record.caller.identity.principal_id == token.principal_id)
        .map(|record| record.caller.clone())
        .ok_or(PasswordError::Invalid)
}
