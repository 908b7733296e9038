//! What the operator wrote, validated: defaults, `wharf.toml`, `WHARF_…` variables and flags, each above the former.
//! Nothing here looks at the machine: that is the step from [`Settings`] to a running server.

mod layers;
mod show;
mod table;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_http::proxy::{Network, NetworkError};
use wharf_store::meta::{PostgresUrl, UrlError};
use wharf_store::object::{CloudUrl, CloudUrlError};
use wharf_types::{AccountId, Region};

pub use layers::{Layers, Origin, SettingsError};
pub use table::{Kind, SETTINGS, Setting};
pub use values::{AuditLog, Bytes, Dialect, LogFormat, Throttle, TlsMode, Value, Watermark};

/// The configuration file that is used, if there is one, when none is named.
const DEFAULT_FILE: &str = "wharf.toml";

/// Which registry an extra host name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTarget {
    /// The private registry of an account in a region.
    Registry(AccountId, Region),
    /// The public registry.
    Public,
}

impl Value for HostTarget {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "public" {
            return Ok(Self::Public);
        }
        let (account, region) = text.split_once('/').ok_or("expected account/region, or public")?;
        Ok(Self::Registry(values::from_str(account)?, values::from_str(region)?))
    }
}

/// Where a JSON Web Key Set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// At a URL: HTTPS, or HTTP on this machine.
    Url(String),
}

impl Value for Jwks {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected a file or a URL".to_owned()),
            url if url.starts_with("https://") || url.starts_with("http://") => Ok(Self::Url(url.to_owned())),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// The 32 bytes below which the key ring's keys are wrapped. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey(pub [u8; 32]);

impl std::fmt::Debug for RootKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RootKey(…)")
    }
}

impl Value for RootKey {
    fn parse(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| "expected base64")?;
        bytes.try_into().map(Self).map_err(|_| "expected 32 bytes".to_owned())
    }
}

/// Where the metadata is.
#[derive(Clone, Debug)]
pub enum MetadataPlace {
    /// In a file of the data directory.
    Embedded,
    /// In a database that other nodes may share.
    Postgres(Box<PostgresUrl>),
}

impl Value for MetadataPlace {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Embedded),
            url if PostgresUrl::is_one(url) => url
                .parse()
                .map(|url| Self::Postgres(Box::new(url)))
                .map_err(|error: UrlError| error.to_string()),
            _ => Err("expected sqlite, or postgres://…".to_owned()),
        }
    }
}

/// How a PostgreSQL server is used.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// Connections for changes.
    pub write_connections: usize,
    /// Connections for what requests look up.
    pub read_connections: usize,
    /// Connections for the rest.
    pub background_connections: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for a statement.
    pub statement_timeout: Duration,
    /// Time to wait for a lock.
    pub lock_timeout: Duration,
}

impl PostgresSettings {
    fn from_layers(layers: &Layers) -> Result<Self, SettingsError> {
        let connections = |name| {
            Some(value::<usize>(layers, name)?)
                .filter(|count| (1..=1000).contains(count))
                .ok_or_else(|| wrong(layers, name, "expected 1 to 1000"))
        };
        Ok(Self {
            write_connections: connections("postgres.write_connections")?,
            read_connections: connections("postgres.read_connections")?,
            background_connections: connections("postgres.background_connections")?,
            connect_timeout: at_least_a_millisecond(layers, "postgres.connect_timeout")?,
            statement_timeout: at_least_a_millisecond(layers, "postgres.statement_timeout")?,
            lock_timeout: at_least_a_millisecond(layers, "postgres.lock_timeout")?,
        })
    }
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Largest manifest.
    pub manifest_bytes: u64,
    /// Largest blob.
    pub blob_bytes: u64,
    /// Largest request head.
    pub header_bytes: usize,
    /// Time for a TLS handshake and a request's head.
    pub header_timeout: Duration,
    /// Time without a request.
    pub idle_timeout: Duration,
    /// Time without progress of a transfer.
    pub body_idle_timeout: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Life of an unfinished upload.
    pub upload_lifetime: Duration,
    /// Time to finish requests when stopping.
    pub drain: Duration,
}

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobPlace {
    /// Files below a directory.
    Directory(PathBuf),
    /// A bucket.
    Bucket(CloudUrl),
}

