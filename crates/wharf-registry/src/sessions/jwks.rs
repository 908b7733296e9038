//! The public keys of OIDC issuers: from a file or a URL that the operator names, else from where the issuer's
//! discovery document says they are.
//!
//! Keys that were fetched are kept. They are fetched again when they are old, and when a token names a key that is not
//! among them, but not more often than [`PAUSE`]; and they go on counting while the issuer cannot be reached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use wharf_iam::web_identity::{IdentityToken, IdentityTokenError, KeySet};
use wharf_types::Timestamp;

use crate::fetch::{FetchError, Reach, fetch};
use crate::{IamError, JwksSource, Registry};

/// Bytes of a key set or discovery document.
const LIMIT: usize = 256 << 10;
/// How old keys may become before they are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// The least time between two attempts at one issuer.
const PAUSE: Duration = Duration::from_secs(10);
/// Issuers whose keys are kept.
const ISSUERS: usize = 1000;

/// What is known of issuers' keys.
#[derive(Default)]
pub(crate) struct IssuerKeys(Mutex<HashMap<String, Arc<Issuer>>>);

#[derive(Default)]
struct Issuer {
    known: Mutex<Known>,
    /// Held by whoever fetches, so that one does.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Option<(Timestamp, Arc<KeySet>)>,
    /// The last attempt and how it failed, if it did.
    tried: Option<(Timestamp, Option<IamError>)>,
}

impl Known {
    /// The keys, if they need not be fetched again for this token.
    fn settled(&self, token: &IdentityToken, now: Timestamp) -> Option<Arc<KeySet>> {
        let (since, keys) = self.keys.as_ref()?;
        (now < since.plus(FRESH) && token.has_key_in(keys)).then(|| Arc::clone(keys))
    }

    /// The keys, however old, or why there are none.
    fn whatever(&self) -> Result<Arc<KeySet>, IamError> {
        match (&self.keys, &self.tried) {
            (Some((_, keys)), _) => Ok(Arc::clone(keys)),
            (None, Some((_, Some(error)))) => Err(error.clone()),
            (None, _) => Err(no_keys()),
        }
    }
}

impl IssuerKeys {
    fn of(&self, issuer: &str) -> Arc<Issuer> {
        let mut issuers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issuers.get(issuer) {
            return Arc::clone(known);
        }
        if issuers.len() >= ISSUERS {
            issuers.clear();
        }
        Arc::clone(issuers.entry(issuer.to_owned()).or_default())
    }
}

impl Issuer {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, now: Timestamp, outcome: Result<KeySet, IamError>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(keys) => (known.keys, known.tried) = (Some((now, Arc::new(keys))), Some((now, None))),
            Err(error) => known.tried = Some((now, Some(error))),
        }
    }
}

impl Registry {
    /// The keys to verify a token of `issuer` (without its scheme) with. The issuer is one that an account trusts:
    /// nobody else's URL is ever fetched.
    pub(super) async fn issuer_keys(
        &self,
        issuer: &str,
        token: &IdentityToken,
    ) -> Result<Arc<KeySet>, IamError> {
        if let Some(JwksSource::File(path)) = self.inner.options.jwks.get(issuer) {
            let bytes = tokio::fs::read(path).await.map_err(|error| {
                tracing::warn!(%error, path = %path.display(), "the keys of issuer {issuer} cannot be read");
                no_keys()
            })?;
            return KeySet::parse(&bytes).map(Arc::new).ok_or_else(no_keys);
        }
        let state = self.inner.issuers.of(issuer);
        let clock = self.clock();
        if let Some(keys) = state.known().settled(token, clock.now()) {
            return Ok(keys);
        }
        let _turn = state.fetching.lock().await;
        // Somebody else may have fetched them meanwhile.
        let (known, now) = (state.known(), clock.now());
        if let Some(keys) = known.settled(token, now) {
            return Ok(keys);
        }
        let too_soon = |(at, _): &(Timestamp, Option<IamError>)| now < at.plus(PAUSE) && now >= *at;
        if !known.tried.as_ref().is_some_and(too_soon) {
            let fetched = self.fetch_keys(issuer).await;
            if let Err(error) = &fetched {
                tracing::warn!(%error, "the keys of issuer {issuer} cannot be fetched");
            }
            state.note(now, fetched);
        }
        state.known().whatever()
    }

    async fn fetch_keys(&self, issuer: &str) -> Result<KeySet, IamError> {
        let (url, reach) = match self.inner.options.jwks.get(issuer) {
            Some(JwksSource::Url(url)) => (url.clone(), Reach::Named),
            _ => (discover(issuer).await?, Reach::Public),
        };
        let bytes = fetch(&url, reach, LIMIT).await.map_err(failed)?;
        KeySet::parse(&bytes).ok_or_else(no_keys)
    }
}

/// What is read of a discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Where an issuer says its keys are.
async fn discover(issuer: &str) -> Result<String, IamError> {
    let url = format!("https://{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let bytes = fetch(&url, Reach::Public, LIMIT).await.map_err(failed)?;
    let discovery: Discovery = serde_json::from_slice(&bytes).map_err(|_| no_keys())?;
    // A document that speaks for another issuer says nothing of this one's keys.
    let said = discovery.issuer.strip_prefix("https://").unwrap_or(&discovery.issuer);
    if said.trim_end_matches('/') == issuer.trim_end_matches('/') {
        Ok(discovery.jwks_uri)
    } else {
        Err(no_keys())
    }
}

/// What the client is told. The addresses and the network's own words are for the log.
fn failed(error: FetchError) -> IamError {
    tracing::warn!(error = %chain(&error), "fetching keys failed");
    if error.is_of_the_network() {
        IamError::IdpCommunicationError(
            "The identity provider that was asked to verify the incoming identity token could not be reached"
                .to_owned(),
        )
    } else {
        no_keys()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn no_keys() -> IamError {
    IamError::InvalidIdentityToken(IdentityTokenError::UnknownKey.to_string())
}
