//! Passwords that the credential helper remembers: each in a file of its own (0600) in a directory of its own (0700),
//! so that helpers that run at once do not lose each other's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_iam::sigv4::body_sha256;
use wharf_types::Timestamp;

use super::environment::Environment;
use super::registry_host::RegistryHost;
use super::replace::{self, FileError};

/// A remembered password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The registry, as the client called it.
    pub server: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// When it was got and when it ends, in microseconds since 1970; none for one that the user stored.
    pub lifetime: Option<(i64, i64)>,
}

impl Remembered {
    /// Whether it is good for a pull that begins now: a quarter of its life, at most a quarter of an hour, is left to
    /// be spent on that.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        const RESERVE: Duration = Duration::from_secs(15 * 60);
        let Some((since, until)) = self.lifetime else { return true };
        let reserve =
            (until.saturating_sub(since) / 4).min(i64::try_from(RESERVE.as_micros()).unwrap_or(i64::MAX));
        // A clock that went back says nothing of how old it is.
        (since..until.saturating_sub(reserve)).contains(&now.as_micros())
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub struct PasswordCache(PathBuf);

impl PasswordCache {
    /// That of this user, if they have a home.
    pub fn of(environment: &Environment) -> Option<Self> {
        environment.cache().map(|cache| Self(cache.join("wharf/passwords")))
    }

    /// What is remembered under a name; what cannot be read is not there.
    pub fn get(&self, name: &str) -> Option<Remembered> {
        read(&self.file(name))
    }

    /// Remembers a password under a name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, name: &str, entry: &Remembered) -> Result<(), FileError> {
        let text = serde_json::to_string(entry).unwrap_or_default();
        replace::replace(&self.file(name), &text)
    }

    /// All that is remembered.
    pub fn all(&self) -> Vec<Remembered> {
        self.files().iter().filter_map(|path| read(path)).collect()
    }

    /// Forgets everything about a registry.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn forget(&self, registry: &RegistryHost) -> std::io::Result<()> {
        let of_it =
            |entry: Remembered| entry.server.parse::<RegistryHost>().is_ok_and(|host| host == *registry);
        for path in self.files() {
            if read(&path).is_some_and(of_it) {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{}.json", hex::encode(body_sha256(name.as_bytes()))))
    }
}

fn read(path: &Path) -> Option<Remembered> {
    serde_json::from_str(&replace::read(path).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(server: &str, lifetime: Option<(i64, i64)>) -> Remembered {
        Remembered { server: server.to_owned(), user: "AWS".to_owned(), password: "p".to_owned(), lifetime }
    }

    #[test]
    fn passwords_are_fresh_until_shortly_before_their_end() {
        const MINUTE: i64 = 60_000_000;
        let at = |minutes: i64| Timestamp::from_micros(minutes * MINUTE);
        let long = entry("h", Some((0, 720 * MINUTE)));
        assert!(long.is_fresh(at(0)) && long.is_fresh(at(704)) && !long.is_fresh(at(705)));
        assert!(!long.is_fresh(at(-1)), "the clock went back");
        let short = entry("h", Some((0, 4 * MINUTE)));
        assert!(short.is_fresh(at(2)) && !short.is_fresh(at(3)));
        assert!(entry("h", None).is_fresh(at(99_999)));
    }

    #[test]
    fn what_is_remembered_of_a_registry_is_forgotten_together() {
        let directory = tempfile::tempdir().unwrap();
        let cache = PasswordCache(directory.path().join("a/passwords"));
        assert!(cache.all().is_empty() && cache.get("x").is_none());
        for (name, server) in [("x", "one:1"), ("y", "https://one:1"), ("z", "two:2")] {
            cache.put(name, &entry(server, None)).unwrap();
        }
        cache.forget(&"one:1".parse().unwrap()).unwrap();
        assert_eq!(cache.all().iter().map(|entry| &*entry.server).collect::<Vec<_>>(), ["two:2"]);
        fs::write(cache.file("z"), "{").unwrap();
        assert!(cache.get("z").is_none(), "a damaged file is not there");
    }
}
