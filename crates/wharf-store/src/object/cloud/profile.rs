//! Profiles of the AWS command line: `~/.aws/credentials` and `~/.aws/config`, which the library does not read.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};

use super::failure;
use crate::object::ObjectError;

/// Credentials are read again after this long: other programs refresh them.
const FRESH: Duration = Duration::from_secs(60);
const DOING: &str = "reading the profile of AWS credentials";

/// What a profile says.
pub(super) struct Profile {
    pub region: Option<String>,
    pub credentials: Option<AwsCredentialProvider>,
}

/// The profile that `named` or `AWS_PROFILE` names, else `default` if it is there. Credentials in the environment,
/// also those of a web identity, go before it, unless the address names the profile. Fails when a named profile has no
/// keys.
pub(super) fn find(named: Option<&str>) -> Result<Option<Profile>, ObjectError> {
    let files = Files::of_environment();
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let chosen = named.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
    let name = chosen.clone().unwrap_or_else(|| "default".to_owned());
    let in_environment =
        variable("AWS_ACCESS_KEY_ID").is_some() || variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
    let region = match variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")) {
        Some(_) => None,
        None => files.value(&name, "region"),
    };
    if named.is_none() && in_environment {
        return Ok(Some(Profile { region, credentials: None }));
    }
    let credentials = match (files.credential(&name), chosen) {
        (Some(credential), _) => {
            let read = Mutex::new((Instant::now(), Arc::new(credential)));
            Some(Arc::new(FromProfile { files, name, read }) as AwsCredentialProvider)
        }
        (None, Some(_)) => {
            return Err(failure::invalid(DOING, format!("the profile `{name}` has no access key")));
        }
        (None, None) => None,
    };
    Ok(Some(Profile { region, credentials }))
}

#[derive(Debug, Clone)]
struct Files {
    credentials: PathBuf,
    config: PathBuf,
}

impl Files {
    fn of_environment() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".aws");
        let path = |variable, name| std::env::var_os(variable).map_or_else(|| home.join(name), PathBuf::from);
        Self {
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: path("AWS_CONFIG_FILE", "config"),
        }
    }

    /// What the profile says of `key`: the file of credentials goes first.
    fn value(&self, profile: &str, key: &str) -> Option<String> {
        let in_config = match profile {
            "default" => "default".to_owned(),
            other => format!("profile {other}"),
        };
        let mut found = section(&self.config, &in_config);
        found.extend(section(&self.credentials, profile));
        found.remove(key)
    }

    fn credential(&self, profile: &str) -> Option<AwsCredential> {
        Some(AwsCredential {
            key_id: self.value(profile, "aws_access_key_id")?,
            secret_key: self.value(profile, "aws_secret_access_key")?,
            token: self.value(profile, "aws_session_token"),
        })
    }
}

/// The keys of one section of a file; none if it cannot be read.
fn section(file: &Path, name: &str) -> HashMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut found = HashMap::new();
    let mut inside = false;
    for line in text.lines() {
        // Indented lines are nested settings.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(header) = line.trim_end().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = header.split_whitespace().eq(name.split_whitespace());
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            found.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// Gives the credentials of a profile, which may change.
struct FromProfile {
    files: Files,
    name: String,
    read: Mutex<(Instant, Arc<AwsCredential>)>,
}

impl std::fmt::Debug for FromProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromProfile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FromProfile {
    fn credential(&self) -> Arc<AwsCredential> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0.elapsed() > FRESH {
            // A file that is just being replaced says nothing for a moment.
            if let Some(credential) = self.files.credential(&self.name) {
                read.1 = Arc::new(credential);
            }
            read.0 = Instant::now();
        }
        Arc::clone(&read.1)
    }
}

impl CredentialProvider for FromProfile {
    type Credential = AwsCredential;

    fn get_credential<'s, 'f>(
        &'s self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(Ok(self.credential())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_in_both_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            credentials: directory.path().join("credentials"),
            config: directory.path().join("config"),
        };
        assert!(files.credential("default").is_none(), "no file at all");
        std::fs::write(
            &files.credentials,
            "[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s=1\n\n[ work ]\n# comment\n\
             aws_access_key_id=AKIA2\naws_secret_access_key = s2\naws_session_token = t2\n",
        )
        .unwrap();
        std::fs::write(
            &files.config,
            "[default]\nregion = eu-central-1\ns3 =\n  region = nested\n[profile work]\nregion=us-west-2\n\
             aws_access_key_id = hidden\n",
        )
        .unwrap();
        let found = files.credential("default").unwrap();
        assert_eq!((found.key_id.as_str(), found.secret_key.as_str(), found.token), ("AKIA1", "s=1", None));
        let found = files.credential("work").unwrap();
        assert_eq!((found.key_id.as_str(), found.token.as_deref()), ("AKIA2", Some("t2")));
        assert_eq!(files.value("default", "region").as_deref(), Some("eu-central-1"));
        assert_eq!(files.value("work", "region").as_deref(), Some("us-west-2"));
        assert!(files.credential("other").is_none());
        assert!(
            !format!(
                "{:?}",
                FromProfile {
                    read: Mutex::new((Instant::now(), Arc::new(files.credential("work").unwrap()))),
                    files,
                    name: "work".to_owned(),
                }
            )
            .contains("s2")
        );
    }
}
