//! Reading the signature a request carries: the `Authorization` header or the presigned parameters.

use percent_encoding::percent_decode_str;

use super::ALGORITHM;
use super::date::SignedDate;
use super::error::SignatureError;
use super::request::SignedRequest;

/// The longest life of a presigned request: a week.
const MAX_EXPIRES_SECONDS: u64 = 604_800;

/// Which of the two forms a signature has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The `Authorization` header.
    Header,
    /// Query parameters.
    Presigned {
        /// `X-Amz-Expires`, 1 to 604800 seconds.
        expires_seconds: u64,
    },
}

/// What a signing key is good for: a day, a region and a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    /// The region the client signed for.
    pub region: String,
    /// The service the client signed for.
    pub service: String,
}

/// A signature as written, before anything about it is believed.
#[derive(Debug)]
pub(super) struct Presentation {
    pub(super) form: Form,
    pub(super) access_key_id: String,
    pub(super) scope: Scope,
    pub(super) terminator: String,
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) date: SignedDate,
    /// The token parameter of the presigned form.
    pub(super) token: Option<String>,
}

impl Presentation {
    /// Finds and reads the one signature of a request.
    pub(super) fn read(request: &SignedRequest<'_>) -> Result<Self, SignatureError> {
        let authorization = authorization(request)?;
        let parameters = Parameters::read(request.query())?;
        match (authorization, parameters) {
            (Some(_), Some(_)) => Err(SignatureError::BothForms),
            (Some(header), None) => Self::from_header(&header, request),
            (None, Some(parameters)) => Self::from_parameters(parameters),
            (None, None) => Err(SignatureError::MissingAuthentication),
        }
    }

    fn from_header(header: &str, request: &SignedRequest<'_>) -> Result<Self, SignatureError> {
        let (algorithm, parts) = header.split_once([' ', '\t']).unwrap_or((header, ""));
        if algorithm != ALGORITHM {
            return Err(SignatureError::Algorithm(algorithm.into()));
        }
        let parts = HeaderParts::read(header, parts)?;
        let basic = request.text("x-amz-date");
        let http = request.text("date");
        let (credential, signature, signed_headers) = parts.require(basic.is_some() || http.is_some())?;
        let (access_key_id, scope, terminator) = split_credential(credential)?;
        let date = match (basic, http) {
            (Some(text), _) => SignedDate::from_basic(&text).ok_or(SignatureError::BadDate(text))?,
            (None, Some(text)) => SignedDate::from_http(&text).ok_or(SignatureError::BadDate(text))?,
            (None, None) => return Err(SignatureError::NoDate),
        };
        Ok(Self {
            form: Form::Header,
            access_key_id,
            scope,
            terminator,
            signed_headers: signed_headers.into(),
            signature: signature.into(),
            date,
            token: None,
        })
    }

    fn from_parameters(parameters: Parameters) -> Result<Self, SignatureError> {
        if parameters.algorithm != ALGORITHM {
            return Err(SignatureError::Algorithm(parameters.algorithm));
        }
        let missing = parameters.missing();
        let (Some(credential), Some(signature), Some(signed_headers), Some(date), Some(expires)) = (
            parameters.credential,
            parameters.signature,
            parameters.signed_headers,
            parameters.date,
            parameters.expires,
        ) else {
            return Err(SignatureError::MissingParameters(missing));
        };
        let (access_key_id, scope, terminator) = split_credential(&credential)?;
        let expires_seconds = read_expires(expires)?;
        let date = SignedDate::from_basic(&date).ok_or(SignatureError::BadDate(date))?;
        Ok(Self {
            form: Form::Presigned { expires_seconds },
            access_key_id,
            scope,
            terminator,
            signed_headers,
            signature,
            date,
            token: parameters.token,
        })
    }
}

/// The `Authorization` header that carries an AWS signature; other schemes are none of our business.
fn authorization(request: &SignedRequest<'_>) -> Result<Option<String>, SignatureError> {
    let mut values = request
        .values("authorization")
        .map(|value| String::from_utf8_lossy(value.trim_ascii()).into_owned())
        .collect::<Vec<_>>();
    if !values.iter().any(|value| value.starts_with("AWS4-")) {
        return Ok(None);
    }
    match values.len() {
        1 => Ok(values.pop()),
        _ => Err(SignatureError::RepeatedAuthorization),
    }
}

#[derive(Default)]
struct HeaderParts<'a> {
    credential: Option<&'a str>,
    signature: Option<&'a str>,
    signed_headers: Option<&'a str>,
}

