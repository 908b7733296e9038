//! Finding both ends of an import, and the credentials for them.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::Value;
use wharf_iam::sigv4::Secret;
use wharf_types::AccountId;

use super::arguments::{From, Import, Place, To};
use super::ecr::Ecr;
use super::layout::Layout;
use super::registry::{Login, Registry};
use super::source::Source;
use crate::client::{self, Api, Asked, DockerConfig, Environment, HttpClient, RegistryHost};
use crate::settings::{Settings, TlsMode};

/// Docker Hub, as images name it, as its registry is called, and as docker calls it in its configuration.
const HUB: [&str; 3] = ["docker.io", "registry-1.docker.io", "index.docker.io"];

/// The wharf to import into, by both of its faces.
///
/// # Errors
/// If it cannot be reached, or does not let us in.
pub async fn destination(to: &To, settings: &Settings) -> anyhow::Result<(Registry, Arc<Ecr>)> {
    let url = match &to.to {
        Some(url) => url.clone(),
        None => client::local_endpoint(settings, "--to")?,
    };
    let self_signed = to.to.is_none() && settings.tls == TlsMode::SelfSigned;
    let authority = self_signed.then(|| settings.data_dir.join("tls/ca.pem"));
    let region = to.to_region.clone().unwrap_or_else(|| settings.default_region.clone());
    let asked =
        Asked { profile: to.to_profile.clone(), endpoint_url: Some(url.clone()), region: Some(region) };
    let mut environment = match &to.to_profile {
        Some(_) => Environment::of_process(),
        // The variables are the source's; this end has a key of its own.
        None => client::key_environment(to.to_credentials.as_deref(), &settings.data_dir)?,
    };
    if let Some(path) = to.to_ca_bundle.clone().or(authority) {
        environment.set("AWS_CA_BUNDLE", &path.display().to_string());
    }
    let api = Api::new(&environment, &asked, None)?;
    let trust = api.http().clone();
    let ecr = Arc::new(Ecr::new(api, None)?);
    let (host, scheme) = host_of(&url)?;
    // Asks for a password first, so that a wrong key is told as such.
    ecr.password(false).await.with_context(|| format!("cannot import into {url}"))?;
    let registry = Registry::open(&host, Some(scheme), &trust, Login::Ecr(Arc::clone(&ecr))).await?;
    Ok((registry, ecr))
}

/// Where images come from.
///
/// # Errors
/// If it cannot be reached or read, or does not let us in.
pub async fn source(import: &Import) -> anyhow::Result<Source> {
    match &import.source {
        Place::Layout(directory) => {
            let layout = Layout::open(directory).await;
            Ok(Source::Layout(layout.with_context(|| format!("{} is no image layout", directory.display()))?))
        }
        Place::Oci { host, path } => oci(host, path.clone(), &import.from).await,
        Place::Ecr { host, path } => amazon(host, path.clone(), &import.from).await,
    }
}

async fn oci(host: &RegistryHost, path: Option<String>, from: &From) -> anyhow::Result<Source> {
    let environment = Environment::of_process();
    let trust = HttpClient::new(environment.path("AWS_CA_BUNDLE").as_deref())?;
    let scheme = from.plain_http.then_some("http");
    let is_hub = HUB.contains(&host.as_str());
    let [_, registry, key] = HUB;
    let (host, key) = if is_hub { (registry.parse()?, key.parse()?) } else { (host.clone(), host.clone()) };
    // Official images have their short names there only for people.
    let path = path.map(|path| if is_hub && !path.contains('/') { format!("library/{path}") } else { path });
    let login = match &from.username {
        Some(user) => Login::Password { user: user.clone(), password: password_of_stdin()? },
        None => docker_login(&environment, &key)?,
    };
    let registry = Registry::open(&host, scheme, &trust, login).await?;
    Ok(Source::Registry { registry: Box::new(registry), ecr: None, path })
}

