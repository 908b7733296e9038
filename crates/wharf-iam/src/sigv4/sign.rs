//! A signer: the other side of the verifier, for tests, benches and our own requests to AWS-like services.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wharf_types::Timestamp;

use super::canonical::canonical_request;
use super::credential::Scope;
use super::date::SignedDate;
use super::key::{Secret, SigningKey};
use super::request::SignedRequest;
use super::verify::string_to_sign;
use super::{ALGORITHM, TERMINATOR, body_sha256};

/// Headers that proxies and libraries change, which SDKs therefore never sign.
const NEVER_SIGNED: [&str; 9] = [
    "connection",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// Signs requests with one access key for one region and service.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The token of a temporary key.
    pub session_token: Option<String>,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope.
    pub service: String,
}

impl Signer {
    /// A signer with a long-term key.
    pub fn new(access_key_id: &str, secret: &str, region: &str, service: &str) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret: Secret::new(secret),
            session_token: None,
            region: region.into(),
            service: service.into(),
        }
    }

    /// The same with a session token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// Signs all headers of a request, `host` must be among them. Returns the headers to add: `x-amz-date`,
    /// `x-amz-security-token` for temporary keys, `authorization`.
    pub fn sign(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        at: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let date = signed_date(at);
        let mut added = vec![("x-amz-date", date.to_basic())];
        if let Some(token) = &self.session_token {
            added.push(("x-amz-security-token", token.clone()));
        }
        let mut headers = request.headers.to_vec();
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
        let request = SignedRequest { headers: &headers, ..*request };

        let scope = self.scope(date);
        let signed_headers = signed_headers(&request);
        let signature = self.signature(&request, &signed_headers, false, body, date, &scope);
        let Scope { date: day, region, service } = &scope;
        let authorization = format!(
            "{ALGORITHM} Credential={}/{day}/{region}/{service}/{TERMINATOR}, SignedHeaders={signed_headers}, \
             Signature={signature}",
            self.access_key_id
        );
        added.push(("authorization", authorization));
        added
    }

    /// Signs all headers of a request into its target and returns that target. `expires` is cut to whole seconds.
    pub fn presign(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        at: Timestamp,
        expires: Duration,
    ) -> String {
        let date = signed_date(at);
        let scope = self.scope(date);
        let signed_headers = signed_headers(request);
        let Scope { date: day, region, service } = &scope;
        let credential = format!("{}/{day}/{region}/{service}/{TERMINATOR}", self.access_key_id);
        let joint = if request.target.contains('?') { '&' } else { '?' };
        let mut target = format!(
            "{}{joint}X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={}&X-Amz-SignedHeaders={}",
            request.target,
            encode(&credential),
            date.to_basic(),
            expires.as_secs(),
            encode(&signed_headers)
        );
        if let Some(token) = &self.session_token {
            target.push_str("&X-Amz-Security-Token=");
            target.push_str(&encode(token));
        }
        let request = SignedRequest { target: &target, ..*request };
        let signature = self.signature(&request, &signed_headers, true, body, date, &scope);
        format!("{target}&X-Amz-Signature={signature}")
    }

    fn scope(&self, date: SignedDate) -> Scope {
        let day = date.to_basic()[..8].to_owned();
        Scope { date: day, region: self.region.clone(), service: self.service.clone() }
    }

    fn signature(
        &self,
        request: &SignedRequest<'_>,
        signed_headers: &str,
        presigned: bool,
        body: &[u8],
        date: SignedDate,
        scope: &Scope,
    ) -> String {
        let canonical = canonical_request(request, signed_headers, presigned);
        let to_sign = string_to_sign(date, scope, &canonical, &body_sha256(body));
        SigningKey::derive(&self.secret, scope).sign(to_sign.as_bytes())
    }
}

fn signed_date(at: Timestamp) -> SignedDate {
    SignedDate::from_seconds(at.as_micros().div_euclid(1_000_000))
}

fn signed_headers(request: &SignedRequest<'_>) -> String {
    let mut names: Vec<String> = request
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| !NEVER_SIGNED.contains(&name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
