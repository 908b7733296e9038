//! The calls: those of JSON services such as ECR's GetAuthorizationToken, and STS's AssumeRoleWithWebIdentity.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use wharf_iam::sigv4::{Secret, SignedRequest, Signer};
use wharf_types::{Region, Timestamp};

use super::aws_settings::{AwsSettings, AwsSettingsError, CredentialSource, Credentials, WebIdentity};
use super::environment::Environment;
use super::http::{Endpoint, EndpointError, HttpClient, HttpError};
use super::registry_host::RegistryHost;
use super::replace::{self, FileError};

/// The region of a wharf whose operator did not choose one.
const DEFAULT_REGION: &str = "us-east-1";

/// What a registry is logged into with.
pub struct Password {
    /// Always `AWS` so far.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Host and port of the registry it is for, as the server calls it.
    pub registry: RegistryHost,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Refused, in the server's words.
    #[error("{operation} was refused: {code}: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The error's code.
        code: String,
        /// Its message.
        message: String,
    },
    /// Something answered that is no such service.
    #[error("{host} answered {operation} with status {status} and no answer of AWS's form")]
    Strange {
        /// What was asked.
        operation: &'static str,
        /// Whom.
        host: String,
        /// The answer's status.
        status: u16,
    },
    /// No endpoint and no registry that could be one.
    #[error("no endpoint: set AWS_ENDPOINT_URL, name a profile that has one, or say which registry")]
    NoEndpoint,
    /// The token of an identity provider could not be read.
    #[error("there is no token in {0}")]
    NoToken(String),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] AwsSettingsError),
    /// The endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There was no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// What the user asked for, before variables and files.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The profile.
    pub profile: Option<String>,
    /// The server's URL.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<Region>,
}

/// A service that speaks JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonService {
    /// ECR.
    Ecr,
    /// wharf's own.
    Wharf,
}

impl JsonService {
    /// The name in signatures, and what stands before operations.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Ecr => ("ecr", "AmazonEC2ContainerRegistry_V20150921"),
            Self::Wharf => ("wharf", "Wharf_V20261101"),
        }
    }
}

/// A server, and what to talk to it with.
pub struct Api {
    http: HttpClient,
    settings: AwsSettings,
    ecr: Endpoint,
    sts: Endpoint,
    region: Region,
}

impl Api {
    /// Finds out whom to ask. The endpoint: as asked, else the registry itself if one is given, else as variables and
    /// profile have it. The region: as asked, else the registry's own, else as set, else `us-east-1`.
    ///
    /// # Errors
    /// If there is no such place, or settings are wrong.
    pub fn new(
        environment: &Environment,
        asked: &Asked,
        registry: Option<&RegistryHost>,
    ) -> Result<Self, ApiError> {
        let settings = AwsSettings::read(environment, asked.profile.as_deref())?;
        let endpoint = |service| match (&asked.endpoint_url, registry, settings.endpoint_url(service)) {
            (Some(url), ..) => Ok(Endpoint::of_url(url)?),
            // The scheme is the configured one where that is the same server.
            (None, Some(host), Some(url)) if is_of(url, host) => Ok(Endpoint::of_url(url)?),
            (None, Some(host), _) => Ok(Endpoint::of_host(host.as_str())?),
            (None, None, Some(url)) => Ok(Endpoint::of_url(url)?),
            (None, None, None) => Err(ApiError::NoEndpoint),
        };
        let (ecr, sts) = (endpoint("ecr")?, endpoint("sts")?);
        let region = match (&asked.region, registry.and_then(RegistryHost::region)) {
            (Some(region), _) => region.clone(),
            (None, Some(region)) => region,
            (None, None) => match settings.region()? {
                Some(region) => region,
                None => {
                    DEFAULT_REGION.parse().map_err(|_| AwsSettingsError::Region(DEFAULT_REGION.into()))?
                }
            },
        };
        let http = HttpClient::new(settings.ca_bundle().as_deref())?;
        Ok(Self { http, settings, ecr, sts, region })
    }

    /// The region asked.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The server asked for passwords.
    pub fn host(&self) -> &str {
        self.ecr.host()
    }

    /// What sends the requests.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Has roles assumed at another server than the one that is called.
    ///
    /// # Errors
    /// If `url` is none of a server.
    pub fn set_sts(&mut self, url: &str) -> Result<(), ApiError> {
        self.sts = Endpoint::of_url(url)?;
        Ok(())
    }

    /// The user's credentials, or where they come from.
    ///
    /// # Errors
    /// If there are none.
    pub fn credentials(&self) -> Result<CredentialSource, ApiError> {
        Ok(self.settings.credentials()?)
    }

    /// A registry password for the user's credentials.
    ///
    /// # Errors
    /// If there are none, or the server does not take them.
    pub async fn password(&self, source: CredentialSource) -> Result<Password, ApiError> {
        let credentials = self.key_of(source).await?;
        self.get_authorization_token(&credentials).await
    }

