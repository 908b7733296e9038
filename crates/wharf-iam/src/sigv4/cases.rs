//! The engine of `wharf sigv4 verify`: recorded requests and keys in, one verdict per request out.
//!
//! It calls the verifier the server calls, so what it says of a request is what the server would say.

use std::collections::HashMap;
use std::io::{self, BufRead};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use wharf_types::Timestamp;

use super::error::{Protocol, SignatureError};
use super::key::{KeyRecord, KeyStatus, Secret};
use super::request::SignedRequest;
use super::verify::{AcceptedRegions, Endpoint, Presented, VerifyOptions};

/// The verdict on one request; serialises to `{"name","ok","accessKeyId"}` or `{"name","ok":false,"code","message"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// The name of the case.
    pub name: String,
    /// Whether the server would accept the signature.
    pub ok: bool,
    /// Who signed, if the signature is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The code of the case's protocol, if it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The text of the case's protocol, if it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Input that cannot be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The keys are not JSON of the documented form.
    #[error("the keys file is not an object of access keys")]
    Keys(#[source] serde_json::Error),
    /// A key's `expires` is no date.
    #[error("key {id}: `expires` is not an RFC 3339 time: {text:?}")]
    KeyExpires {
        /// The access key id.
        id: String,
        /// What stands there.
        text: String,
    },
    /// A line is not JSON of the documented form.
    #[error("line {line} is not a case")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A field of a line has a form that cannot be read.
    #[error("line {line}: `{field}` is not {expected}")]
    Field {
        /// Counted from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// The cases cannot be read.
    #[error("cannot read line {line} of the cases")]
    Read {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
}

#[derive(Deserialize)]
struct KeyEntry {
    secret: String,
    status: StatusEntry,
    token: Option<String>,
    expires: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum StatusEntry {
    Active,
    Inactive,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    now: String,
    service: String,
    region: String,
    protocol: ProtocolEntry,
    request: RequestEntry,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolEntry {
    Json,
    Query,
}

#[derive(Deserialize)]
struct RequestEntry {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    body_b64: Option<String>,
}

/// Judges every line of `cases` with the keys of `keys_json`, one after the other as they are asked for. Empty lines
/// are skipped; a line of another form than documented is an error that names it, and those after it are judged.
///
/// # Errors
/// Keys of another form than documented.
pub fn judged(
    keys_json: &str,
    cases: impl BufRead,
) -> Result<impl Iterator<Item = Result<CaseResult, CasesError>>, CasesError> {
    let keys = read_keys(keys_json)?;
    let mut failed = false;
    let lines = cases.lines().enumerate().map(|(index, text)| (index + 1, text));
    // After a failed read there is nothing more to be had, only the same failure for ever.
    let lines = lines.take_while(move |(_, text)| !std::mem::replace(&mut failed, text.is_err()));
    Ok(lines.filter(|(_, text)| !text.as_ref().is_ok_and(|text| text.trim().is_empty())).map(
        move |(line, text)| {
            let text = text.map_err(|source| CasesError::Read { line, source })?;
            let case = serde_json::from_str(&text).map_err(|source| CasesError::Line { line, source })?;
            judge(case, line, &keys)
        },
    ))
}

/// As [`judged`], all at once.
///
/// # Errors
/// Input of another form than documented, naming the first such line.
pub fn run(keys_json: &str, cases: impl BufRead) -> Result<Vec<CaseResult>, CasesError> {
    judged(keys_json, cases)?.collect()
}

fn read_keys(text: &str) -> Result<HashMap<String, KeyRecord>, CasesError> {
    let entries: HashMap<String, KeyEntry> = serde_json::from_str(text).map_err(CasesError::Keys)?;
    let mut keys = HashMap::with_capacity(entries.len());
    for (id, entry) in entries {
        let expires = match entry.expires {
            None => None,
            Some(text) => match read_time(&text) {
                Some(time) => Some(time),
                None => return Err(CasesError::KeyExpires { id, text }),
            },
        };
        let status = match entry.status {
            StatusEntry::Active => KeyStatus::Active,
            StatusEntry::Inactive => KeyStatus::Inactive,
        };
        let session_token = entry.token.map(Secret::new);
        keys.insert(id, KeyRecord { secret: Secret::new(entry.secret), status, session_token, expires });
    }
    Ok(keys)
}

fn judge(case: Case, line: usize, keys: &HashMap<String, KeyRecord>) -> Result<CaseResult, CasesError> {
    let unreadable = |field, expected| CasesError::Field { line, field, expected };
    let now = read_time(&case.now).ok_or_else(|| unreadable("now", "an RFC 3339 time"))?;
    let body = BASE64_STANDARD
        .decode(case.request.body_b64.as_deref().unwrap_or_default())
        .map_err(|_| unreadable("request.body_b64", "base64"))?;
    let headers: Vec<(&str, &[u8])> =
        case.request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request =
        SignedRequest { method: &case.request.method, target: &case.request.target, headers: &headers };
    let regions = AcceptedRegions::Exactly(&case.region);
    let verdict = verify(&request, &body, &Endpoint { service: &case.service, regions, now }, keys);

    let protocol = match case.protocol {
        ProtocolEntry::Json => Protocol::Json,
        ProtocolEntry::Query => Protocol::Query,
    };
    let name = case.name;
    Ok(match verdict {
        Ok(id) => CaseResult { name, ok: true, access_key_id: Some(id), code: None, message: None },
        Err(error) => CaseResult {
            name,
            ok: false,
            access_key_id: None,
            code: Some(error.code(protocol)),
            message: Some(error.message(protocol)),
        },
    })
}

fn verify(
    request: &SignedRequest<'_>,
    body: &[u8],
    endpoint: &Endpoint<'_>,
    keys: &HashMap<String, KeyRecord>,
) -> Result<String, SignatureError> {
    let presented = Presented::parse(request, endpoint)?;
    let key = keys.get(presented.access_key_id());
    presented.verify(key, &super::body_sha256(body), &VerifyOptions::default())?;
    Ok(presented.access_key_id().to_owned())
}

fn read_time(text: &str) -> Option<Timestamp> {
    Some(Timestamp::from_micros(text.parse::<jiff::Timestamp>().ok()?.as_microsecond()))
}