/// Every setting, typed. Field names are those of the table.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory that holds everything.
    pub data_dir: PathBuf,
    /// Address to serve on, not resolved yet.
    pub listen: String,
    /// Domain of registry names.
    pub domain: Option<String>,
    /// Extra host names.
    pub hosts: BTreeMap<String, HostTarget>,
    /// Account of the first start and of anonymous callers.
    pub default_account: AccountId,
    /// Region of callers who name none.
    pub default_region: Region,
    /// Whether a bare host is the caller's own registry.
    pub bare_host_registry: bool,
    /// Hosts where policies may let callers without credentials pull; `*` = all.
    pub anonymous_hosts: Vec<String>,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether plain HTTP may leave the machine.
    pub insecure_plain_http: bool,
    /// Where the certificate comes from.
    pub tls: TlsMode,
    /// Certificate chain, PEM. Set exactly if `tls` is [`TlsMode::Files`].
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM. Set exactly if `tls` is [`TlsMode::Files`].
    pub tls_key: Option<PathBuf>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: String,
    /// Where audit records go.
    pub audit_log: AuditLog,
    /// Whom to follow where ECR and OCI differ.
    pub dialect: Dialect,
    /// Whether manifests may name what is not there. Never with [`Dialect::Ecr`].
    pub sparse_manifests: bool,
    /// Whether AES256 repositories are encrypted at rest.
    pub encryption: bool,
    /// Root of the key ring, if it is not a file.
    pub root_key: Option<RootKey>,
    /// Where metadata is kept.
    pub metadata: MetadataPlace,
    /// How a PostgreSQL server is used.
    pub postgres: PostgresSettings,
    /// The bucket of the blobs; without one they are in the data directory.
    pub blobs: Option<CloudUrl>,
    /// Where content goes that only archived images need.
    pub archive: Option<BlobPlace>,
    /// Whether a pull of an archived image restores it.
    pub archive_restore_on_pull: bool,
    /// How long a registry password is valid.
    pub token_ttl: Duration,
    /// Where the keys of OIDC issuers are, by the issuer's URL.
    pub jwks: BTreeMap<String, Jwks>,
    /// Bounds on clients.
    pub limits: LimitSettings,
    /// When rates are throttled.
    pub throttle: Throttle,
    /// Calls per second by action.
    pub throttle_rates: BTreeMap<String, u64>,
    /// Failed authentications of an address in a minute.
    pub failed_authentications: u32,
    /// Repositories of an account in a region.
    pub quota_repositories: u64,
    /// Images of a repository.
    pub quota_images_per_repository: u64,
    /// Tags of an image.
    pub quota_tags_per_image: u64,
    /// How long deleted things can be restored.
    pub trash_window: Duration,
    /// How long unreferenced layers are kept.
    pub unreferenced_grace: Duration,
    /// Free space below which pushes are refused.
    pub low_watermark: Watermark,
    /// Fewest days in the archive that a lifecycle policy may say.
    pub lifecycle_archive_min_days: u64,
    /// Pause between rounds of collection; `None` leaves it to `wharf gc`.
    pub gc_interval: Option<Duration>,
    /// Pause between two runs of a lifecycle policy.
    pub lifecycle_interval: Duration,
    /// Whether lifecycle policies may say what ECR's cannot.
    pub lifecycle_extensions: bool,
    /// Whether clients may delete no image that is reported to be in use.
    pub protect_in_use: bool,
}

/// Reads all layers: the named file (or `wharf.toml` if it is there), this process's environment, the flags.
///
/// # Errors
/// If a layer cannot be read or names an unknown setting. Values are judged by [`Settings::from_layers`].
pub fn read(file: Option<&Path>, flags: &[(&'static Setting, String)]) -> Result<Layers, SettingsError> {
    let mut layers = Layers::defaults();
    if let Some(path) = file.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists())) {
        layers = layers.with_file(path)?;
    }
    Ok(layers.with_environment(std::env::vars_os())?.with_flags(flags))
}