    /// The key to sign with: the user's own, or one that a role gives for an identity token.
    ///
    /// # Errors
    /// If the token cannot be read, or the server does not take it.
    pub async fn key_of(&self, source: CredentialSource) -> Result<Credentials, ApiError> {
        match source {
            CredentialSource::Key(credentials) => Ok(credentials),
            CredentialSource::WebIdentity(WebIdentity { role_arn, token_file, session_name }) => {
                let place = || token_file.display().to_string();
                let token = replace::read(&token_file)?.ok_or_else(|| ApiError::NoToken(place()))?;
                let token = Secret::new(token.trim());
                if token.expose().is_empty() {
                    return Err(ApiError::NoToken(place()));
                }
                self.assume_role_with_web_identity(&role_arn, &token, session_name.as_deref()).await
            }
        }
    }

    /// `GetAuthorizationToken` of ECR: a password for the caller's registry.
    ///
    /// # Errors
    /// If the server refuses, or does not answer as ECR does.
    pub async fn get_authorization_token(&self, credentials: &Credentials) -> Result<Password, ApiError> {
        const OPERATION: &str = "GetAuthorizationToken";
        let answer = self.call(credentials, JsonService::Ecr, OPERATION, &json!({})).await?;
        password(&answer).ok_or_else(|| ApiError::Strange {
            operation: OPERATION,
            host: self.ecr.host().to_owned(),
            status: 200,
        })
    }

    /// Calls an operation of a JSON service.
    ///
    /// # Errors
    /// If the server refuses, or does not answer as such a service does.
    pub async fn call(
        &self,
        credentials: &Credentials,
        service: JsonService,
        operation: &'static str,
        input: &Value,
    ) -> Result<Value, ApiError> {
        let (name, prefix) = service.names();
        let body = input.to_string().into_bytes();
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("{prefix}.{operation}")),
        ];
        let signed = {
            let mut presented: Vec<(&str, &[u8])> = vec![("host", self.ecr.host().as_bytes())];
            presented.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
            let request = SignedRequest { method: "POST", target: "/", headers: &presented };
            self.signer(credentials, name).sign(&request, &body, Timestamp::now())
        };
        headers.extend(signed);
        let answer = self.http.post(&self.ecr, &headers, &body).await?;
        let strange =
            || ApiError::Strange { operation, host: self.ecr.host().to_owned(), status: answer.status };
        let json: Value = serde_json::from_slice(&answer.body).map_err(|_| strange())?;
        if answer.status != 200 {
            let code = json["__type"].as_str().ok_or_else(strange)?;
            let code = code.rsplit('#').next().unwrap_or(code).to_owned();
            let message =
                json["message"].as_str().or(json["Message"].as_str()).unwrap_or_default().to_owned();
            return Err(ApiError::Refused { operation, code, message });
        }
        Ok(json)
    }

    fn signer(&self, credentials: &Credentials, service: &str) -> Signer {
        let Credentials { access_key_id, secret, session_token } = credentials;
        let signer = Signer::new(access_key_id, secret.expose(), self.region.as_str(), service);
        match session_token {
            Some(token) => signer.with_token(token.expose()),
            None => signer,
        }
    }

    /// `AssumeRoleWithWebIdentity` of STS: needs no credentials but the token.
    ///
    /// # Errors
    /// If the server refuses, or does not answer as STS does.
    pub async fn assume_role_with_web_identity(
        &self,
        role_arn: &str,
        token: &Secret,
        session_name: Option<&str>,
    ) -> Result<Credentials, ApiError> {
        const OPERATION: &str = "AssumeRoleWithWebIdentity";
        let default = session_name_of(token.expose());
        let body = form(&[
            ("Action", OPERATION),
            ("Version", "2011-06-15"),
            ("RoleArn", role_arn),
            ("RoleSessionName", session_name.unwrap_or(&default)),
            ("WebIdentityToken", token.expose()),
        ]);
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        let answer = self.http.post(&self.sts, &headers, body.as_bytes()).await?;
        let strange = || ApiError::Strange {
            operation: OPERATION,
            host: self.sts.host().to_owned(),
            status: answer.status,
        };
        let xml = std::str::from_utf8(&answer.body).map_err(|_| strange())?;
        if answer.status != 200 {
            let code = element(xml, "Code").ok_or_else(strange)?;
            let message = element(xml, "Message").unwrap_or_default();
            return Err(ApiError::Refused { operation: OPERATION, code, message });
        }
        let value = |name| element(xml, name).ok_or_else(strange);
        Ok(Credentials {
            access_key_id: value("AccessKeyId")?,
            secret: Secret::new(value("SecretAccessKey")?),
            session_token: Some(Secret::new(value("SessionToken")?)),
        })
    }
}

/// Whether a URL is that of a registry: its own host, the one below whose name the registry's is, or the same port of
/// this machine.
fn is_of(url: &str, registry: &RegistryHost) -> bool {
    let Ok(server) = url.parse::<RegistryHost>() else { return false };
    if server.is_loopback() && registry.is_loopback() {
        return server.port() == registry.port();
    }
    let of_ecrs_form = || {
        let below = registry.as_str().strip_suffix(server.as_str()).is_some_and(|rest| rest.ends_with('.'));
        below && registry.region().is_some()
    };
    server == *registry || of_ecrs_form()
}

