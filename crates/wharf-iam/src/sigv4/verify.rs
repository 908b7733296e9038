//! The verifier, in the order of checks that AWS keeps:
//! parse, date, scope, clock | key look-up, token, signature, token expiry, key status.

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use wharf_types::{Region, Timestamp};

use super::canonical::{canonical_request, is_well_formed};
use super::credential::{Form, Presentation, Scope};
use super::date::SignedDate;
use super::error::{Explanation, SignatureError};
use super::key::{KeyRecord, KeyStatus, Secret, SigningKey, SigningKeyCache};
use super::request::SignedRequest;
use super::{ALGORITHM, TERMINATOR};

/// How far a client's clock may be from ours, seconds. AWS names 15 minutes in the errors of all services here.
const TOLERANCE_SECONDS: u64 = 15 * 60;

/// Used in place of the secret of a key that does not exist, so that the answer takes the same time.
static DUMMY_SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("wharf/there+is+no+key+of+this+id/0000000"));

/// What the endpoint expects of a signature's scope, and what time it is there.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The service that the request is for, e.g. `ecr`.
    pub service: &'a str,
    /// The regions served. `iam` is global: it accepts `us-east-1` besides.
    pub regions: AcceptedRegions<'a>,
    /// The clock.
    pub now: Timestamp,
}

/// The regions an endpoint accepts in a scope.
#[derive(Clone, Copy, Debug)]
pub enum AcceptedRegions<'a> {
    /// Every text that is a region's name.
    Any,
    /// One region, as written.
    Exactly(&'a str),
    /// Those of a list.
    OneOf(&'a [Region]),
}

impl AcceptedRegions<'_> {
    fn accept(&self, region: &str) -> bool {
        match self {
            Self::Any => region.parse::<Region>().is_ok(),
            Self::Exactly(only) => *only == region,
            Self::OneOf(list) => list.iter().any(|one| one.as_str() == region),
        }
    }
}

/// A signature whose form, date, scope and clock are right; whether it is genuine is still open.
///
/// It owns all it needs, so a server can hold it while it reads the body.
#[derive(Clone)]
pub struct Presented {
    form: Form,
    access_key_id: String,
    scope: Scope,
    date: SignedDate,
    now: Timestamp,
    token: Token,
    signature: String,
    /// The canonical request but for the payload's hash, its last line.
    canonical: Vec<u8>,
    /// Values of `x-amz-content-sha256`.
    promised_hashes: Vec<Vec<u8>>,
    well_formed: bool,
}

/// The session token a request carries.
#[derive(Clone)]
enum Token {
    None,
    Signed(Secret),
    /// There, but not covered by the signature or ambiguous: never accepted.
    Unusable,
}

/// How to verify.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions<'a> {
    /// Adds what was signed to the text of a mismatch. Shows a client nothing it did not send, but is long.
    pub explain: bool,
    /// Where derived keys are kept.
    pub cache: Option<&'a SigningKeyCache>,
}

impl Presented {
    /// Reads the signature of a request and checks form, date, scope and clock, in this order.
    ///
    /// # Errors
    /// Everything up to the clock, and what can be seen in the headers: headers that had to be signed and S3's
    /// payload forms.
    pub fn parse(request: &SignedRequest<'_>, endpoint: &Endpoint<'_>) -> Result<Self, SignatureError> {
        let presentation = Presentation::read(request)?;
        check_scope(&presentation, endpoint)?;
        check_clock(&presentation, endpoint)?;
        check_signed_headers(&presentation, request)?;
        let promised_hashes = promised_hashes(request)?;
        let presigned = matches!(presentation.form, Form::Presigned { .. });
        let canonical = canonical_request(request, &presentation.signed_headers, presigned);
        Ok(Self {
            token: Token::of(request, &presentation),
            well_formed: is_well_formed(&presentation.signed_headers),
            form: presentation.form,
            access_key_id: presentation.access_key_id,
            scope: presentation.scope,
            date: presentation.date,
            now: endpoint.now,
            signature: presentation.signature,
            canonical,
            promised_hashes,
        })
    }

