//! The address of a bucket, and the client for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};
use zeroize::Zeroizing;

use super::{Bucket, failure, profile};
use crate::object::ObjectError;

/// A request that sends or fetches a part may take this long.
const REQUEST: Duration = Duration::from_secs(120);
/// The store may say nothing for this long.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// A request is repeated for this long: a store that is away for half a minute is waited for.
const RETRY: Duration = Duration::from_secs(90);
const RETRIES: usize = 24;

/// The address of a place in a bucket: `s3://bucket/prefix?endpoint=…&region=…`, `gs://…`, `az://…`, `abfss://…`.
///
/// Credentials are no part of it, so it can be shown: they come from the environment and where else each cloud's
/// clients look for them.
///
/// | key | for | meaning |
/// |---|---|---|
/// | `endpoint` | all | URL of the service, where it is not the cloud's own |
/// | `region` | s3 | region; otherwise `AWS_REGION`, the profile's, `us-east-1` |
/// | `path_style` | s3 | `true`: the bucket is in the path, `false`: in the host name. With an endpoint `true` unless said |
/// | `profile` | s3 | whose credentials of `~/.aws/credentials`; otherwise `AWS_PROFILE` |
/// | `account` | az | storage account |
/// | `allow_http` | all | `true` allows an endpoint without TLS that is not on this machine |
#[derive(Clone, PartialEq, Eq)]
pub struct CloudUrl {
    scheme: Scheme,
    bucket: String,
    prefix: Path,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    profile: Option<String>,
    account: Option<String>,
    key: Option<AccessKey>,
    patience: Duration,
}

#[derive(Clone, PartialEq, Eq)]
struct AccessKey {
    id: String,
    secret: Zeroizing<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    S3,
    Gs,
    Azure,
}

/// Why a text is no address of a bucket. Never repeats a value, which might be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudUrlError {
    /// Not one of the schemes.
    #[error("expected s3://bucket/prefix, or gs://, az://, abfs://, abfss://")]
    Scheme,
    /// No bucket, or one with characters that no bucket has.
    #[error("expected the name of a bucket after the scheme")]
    Bucket,
    /// The prefix has empty or relative parts.
    #[error("the prefix is not a path of plain names")]
    Prefix,
    /// A parameter that means nothing for this scheme.
    #[error(
        "the parameter `{0}` means nothing here; expected endpoint, region, path_style, profile, account or allow_http"
    )]
    Parameter(String),
    /// A parameter has a value that means nothing.
    #[error("the parameter `{0}` has a value that means nothing")]
    Value(&'static str),
    /// An endpoint without TLS.
    #[error("an http:// endpoint that is not on this machine needs allow_http=true")]
    PlainHttp,
}

impl fmt::Display for CloudUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Azure => "az",
        };
        write!(f, "{scheme}://{}/{}", self.bucket, self.prefix)?;
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
    }
}

impl fmt::Debug for CloudUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloudUrl({self})")
    }
}

impl FromStr for CloudUrl {
    type Err = CloudUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(CloudUrlError::Scheme)?;
        let scheme = match scheme {
            "s3" | "s3a" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" | "abfs" | "abfss" => Scheme::Azure,
            _ => return Err(CloudUrlError::Scheme),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = place.split_once('/').unwrap_or((place, ""));
        // abfss://container@account.dfs.core.windows.net/prefix
        let (bucket, account) = match authority.split_once('@') {
            Some((bucket, host)) if scheme == Scheme::Azure => (bucket, host.split('.').next()),
            Some(_) => return Err(CloudUrlError::Bucket),
            None => (authority, None),
        };
        let is_name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(plain)
        };
        if !is_name(bucket) {
            return Err(CloudUrlError::Bucket);
        }
        let mut url = Self {
            scheme,
            bucket: bucket.to_owned(),
            prefix: Path::parse(prefix.trim_end_matches('/')).map_err(|_| CloudUrlError::Prefix)?,
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            account: account.map(str::to_owned),
            key: None,
            patience: RETRY,
        };
        url.take_parameters(query)?;
        Ok(url)
    }
}