impl AwsSettings {
    /// Whether a registry is the server that the user has configured.
    pub fn is_configured(&self, registry: &RegistryHost) -> bool {
        self.endpoint_url("ecr").is_some_and(|url| is_of(url, registry))
    }
}

/// One registry of GetAuthorizationToken's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    authorization_token: String,
    expires_at: f64,
    proxy_endpoint: String,
}

fn password(answer: &Value) -> Option<Password> {
    let data = AuthorizationData::deserialize(answer["authorizationData"].get(0)?).ok()?;
    let token = String::from_utf8(STANDARD.decode(data.authorization_token).ok()?).ok()?;
    let (user, password) = token.split_once(':')?;
    let since_1970 = Duration::try_from_secs_f64(data.expires_at).ok()?;
    Some(Password {
        user: user.to_owned(),
        password: Secret::new(password),
        registry: data.proxy_endpoint.parse().ok()?,
        expires_at: Timestamp::from_micros(0).plus(since_1970),
    })
}

/// A name for a session: the token's subject as far as a name may have its letters, so that audit records tell who it
/// was. Whether the token is any good is the server's to say.
fn session_name_of(token: &str) -> String {
    let subject = || {
        let claims = token.split('.').nth(1)?;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let subject = claims["sub"].as_str()?;
        let subject = subject.strip_prefix("system:serviceaccount:").unwrap_or(subject);
        let letter = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' };
        let name: String = subject.chars().map(letter).take(64).collect();
        (name.len() >= 2).then_some(name)
    };
    subject().unwrap_or_else(|| "wharf".to_owned())
}

/// A form's body.
fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The text of the first element of a name. STS's answers have neither attributes nor other elements in these.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let named =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(named.into_iter().fold(text.to_owned(), |text, (entity, letter)| text.replace(entity, letter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_from_the_answer_or_not_at_all() {
        let answer = json!({"authorizationData": [{
            "authorizationToken": STANDARD.encode("AWS:p:q"), "expiresAt": 1_800_000_000.5,
            "proxyEndpoint": "https://123456789012.dkr.ecr.us-east-1.localhost:5050"
        }]});
        let read = password(&answer).unwrap();
        assert_eq!((read.user.as_str(), read.password.expose()), ("AWS", "p:q"));
        assert_eq!(read.registry.as_str(), "123456789012.dkr.ecr.us-east-1.localhost:5050");
        assert_eq!(read.expires_at, Timestamp::from_micros(1_800_000_000_500_000));
        for spoiled in
            [json!({}), json!({"authorizationData": []}), json!([]), json!({"authorizationData": [{}]})]
        {
            assert!(password(&spoiled).is_none(), "{spoiled}");
        }
        let mut negative = answer;
        negative["authorizationData"][0]["expiresAt"] = json!(-1.0);
        assert!(password(&negative).is_none());
    }

    #[test]
    fn sessions_are_called_after_the_tokens_subject() {
        let token = |claims: Value| {
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
            format!("e30.{claims}.sig")
        };
        let name = |claims| session_name_of(&token(claims));
        assert_eq!(name(json!({"sub": "system:serviceaccount:shop:web"})), "shop-web");
        assert_eq!(
            name(json!({"sub": "repo:acme/app:ref:refs/heads/main"})),
            "repo-acme-app-ref-refs-heads-main"
        );
        assert_eq!(name(json!({"sub": "x".repeat(100)})).len(), 64);
        for claims in [json!({}), json!({"sub": 1}), json!({"sub": "x"})] {
            assert_eq!(name(claims), "wharf");
        }
        assert_eq!(session_name_of("no token"), "wharf");
    }

    #[test]
    fn elements_are_read_with_their_entities() {
        let xml = "<A><Code>AccessDenied</Code><Message>a &lt;b&gt; &amp;amp; c</Message></A>";
        assert_eq!(element(xml, "Code").as_deref(), Some("AccessDenied"));
        assert_eq!(element(xml, "Message").as_deref(), Some("a <b> &amp; c"));
        assert_eq!(element("<Code>x", "Code"), None);
    }

    #[test]
    fn only_the_configured_server_and_names_below_it_are_its_registries() {
        let is = |url: &str, host: &str| is_of(url, &host.parse().unwrap());
        assert!(is("http://127.0.0.1:5050", "127.0.0.1:5050"));
        assert!(is("https://registry.example", "123456789012.dkr.ecr.us-east-1.registry.example"));
        assert!(is("http://127.0.0.1:5050", "123456789012.dkr.ecr.us-east-1.localhost:5050"));
        assert!(!is("http://127.0.0.1:5050", "127.0.0.1:5051"));
        assert!(!is("https://registry.example", "registry.example.evil.example"));
        assert!(!is("https://registry.example", "evil-registry.example"));
        assert!(!is("https://registry.example", "other.registry.example"));
    }
}