    /// The access key id to look up.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The scope; its region is the one the client means.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Header or presigned.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The session token, as far as the signature covers it.
    pub fn session_token(&self) -> Option<&str> {
        match &self.token {
            Token::Signed(token) => Some(token.expose()),
            Token::None | Token::Unusable => None,
        }
    }

    /// Whether the request carries a session token of any kind.
    pub fn has_token(&self) -> bool {
        !matches!(self.token, Token::None)
    }

    /// Checks the signature against the record of its key (`None`: no such key) and the hash of the whole body.
    ///
    /// # Errors
    /// In this order: unknown key, token, signature, end of the token, key switched off.
    pub fn verify(
        &self,
        key: Option<&KeyRecord>,
        body_sha256: &[u8; 32],
        options: &VerifyOptions<'_>,
    ) -> Result<(), SignatureError> {
        // An unknown key takes the same way, cache included, so that the time does not tell which ids exist.
        let (id, secret) = match key {
            Some(record) => (self.access_key_id.as_str(), &record.secret),
            None => ("", &*DUMMY_SECRET),
        };
        let string_to_sign = self.string_to_sign(body_sha256);
        let signing_key = match options.cache {
            Some(cache) => cache.signing_key(id, secret, &self.scope),
            None => SigningKey::derive(secret, &self.scope),
        };
        let expected = signing_key.sign(string_to_sign.as_bytes());
        let genuine = verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes()).is_ok()
            && self.well_formed
            && self.promised_hashes.iter().all(|hash| *hash == hex::encode(body_sha256).as_bytes());

        let record = key.ok_or(SignatureError::UnknownKey)?;
        if !self.token.is_of(record) {
            return Err(SignatureError::WrongToken);
        }
        if !genuine {
            let explanation =
                options.explain.then(|| Box::new(self.explanation(body_sha256, string_to_sign)));
            return Err(SignatureError::Mismatch { explanation });
        }
        if record.expires.is_some_and(|end| end <= self.now) {
            return Err(SignatureError::TokenExpired);
        }
        match record.status {
            KeyStatus::Active => Ok(()),
            KeyStatus::Inactive => Err(SignatureError::InactiveKey),
        }
    }

    fn string_to_sign(&self, body_sha256: &[u8; 32]) -> String {
        string_to_sign(self.date, &self.scope, &self.canonical, body_sha256)
    }

    fn explanation(&self, body_sha256: &[u8; 32], string_to_sign: String) -> Explanation {
        let headers = String::from_utf8_lossy(&self.canonical);
        Explanation { canonical_request: format!("{headers}{}", hex::encode(body_sha256)), string_to_sign }
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("access_key_id", &self.access_key_id)
            .field("scope", &self.scope)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Token {
    fn of(request: &SignedRequest<'_>, presentation: &Presentation) -> Self {
        let mut headers = request.values("x-amz-security-token");
        let header = headers.next();
        match (&presentation.token, header, headers.next()) {
            (None, None, _) => Self::None,
            // The parameter is part of the canonical query, so it is signed or the signature fails.
            (Some(parameter), None, _) => Self::Signed(Secret::new(parameter.as_str())),
            (None, Some(value), None) if is_signed(presentation, "x-amz-security-token") => {
                match std::str::from_utf8(value.trim_ascii()) {
                    Ok(text) => Self::Signed(Secret::new(text)),
                    Err(_) => Self::Unusable,
                }
            }
            _ => Self::Unusable,
        }
    }

    fn is_of(&self, record: &KeyRecord) -> bool {
        match (&record.session_token, self) {
            (None, Self::None) => true,
            (Some(issued), Self::Signed(sent)) => issued.matches(sent.expose()),
            _ => false,
        }
    }
}

/// `AWS4-HMAC-SHA256`, date, scope and the hash of the canonical request, one a line. `canonical` is all of that
/// request but its last line, the body's hash.
pub(super) fn string_to_sign(
    date: SignedDate,
    scope: &Scope,
    canonical: &[u8],
    body_sha256: &[u8; 32],
) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(canonical);
    hash.update(hex::encode(body_sha256).as_bytes());
    let hash = hex::encode(hash.finish());
    let Scope { date: day, region, service } = scope;
    format!("{ALGORITHM}\n{}\n{day}/{region}/{service}/{TERMINATOR}\n{hash}", date.to_basic())
}

