//! `wharf aws-profile`: a profile for the AWS CLI and SDKs.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use wharf_types::Region;

use super::arguments::AwsProfile;
use super::aws_settings::config_section;
use super::environment::Environment;
use super::http::Endpoint;
use super::ini::Ini;
use super::replace;
use crate::settings::{Settings, TlsMode};
use crate::welcome;

/// The services that wharf serves, as a `services` section calls them. Others keep AWS's own endpoints there.
const SERVICES: [&str; 6] = ["ecr", "ecr_public", "iam", "kms", "secrets_manager", "sts"];

/// An access key, as somebody printed it.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    id: String,
    secret: String,
    token: Option<String>,
}

/// What a profile says.
struct Profile {
    name: String,
    endpoint: String,
    region: Region,
    ca_bundle: Option<String>,
    key: Key,
}

/// Writes the profile, or prints it.
///
/// # Errors
/// If there is no access key for it, or a file cannot be written.
pub fn aws_profile(
    arguments: AwsProfile,
    environment: &Environment,
    settings: &Settings,
) -> anyhow::Result<()> {
    let AwsProfile { name, endpoint, region, credentials, ca_bundle, print } = arguments;
    if name.is_empty()
        || name.contains(|c: char| c.is_control() || "[]\"'#;".contains(c))
        || name.trim() != name
    {
        bail!("`{name}` is no name for a profile");
    }
    if let Some(url) = &endpoint {
        Endpoint::of_url(url)?;
    }
    let self_signed = settings.tls == TlsMode::SelfSigned && endpoint.is_none();
    let authority = self_signed.then(|| settings.data_dir.join("tls/ca.pem"));
    let profile = Profile {
        name,
        endpoint: endpoint.map_or_else(|| local_endpoint(settings, "--endpoint"), Ok)?,
        region: region.unwrap_or_else(|| settings.default_region.clone()),
        ca_bundle: ca_bundle.or(authority).map(|path| absolute(&path)).transpose()?,
        key: read_key(credentials.as_deref(), &settings.data_dir)?,
    };
    let mut out = std::io::stdout().lock();
    if print {
        let (mut config, mut keys) = (Ini::default(), Ini::default());
        profile.configure(&mut config);
        profile.put_key(&mut keys);
        writeln!(out, "# ~/.aws/config\n{config}\n# ~/.aws/credentials\n{}", keys.to_string().trim_end())?;
        return Ok(());
    }
    let (config_path, keys_path) = environment
        .aws_config()
        .zip(environment.aws_credentials())
        .context("no home directory: set AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE")?;
    let read = |path| replace::read(path).map(|text| Ini::parse(&text.unwrap_or_default()));
    let (mut config, mut keys) = (read(&config_path)?, read(&keys_path)?);
    profile.configure(&mut config);
    profile.put_key(&mut keys);
    // The key first: a profile without one would be taken for a broken one.
    replace::replace(&keys_path, &keys.to_string())?;
    replace::replace(&config_path, &config.to_string())?;
    let name = &profile.name;
    writeln!(
        out,
        "profile {name} is for {}: aws --profile {name} ecr describe-repositories",
        profile.endpoint
    )?;
    Ok(())
}

impl Profile {
    fn configure(&self, config: &mut Ini) {
        let section = config_section(&self.name);
        config.set(&section, "region", self.region.as_str());
        config.set(&section, "endpoint_url", &self.endpoint);
        config.set(&section, "services", &self.name);
        match &self.ca_bundle {
            Some(path) => config.set(&section, "ca_bundle", path),
            None => config.remove(&section, "ca_bundle"),
        }
        let services = format!("services {}", self.name);
        for service in SERVICES {
            config.set_nested(&services, service, "endpoint_url", &self.endpoint);
        }
    }

    fn put_key(&self, keys: &mut Ini) {
        let (section, Key { id, secret, token }) = (&self.name, &self.key);
        keys.set(section, "aws_access_key_id", id);
        keys.set(section, "aws_secret_access_key", secret);
        match token {
            Some(token) => keys.set(section, "aws_session_token", token),
            None => keys.remove(section, "aws_session_token"),
        }
    }
}

/// The variables of somebody who has nothing but an access key: that of a file, or the first account's.
///
/// # Errors
/// If there is no such key.
pub fn key_environment(file: Option<&Path>, data_dir: &Path) -> anyhow::Result<Environment> {
    let Key { id, secret, token } = read_key(file, data_dir)?;
    let mut environment = Environment::default();
    environment.set("AWS_ACCESS_KEY_ID", &id);
    environment.set("AWS_SECRET_ACCESS_KEY", &secret);
    environment.set("AWS_SESSION_TOKEN", token.as_deref().unwrap_or_default());
    Ok(environment)
}

/// Where a server with these settings is reached from this machine; `flag` is what says it otherwise.
///
/// # Errors
/// If the settings do not tell.
pub fn local_endpoint(settings: &Settings, flag: &str) -> anyhow::Result<String> {
    let scheme = if settings.tls == TlsMode::Off { "http" } else { "https" };
    let (host, port) = settings.listen.rsplit_once(':').context("the setting listen has no port")?;
    if port == "0" {
        bail!("the server chooses its port by itself: say where it is with {flag}");
    }
    let host = if matches!(host, "" | "0.0.0.0" | "[::]") { "127.0.0.1" } else { host };
    Ok(format!("{scheme}://{host}:{port}"))
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(path.display().to_string())
}

