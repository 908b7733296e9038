//! Who calls which registry: `Authorization: Basic AWS:<password>` and the `Host`. ECR's refusals, byte for byte.
//!
//! On hosts where the operator lets them, callers without credentials are heard too; those hosts offer `Bearer` and
//! nothing else, because clients without credentials cannot answer a `Basic` challenge, and dockerd gives up where one
//! stands beside another. `Basic` credentials are taken all the same.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use wharf_registry::{Caller, PasswordError, Registry};
use wharf_types::{Region, RegistryRef};

use super::answer;
use super::error::OciError;
use crate::host::{HostTarget, registry_of};
use crate::server::Peer;
use crate::{Body, Faces};

/// The one user name of registry passwords.
const USER: &[u8] = b"AWS:";

/// Clients pad base64, or do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows of its caller.
#[derive(Debug, PartialEq, Eq)]
enum Credential {
    /// No `Authorization`, or an empty one, which some clients send when they have none.
    None,
    /// What none of our clients sends.
    Unreadable,
    /// The password of `Basic AWS:<password>`.
    Basic(String),
    /// A password as `/token` hands it out.
    Bearer(String),
}

/// A caller at a registry's door.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Who.
    pub(super) caller: Caller,
    /// Where: the registry the host names, or on a bare host the caller's own.
    pub(super) registry: RegistryRef,
}

/// Why a caller does not get in.
#[derive(Debug)]
pub(super) enum Refused {
    /// 401 with a challenge: no credential.
    NotAuthorized,
    /// 401 with a challenge: a wrong one.
    WrongCredential,
    /// An error of the protocol.
    With(OciError),
}

/// Finds out who calls. Answered without waiting when the password and its access key are in memory.
pub(super) async fn visitor(faces: &Faces, head: &Parts) -> Result<Visitor, Refused> {
    let host = host(head).unwrap_or_default();
    let hosts = &faces.config().hosts;
    let open = hosts.is_anonymous(host);
    let password = match credential(&head.headers) {
        Credential::Basic(password) => password,
        Credential::Bearer(password) if open => password,
        Credential::None if open && is_pull(&head.method) => return nobody(faces, host),
        Credential::None => return Err(Refused::NotAuthorized),
        Credential::Bearer(_) | Credential::Unreadable => return Err(Refused::WrongCredential),
    };
    let visitor = match registry_of(hosts, host) {
        HostTarget::Registry(registry) => {
            let caller = caller(faces.registry(), &password, &registry.region).await?;
            Visitor { caller, registry }
        }
        HostTarget::Bare => {
            let region = faces.registry().password_region(&password).ok_or(Refused::WrongCredential)?;
            let caller = caller(faces.registry(), &password, &region).await?;
            if !hosts.bare_host_registry {
                return Err(no_registry());
            }
            let registry = RegistryRef::new(caller.identity.account, region);
            Visitor { caller, registry }
        }
        HostTarget::Public => return Err(no_public_registry()),
    };
    // A token that stands for nobody counts where nobody is heard, and for no more than nobody may. Its holder has
    // been through the challenge: another one would send it round in circles.
    match (visitor.caller.is_anonymous(), open, is_pull(&head.method)) {
        (false, ..) | (true, true, true) => Ok(visitor),
        (true, true, false) => Err(only_pulls()),
        (true, false, _) => Err(Refused::NotAuthorized),
    }
}

/// A caller without a credential, on a host where such are heard. `GET /v2/` still answers the challenge, or clients
/// that have credentials would never learn to use them.
fn nobody(faces: &Faces, host: &str) -> Result<Visitor, Refused> {
    let registry = open_registry(faces, host)?;
    Ok(Visitor { caller: Caller::anonymous(registry.account), registry })
}

/// The registry that a host stands for to callers who are nobody: the one it names, else the default one.
pub(super) fn open_registry(faces: &Faces, host: &str) -> Result<RegistryRef, Refused> {
    let (hosts, options) = (&faces.config().hosts, faces.registry().options());
    match registry_of(hosts, host) {
        HostTarget::Registry(registry) => Ok(registry),
        HostTarget::Bare if hosts.bare_host_registry => {
            Ok(RegistryRef::new(options.default_account, options.default_region.clone()))
        }
        HostTarget::Bare => Err(no_registry()),
        HostTarget::Public => Err(no_public_registry()),
    }
}