impl CloudUrl {
    /// Whether a setting's text means a bucket and not a directory.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// Uses this access key for S3, whatever else there is.
    #[must_use]
    pub fn with_access_key(self, id: &str, secret: &str) -> Self {
        Self { key: Some(AccessKey { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) }), ..self }
    }

    /// Repeats failing requests for this long instead of 90 seconds.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn take_parameters(&mut self, query: &str) -> Result<(), CloudUrlError> {
        let mut allow_http = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match (&*name, self.scheme) {
                ("endpoint", _) => self.endpoint = Some(value.trim_end_matches('/').to_owned()),
                ("allow_http", _) => allow_http = boolean("allow_http", &value)?,
                ("region", Scheme::S3) => self.region = Some(value),
                ("path_style", Scheme::S3) => self.path_style = Some(boolean("path_style", &value)?),
                ("profile", Scheme::S3) => self.profile = Some(value),
                ("account", Scheme::Azure) => self.account = Some(value),
                _ => return Err(CloudUrlError::Parameter(name.into_owned())),
            }
        }
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let (scheme, host) = endpoint.split_once("://").ok_or(CloudUrlError::Value("endpoint"))?;
        if host.is_empty() || host.contains(['@', '?', '#']) {
            return Err(CloudUrlError::Value("endpoint"));
        }
        match scheme {
            "https" => Ok(()),
            "http" if allow_http || is_loopback(host) => Ok(()),
            "http" => Err(CloudUrlError::PlainHttp),
            _ => Err(CloudUrlError::Value("endpoint")),
        }
    }

    /// The client. Nothing is sent yet.
    pub(super) fn bucket(&self) -> Result<Arc<dyn Bucket>, ObjectError> {
        let failed = |error| failure::of_store("preparing the client of the bucket", error);
        Ok(match self.scheme {
            Scheme::S3 => Arc::new(self.s3()?.build().map_err(failed)?),
            Scheme::Gs => {
                let builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(&self.bucket)
                    .with_retry(self.retry())
                    .with_client_options(self.client());
                let builder = match &self.endpoint {
                    Some(endpoint) => builder.with_base_url(endpoint),
                    None => builder,
                };
                Arc::new(builder.build().map_err(failed)?)
            }
            Scheme::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(&self.bucket)
                    .with_retry(self.retry())
                    .with_client_options(self.client());
                if let Some(account) = &self.account {
                    builder = builder.with_account(account);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                Arc::new(builder.build().map_err(failed)?)
            }
        })
    }

    fn s3(&self) -> Result<AmazonS3Builder, ObjectError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_retry(self.retry())
            .with_client_options(self.client());
        if let Some(AccessKey { id, secret }) = &self.key {
            let (key_id, secret_key) = (id.clone(), secret.to_string());
            let credential = AwsCredential { key_id, secret_key, token: None };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        } else if let Some(found) = profile::find(self.profile.as_deref())? {
            builder = match (&self.region, found.region) {
                (None, Some(region)) => builder.with_region(region),
                _ => builder,
            };
            if let Some(credentials) = found.credentials {
                builder = builder.with_credentials(credentials);
            }
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        let elsewhere = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        let elsewhere =
            self.endpoint.is_some() || elsewhere.iter().any(|name| std::env::var_os(name).is_some());
        // No certificate for a host name of the bucket's fits one with dots.
        let path_style = self.path_style.unwrap_or(elsewhere || self.bucket.contains('.'));
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(match (path_style, endpoint.split_once("://")) {
                (false, Some((scheme, host))) => format!("{scheme}://{}.{host}", self.bucket),
                _ => endpoint.clone(),
            });
        }
        Ok(builder)
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(4),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: self.patience,
        }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new()
            // An address with such an endpoint was judged when it was read.
            .with_allow_http(self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")))
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            .with_timeout(REQUEST)
            .with_pool_idle_timeout(Duration::from_secs(20))
            .with_pool_max_idle_per_host(64)
    }
}

fn boolean(name: &'static str, value: &str) -> Result<bool, CloudUrlError> {
    value.parse().map_err(|_| CloudUrlError::Value(name))
}

/// Whether a host, with or without a port and a path, is this machine.
fn is_loopback(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CloudUrl, CloudUrlError> {
        text.parse()
    }

    #[test]
    fn addresses_are_taken_apart() {
        let url =
            parse("s3://bucket/some/prefix?endpoint=http://127.0.0.1:9000/&region=eu-1&path_style=true")
                .unwrap();
        assert_eq!((url.bucket.as_str(), url.prefix.as_ref()), ("bucket", "some/prefix"));
        assert_eq!(
            (url.endpoint.as_deref(), url.region.as_deref()),
            (Some("http://127.0.0.1:9000"), Some("eu-1"))
        );
        assert_eq!(url.path_style, Some(true));
        assert_eq!(url.to_string(), "s3://bucket/some/prefix at http://127.0.0.1:9000");
        assert_eq!(parse("gs://b").unwrap().to_string(), "gs://b/");
        let url = parse("abfss://files@company.dfs.core.windows.net/wharf").unwrap();
        assert_eq!((url.bucket.as_str(), url.account.as_deref()), ("files", Some("company")));
        assert_eq!(parse("az://files/wharf?account=company").unwrap(), url);
    }

    #[test]
    fn what_means_nothing_is_refused_without_repeating_values() {
        for (text, expected) in [
            ("bucket", CloudUrlError::Scheme),
            ("ftp://bucket", CloudUrlError::Scheme),
            ("s3://", CloudUrlError::Bucket),
            ("s3://key:secret@bucket/prefix", CloudUrlError::Bucket),
            ("s3://bucket/a//b", CloudUrlError::Prefix),
            ("s3://bucket/../b", CloudUrlError::Prefix),
            ("s3://bucket?secret_access_key=x", CloudUrlError::Parameter("secret_access_key".to_owned())),
            ("gs://bucket?region=x", CloudUrlError::Parameter("region".to_owned())),
            ("s3://bucket?path_style=perhaps", CloudUrlError::Value("path_style")),
            ("s3://bucket?endpoint=store.example", CloudUrlError::Value("endpoint")),
            ("s3://bucket?endpoint=https://key:secret@store.example", CloudUrlError::Value("endpoint")),
            ("s3://bucket?endpoint=http://store.example", CloudUrlError::PlainHttp),
            ("s3://bucket?endpoint=http://127.0.0.1.example", CloudUrlError::PlainHttp),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret@") && !error.to_string().contains("=x"), "{error}");
        }
        for host in ["localhost:1", "127.0.0.1", "127.8.8.8:9", "[::1]:9000"] {
            parse(&format!("s3://bucket?endpoint=http://{host}")).unwrap();
        }
        parse("s3://bucket?endpoint=http://store.example&allow_http=true").unwrap();
    }
}
