//! The variables a client reads, and the places they lead to.

use std::collections::HashMap;
use std::path::PathBuf;

/// Environment variables. A variable that is empty is one that is not set, as the AWS CLI has it.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Those of this process; names and values that are no UTF-8 are none of ours.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// A directory or file that a variable names.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The configuration file of the AWS CLI and SDKs.
    pub fn aws_config(&self) -> Option<PathBuf> {
        self.path("AWS_CONFIG_FILE").or_else(|| self.below_home(".aws/config"))
    }

    /// Their file of access keys.
    pub fn aws_credentials(&self) -> Option<PathBuf> {
        self.path("AWS_SHARED_CREDENTIALS_FILE").or_else(|| self.below_home(".aws/credentials"))
    }

    /// The directory of docker's `config.json`.
    pub fn docker_config(&self) -> Option<PathBuf> {
        self.path("DOCKER_CONFIG").or_else(|| self.below_home(".docker"))
    }

    /// Where kubectl looks when nothing names a file.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        self.below_home(".kube/config")
    }

    /// Where this user's caches are.
    pub fn cache(&self) -> Option<PathBuf> {
        self.path("XDG_CACHE_HOME").or_else(|| self.below_home(".cache"))
    }

    fn below_home(&self, name: &str) -> Option<PathBuf> {
        self.path("HOME").map(|home| home.join(name))
    }
}

#[cfg(test)]
impl Environment {
    /// Sets more variables.
    pub fn extend(&mut self, more: &[(&str, &str)]) {
        self.0.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
