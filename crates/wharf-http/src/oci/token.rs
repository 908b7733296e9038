//! `/token` of hosts that hear callers without credentials: a token that stands for nobody, or for whoever shows a
//! password. Docker's token protocol, by GET and (containerd) by POST.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::answer;
use super::auth::{self, Refused};
use super::error::OciError;
use super::receive::RequestBody;
use crate::{Body, Faces};

/// How long a token that stands for nobody is good. Clients fetch another one without asking anybody.
const ANONYMOUS_TTL: Duration = Duration::from_secs(3600);
/// Bytes of a form with a password.
const FORM_LIMIT: u64 = 64 << 10;

/// `GET` or `POST /token`. Scopes are not looked at: a token says who, and what they may is decided at every use.
pub(super) async fn answer(
    faces: &Faces,
    head: &Parts,
    body: RequestBody,
) -> Result<Response<Body>, Refused> {
    let host = auth::host(head).unwrap_or_default();
    if !faces.config().hosts.is_anonymous(host) {
        return Err(Refused::With(OciError::unknown_path()));
    }
    let shown = match head.method {
        Method::GET | Method::HEAD => auth::shown_password(&head.headers)?,
        Method::POST => {
            let form = body.read(FORM_LIMIT).await.map_err(Refused::With)?;
            form_password(&form)?.or(auth::shown_password(&head.headers)?)
        }
        _ => return Err(Refused::With(OciError::method_not_allowed("GET, HEAD, POST"))),
    };
    let registry = faces.registry();
    let now = registry.clock().now();
    let (token, expires_at) = match shown {
        None => registry.issue_anonymous_token(&auth::open_registry(faces, host)?, ANONYMOUS_TTL),
        Some(password) => {
            let region = registry.password_region(&password).ok_or(Refused::WrongCredential)?;
            auth::caller(registry, &password, &region).await?;
            // The password says who as well as any other token would.
            let expires_at = registry.password_expiry(&password).unwrap_or(now);
            (password, expires_at)
        }
    };
    let seconds = (expires_at.as_micros() - now.as_micros()) / 1_000_000;
    let answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": seconds,
        "issued_at": now.to_rfc3339(),
    });
    let mut response = answer::full(StatusCode::OK, Bytes::from(answer.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, answer::JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The password of an OAuth2 form: `grant_type=password`, or a token that was kept as `refresh_token`.
fn form_password(form: &[u8]) -> Result<Option<String>, Refused> {
    let member = |name: &str| {
        form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    match member("grant_type").as_deref() {
        Some("password") if member("username").as_deref() == Some("AWS") => Ok(member("password")),
        Some("refresh_token") => Ok(member("refresh_token")),
        None => Ok(None),
        Some(_) => Err(Refused::WrongCredential),
    }
}