impl Settings {
    /// Types every value and checks what several settings must agree on.
    ///
    /// # Errors
    /// On the first value that means nothing, with its origin.
    pub fn from_layers(layers: &Layers) -> Result<Self, SettingsError> {
        let settings = Self {
            data_dir: value::<String>(layers, "data_dir")?.into(),
            listen: value(layers, "listen")?,
            domain: value::<Option<String>>(layers, "domain")?.map(|domain| domain.to_ascii_lowercase()),
            hosts: value(layers, "hosts")?,
            default_account: parsed(layers, "default_account")?,
            default_region: parsed(layers, "default_region")?,
            bare_host_registry: value(layers, "bare_host_registry")?,
            anonymous_hosts: words(layers, "anonymous_hosts", |word| Ok(word.to_ascii_lowercase()))?,
            trusted_proxies: words(layers, "trusted_proxies", |word| {
                word.parse().map_err(|error: NetworkError| error.to_string())
            })?,
            insecure_plain_http: value(layers, "insecure_plain_http")?,
            tls: value(layers, "tls")?,
            tls_cert: value::<Option<String>>(layers, "tls_cert")?.map(PathBuf::from),
            tls_key: value::<Option<String>>(layers, "tls_key")?.map(PathBuf::from),
            log_format: value(layers, "log_format")?,
            log_level: value(layers, "log_level")?,
            audit_log: value(layers, "audit_log")?,
            dialect: value(layers, "oci.dialect")?,
            sparse_manifests: value(layers, "oci.sparse_manifests")?,
            encryption: value(layers, "encryption")?,
            root_key: value(layers, "root_key")?,
            metadata: value(layers, "metadata")?,
            postgres: PostgresSettings::from_layers(layers)?,
            blobs: blobs(layers)?,
            archive: archive(layers)?,
            archive_restore_on_pull: value(layers, "archive_restore_on_pull")?,
            token_ttl: at_least_a_millisecond(layers, "token_ttl")?,
            jwks: issuers(layers)?,
            limits: LimitSettings::from_layers(layers)?,
            throttle: value(layers, "throttle.enabled")?,
            throttle_rates: rates(layers)?,
            failed_authentications: u32::try_from(value::<u64>(layers, "throttle.failed_authentications")?)
                .unwrap_or(u32::MAX),
            quota_repositories: value(layers, "quotas.repositories")?,
            quota_images_per_repository: value(layers, "quotas.images_per_repository")?,
            quota_tags_per_image: value(layers, "quotas.tags_per_image")?,
            trash_window: value(layers, "storage.trash_window")?,
            unreferenced_grace: value(layers, "storage.unreferenced_grace")?,
            low_watermark: value(layers, "storage.low_watermark")?,
            lifecycle_archive_min_days: Some(value(layers, "lifecycle.archive_min_days")?)
                .filter(|days| *days > 0)
                .ok_or_else(|| wrong(layers, "lifecycle.archive_min_days", "expected at least 1"))?,
            gc_interval: Some(value(layers, "gc.interval")?).filter(|interval| *interval != Duration::ZERO),
            lifecycle_interval: at_least_a_millisecond(layers, "lifecycle.interval")?,
            lifecycle_extensions: value(layers, "lifecycle.extensions")?,
            protect_in_use: value(layers, "in_use.protect")?,
        };
        check_words(layers)?;
        settings.check_tls()?;
        settings.check_dialect()?;
        Ok(settings)
    }