fn check_scope(presentation: &Presentation, endpoint: &Endpoint<'_>) -> Result<(), SignatureError> {
    let Presentation { scope, terminator, date, .. } = presentation;
    if terminator != TERMINATOR {
        return Err(SignatureError::Terminator(terminator.clone()));
    }
    if scope.service != endpoint.service {
        return Err(SignatureError::Service(endpoint.service.into()));
    }
    let global = endpoint.service == "iam" && scope.region == "us-east-1";
    if !global && !endpoint.regions.accept(&scope.region) {
        return Err(SignatureError::Region(scope.region.clone()));
    }
    let sent = date.to_basic();
    let day = sent[..8].to_owned();
    if scope.date != day {
        return Err(SignatureError::ScopeDate { scope: scope.date.clone(), day, sent });
    }
    Ok(())
}

fn check_clock(presentation: &Presentation, endpoint: &Endpoint<'_>) -> Result<(), SignatureError> {
    let now = endpoint.now.as_micros().div_euclid(1_000_000);
    let sent = presentation.date;
    let basic = |seconds: i64| SignedDate::from_seconds(seconds).to_basic();
    let latest = now.saturating_add_unsigned(TOLERANCE_SECONDS);
    if sent.seconds() > latest {
        return Err(SignatureError::TooNew { sent: sent.to_basic(), limit: basic(latest), now: basic(now) });
    }
    let tolerance = match presentation.form {
        Form::Header => TOLERANCE_SECONDS,
        // STS allows 15 minutes whatever the request says, and clients rely on it (EKS tokens say 60 seconds).
        Form::Presigned { expires_seconds } if endpoint.service == "sts" => {
            expires_seconds.max(TOLERANCE_SECONDS)
        }
        Form::Presigned { expires_seconds } => expires_seconds,
    };
    let oldest = now.saturating_sub_unsigned(tolerance);
    if sent.seconds() < oldest {
        let (sent, limit, now) = (sent.to_basic(), basic(oldest), basic(now));
        return Err(SignatureError::TooOld { sent, limit, now, tolerance });
    }
    Ok(())
}

/// Headers that decide what a request means must be signed; others may be, or may have been added by a proxy.
fn check_signed_headers(
    presentation: &Presentation,
    request: &SignedRequest<'_>,
) -> Result<(), SignatureError> {
    if !is_signed(presentation, "host") && !is_signed(presentation, ":authority") {
        return Err(SignatureError::UnsignedHeader("'Host' or ':authority'"));
    }
    for (name, shown) in [("x-amz-target", "'X-Amz-Target'"), ("x-amz-date", "'X-Amz-Date'")] {
        if request.values(name).next().is_some() && !is_signed(presentation, name) {
            return Err(SignatureError::UnsignedHeader(shown));
        }
    }
    Ok(())
}

/// Compares without regard to case: a list in the wrong case is refused later, as a mismatch.
fn is_signed(presentation: &Presentation, name: &str) -> bool {
    presentation.signed_headers.split(';').any(|signed| signed.eq_ignore_ascii_case(name))
}

fn promised_hashes(request: &SignedRequest<'_>) -> Result<Vec<Vec<u8>>, SignatureError> {
    let mut hashes = Vec::new();
    for value in request.values("x-amz-content-sha256") {
        let value = value.trim_ascii();
        if value == b"UNSIGNED-PAYLOAD" || value.starts_with(b"STREAMING-") {
            return Err(SignatureError::PayloadForm(String::from_utf8_lossy(value).into_owned()));
        }
        hashes.push(value.to_vec());
    }
    Ok(hashes)
}