/// The key of a file (`-`: standard input), or the first account's.
fn read_key(file: Option<&Path>, data_dir: &Path) -> anyhow::Result<Key> {
    let (text, name) = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().take(1 << 20).read_to_string(&mut text).context("cannot read standard input")?;
            (text, "standard input".to_owned())
        }
        Some(path) => {
            let name = path.display().to_string();
            (std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?, name)
        }
        None => {
            let path = welcome::credentials_path(data_dir);
            let name = path.display().to_string();
            let hint = || format!("cannot read {name}; name another file with an access key");
            (std::fs::read_to_string(&path).with_context(hint)?, name)
        }
    };
    let json: Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
    key_of(&json).with_context(|| format!("{name} has no access key"))
}

/// An access key in the form of `wharf key create --json`, `aws iam create-access-key`, or `aws sts assume-role`.
fn key_of(json: &Value) -> Option<Key> {
    let text = |object: &Value, name: &str| {
        object[name]
            .as_str()
            .filter(|text| !text.is_empty() && !text.contains(char::is_whitespace))
            .map(str::to_owned)
    };
    let aws =
        ["AccessKey", "Credentials"].into_iter().map(|name| &json[name]).find(|object| object.is_object());
    match aws.or(json.get("AccessKeyId").map(|_| json)) {
        Some(aws) => Some(Key {
            id: text(aws, "AccessKeyId")?,
            secret: text(aws, "SecretAccessKey")?,
            token: text(aws, "SessionToken"),
        }),
        None => Some(Key {
            id: text(json, "access_key_id")?,
            secret: text(json, "secret_access_key")?,
            token: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Layers, Setting};

    fn key(token: Option<&str>) -> Key {
        Key { id: "AKIA".to_owned(), secret: "s".to_owned(), token: token.map(str::to_owned) }
    }

    #[test]
    fn keys_are_read_in_everybodys_form() {
        let aws = json!({"AccessKeyId": "AKIA", "SecretAccessKey": "s"});
        let mut session = aws.clone();
        session["SessionToken"] = json!("t");
        for (json, token) in [
            (json!({"account_id": "1", "access_key_id": "AKIA", "secret_access_key": "s"}), None),
            (json!({"AccessKey": aws}), None),
            (json!({"Credentials": session}), Some("t")),
            (session.clone(), Some("t")),
        ] {
            assert_eq!(key_of(&json), Some(key(token)), "{json}");
        }
        for json in
            [json!({}), json!([]), json!({"access_key_id": "AKIA"}), json!({"AccessKey": {}}), json!(1)]
        {
            assert_eq!(key_of(&json), None, "{json}");
        }
        assert_eq!(key_of(&json!({"access_key_id": "AKIA", "secret_access_key": "s\n[x]"})), None);
    }

    #[test]
    fn a_profile_written_twice_is_there_once() {
        let mut profile = Profile {
            name: "team".to_owned(),
            endpoint: "https://registry.example".to_owned(),
            region: "eu-west-1".parse().unwrap(),
            ca_bundle: Some("/ca.pem".to_owned()),
            key: key(Some("t")),
        };
        let (mut config, mut keys) = (Ini::parse("[default]\nregion = us-east-1\n"), Ini::default());
        profile.configure(&mut config);
        profile.put_key(&mut keys);
        let once = config.to_string();
        profile.configure(&mut config);
        assert_eq!(config.to_string(), once);
        assert!(
            once.starts_with("[default]\nregion = us-east-1\n\n[profile team]\nregion = eu-west-1\n"),
            "{once}"
        );
        assert_eq!(
            config.get_nested("services team", "sts", "endpoint_url"),
            Some("https://registry.example")
        );
        assert_eq!(keys.get("team", "aws_session_token"), Some("t"));
        (profile.ca_bundle, profile.key) = (None, key(None));
        profile.configure(&mut config);
        profile.put_key(&mut keys);
        assert_eq!(
            (config.get("profile team", "ca_bundle"), keys.get("team", "aws_session_token")),
            (None, None)
        );
        assert_eq!(keys.to_string(), "[team]\naws_access_key_id = AKIA\naws_secret_access_key = s\n");
    }

    #[test]
    fn the_endpoint_is_where_the_server_listens() {
        let endpoint = |listen: &str, tls: &str| {
            let flags = [("listen", listen), ("tls", tls)]
                .map(|(name, value)| (Setting::find(name).unwrap(), value.to_owned()));
            local_endpoint(
                &Settings::from_layers(&Layers::defaults().with_flags(&flags)).unwrap(),
                "--endpoint",
            )
        };
        assert_eq!(endpoint("127.0.0.1:5050", "off").unwrap(), "http://127.0.0.1:5050");
        assert_eq!(endpoint("0.0.0.0:443", "self-signed").unwrap(), "https://127.0.0.1:443");
        assert!(endpoint("127.0.0.1:0", "off").is_err());
    }
}
