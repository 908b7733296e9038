//! What settings resolve to: an owned data directory with an open registry.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::spawn_blocking;
use wharf_http::config::{AuditSink, HttpConfig, RequestLimits, ThrottleConfig};
use wharf_http::host::{HostConfig, HostTarget as HttpHost};
use wharf_registry::{
    Clock, DIFFERENCES, Dialect, JwksSource, LifecycleGrammar, Limits, Nodes, Options, Quotas, Registry,
};
use wharf_store::meta::{Meta, PostgresOptions, PostgresUrl, SqliteOptions};
use wharf_store::object::{CloudObjects, DiskObjects, ObjectId, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::RegistryRef;

use crate::admin::RootCredentials;
use crate::control::DataDir;
use crate::ops::RegistryOps;
use crate::settings::{
    self, AuditLog, BlobPlace, HostTarget, Jwks, MetadataPlace, PostgresSettings, Settings, Throttle,
    Watermark,
};
use crate::welcome;

/// A registry that is open, and the directory it lives in. Close it; dropping it loses what is batched.
pub struct App {
    /// The registry.
    pub registry: Registry,
    /// Its directory.
    pub data: DataDir,
    /// The default account's root key, if this was the directory's first opening.
    pub first_key: Option<RootCredentials>,
}

impl App {
    /// Opens what a data directory holds, laying it out at first.
    ///
    /// # Errors
    /// If a store cannot be opened, or the root key is not the one that it was sealed under.
    pub async fn open(settings: &Settings, data: DataDir) -> anyhow::Result<Self> {
        let directory = data.path();
        // Side by side: each waits for syncs of its own, and the first random number of a process takes long to make.
        drop(spawn_blocking(ObjectId::random));
        let (given, key_file) = (settings.root_key.clone(), directory.join("root-key"));
        let root = spawn_blocking(move || match given {
            Some(key) => anyhow::Ok(RootKey::from_key(&DataKey::from_bytes(&key.0)?)),
            None => Ok(RootKey::load_or_create(&key_file)?),
        });
        let metadata = directory.join("metadata.sqlite");
        let (place, postgres) = (settings.metadata.clone(), settings.postgres.clone());
        let meta = spawn_blocking(move || match place {
            MetadataPlace::Embedded => open_metadata(&metadata),
            MetadataPlace::Postgres(url) => open_postgres(*url, &postgres),
        });
        let blobs = match &settings.blobs {
            Some(bucket) => BlobPlace::Bucket(bucket.clone()),
            None => BlobPlace::Directory(directory.join("objects")),
        };
        let objects = tokio::spawn(open_objects(blobs));
        let root = root.await??;
        let meta = meta.await??;
        let objects = objects.await?.context("cannot open the blobs")?;
        let options = options(settings, directory)?;
        let archive = match &settings.archive {
            Some(place) => Some(open_objects(place.clone()).await.context("cannot open the archive")?),
            None => None,
        };
        let registry = Registry::open_with_archive(options, Clock::System, meta, objects, archive, root)
            .await
            .context("cannot open the registry")?;
        let first_key = registry.ensure_default_account().await?.map(RootCredentials::from);
        if let Some(credentials) = &first_key {
            welcome::write_credentials(directory, credentials)
                .context("cannot write the root credentials; `wharf key create` makes new ones")?;
        }
        Ok(Self { registry, data, first_key })
    }

    /// What runs commands on it.
    pub fn ops(&self) -> RegistryOps {
        RegistryOps(self.registry.clone())
    }

    /// Closes the stores and gives the directory up.
    pub async fn close(self) {
        self.registry.close().await;
    }
}

async fn open_objects(place: BlobPlace) -> anyhow::Result<Arc<dyn ObjectStore>> {
    Ok(match place {
        BlobPlace::Directory(path) => Arc::new(spawn_blocking(move || DiskObjects::open_dir(path)).await??),
        BlobPlace::Bucket(url) => {
            let opened = CloudObjects::open(&url).await;
            Arc::new(opened.with_context(|| format!("cannot use the bucket {url}"))?)
        }
    })
}

fn open_metadata(metadata: &Path) -> anyhow::Result<Meta> {
    // Made here for its mode: a directory that somebody else made may let others look in. SQLite gives the files
    // beside it the same one.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(metadata)
        .context("cannot make the metadata")?;
    Meta::open_sqlite(metadata, SqliteOptions::default()).context("cannot open the metadata")
}

fn open_postgres(url: PostgresUrl, settings: &PostgresSettings) -> anyhow::Result<Meta> {
    let shown = url.to_string();
    let options = PostgresOptions {
        writers: settings.write_connections,
        readers: settings.read_connections,
        background: settings.background_connections,
        connect_timeout: settings.connect_timeout,
        statement_timeout: settings.statement_timeout,
        lock_timeout: settings.lock_timeout,
        ..PostgresOptions::new(url)
    };
    Meta::open_postgres(options).with_context(|| format!("cannot open the metadata at {shown}"))
}

fn options(settings: &Settings, directory: &Path) -> anyhow::Result<Options> {
    let mut options = Options::new(settings.default_account, settings.default_region.clone());
    options.dialect = match settings.dialect {
        settings::Dialect::Spec => Dialect::Spec,
        settings::Dialect::Ecr => Dialect::Ecr,
    };
    // Whoever else is configured so works on the same rows.
    options.nodes = match settings.metadata {
        MetadataPlace::Postgres(_) => Nodes::Many,
        MetadataPlace::Embedded => Nodes::One,
    };
    options.sparse_manifests = settings.sparse_manifests;
    options.encrypt = settings.encryption;
    options.token_ttl = settings.token_ttl;
    options.trash_window = settings.trash_window;
    options.unreferenced_grace = settings.unreferenced_grace;
    options.restore_on_pull = settings.archive_restore_on_pull;
    options.archive_min_days = settings.lifecycle_archive_min_days;
    options.upload_lifetime = settings.limits.upload_lifetime;
    options.lifecycle_interval = settings.lifecycle_interval;
    options.protect_in_use = settings.protect_in_use;
    options.lifecycle_grammar = match settings.lifecycle_extensions {
        true => LifecycleGrammar::Extended,
        false => LifecycleGrammar::Ecr,
    };
    options.low_watermark = low_watermark(settings.low_watermark, directory)?;
    options.limits = Limits {
        manifest: settings.limits.manifest_bytes,
        blob: settings.limits.blob_bytes,
        ..Limits::default()
    };
    let issuers = settings.jwks.iter().map(|(issuer, source)| {
        let source = match source {
            Jwks::File(path) => JwksSource::File(path.clone()),
            Jwks::Url(url) => JwksSource::Url(url.clone()),
        };
        (issuer.strip_prefix("https://").unwrap_or(issuer).to_owned(), source)
    });
    options.jwks = issuers.collect();
    options.quotas = Quotas {
        repositories: settings.quota_repositories,
        images_per_repository: settings.quota_images_per_repository,
        tags_per_image: settings.quota_tags_per_image,
    };
    Ok(options)
}

/// A percentage is of the file system that holds the directory, as large as it is now.
fn low_watermark(watermark: Watermark, directory: &Path) -> anyhow::Result<u64> {
    match watermark {
        Watermark::Bytes(bytes) => Ok(bytes),
        Watermark::Percent(percent) => {
            let system = rustix::fs::statvfs(directory).context("cannot tell the size of the file system")?;
            let size = u128::from(system.f_blocks) * u128::from(system.f_frsize);
            Ok(u64::try_from(size * u128::from(percent) / 100)?)
        }
    }
}

/// What the faces are told. `loopback`: only this machine can reach the server.
pub fn http_config(settings: &Settings, loopback: bool) -> HttpConfig {
    let extra = settings.hosts.iter().map(|(name, target)| {
        let target = match target {
            HostTarget::Registry(account, region) => {
                HttpHost::Registry(RegistryRef::new(*account, region.clone()))
            }
            HostTarget::Public => HttpHost::Public,
        };
        (name.to_ascii_lowercase(), target)
    });
    let enabled = match settings.throttle {
        Throttle::On => true,
        Throttle::Off => false,
        Throttle::Auto => !loopback,
    };
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    let rates: HashMap<String, f64> =
        settings.throttle_rates.iter().map(|(action, rate)| (action.clone(), *rate as f64)).collect();
    HttpConfig {
        hosts: HostConfig {
            domain: settings.domain.clone(),
            extra: extra.collect(),
            bare_host_registry: settings.bare_host_registry,
            anonymous: settings.anonymous_hosts.clone(),
        },
        secure: false,
        trusted_proxies: settings.trusted_proxies.clone(),
        failed_authentications: settings.failed_authentications,
        throttle: ThrottleConfig { enabled, rates, principal_share: 1.0 },
        limits: RequestLimits { body_idle: settings.limits.body_idle_timeout, ..RequestLimits::default() },
        audit: match &settings.audit_log {
            AuditLog::Off => AuditSink::Off,
            AuditLog::Log => AuditSink::Log,
            AuditLog::File(path) => AuditSink::File(path.clone()),
        },
    }
}

/// The dialects' differences as a Markdown table.
pub fn dialect_markdown() -> String {
    let mut text = String::from("| | `spec` (default) | `ecr` |\n|---|---|---|\n");
    for difference in DIFFERENCES {
        let _ = writeln!(text, "| {} | {} | {} |", difference.what, difference.spec, difference.ecr);
    }
    text
}
