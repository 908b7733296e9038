//! `docker-credential-wharf`: docker's credential-helper protocol. Requests come on standard input; answers, errors
//! too, go to standard output, where clients look for them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use wharf_types::Timestamp;

use super::api::{Api, ApiError, Asked};
use super::aws_settings::{AwsSettings, AwsSettingsError, CredentialSource, WebIdentity};
use super::docker_config::DockerConfig;
use super::environment::Environment;
use super::password_cache::{PasswordCache, Remembered};
use super::registry_host::RegistryHost;

/// What the program is called as a helper.
pub const HELPER_NAME: &str = "docker-credential-wharf";

/// The name in `credHelpers`.
const HELPER: &str = "wharf";

/// Bytes of a request.
const LIMIT: u64 = 1 << 20;

/// Why a helper has no answer. The first three texts are the protocol's: clients compare them.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    /// Not a registry of ours; the client goes on without.
    #[error("credentials not found in native keychain")]
    NotFound,
    /// A request without a registry.
    #[error("no credentials server URL")]
    NoServer,
    /// Something to store without a user.
    #[error("no credentials username")]
    NoUser,
    /// Something to store that has another form.
    #[error("not a credential to store: {0}")]
    Form(String),
    /// Neither of the actions.
    #[error("unknown action \"{0}\"; usage: docker-credential-wharf <get|store|erase|list|version>")]
    Action(String),
    /// There is no directory to remember anything in.
    #[error("no home directory to keep passwords in")]
    NoHome,
    /// The server had no password for us.
    #[error("{0}")]
    Api(String),
    /// A file or a pipe failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<ApiError> for HelperError {
    fn from(error: ApiError) -> Self {
        Self::Api(format!("wharf: {:#}", anyhow::Error::from(error)))
    }
}

