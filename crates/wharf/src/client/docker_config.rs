//! Docker's `config.json`, and the file of the same form that podman, buildah and skopeo keep: who is logged in where,
//! and which credential helpers are asked.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::environment::Environment;
use super::registry_host::RegistryHost;
use super::replace::{self, FileError};

/// A file of logins.
#[derive(Debug)]
pub struct DockerConfig {
    path: PathBuf,
    members: Map<String, Value>,
}

/// Why a file of logins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It has another form; it is not touched.
    #[error("{} is no configuration of docker's: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DockerConfig {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// If it cannot be read, or has another form.
    pub fn read(path: &Path) -> Result<Self, DockerConfigError> {
        let form = |why: String| DockerConfigError::Form { path: path.to_owned(), why };
        let text = replace::read(path)?.unwrap_or_default();
        let members = if text.trim().is_empty() {
            Map::new()
        } else {
            serde_json::from_str(&text).map_err(|error| form(error.to_string()))?
        };
        for name in ["auths", "credHelpers"] {
            if members.get(name).is_some_and(|value| !value.is_object() && !value.is_null()) {
                return Err(form(format!("`{name}` is no object")));
            }
        }
        Ok(Self { path: path.to_owned(), members })
    }

    /// The files where clients look for logins, in no order.
    pub fn places(environment: &Environment) -> Vec<PathBuf> {
        let containers = |directory: PathBuf| directory.join("containers/auth.json");
        let config = || environment.path("XDG_CONFIG_HOME");
        let home = || environment.path("HOME").map(|home| home.join(".config"));
        [
            environment.docker_config().map(|directory| directory.join("config.json")),
            environment.path("REGISTRY_AUTH_FILE"),
            environment.path("XDG_RUNTIME_DIR").map(containers),
            config().or_else(home).map(containers),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// User and password of a registry that are in the file itself.
    pub fn login_of(&self, registry: &RegistryHost) -> Option<(String, String)> {
        let auths = self.members.get("auths")?.as_object()?;
        let named = |host: &String| host.parse::<RegistryHost>().is_ok_and(|host| host == *registry);
        let (_, entry) = auths.iter().find(|(host, _)| named(host))?;
        let text = String::from_utf8(STANDARD.decode(entry["auth"].as_str()?).ok()?).ok()?;
        let (user, password) = text.split_once(':').filter(|(user, _)| !user.is_empty())?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// The helper that is asked for this very registry, `wharf` for `docker-credential-wharf`.
    pub fn helper_of(&self, registry: &RegistryHost) -> Option<&str> {
        let helpers = self.members.get("credHelpers")?.as_object()?;
        let named = |host: &String| host.parse::<RegistryHost>().is_ok_and(|host| host == *registry);
        helpers.iter().find(|(host, _)| named(host)).and_then(|(_, helper)| helper.as_str())
    }

    /// The helper that is asked for a registry; then a password in the file itself would not count.
    pub fn helper_for(&self, registry: &RegistryHost) -> Option<&str> {
        let store = || self.members.get("credsStore").and_then(Value::as_str);
        self.helper_of(registry).or_else(store).filter(|helper| !helper.is_empty())
    }

    /// Puts a password down, and keeps everything else.
    ///
    /// # Errors
    /// If the file cannot be written; it is then what it was.
    pub fn log_in(
        &mut self,
        registry: &RegistryHost,
        user: &str,
        password: &str,
    ) -> Result<(), DockerConfigError> {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        self.put(registry, json!({ "auth": auth }))
    }

    /// Says that a helper has the password.
    ///
    /// # Errors
    /// If the file cannot be written; it is then what it was.
    pub fn log_in_by_helper(&mut self, registry: &RegistryHost) -> Result<(), DockerConfigError> {
        self.put(registry, json!({}))
    }

    fn put(&mut self, registry: &RegistryHost, entry: Value) -> Result<(), DockerConfigError> {
        let auths = self.members.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = json!({});
        }
        auths[registry.as_str()] = entry;
        let mut text = Vec::new();
        let mut writer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t"));
        let form = |why: String| DockerConfigError::Form { path: self.path.clone(), why };
        self.members.serialize(&mut writer).map_err(|error| form(error.to_string()))?;
        let mut text = String::from_utf8(text).map_err(|error| form(error.to_string()))?;
        text.push('\n');
        Ok(replace::replace(&self.path, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn host(text: &str) -> RegistryHost {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_is_added_and_the_rest_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        DockerConfig::read(&path).unwrap().log_in(&host("127.0.0.1:5050"), "AWS", "one").unwrap();
        let before = json!({
            "auths": {"127.0.0.1:5050": {"auth": "old"}, "other": {"auth": "x"}}, "psFormat": "table", "n": 1.50
        });
        replace::replace(&path, &before.to_string()).unwrap();
        DockerConfig::read(&path).unwrap().log_in(&host("127.0.0.1:5050"), "AWS", "two").unwrap();
        let after: Value = serde_json::from_str(&replace::read(&path).unwrap().unwrap()).unwrap();
        let mut expected = before;
        expected["auths"]["127.0.0.1:5050"]["auth"] = json!(STANDARD.encode("AWS:two"));
        assert_eq!(after, expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_another_form_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in ["[]", "{", "{\"auths\": []}", "{\"credHelpers\": 1}"] {
            replace::replace(&path, text).unwrap();
            let error = DockerConfig::read(&path).unwrap_err();
            assert!(error.to_string().contains("config.json is no configuration of docker's"), "{error}");
            assert_eq!(replace::read(&path).unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn helpers_are_found_by_host_then_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let json = json!({"credHelpers": {"https://One.example": "wharf"}, "credsStore": "pass"});
        replace::replace(&path, &json.to_string()).unwrap();
        let config = DockerConfig::read(&path).unwrap();
        assert_eq!(config.helper_for(&host("one.example")), Some("wharf"));
        assert_eq!(config.helper_for(&host("two.example")), Some("pass"));
        assert_eq!(config.helper_of(&host("two.example")), None);
    }
}
