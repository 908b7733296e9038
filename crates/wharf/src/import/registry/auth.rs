//! Logging in as a registry asks for it (`WWW-Authenticate`): with a password at every request, or with tokens that a
//! server gives for it (distribution's "Token Authentication Specification").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use wharf_iam::sigv4::Secret;

use super::{Ask, Registry, RegistryError};
use crate::import::ecr::Ecr;

/// Who is logging in.
pub enum Login {
    /// Nobody.
    Anonymous,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// The caller of ECR's API, which gives passwords.
    Ecr(Arc<Ecr>),
}

/// What is sent in `Authorization`.
pub struct Authorizer {
    login: Login,
    /// By scope; the password itself is under the empty one.
    headers: Mutex<HashMap<String, HeaderValue>>,
}

impl Authorizer {
    /// Logs nobody in yet.
    pub fn new(login: Login) -> Self {
        Self { login, headers: Mutex::default() }
    }

    /// Whether nobody logs in.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.login, Login::Anonymous)
    }

    /// What to send for a scope, if that is known.
    pub fn header(&self, scope: &str) -> Option<HeaderValue> {
        let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.get(scope).or_else(|| headers.get("")).cloned()
    }

    /// Does what an answer 401 asks for. `false` if there is nothing that could be sent.
    pub async fn authorize(
        &self,
        registry: &Registry,
        scope: &str,
        answer: &HeaderMap,
    ) -> Result<bool, RegistryError> {
        let challenges = answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = challenges.flat_map(challenges_of).collect();
        let basic = challenges.iter().any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic"));
        let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
        let password = self.password(registry).await?;
        let (key, header) = match (password, bearer) {
            (Some(password), _) if basic => ("", password),
            (password, Some(bearer)) => match token(registry, bearer, scope, password).await? {
                Some(token) => (scope, token),
                None => return Ok(false),
            },
            _ => return Ok(false),
        };
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.insert(key.to_owned(), header);
        Ok(true)
    }

    /// The password as `Basic` has it; a fresh one where they run out.
    async fn password(&self, registry: &Registry) -> Result<Option<HeaderValue>, RegistryError> {
        let failed = |source| RegistryError::Login { host: registry.host.clone(), source };
        let (user, password) = match &self.login {
            Login::Anonymous => return Ok(None),
            Login::Password { user, password } => (user.clone(), password.clone()),
            Login::Ecr(ecr) => {
                let password = ecr.password(true).await.map_err(|error| failed(error.into()))?;
                (password.user, password.password)
            }
        };
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())));
        let mut header = HeaderValue::try_from(text).map_err(|error| failed(error.into()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

/// Asks the server that a challenge names for a token. `None` if it refuses.
async fn token(
    registry: &Registry,
    challenge: &Challenge,
    scope: &str,
    password: Option<HeaderValue>,
) -> Result<Option<HeaderValue>, RegistryError> {
    let strange = || registry.strange("a request for a token");
    let realm = challenge.parameters.get("realm").ok_or_else(strange)?;
    let mut url = registry.base.join(realm).map_err(|_| strange())?;
    // A password goes over TLS, or where the registry itself is spoken to without.
    if url.scheme() != "https" && url.origin() != registry.base.origin() && registry.base.scheme() == "https"
    {
        return Err(strange());
    }
    with_parameters(&mut url, challenge, scope);
    let mut request = registry.http.request(Method::GET, url);
    if let Some(password) = password {
        request = request.header(AUTHORIZATION, password);
    }
    let answer = request.send().await.map_err(|source| registry.unreachable(source))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
        status => {
            let (host, message) = (registry.host.clone(), String::new());
            return Err(RegistryError::Refused { host, doing: "a token".to_owned(), status, message });
        }
    }
    let body = registry.body(answer, 1 << 20).await?;
    let json: Value = serde_json::from_slice(&body).map_err(|_| strange())?;
    let token = json["token"].as_str().or(json["access_token"].as_str()).ok_or_else(strange)?;
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| strange())?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn with_parameters(url: &mut Url, challenge: &Challenge, scope: &str) {
    let mut query = url.query_pairs_mut();
    if let Some(service) = challenge.parameters.get("service") {
        query.append_pair("service", service);
    }
    let theirs = challenge.parameters.get("scope").map(String::as_str);
    match (scope, theirs) {
        ("", None) => {}
        ("", Some(theirs)) => drop(query.append_pair("scope", theirs)),
        (ours, _) => drop(query.append_pair("scope", ours)),
    }
}

impl Ask<'_> {
    /// The scope of the token that is needed, as the specification spells it.
    pub fn scope(&self) -> String {
        match self.repository {
            Some(name) if self.push => format!("repository:{name}:pull,push"),
            Some(name) => format!("repository:{name}:pull"),
            None if self.url.path() == "/v2/_catalog" => "registry:catalog:*".to_owned(),
            None => String::new(),
        }
    }
}

/// What a server wants to see.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: HashMap<String, String>,
}

/// The challenges of one header (RFC 9110 §11.6.1): schemes, each with parameters.
fn challenges_of(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_whitespace() || "=,".contains(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        let after = after.trim_start();
        if let (Some(value), Some(challenge)) = (after.strip_prefix('='), found.last_mut()) {
            let (value, after) = value_of(value.trim_start());
            challenge.parameters.insert(name.to_ascii_lowercase(), value);
            rest = after;
        } else {
            if !name.is_empty() {
                found.push(Challenge { scheme: name.to_owned(), parameters: HashMap::new() });
            }
            rest = after.strip_prefix('=').unwrap_or(after);
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A parameter's value, quoted or not, and what follows.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let read = |text| {
            let mut found = Vec::new();
            for challenge in challenges_of(text) {
                let mut parameters: Vec<_> = challenge.parameters.into_iter().collect();
                parameters.sort();
                found.push((challenge.scheme, parameters));
            }
            format!("{found:?}")
        };
        assert_eq!(read("Basic realm=\"a \\\"b\\\", c\""), r#"[("Basic", [("realm", "a \"b\", c")])]"#);
        assert_eq!(
            read("Bearer realm=\"https://a/t\",service=\"r\",scope=\"repository:a:pull,push\""),
            r#"[("Bearer", [("realm", "https://a/t"), ("scope", "repository:a:pull,push"), ("service", "r")])]"#
        );
        assert_eq!(read("Basic, Bearer realm=x"), r#"[("Basic", []), ("Bearer", [("realm", "x")])]"#);
        for broken in ["", ",", "=", "=\"", "Bearer realm=\"", "a=b"] {
            challenges_of(broken);
        }
    }
}
