//! Where the server is: `postgres://user:password@host:port/database?sslmode=…`, with the password kept out of sight.

use std::{fmt, path::PathBuf, str::FromStr};

use tokio_postgres::{Config, config::SslMode};

/// How a connection to the server is protected, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    /// Never by TLS.
    Disable,
    /// By TLS where the server offers it, without asking who it is. The default.
    Prefer,
    /// By TLS, without asking who the server is.
    Require,
    /// By TLS, with a certificate for the host's name from a known authority.
    VerifyFull,
}

/// A parsed PostgreSQL URL. It prints without its password and parameters.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) protection: Protection,
    /// Authorities to trust instead of the system's, in PEM.
    pub(super) authorities: Option<PathBuf>,
    shown: String,
}

/// Why a text is no PostgreSQL URL. Never contains the text itself: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins with neither `postgres://` nor `postgresql://`.
    #[error("a PostgreSQL URL begins with `postgres://`")]
    Scheme,
    /// `sslmode` has a value that is not known.
    #[error("`sslmode` is one of disable, prefer, require and verify-full")]
    SslMode,
    /// Anything else the driver refuses.
    #[error("cannot read the PostgreSQL URL: {0}")]
    Syntax(String),
}

impl PostgresUrl {
    /// True if `text` looks like one, so that a setting can tell it from a path.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if !Self::is_one(text) {
            return Err(UrlError::Scheme);
        }
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let mut protection = Protection::Prefer;
        let mut authorities = None;
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => protection = protection_named(mode)?,
                Some(("sslrootcert", path)) => authorities = Some(PathBuf::from(path)),
                _ => others.push(parameter),
            }
        }
        let rest = match others.is_empty() {
            true => place.to_owned(),
            false => format!("{place}?{}", others.join("&")),
        };
        let mut config: Config = rest.parse().map_err(|error| UrlError::Syntax(causes(&error)))?;
        config.ssl_mode(match protection {
            Protection::Disable => SslMode::Disable,
            Protection::Prefer => SslMode::Prefer,
            Protection::Require | Protection::VerifyFull => SslMode::Require,
        });
        Ok(PostgresUrl { config, protection, authorities, shown: shown(place) })
    }
}

fn protection_named(mode: &str) -> Result<Protection, UrlError> {
    match mode {
        "disable" => Ok(Protection::Disable),
        "prefer" => Ok(Protection::Prefer),
        "require" => Ok(Protection::Require),
        "verify-full" => Ok(Protection::VerifyFull),
        _ => Err(UrlError::SslMode),
    }
}

/// The driver's words name the parameter, never its value.
fn causes(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The URL without what stands between user and host. A password may contain any character but `@`, which is escaped.
fn shown(place: &str) -> String {
    let (scheme, rest) = place.split_once("://").unwrap_or(("postgres", place));
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{name}@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_without_its_password() {
        let url: PostgresUrl =
            "postgres://wharf:s3cret:with@host:5433/meta?sslmode=require&password=other".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://wharf@host:5433/meta postgres://wharf@host:5433/meta"
        );
        assert_eq!(url.protection, Protection::Require);
        let url: PostgresUrl =
            "postgresql:///meta?sslmode=verify-full&sslrootcert=/etc/ca.pem".parse().unwrap();
        assert_eq!((url.protection, url.authorities), (Protection::VerifyFull, Some("/etc/ca.pem".into())));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        let refused = |text: &str| text.parse::<PostgresUrl>().unwrap_err();
        assert_eq!(refused("/var/lib/wharf/meta.db"), UrlError::Scheme);
        assert_eq!(refused("postgres://host/db?sslmode=verify-ca"), UrlError::SslMode);
        for text in ["postgres://u:s3cret@host:port/db", "postgres://u:s3cret@host/db?nonsense=s3cret"] {
            let error = refused(text);
            assert!(matches!(error, UrlError::Syntax(_)), "{text}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
