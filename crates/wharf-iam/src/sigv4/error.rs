//! Why a signature is refused: one variant per condition, with the code and the text AWS answers.

use std::fmt;

/// How the service that refuses speaks, which decides the code and in one case the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JSON 1.1: `ecr`, `ecr-public`, `kms`, `secretsmanager`.
    Json,
    /// Form in, XML out: `iam`, `sts`.
    Query,
}

/// A refused signature. `Display` is the text of the JSON services; see [`SignatureError::message`].
///
/// Texts up to the key look-up name what the client sent; those after it are fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// Neither form of signature is there.
    MissingAuthentication,
    /// The `Authorization` header lacks these parts, and perhaps the request a date too.
    MissingParts {
        /// Names in AWS's order: `Credential`, `Signature`, `SignedHeaders`.
        parts: Vec<&'static str>,
        /// Whether there is a date header.
        dated: bool,
    },
    /// Neither `X-Amz-Date` nor `Date`.
    NoDate,
    /// A date of the wrong form, or no day of the calendar.
    BadDate(String),
    /// An algorithm other than `AWS4-HMAC-SHA256`.
    Algorithm(String),
    /// A presigned target lacks these parameters.
    MissingParameters(Vec<&'static str>),
    /// A presigned target carries this parameter more than once.
    RepeatedParameter(&'static str),
    /// `X-Amz-Expires` is not a number from 1 to 604800.
    BadExpires(String),
    /// The credential has not five parts.
    CredentialShape(String),
    /// A part of the `Authorization` header has no equal-sign.
    NotKeyValue {
        /// The part.
        part: String,
        /// The header, with the value of its signature left out.
        header: String,
    },
    /// The `Authorization` header has this part more than once.
    RepeatedPart(String),
    /// More than one `Authorization` header.
    RepeatedAuthorization,
    /// `Authorization` header and presigned parameters at once.
    BothForms,
    /// The scope ends in something else than `aws4_request`.
    Terminator(String),
    /// The scope is for another service than this one.
    Service(String),
    /// The scope is for a region this endpoint does not serve.
    Region(String),
    /// The scope is for another day than the date.
    ScopeDate {
        /// The scope's day.
        scope: String,
        /// The day of the request's date.
        day: String,
        /// The request's date in basic format.
        sent: String,
    },
    /// The date is too long ago.
    TooOld {
        /// The request's date.
        sent: String,
        /// The oldest date accepted now.
        limit: String,
        /// The server's clock.
        now: String,
        /// The distance between the two, seconds.
        tolerance: u64,
    },
    /// The date is too far in the future.
    TooNew {
        /// The request's date.
        sent: String,
        /// The latest date accepted now.
        limit: String,
        /// The server's clock.
        now: String,
    },
    /// A header that must be signed is not, named as the text names it.
    UnsignedHeader(&'static str),
    /// `x-amz-content-sha256` names one of S3's payload forms.
    PayloadForm(String),
    /// The signature is not the one these inputs give.
    Mismatch {
        /// What was signed, in debug mode only.
        explanation: Option<Box<Explanation>>,
    },
    /// No key has this id.
    UnknownKey,
    /// The key is switched off.
    InactiveKey,
    /// The session token is missing, wrong, unsigned, or there although the key has none.
    WrongToken,
    /// The key's session is over.
    TokenExpired,
}

/// What the verifier signed, for people who hunt a mismatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The canonical request, bytes that are not UTF-8 replaced.
    pub canonical_request: String,
    /// The string to sign.
    pub string_to_sign: String,
}

/// Rows that share a code.
#[derive(Clone, Copy)]
enum Class {
    Missing,
    Incomplete,
    Invalid,
    Unrecognized,
    Expired,
}

impl SignatureError {
    /// The `__type` of the JSON services, which always answer 400.
    pub fn json_code(&self) -> &'static str {
        match self.class() {
            Class::Missing => "MissingAuthenticationTokenException",
            Class::Incomplete => "IncompleteSignatureException",
            Class::Invalid => "InvalidSignatureException",
            Class::Unrecognized => "UnrecognizedClientException",
            Class::Expired => "ExpiredTokenException",
        }
    }

    /// The `Code` of the query services.
    pub fn query_code(&self) -> &'static str {
        match self.class() {
            Class::Missing => "MissingAuthenticationToken",
            Class::Incomplete => "IncompleteSignature",
            Class::Invalid => "SignatureDoesNotMatch",
            Class::Unrecognized => "InvalidClientTokenId",
            Class::Expired => "ExpiredToken",
        }
    }

    /// The HTTP status of the JSON services.
    pub fn json_status(&self) -> u16 {
        400
    }

    /// The HTTP status of the query services.
    pub fn query_status(&self) -> u16 {
        match self.class() {
            Class::Incomplete => 400,
            Class::Missing | Class::Invalid | Class::Unrecognized | Class::Expired => 403,
        }
    }

    /// The code as the protocol spells it.
    pub fn code(&self, protocol: Protocol) -> &'static str {
        match protocol {
            Protocol::Json => self.json_code(),
            Protocol::Query => self.query_code(),
        }
    }

    /// The exact text of the protocol.
    pub fn message(&self, protocol: Protocol) -> String {
        match (self, protocol) {
            (Self::MissingAuthentication, Protocol::Query) => {
                "Request is missing Authentication Token".into()
            }
            _ => self.to_string(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::MissingAuthentication => Class::Missing,
            Self::MissingParts { .. }
            | Self::NoDate
            | Self::BadDate(_)
            | Self::Algorithm(_)
            | Self::MissingParameters(_)
            | Self::RepeatedParameter(_)
            | Self::BadExpires(_)
            | Self::CredentialShape(_)
            | Self::NotKeyValue { .. }
            | Self::RepeatedPart(_)
            | Self::RepeatedAuthorization
            | Self::BothForms => Class::Incomplete,
            Self::Terminator(_)
            | Self::Service(_)
            | Self::Region(_)
            | Self::ScopeDate { .. }
            | Self::TooOld { .. }
            | Self::TooNew { .. }
            | Self::UnsignedHeader(_)
            | Self::PayloadForm(_)
            | Self::Mismatch { .. } => Class::Invalid,
            Self::UnknownKey | Self::InactiveKey | Self::WrongToken => Class::Unrecognized,
            Self::TokenExpired => Class::Expired,
        }
    }
}