    fn check_dialect(&self) -> Result<(), SettingsError> {
        if self.sparse_manifests && self.dialect == Dialect::Ecr {
            return Err(SettingsError::Conflict(
                "`oci.sparse_manifests` contradicts `oci.dialect = \"ecr\"`: ECR refuses manifests that name what \
                 is not there"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), SettingsError> {
        let conflict = |text: &str| Err(SettingsError::Conflict(text.to_owned()));
        match (self.tls, &self.tls_cert, &self.tls_key) {
            (TlsMode::Files, Some(_), Some(_)) | (TlsMode::Off | TlsMode::SelfSigned, None, None) => Ok(()),
            (TlsMode::Files, ..) => conflict("`tls = \"files\"` needs both `tls_cert` and `tls_key`"),
            (_, _, _) => conflict("`tls_cert` and `tls_key` are used with `tls = \"files\"` only"),
        }
    }
}

impl LimitSettings {
    fn from_layers(layers: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            manifest_bytes: value::<Bytes>(layers, "limits.manifest_bytes")?.0,
            blob_bytes: value::<Bytes>(layers, "limits.blob_bytes")?.0,
            header_bytes: usize::try_from(value::<Bytes>(layers, "limits.header_bytes")?.0)
                .ok()
                .filter(|bytes| (8 * 1024..=1024 * 1024).contains(bytes))
                .ok_or_else(|| wrong(layers, "limits.header_bytes", "expected 8KiB to 1MiB"))?,
            header_timeout: at_least_a_millisecond(layers, "limits.header_timeout")?,
            idle_timeout: at_least_a_millisecond(layers, "limits.idle_timeout")?,
            body_idle_timeout: at_least_a_millisecond(layers, "limits.body_idle_timeout")?,
            connections: Some(value(layers, "limits.connections")?)
                .filter(|connections| *connections > 0)
                .ok_or_else(|| wrong(layers, "limits.connections", "expected at least 1"))?,
            upload_lifetime: at_least_a_millisecond(layers, "limits.upload_lifetime")?,
            drain: value(layers, "limits.drain")?,
        })
    }
}

fn blobs(layers: &Layers) -> Result<Option<CloudUrl>, SettingsError> {
    match value::<String>(layers, "blobs")?.as_str() {
        "disk" => Ok(None),
        text if CloudUrl::is_meant(text) => bucket(layers, "blobs", text).map(Some),
        _ => Err(wrong(layers, "blobs", "expected disk, or a bucket: s3://bucket/prefix")),
    }
}

/// A directory; what looks like another place is not one that happens to have such a name.
fn archive(layers: &Layers) -> Result<Option<BlobPlace>, SettingsError> {
    match value::<Option<String>>(layers, "archive")? {
        Some(text) if CloudUrl::is_meant(&text) => {
            bucket(layers, "archive", &text).map(|url| Some(BlobPlace::Bucket(url)))
        }
        text => Ok(text.map(|text| BlobPlace::Directory(text.into()))),
    }
}

fn bucket(layers: &Layers, name: &'static str, text: &str) -> Result<CloudUrl, SettingsError> {
    text.parse().map_err(|error: CloudUrlError| match wrong(layers, name, &error.to_string()) {
        // Somebody may have written a secret into it.
        SettingsError::Invalid { origin, name, expected, .. } => {
            SettingsError::Invalid { origin, name, value: "…".to_owned(), expected }
        }
        other => other,
    })
}

fn value<T: Value>(layers: &Layers, name: &'static str) -> Result<T, SettingsError> {
    T::parse(layers.get(name).0).map_err(|expected| wrong(layers, name, &expected))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    layers: &Layers,
    name: &'static str,
) -> Result<T, SettingsError> {
    values::from_str(layers.get(name).0).map_err(|expected| wrong(layers, name, &expected))
}

/// A list with commas; empty = nothing.
fn words<T>(
    layers: &Layers,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let words = layers.get(name).0.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(parse).collect::<Result<_, _>>().map_err(|expected| wrong(layers, name, &expected))
}

/// Issuers of identity tokens are called by their URLs.
fn issuers(layers: &Layers) -> Result<BTreeMap<String, Jwks>, SettingsError> {
    let issuers: BTreeMap<String, Jwks> = value(layers, "oidc.jwks")?;
    match issuers.keys().find(|issuer| !issuer.starts_with("https://")) {
        Some(issuer) => {
            Err(wrong(layers, "oidc.jwks", &format!("`{issuer}`: expected an issuer such as https://name")))
        }
        None => Ok(issuers),
    }
}

fn at_least_a_millisecond(layers: &Layers, name: &'static str) -> Result<Duration, SettingsError> {
    let duration: Duration = value(layers, name)?;
    if duration.is_zero() { Err(wrong(layers, name, "expected more than nothing")) } else { Ok(duration) }
}

/// What OCI's face counts under names that no AWS API has.
const OCI_ONLY: [&str; 4] = ["CancelLayerUpload", "DeleteLayer", "GetLayerUpload", "Ping"];

/// The rates of actions that exist: one that no request has would throttle nothing.
fn rates(layers: &Layers) -> Result<BTreeMap<String, u64>, SettingsError> {
    let rates: BTreeMap<String, u64> = value(layers, "throttle.rates")?;
    let known = || {
        let tables = wharf_http::aws::tables().iter();
        tables.flat_map(|service| service.operations).map(|operation| operation.name).chain(OCI_ONLY)
    };
    let Some(unknown) = rates.keys().find(|name| !known().any(|known| known == name.as_str())) else {
        return Ok(rates);
    };
    let hint =
        layers::nearest(unknown, known().map(str::to_owned)).map(|near| format!(", did you mean `{near}`?"));
    let expected = format!("there is no action `{unknown}`{}", hint.unwrap_or_default());
    Err(wrong(layers, "throttle.rates", &expected))
}

/// Checks the words of choices that have no type, having one choice yet.
fn check_words(layers: &Layers) -> Result<(), SettingsError> {
    for setting in SETTINGS {
        if let Kind::Choice(words) = setting.kind
            && !words.contains(&layers.get(setting.name).0)
            && !matches!(setting.name, "encryption")
        {
            return Err(wrong(layers, setting.name, &format!("expected one of: {}", words.join(", "))));
        }
    }
    Ok(())
}

fn wrong(layers: &Layers, name: &'static str, expected: &str) -> SettingsError {
    let (value, origin) = layers.get(name);
    let setting = Setting::find(name);
    let shown = match setting.is_some_and(Setting::is_secret) {
        true => "…".to_owned(),
        false => setting.map_or_else(String::new, |setting| setting.presentable(value)),
    };
    SettingsError::Invalid { origin: origin.clone(), name, value: shown, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, text: &str) -> Result<Settings, String> {
        let flags = [(Setting::find(name).unwrap(), text.to_owned())];
        Settings::from_layers(&Layers::defaults().with_flags(&flags)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_valid_and_those_of_the_contract() {
        let settings = Settings::from_layers(&Layers::defaults()).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:5050");
        assert_eq!(settings.default_account.to_string(), "123456789012");
        assert_eq!(settings.limits.manifest_bytes, 4 << 20);
        assert_eq!(settings.limits.blob_bytes, 52_000 << 20);
        assert_eq!(settings.throttle_rates["PutImage"], 10);
        assert!(settings.encryption && settings.bare_host_registry && !settings.insecure_plain_http);
    }

    #[test]
    fn manifests_are_sparse_when_told_and_never_in_the_ecr_dialect() {
        let settings = |values: &[(&str, &str)]| {
            let flags: Vec<_> = values
                .iter()
                .map(|(name, text)| (Setting::find(name).unwrap(), (*text).to_owned()))
                .collect();
            Settings::from_layers(&Layers::defaults().with_flags(&flags)).map_err(|error| error.to_string())
        };
        assert_eq!(Setting::find("oci.sparse_manifests").unwrap().variable(), "WHARF_OCI_SPARSE_MANIFESTS");
        assert!(!settings(&[]).unwrap().sparse_manifests);
        assert!(settings(&[("oci.sparse_manifests", "true")]).unwrap().sparse_manifests);
        let (ecr, sparse) = (("oci.dialect", "ecr"), ("oci.sparse_manifests", "true"));
        assert!(settings(&[ecr]).is_ok());
        assert_eq!(
            settings(&[ecr, sparse]).unwrap_err(),
            "`oci.sparse_manifests` contradicts `oci.dialect = \"ecr\"`: ECR refuses manifests that name what is not \
             there"
        );
    }

    #[test]
    fn wrong_values_say_where_and_what_was_expected() {
        for (name, text, message) in [
            (
                "limits.drain",
                "soon",
                "--limits-drain: invalid value `soon` for `limits.drain`: expected a time span such as 500ms, 30s, 12h, 7d or 1h30m",
            ),
            (
                "oci.dialect",
                "aws",
                "--oci-dialect: invalid value `aws` for `oci.dialect`: expected one of: spec, ecr",
            ),
            (
                "metadata",
                "oracle",
                "--metadata: invalid value `oracle` for `metadata`: expected sqlite, or postgres://…",
            ),
            (
                "limits.connections",
                "0",
                "--limits-connections: invalid value `0` for `limits.connections`: expected at least 1",
            ),
            (
                "token_ttl",
                "0s",
                "--token-ttl: invalid value `0s` for `token_ttl`: expected more than nothing",
            ),
            (
                "archive",
                "s3://cold/wharf?secret=x",
                "--archive: invalid value `…` for `archive`: the parameter `secret` means nothing here; expected endpoint, region, path_style, profile, account or allow_http",
            ),
            (
                "blobs",
                "/mnt/blobs",
                "--blobs: invalid value `/mnt/blobs` for `blobs`: expected disk, or a bucket: s3://bucket/prefix",
            ),
            (
                "lifecycle.archive_min_days",
                "0",
                "--lifecycle-archive-min-days: invalid value `0` for `lifecycle.archive_min_days`: expected at least 1",
            ),
            ("root_key", "c2hvcnQ=", "--root-key: invalid value `…` for `root_key`: expected 32 bytes"),
            (
                "trusted_proxies",
                "10.0.0.1, proxy",
                "--trusted-proxies: invalid value `10.0.0.1, proxy` for `trusted_proxies`: expected an address or a block such as 10.0.0.0/8",
            ),
            ("tls", "files", "`tls = \"files\"` needs both `tls_cert` and `tls_key`"),
        ] {
            assert_eq!(with(name, text).unwrap_err(), message);
        }
        let unknown = with("throttle.rates", "PutImag=3").unwrap_err();
        assert!(unknown.ends_with("there is no action `PutImag`, did you mean `PutImage`?"), "{unknown}");
        assert!(with("default_account", "12").is_err());
        assert!(with("hosts", "r.example=nowhere").is_err());
        let hosts = with("hosts", "r.example=111122223333/eu-west-1,p.example=public").unwrap().hosts;
        assert_eq!(hosts["p.example"], HostTarget::Public);
    }
}
