//! `wharf login`: as `docker login`, with AWS credentials.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::api::{Api, Password};
use super::arguments::Login;
use super::docker_config::DockerConfig;
use super::environment::Environment;
use super::registry_host::RegistryHost;

/// Gets a password and puts it where container clients find it, or prints it.
///
/// # Errors
/// If there is none, or it cannot be put there; then the file is what it was.
pub async fn login(arguments: Login, environment: &Environment) -> anyhow::Result<()> {
    let Login { registry, connection, docker_config, print } = arguments;
    // Before anybody is asked: a file that cannot be used would waste the password.
    let config = match print {
        true => None,
        false => {
            let directory = docker_config.or_else(|| environment.docker_config());
            let directory = directory.context("no home directory: say where with --docker-config")?;
            Some(DockerConfig::read(&directory.join("config.json"))?)
        }
    };
    let api = Api::new(environment, &connection.into(), registry.as_ref())?;
    let password = api.password(api.credentials()?).await?;
    let mut out = std::io::stdout().lock();
    let Some(mut config) = config else {
        writeln!(out, "{}", password.password.expose())?;
        return Ok(());
    };
    let registry = registry.unwrap_or_else(|| password.registry.clone());
    match config.helper_for(&registry).map(str::to_owned) {
        Some(helper) => {
            store(&helper, &registry, &password)?;
            config.log_in_by_helper(&registry)?;
        }
        None => config.log_in(&registry, &password.user, password.password.expose())?,
    }
    writeln!(out, "logged in to {registry} until {}", password.expires_at.to_rfc3339())?;
    Ok(())
}

/// Hands a password to a credential helper.
fn store(helper: &str, registry: &RegistryHost, password: &Password) -> anyhow::Result<()> {
    let program = format!("docker-credential-{helper}");
    let failed = || format!("cannot store the password with {program}");
    let mut child = Command::new(&program)
        .arg("store")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(failed)?;
    let request = json!({ "ServerURL": registry.as_str(), "Username": password.user, "Secret": password.password.expose() });
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read says why by its status.
        let _ = input.write_all(request.to_string().as_bytes());
    }
    let done = child.wait_with_output().with_context(failed)?;
    if !done.status.success() {
        bail!("{}: {}", failed(), String::from_utf8_lossy(&done.stdout).trim());
    }
    Ok(())
}