/// Whether a request only reads. Nothing else is ever open to nobody, whatever a policy says.
fn is_pull(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn only_pulls() -> Refused {
    let text = "User: anonymous is not authorized to do anything but pull: log in with a password.";
    Refused::With(OciError::new(StatusCode::FORBIDDEN, "DENIED", text))
}

fn no_registry() -> Refused {
    nothing_here("This host names no registry: use <account>.dkr.ecr.<region>.<domain>.")
}

fn no_public_registry() -> Refused {
    nothing_here("The public registry is not implemented yet.")
}

fn nothing_here(text: &'static str) -> Refused {
    Refused::With(OciError::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", text))
}

/// Who presents a password to a registry in `region`.
pub(super) async fn caller(registry: &Registry, password: &str, region: &Region) -> Result<Caller, Refused> {
    let answer = match registry.authenticate_password_now(password, region) {
        Some(answer) => answer,
        None => Box::pin(registry.authenticate_password(password, region)).await,
    };
    answer.map_err(|error| match error {
        PasswordError::Invalid => Refused::WrongCredential,
        PasswordError::Expired => Refused::With(OciError::expired_token()),
        PasswordError::Store(error) => Refused::With(error.into()),
    })
}

/// What the `Authorization` header shows; two headers show nothing that could be read.
fn credential(headers: &HeaderMap) -> Credential {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next().map(|value| value.as_bytes()) else { return Credential::None };
    if values.next().is_some() {
        return Credential::Unreadable;
    }
    let scheme = |name: &[u8]| {
        let (scheme, rest) = value.split_at_checked(name.len()).unwrap_or((value, b""));
        (scheme.eq_ignore_ascii_case(name) && rest.first().is_none_or(|b| *b == b' '))
            .then_some(rest.trim_ascii())
    };
    match (scheme(b"Basic"), scheme(b"Bearer")) {
        (Some(b""), _) => Credential::None,
        (Some(encoded), _) => basic(encoded),
        (_, Some(token)) if !token.is_empty() => match std::str::from_utf8(token) {
            Ok(token) => Credential::Bearer(token.to_owned()),
            Err(_) => Credential::Unreadable,
        },
        _ => Credential::Unreadable,
    }
}

fn basic(encoded: &[u8]) -> Credential {
    let Ok(mut decoded) = BASE64.decode(encoded) else { return Credential::Unreadable };
    if decoded == b":" {
        return Credential::None;
    }
    if !decoded.starts_with(USER) || decoded.len() == USER.len() {
        return Credential::Unreadable;
    }
    decoded.drain(..USER.len());
    String::from_utf8(decoded).map_or(Credential::Unreadable, Credential::Basic)
}

/// The password that `/token` is asked with: of the header, else nothing.
pub(super) fn shown_password(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    match credential(headers) {
        Credential::None => Ok(None),
        Credential::Basic(password) => Ok(Some(password)),
        Credential::Bearer(_) | Credential::Unreadable => Err(Refused::WrongCredential),
    }
}

/// The host the client asked for, with its port.
pub(super) fn host(head: &Parts) -> Option<&str> {
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or(head.uri.authority().map(|authority| authority.as_str()))
}

/// 401 as ECR answers it, on every path; on hosts that hear callers without credentials, with a way to a token. The
/// realm repeats the host, which therefore may hold nothing that could end the quoted string.
pub(super) fn challenge(faces: &Faces, head: &Parts, peer: Peer) -> Response<Body> {
    let open = faces.config().hosts.is_anonymous(host(head).unwrap_or_default());
    let secure = peer.tls || faces.config().secure;
    unauthorized(head, open.then_some(if secure { "https" } else { "http" }))
}

fn unauthorized(head: &Parts, bearer_scheme: Option<&str>) -> Response<Body> {
    let harmless = |host: &&str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b))
    };
    let host = host(head).filter(harmless).unwrap_or("localhost");
    let mut response = answer::full(StatusCode::UNAUTHORIZED, Bytes::from_static(b"Not Authorized\n"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let offered = match bearer_scheme {
        Some(scheme) => format!("Bearer realm=\"{scheme}://{host}/token\",service=\"ecr.amazonaws.com\""),
        None => format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\""),
    };
    answer::insert_text(headers, WWW_AUTHENTICATE, offered);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(value: &str) -> Credential {
        credential(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())]))
    }

    #[test]
    fn credentials() {
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        let password = |text: &str| Credential::Basic(text.to_owned());
        assert_eq!(presented(&basic("AWS:secret")), password("secret"));
        assert_eq!(presented(&basic("AWS:a:b")), password("a:b"));
        assert_eq!(presented(&basic("AWS:secret").replace("Basic", "bASIC")), password("secret"));
        assert_eq!(presented("Basic QVdTOmE"), password("a"), "unpadded");
        assert_eq!(presented("Bearer abc"), Credential::Bearer("abc".into()));
        for none in ["Basic", "Basic ", &basic(":")] {
            assert_eq!(presented(none), Credential::None, "{none}");
        }
        for bad in [
            "",
            "Bearer",
            "Basic !!!",
            "Basically x",
            "Digest x",
            &basic("AWS:"),
            &basic("aws:x"),
            &basic("x"),
        ] {
            assert_eq!(presented(bad), Credential::Unreadable, "{bad}");
        }
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::try_from(basic("AWS:a")).unwrap());
        two.append(AUTHORIZATION, HeaderValue::try_from(basic("AWS:b")).unwrap());
        assert_eq!(credential(&two), Credential::Unreadable, "two credentials are none");
        assert_eq!(credential(&HeaderMap::new()), Credential::None);
    }

    #[test]
    fn the_challenge_is_ecrs() {
        let realm = |host: &str| {
            let head = http::Request::get("/v2/").header(HOST, host).body(()).unwrap().into_parts().0;
            unauthorized(&head, None).headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            realm("123456789012.dkr.ecr.us-east-1.localhost:5050"),
            "Basic realm=\"https://123456789012.dkr.ecr.us-east-1.localhost:5050/\",service=\"ecr.amazonaws.com\""
        );
        let head = http::Request::get("/v2/").header(HOST, "r.corp").body(()).unwrap().into_parts().0;
        let offered = unauthorized(&head, Some("https"));
        let offered: Vec<_> = offered.headers().get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(offered, ["Bearer realm=\"https://r.corp/token\",service=\"ecr.amazonaws.com\""]);
        assert_eq!(realm("a\",b=\"c"), "Basic realm=\"https://localhost/\",service=\"ecr.amazonaws.com\"");
    }
}