async fn amazon(host: &RegistryHost, path: Option<String>, from: &From) -> anyhow::Result<Source> {
    let environment = Environment::of_process();
    let of_aws = host.name().ends_with(".amazonaws.com") || host.name().ends_with(".amazonaws.com.cn");
    let region = from.region.clone().or_else(|| host.region());
    let default = match (of_aws, host.region()) {
        (true, Some(region)) => {
            let suffix = if host.name().ends_with(".cn") { ".cn" } else { "" };
            Some(format!("https://api.ecr.{region}.amazonaws.com{suffix}"))
        }
        (true, None) => bail!("{host} is no host of ECR's: ACCOUNT.dkr.ecr.REGION.amazonaws.com"),
        (false, _) if from.plain_http => Some(format!("http://{host}")),
        (false, _) => None,
    };
    let endpoint_url = from.endpoint_url.clone().or(default);
    let asked = Asked { profile: from.profile.clone(), endpoint_url: endpoint_url.clone(), region };
    let mut api = Api::new(&environment, &asked, Some(host).filter(|_| endpoint_url.is_none()))?;
    if of_aws
        && from.endpoint_url.is_none()
        && let Some(region) = host.region()
    {
        let suffix = if host.name().ends_with(".cn") { ".cn" } else { "" };
        api.set_sts(&format!("https://sts.{region}.amazonaws.com{suffix}"))?;
    }
    let trust = api.http().clone();
    // The account is the host's; on any other host the caller's own.
    let account: Option<AccountId> =
        host.name().split_once(".dkr").and_then(|(account, _)| account.parse().ok());
    let ecr = Arc::new(Ecr::new(api, account)?);
    // An API of somebody else's than AWS has the images too: a wharf serves both.
    let (oci, scheme) = match &from.endpoint_url {
        Some(url) if !url.contains(".amazonaws.com") => {
            let (host, scheme) = host_of(url)?;
            (host, Some(scheme))
        }
        _ => (host.clone(), from.plain_http.then_some("http")),
    };
    ecr.password(false).await.with_context(|| format!("cannot import from {host}"))?;
    let registry = Registry::open(&oci, scheme, &trust, Login::Ecr(Arc::clone(&ecr))).await?;
    Ok(Source::Registry { registry: Box::new(registry), ecr: Some(ecr), path })
}

/// Host and scheme of a URL.
fn host_of(url: &str) -> anyhow::Result<(RegistryHost, &'static str)> {
    let scheme = if url.starts_with("http://") { "http" } else { "https" };
    Ok((url.parse()?, scheme))
}

fn password_of_stdin() -> anyhow::Result<Secret> {
    let mut text = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut text).context("cannot read the password")?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("there is no password on standard input");
    }
    Ok(Secret::new(password))
}

/// The login that container clients keep for a registry.
fn docker_login(environment: &Environment, host: &RegistryHost) -> anyhow::Result<Login> {
    for path in DockerConfig::places(environment) {
        let config = DockerConfig::read(&path)?;
        if let Some((user, password)) = config.login_of(host) {
            return Ok(Login::Password { user, password: Secret::new(password) });
        }
        if let Some(helper) = config.helper_for(host)
            && let Some(login) = ask_helper(helper, host)?
        {
            return Ok(login);
        }
    }
    Ok(Login::Anonymous)
}

/// Asks a credential helper by docker's protocol. `None` if it has no login for the registry.
fn ask_helper(helper: &str, host: &RegistryHost) -> anyhow::Result<Option<Login>> {
    let program = format!("docker-credential-{helper}");
    let failed = || format!("cannot ask {program} for a password");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read says why by its status.
        let _ = input.write_all(host.as_str().as_bytes());
    }
    let done = child.wait_with_output().with_context(failed)?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        bail!("{}: {}", failed(), said.trim());
    }
    let answer: Value = serde_json::from_slice(&done.stdout).with_context(failed)?;
    let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match (text("Username"), text("Secret")) {
        (Some(user), _) if user == "<token>" => {
            bail!("{program} has an identity token, which is not supported")
        }
        (Some(user), Some(secret)) => Ok(Some(Login::Password { user, password: Secret::new(secret) })),
        _ => Ok(None),
    }
}