/// A login, as the protocol spells it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Does one action of the protocol. Exit status 1 with the reason on `output` if it cannot.
pub async fn credential_helper(
    action: &str,
    environment: &Environment,
    input: impl Read,
    output: &mut impl Write,
) -> ExitCode {
    match answer(action, environment, input).await {
        Ok(text) => match output.write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(output, "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn answer(action: &str, environment: &Environment, input: impl Read) -> Result<String, HelperError> {
    let request = || -> Result<String, HelperError> {
        let mut text = String::new();
        input.take(LIMIT).read_to_string(&mut text)?;
        Ok(text)
    };
    let cache = PasswordCache::of(environment);
    match action {
        "get" => get(request()?.trim(), environment, cache.as_ref()).await,
        "store" => store(&request()?, &cache.ok_or(HelperError::NoHome)?),
        "erase" => {
            let registry = server(request()?.trim())?;
            cache.map_or(Ok(()), |cache| cache.forget(&registry))?;
            Ok(String::new())
        }
        "list" => {
            let now = Timestamp::now();
            let all = cache.map(|cache| cache.all()).unwrap_or_default();
            let fresh = all.into_iter().filter(|entry| entry.is_fresh(now));
            let users: BTreeMap<String, String> = fresh.map(|entry| (entry.server, entry.user)).collect();
            Ok(line(&users))
        }
        "version" => Ok(concat!("docker-credential-wharf ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        other => Err(HelperError::Action(other.to_owned())),
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn server(text: &str) -> Result<RegistryHost, HelperError> {
    if text.is_empty() {
        return Err(HelperError::NoServer);
    }
    // No host of a registry, so none we know: other helpers' keys are such.
    text.parse().map_err(|_| HelperError::NotFound)
}

/// A fresh password where wharf is to be asked and there are credentials to ask with, else what was stored.
async fn get(
    url: &str,
    environment: &Environment,
    cache: Option<&PasswordCache>,
) -> Result<String, HelperError> {
    let registry = server(url)?;
    let entry = match fresh(&registry, environment, cache).await? {
        Some(entry) => entry,
        None => cache.and_then(|cache| cache.get(&stored(&registry))).ok_or(HelperError::NotFound)?,
    };
    Ok(line(&Login { server_url: url.to_owned(), username: entry.user, secret: entry.password }))
}

async fn fresh(
    registry: &RegistryHost,
    environment: &Environment,
    cache: Option<&PasswordCache>,
) -> Result<Option<Remembered>, HelperError> {
    let settings = AwsSettings::read(environment, None).map_err(ApiError::from)?;
    if !(settings.is_configured(registry) || is_named(registry, environment)) {
        return Ok(None);
    }
    let source = match settings.credentials() {
        Ok(source) => source,
        Err(AwsSettingsError::NoCredentials) => return Ok(None),
        Err(error) => return Err(ApiError::from(error).into()),
    };
    let api = Api::new(environment, &Asked::default(), Some(registry))?;
    let name = cache_name(registry, &api, &source);
    let now = Timestamp::now();
    if let Some(known) = cache.and_then(|cache| cache.get(&name)).filter(|entry| entry.is_fresh(now)) {
        return Ok(Some(known));
    }
    let password = api.password(source).await?;
    let entry = Remembered {
        server: registry.as_str().to_owned(),
        user: password.user,
        password: password.password.expose().to_owned(),
        lifetime: Some((now.as_micros(), password.expires_at.as_micros())),
    };
    // A password that cannot be remembered is as good.
    let _ = cache.map(|cache| cache.put(&name, &entry));
    Ok(Some(entry))
}

/// Whether a file of logins says that this registry's passwords come from us. Being asked is not enough: with
/// `credsStore` a helper is asked for every registry that an image names, and a request signed for a stranger's server
/// can be replayed.
fn is_named(registry: &RegistryHost, environment: &Environment) -> bool {
    let names = |path: &std::path::PathBuf| {
        DockerConfig::read(path).is_ok_and(|config| config.helper_of(registry) == Some(HELPER))
    };
    DockerConfig::places(environment).iter().any(names)
}

/// Whatever makes the password another one.
fn cache_name(registry: &RegistryHost, api: &Api, source: &CredentialSource) -> String {
    let who = match source {
        CredentialSource::Key(key) => {
            let token = key.session_token.as_ref().map_or("", |token| token.expose());
            format!("{}\n{}\n{token}", key.access_key_id, key.secret.expose())
        }
        CredentialSource::WebIdentity(WebIdentity { role_arn, token_file, session_name }) => {
            format!("{role_arn}\n{}\n{}", token_file.display(), session_name.as_deref().unwrap_or_default())
        }
    };
    format!("issued\n{registry}\n{}\n{}\n{who}", api.host(), api.region())
}

fn stored(registry: &RegistryHost) -> String {
    format!("stored\n{registry}")
}

/// Keeps what `docker login` or `wharf login` hands over, for registries that wharf cannot ask itself.
fn store(request: &str, cache: &PasswordCache) -> Result<String, HelperError> {
    let login: Login = serde_json::from_str(request).map_err(|error| HelperError::Form(error.to_string()))?;
    if login.username.is_empty() && !login.server_url.is_empty() {
        return Err(HelperError::NoUser);
    }
    let registry = server(login.server_url.trim())?;
    let entry =
        Remembered { server: login.server_url, user: login.username, password: login.secret, lifetime: None };
    cache
        .put(&stored(&registry), &entry)
        .map_err(|error| HelperError::Api(format!("{:#}", anyhow::Error::from(error))))?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(home: &std::path::Path, action: &str, input: &str) -> (ExitCode, String) {
        let environment = Environment::from([("HOME", home.to_str().unwrap())]);
        let mut output = Vec::new();
        let code = credential_helper(action, &environment, input.as_bytes(), &mut output).await;
        (code, String::from_utf8(output).unwrap())
    }

    fn failed(text: &str) -> (ExitCode, String) {
        (ExitCode::FAILURE, format!("{text}\n"))
    }

    #[tokio::test]
    async fn what_is_stored_is_got_listed_and_erased() {
        let home = tempfile::tempdir().unwrap();
        let url = "https://registry.example/v1/";
        let login = r#"{"ServerURL":"https://registry.example/v1/","Username":"me","Secret":"s"}"#;
        assert_eq!(ask(home.path(), "store", login).await, (ExitCode::SUCCESS, String::new()));
        assert_eq!(ask(home.path(), "get", url).await, (ExitCode::SUCCESS, format!("{login}\n")));
        let listed = "{\"https://registry.example/v1/\":\"me\"}\n".to_owned();
        assert_eq!(ask(home.path(), "list", "").await, (ExitCode::SUCCESS, listed));
        assert_eq!(ask(home.path(), "erase", "registry.example").await, (ExitCode::SUCCESS, String::new()));
        assert_eq!(ask(home.path(), "get", url).await, failed("credentials not found in native keychain"));
        assert_eq!(ask(home.path(), "list", "").await, (ExitCode::SUCCESS, "{}\n".to_owned()));
    }

    #[tokio::test]
    async fn bad_requests_get_the_protocols_errors_and_nothing_is_written() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(ask(home.path(), "get", "\n").await, failed("no credentials server URL"));
        assert_eq!(
            ask(home.path(), "get", "not a host").await,
            failed("credentials not found in native keychain")
        );
        assert_eq!(ask(home.path(), "erase", "").await, failed("no credentials server URL"));
        assert_eq!(ask(home.path(), "store", "{}").await, failed("no credentials server URL"));
        let no_user = r#"{"ServerURL":"registry.example","Secret":"s"}"#;
        assert_eq!(ask(home.path(), "store", no_user).await, failed("no credentials username"));
        let (code, said) = ask(home.path(), "store", "{").await;
        assert!(code == ExitCode::FAILURE && said.starts_with("not a credential to store: "), "{said}");
        let (code, said) = ask(home.path(), "burn", "").await;
        assert!(code == ExitCode::FAILURE && said.contains("usage: docker-credential-wharf"), "{said}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn no_server_is_asked_that_nobody_named() {
        // A server that would have to be asked: its port is taken and nobody answers, so asking would be an error.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let home = tempfile::tempdir().unwrap();
        let environment = Environment::from([
            ("HOME", home.path().to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]);
        let config = home.path().join(".docker/config.json");
        super::super::replace::replace(&config, "{\"credsStore\": \"wharf\"}").unwrap();
        let mut output = Vec::new();
        let code = credential_helper("get", &environment, host.as_bytes(), &mut output).await;
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(String::from_utf8(output).unwrap(), "credentials not found in native keychain\n");
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was asked");
    }
}
