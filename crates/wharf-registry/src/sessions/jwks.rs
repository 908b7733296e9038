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
    keys_named(issuer, &fetch(&url, Reach::Public, LIMIT).await.map_err(failed)?)
}

/// Where a discovery document says the keys of an issuer are.
fn keys_named(issuer: &str, document: &[u8]) -> Result<String, IamError> {
    let discovery: Discovery = serde_json::from_slice(document).map_err(|_| no_keys())?;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::accounts::tests::Fixture;

    const ISSUER: &str = "idp.example/cluster";

    /// An issuer that answers with whatever it is given, and counts how often it was asked.
    struct Local {
        body: Arc<Mutex<String>>,
        asked: Arc<AtomicUsize>,
        serving: JoinHandle<()>,
    }

    impl Local {
        async fn start(body: String) -> (Self, String) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/keys", listener.local_addr().unwrap());
            let (body, asked) = (Arc::new(Mutex::new(body)), Arc::new(AtomicUsize::new(0)));
            let (said, count) = (body.clone(), asked.clone());
            let serving = tokio::spawn(async move {
                loop {
                    let Ok((mut stream, _)) = listener.accept().await else { return };
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    count.fetch_add(1, Ordering::SeqCst);
                    let body = said.lock().unwrap().clone();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            (Self { body, asked, serving }, url)
        }

        fn says(&self, body: impl Into<String>) {
            *self.body.lock().unwrap() = body.into();
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn key_set(ids: &[&str]) -> String {
        let keys = ids.iter().map(|id| {
            format!(r#"{{"kty":"RSA","use":"sig","alg":"RS256","kid":"{id}","n":"AQAB","e":"AQAB"}}"#)
        });
        format!(r#"{{"keys":[{}]}}"#, keys.collect::<Vec<_>>().join(","))
    }

    /// A token whose signature nobody looks at here.
    fn token(key_id: &str) -> IdentityToken {
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        let header = part(format!(r#"{{"alg":"RS256","kid":"{key_id}"}}"#));
        let claims =
            part(r#"{"iss":"https://idp.example/cluster","sub":"s","aud":"a","exp":4000000000}"#.into());
        IdentityToken::parse(&format!("{header}.{claims}.AAAA")).unwrap()
    }

    async fn trusting(ids: &[&str]) -> (Fixture, Local) {
        let (issuer, url) = Local::start(key_set(ids)).await;
        let fixture = Fixture::with(|options| {
            options.jwks.insert(ISSUER.into(), JwksSource::Url(url));
        })
        .await;
        (fixture, issuer)
    }

    /// Whether the keys that count for a token have the one it names.
    async fn knows(fixture: &Fixture, key_id: &str) -> Result<bool, IamError> {
        let token = token(key_id);
        Ok(token.has_key_in(&*fixture.registry.issuer_keys(ISSUER, &token).await?))
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_asked_for_but_not_by_every_token() {
        let (fixture, issuer) = trusting(&["one"]).await;
        for _ in 0..5 {
            assert_eq!(knows(&fixture, "one").await, Ok(true));
        }
        assert_eq!(issuer.asked(), 1, "what was fetched is kept");
        fixture.clock.advance(PAUSE);
        for _ in 0..5 {
            assert_eq!(knows(&fixture, "made-up").await, Ok(false));
        }
        assert_eq!(issuer.asked(), 2, "once, whatever tokens name");
        // The issuer goes over to a new key: the first token that names it finds it, once the pause is over.
        issuer.says(key_set(&["one", "two"]));
        assert_eq!(knows(&fixture, "two").await, Ok(false));
        fixture.clock.advance(PAUSE);
        assert_eq!(knows(&fixture, "two").await, Ok(true));
        assert_eq!((knows(&fixture, "one").await, issuer.asked()), (Ok(true), 3));
        // And takes the old one away, which is noticed when the keys are old.
        issuer.says(key_set(&["two"]));
        assert_eq!(knows(&fixture, "one").await, Ok(true));
        fixture.clock.advance(FRESH);
        assert_eq!((knows(&fixture, "two").await, knows(&fixture, "one").await), (Ok(true), Ok(false)));
    }

    #[tokio::test]
    async fn keys_outlive_an_outage_and_none_are_made_up() {
        let (fixture, issuer) = trusting(&["one"]).await;
        assert_eq!(knows(&fixture, "one").await, Ok(true));
        issuer.says("not JSON");
        fixture.clock.advance(FRESH);
        assert_eq!(knows(&fixture, "one").await, Ok(true), "nonsense does not take the keys away");
        issuer.serving.abort();
        let _ = issuer.serving.await;
        fixture.clock.advance(FRESH * 24);
        assert_eq!(knows(&fixture, "one").await, Ok(true), "nor does silence");
        assert_eq!(knows(&fixture, "two").await, Ok(false));

        let (fixture, issuer) = trusting(&[]).await;
        issuer.serving.abort();
        let _ = issuer.serving.await;
        for _ in 0..2 {
            let refused = knows(&fixture, "one").await.unwrap_err();
            assert_eq!(refused.code(), "IDPCommunicationError", "{refused}");
        }
    }

    #[test]
    fn a_discovery_document_speaks_for_its_issuer_alone() {
        let document =
            |issuer: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://keys.example/k"}}"#);
        for same in ["https://idp.example/cluster", "https://idp.example/cluster/"] {
            let named = keys_named(ISSUER, document(same).as_bytes());
            assert_eq!(named.as_deref(), Ok("https://keys.example/k"));
        }
        for other in [document("https://idp.example"), document("https://evil.example/cluster"), "{}".into()]
        {
            assert!(keys_named(ISSUER, other.as_bytes()).is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn discovery_reaches_no_address_that_is_not_public() {
        let fixture = Fixture::new().await;
        let refused = fixture.registry.issuer_keys("127.0.0.1:1/x", &token("one")).await.unwrap_err();
        assert!(["InvalidIdentityToken", "IDPCommunicationError"].contains(&refused.code()), "{refused}");
    }
}