const NO_DATE: &str = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
                        Secret Access Key and signing method. Consult the service documentation for details.";

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingAuthentication => f.write_str("Missing Authentication Token"),
            Self::MissingParts { .. }
            | Self::NoDate
            | Self::Algorithm(_)
            | Self::NotKeyValue { .. }
            | Self::RepeatedPart(_)
            | Self::RepeatedAuthorization
            | Self::BothForms => self.fmt_authorization(f),
            Self::MissingParameters(_) | Self::RepeatedParameter(_) | Self::BadExpires(_) => {
                self.fmt_presigned(f)
            }
            Self::BadDate(got) => write!(
                f,
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                Clip(got)
            ),
            Self::CredentialShape(got) => write!(
                f,
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
                Clip(got)
            ),
            // The two blanks at the end of a sentence are AWS's.
            Self::Terminator(got) => {
                write!(
                    f,
                    "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'.",
                    Clip(got)
                )
            }
            Self::Service(want) => write!(f, "Credential should be scoped to correct service: '{want}'. "),
            Self::Region(got) => {
                write!(f, "Credential should be scoped to a valid region, not '{}'. ", Clip(got))
            }
            Self::ScopeDate { .. } | Self::TooOld { .. } | Self::TooNew { .. } => self.fmt_clock(f),
            Self::UnsignedHeader(name) => {
                write!(f, "{name} must be a 'SignedHeader' in the AWS Authorization.")
            }
            Self::PayloadForm(got) => write!(
                f,
                "The value of 'x-amz-content-sha256' must be the SHA-256 of the body. Got '{}'.",
                Clip(got)
            ),
            Self::Mismatch { explanation } => fmt_mismatch(f, explanation.as_deref()),
            Self::UnknownKey | Self::InactiveKey | Self::WrongToken => {
                f.write_str("The security token included in the request is invalid.")
            }
            Self::TokenExpired => f.write_str("The security token included in the request is expired"),
        }
    }
}

impl std::error::Error for SignatureError {}

impl SignatureError {
    fn fmt_authorization(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingParts { parts, dated } => {
                for part in parts {
                    write!(f, "Authorization header requires '{part}' parameter. ")?;
                }
                if !dated {
                    write!(f, "{NO_DATE} ")?;
                }
                f.write_str("Authorization=AWS4-HMAC-SHA256")
            }
            Self::NoDate => write!(f, "{NO_DATE} Authorization=AWS4-HMAC-SHA256"),
            Self::Algorithm(got) => write!(f, "Unsupported AWS 'algorithm': '{}'.", Clip(got)),
            Self::NotKeyValue { part, header } => write!(
                f,
                "'{}' not a valid key=value pair (missing equal-sign) in Authorization header: '{}'",
                Clip(part),
                Clip(header)
            ),
            Self::RepeatedPart(name) => {
                write!(f, "Authorization header must have one '{}' parameter, not several.", Clip(name))
            }
            Self::RepeatedAuthorization => f.write_str("There must be one Authorization header, not several."),
            _ => f.write_str(
                "Only one form of authentication is allowed: an Authorization header or AWS query-string parameters, not both.",
            ),
        }
    }

    fn fmt_presigned(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingParameters(names) => {
                for name in names {
                    write!(f, "AWS query-string parameters must include '{name}'. ")?;
                }
            }
            Self::RepeatedParameter(name) => {
                write!(f, "AWS query-string parameters must include '{name}' only once. ")?;
            }
            Self::BadExpires(got) => {
                write!(
                    f,
                    "'X-Amz-Expires' must be a number of seconds from 1 to 604800, not '{}'. ",
                    Clip(got)
                )?;
            }
            _ => {}
        }
        f.write_str("Re-examine the query-string parameters.")
    }

    fn fmt_clock(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScopeDate { scope, day, sent } => write!(
                f,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{}' != '{day}', from '{sent}'.",
                Clip(scope)
            ),
            Self::TooOld { sent, limit, now, tolerance } => {
                write!(f, "Signature expired: {sent} is now earlier than {limit} ({now} - ")?;
                match tolerance % 60 {
                    0 => write!(f, "{} min.)", tolerance / 60),
                    _ => write!(f, "{tolerance} sec.)"),
                }
            }
            Self::TooNew { sent, limit, now } => {
                write!(f, "Signature not yet current: {sent} is still later than {limit} ({now} + 15 min.)")
            }
            _ => Ok(()),
        }
    }
}

fn fmt_mismatch(f: &mut fmt::Formatter<'_>, explanation: Option<&Explanation>) -> fmt::Result {
    f.write_str(MISMATCH)?;
    let Some(Explanation { canonical_request, string_to_sign }) = explanation else { return Ok(()) };
    write!(
        f,
        "\n\nThe Canonical String for this request should have been\n'{canonical_request}'\n\n\
         The String-to-Sign should have been\n'{string_to_sign}'\n"
    )
}

/// Client text in an answer, cut at 512 characters.
struct Clip<'a>(&'a str);

impl fmt::Display for Clip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(512) {
            None => f.write_str(self.0),
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
        }
    }
}
