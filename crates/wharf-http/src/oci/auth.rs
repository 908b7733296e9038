//! Who calls which registry: `Authorization: Basic AWS:<password>` and the `Host`. ECR's refusals, byte for byte.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use wharf_registry::{Caller, PasswordError, Registry};
use wharf_types::{Region, RegistryRef};

use super::answer;
use super::error::OciError;
use crate::host::{HostTarget, registry_of};
use crate::{Body, Faces};

/// The one user name of registry passwords.
const USER: &[u8] = b"AWS:";

/// Clients pad base64, or do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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
    /// 401 with a challenge.
    NotAuthorized,
    /// An error of the protocol.
    With(OciError),
}

/// Finds out who calls. Answered without waiting when the password and its access key are in memory.
pub(super) async fn visitor(faces: &Faces, head: &Parts) -> Result<Visitor, Refused> {
    let password = password(&head.headers).ok_or(Refused::NotAuthorized)?;
    let hosts = &faces.config().hosts;
    match registry_of(hosts, host(head).unwrap_or_default()) {
        HostTarget::Registry(registry) => {
            let caller = caller(faces.registry(), &password, &registry.region).await?;
            Ok(Visitor { caller, registry })
        }
        HostTarget::Bare => {
            let region = faces.registry().password_region(&password).ok_or(Refused::NotAuthorized)?;
            let caller = caller(faces.registry(), &password, &region).await?;
            if !hosts.bare_host_registry {
                return Err(nothing_here(
                    "This host names no registry: use <account>.dkr.ecr.<region>.<domain>.",
                ));
            }
            let registry = RegistryRef::new(caller.identity.account, region);
            Ok(Visitor { caller, registry })
        }
        HostTarget::Public => Err(nothing_here("The public registry is not implemented yet.")),
    }
}

fn nothing_here(text: &'static str) -> Refused {
    Refused::With(OciError::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", text))
}

/// Who presents a password to a registry in `region`.
async fn caller(registry: &Registry, password: &str, region: &Region) -> Result<Caller, Refused> {
    let answer = match registry.authenticate_password_now(password, region) {
        Some(answer) => answer,
        None => Box::pin(registry.authenticate_password(password, region)).await,
    };
    answer.map_err(|error| match error {
        PasswordError::Invalid => Refused::NotAuthorized,
        PasswordError::Expired => Refused::With(OciError::expired_token()),
        PasswordError::Store(error) => Refused::With(error.into()),
    })
}

/// The password of a `Basic` credential of the user `AWS`; anything else is no credential.
fn password(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let mut decoded = BASE64.decode(encoded.trim_ascii()).ok()?;
    if !decoded.starts_with(USER) || decoded.len() == USER.len() {
        return None;
    }
    decoded.drain(..USER.len());
    String::from_utf8(decoded).ok()
}

/// The host the client asked for, with its port.
pub(super) fn host(head: &Parts) -> Option<&str> {
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or(head.uri.authority().map(|authority| authority.as_str()))
}

/// 401 as ECR answers it, on every path. The realm repeats the host, which therefore may hold nothing that could end
/// the quoted string.
pub(super) fn challenge(head: &Parts) -> Response<Body> {
    let harmless = |host: &&str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b))
    };
    let host = host(head).filter(harmless).unwrap_or("localhost");
    let mut response = answer::full(StatusCode::UNAUTHORIZED, Bytes::from_static(b"Not Authorized\n"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let text = format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
    answer::insert_text(headers, WWW_AUTHENTICATE, text);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())]);
        password(&headers)
    }

    #[test]
    fn credentials() {
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        assert_eq!(presented(&basic("AWS:secret")).as_deref(), Some("secret"));
        assert_eq!(presented(&basic("AWS:a:b")).as_deref(), Some("a:b"));
        assert_eq!(presented(&basic("AWS:secret").replace("Basic", "bASIC")).as_deref(), Some("secret"));
        assert_eq!(presented("Basic QVdTOmE").as_deref(), Some("a"), "unpadded");
        for bad in [
            "Basic",
            "Basic ",
            "Bearer abc",
            "Basic !!!",
            &basic("AWS:"),
            &basic("aws:x"),
            &basic("root:x"),
            &basic("x"),
        ] {
            assert_eq!(presented(bad), None, "{bad}");
        }
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::try_from(basic("AWS:a")).unwrap());
        two.append(AUTHORIZATION, HeaderValue::try_from(basic("AWS:b")).unwrap());
        assert_eq!(password(&two), None, "two credentials are none");
        assert_eq!(password(&HeaderMap::new()), None);
    }

    #[test]
    fn the_challenge_is_ecrs() {
        let realm = |host: &str| {
            let head = http::Request::get("/v2/").header(HOST, host).body(()).unwrap().into_parts().0;
            challenge(&head).headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            realm("123456789012.dkr.ecr.us-east-1.localhost:5050"),
            "Basic realm=\"https://123456789012.dkr.ecr.us-east-1.localhost:5050/\",service=\"ecr.amazonaws.com\""
        );
        assert_eq!(realm("a\",b=\"c"), "Basic realm=\"https://localhost/\",service=\"ecr.amazonaws.com\"");
    }
}