impl<'a> HeaderParts<'a> {
    /// Reads `key=value` parts between commas; `header` is for the text of errors.
    fn read(header: &str, parts: &'a str) -> Result<Self, SignatureError> {
        let mut found = Self::default();
        let mut seen: Vec<&str> = Vec::with_capacity(4);
        for part in parts.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(SignatureError::NotKeyValue {
                    part: part.into(),
                    header: without_signature(header),
                });
            };
            if seen.contains(&key) {
                return Err(SignatureError::RepeatedPart(key.into()));
            }
            // A bound on the work that a header full of unknown keys can cause.
            if seen.len() < 32 {
                seen.push(key);
            }
            match key {
                "Credential" => found.credential = Some(value),
                "Signature" => found.signature = Some(value),
                "SignedHeaders" => found.signed_headers = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Credential, signature and signed headers, or all that lack.
    fn require(self, dated: bool) -> Result<(&'a str, &'a str, &'a str), SignatureError> {
        if let (Some(credential), Some(signature), Some(signed_headers)) =
            (self.credential, self.signature, self.signed_headers)
        {
            return Ok((credential, signature, signed_headers));
        }
        let mut parts = Vec::new();
        for (name, value) in [
            ("Credential", self.credential),
            ("Signature", self.signature),
            ("SignedHeaders", self.signed_headers),
        ] {
            if value.is_none() {
                parts.push(name);
            }
        }
        Err(SignatureError::MissingParts { parts, dated })
    }
}

/// The header for an error text: an answer never repeats a signature.
fn without_signature(header: &str) -> String {
    let mut out = String::with_capacity(header.len());
    let mut rest = header;
    while let Some(at) = rest.find("Signature=") {
        let value = at + "Signature=".len();
        out.push_str(&rest[..value]);
        rest = &rest[value..];
        rest = &rest[rest.find([',', ' ', '\t']).unwrap_or(rest.len())..];
    }
    out.push_str(rest);
    out
}

/// The presigned parameters, percent-decoded.
#[derive(Default)]
struct Parameters {
    algorithm: String,
    credential: Option<String>,
    signature: Option<String>,
    signed_headers: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    token: Option<String>,
}

impl Parameters {
    /// Nothing if the query has no `X-Amz-Algorithm`.
    fn read(query: &str) -> Result<Option<Self>, SignatureError> {
        let mut found = Self::default();
        let mut algorithm = None;
        let mut repeated = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (slot, name) = match percent_decode_str(name).decode_utf8_lossy().as_ref() {
                "X-Amz-Algorithm" => (&mut algorithm, "X-Amz-Algorithm"),
                "X-Amz-Credential" => (&mut found.credential, "X-Amz-Credential"),
                "X-Amz-Signature" => (&mut found.signature, "X-Amz-Signature"),
                "X-Amz-SignedHeaders" => (&mut found.signed_headers, "X-Amz-SignedHeaders"),
                "X-Amz-Date" => (&mut found.date, "X-Amz-Date"),
                "X-Amz-Expires" => (&mut found.expires, "X-Amz-Expires"),
                "X-Amz-Security-Token" => (&mut found.token, "X-Amz-Security-Token"),
                _ => continue,
            };
            if slot.replace(percent_decode_str(value).decode_utf8_lossy().into_owned()).is_some() {
                repeated = Some(name);
            }
        }
        let Some(algorithm) = algorithm else { return Ok(None) };
        match repeated {
            Some(name) => Err(SignatureError::RepeatedParameter(name)),
            None => Ok(Some(Self { algorithm, ..found })),
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        [
            ("X-Amz-Credential", &self.credential),
            ("X-Amz-Signature", &self.signature),
            ("X-Amz-SignedHeaders", &self.signed_headers),
            ("X-Amz-Date", &self.date),
            ("X-Amz-Expires", &self.expires),
        ]
        .into_iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name)
        .collect()
    }
}

fn read_expires(text: String) -> Result<u64, SignatureError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(seconds) if digits && (1..=MAX_EXPIRES_SECONDS).contains(&seconds) => Ok(seconds),
        _ => Err(SignatureError::BadExpires(text)),
    }
}

/// Splits `AKID/YYYYMMDD/region/service/aws4_request` into key id, scope and terminator.
fn split_credential(text: &str) -> Result<(String, Scope, String), SignatureError> {
    let mut parts = text.split('/');
    let five = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(id), Some(date), Some(region), Some(service), Some(terminator), None) = five else {
        return Err(SignatureError::CredentialShape(text.into()));
    };
    let scope = Scope { date: date.into(), region: region.into(), service: service.into() };
    Ok((id.into(), scope, terminator.into()))
}
