//! The registry itself: what it holds on to, and how it starts and stops.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wharf_store::meta::Meta;
use wharf_store::object::ObjectStore;
use wharf_store::seal::key_ring::RootKey;

use crate::access::{Principals, ResourceRules};
use crate::accounts::KeyCache;
use crate::blobs::BlobCache;
use crate::collect::Collector;
use crate::freshness::Freshness;
use crate::identities::KeyUses;
use crate::images::ImageCaches;
use crate::jobs::Jobs;
use crate::key_ring::{KeyRing, Sealer};
use crate::pull_time::PullTimes;
use crate::repositories::{RepositoryCache, RepositoryRoom};
use crate::sessions::IssuerKeys;
use crate::settings::SettingsCache;
use crate::uploads::ActiveUploads;
use crate::{Clock, Options, RegistryError};

/// A registry: many accounts, many regions, one metadata store, one object store. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) meta: Meta,
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Where content goes that only archived images need.
    pub(crate) archive: Option<Arc<dyn ObjectStore>>,
    pub(crate) freshness: Freshness,
    pub(crate) keys: KeyRing,
    pub(crate) sealers: Sealers,
    pub(crate) access_keys: KeyCache,
    pub(crate) principals: Principals,
    pub(crate) resource_rules: ResourceRules,
    pub(crate) repositories: RepositoryCache,
    pub(crate) repository_room: RepositoryRoom,
    pub(crate) images: ImageCaches,
    pub(crate) blobs: BlobCache,
    pub(crate) settings: SettingsCache,
    pub(crate) issuers: IssuerKeys,
    pub(crate) pull_times: PullTimes,
    pub(crate) key_uses: KeyUses,
    pub(crate) uploads: ActiveUploads,
    pub(crate) collector: Collector,
    pub(crate) jobs: Jobs,
    pub(crate) stats: RegistryStats,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// One sealer per purpose, so that nothing sealed for one can be opened as another.
pub(crate) struct Sealers {
    /// `nextToken` of listings.
    pub(crate) page: Sealer,
    /// Signed download URLs.
    pub(crate) download: Sealer,
    /// Session tokens of temporary credentials.
    pub(crate) session: Sealer,
}

/// Counters for `/metrics`; monotonic since start.
#[derive(Debug, Default)]
pub struct RegistryStats {
    /// Bytes of blob content accepted.
    pub bytes_in: std::sync::atomic::AtomicU64,
    /// Bytes of blob content served.
    pub bytes_out: std::sync::atomic::AtomicU64,
    /// Uploads started.
    pub uploads_started: std::sync::atomic::AtomicU64,
    /// Uploads finished.
    pub uploads_finished: std::sync::atomic::AtomicU64,
    /// Errors of the metadata or object store.
    pub store_errors: std::sync::atomic::AtomicU64,
    /// Objects collected.
    pub objects_collected: std::sync::atomic::AtomicU64,
    /// Bytes collected.
    pub bytes_collected: std::sync::atomic::AtomicU64,
    /// Objects quarantined.
    pub objects_quarantined: std::sync::atomic::AtomicU64,
}

/// How far a long command has come; called often, must be cheap.
pub trait Progress: Send + Sync {
    /// `done` of `total` (0 = unknown) `what`s are done.
    fn report(&self, what: &'static str, done: u64, total: u64);
}

impl Progress for () {
    fn report(&self, _what: &'static str, _done: u64, _total: u64) {}
}

impl Registry {
    /// Opens a registry on its stores. Creates the default account and the deployment id on an empty store; checks
    /// that the object store belongs to this metadata store. Nothing is scanned.
    ///
    /// # Errors
    /// When a store cannot be read, or the root key does not open what is sealed there.
    pub async fn open(
        options: Options,
        clock: Clock,
        meta: Meta,
        objects: Arc<dyn ObjectStore>,
        root: RootKey,
    ) -> Result<Self, RegistryError> {
        Self::open_with_archive(options, clock, meta, objects, None, root).await
    }

    /// As [`open`](Self::open), with a second store for content that only archived images need. Without it, the archive
    /// is a status of images only.
    ///
    /// # Errors
    /// Also when content is in an archive that is not given, or is not the one it was taken to.
    pub async fn open_with_archive(
        options: Options,
        clock: Clock,
        meta: Meta,
        objects: Arc<dyn ObjectStore>,
        archive: Option<Arc<dyn ObjectStore>>,
        root: RootKey,
    ) -> Result<Self, RegistryError> {
        let keys = KeyRing::open(&meta, root, options.encrypt).await?;
        // Side by side, so that a first start waits for one sync instead of three.
        let (page, download, session) = tokio::try_join!(
            keys.sealer(&meta, "page-token"),
            keys.sealer(&meta, "download-url"),
            keys.sealer(&meta, "session-credentials"),
        )?;
        let sealers = Sealers { page, download, session };
        let inner = Inner {
            freshness: Freshness::new(options.nodes, clock.clone()),
            access_keys: KeyCache::default(),
            principals: Principals::default(),
            resource_rules: ResourceRules::default(),
            repositories: RepositoryCache::default(),
            repository_room: RepositoryRoom::new(options.nodes),
            images: ImageCaches::new(),
            blobs: BlobCache::default(),
            settings: SettingsCache::default(),
            issuers: IssuerKeys::default(),
            pull_times: PullTimes::default(),
            key_uses: KeyUses::default(),
            uploads: ActiveUploads::default(),
            collector: Collector::default(),
            jobs: Jobs::default(),
            stats: RegistryStats::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            options,
            clock,
            meta,
            objects,
            archive,
            keys,
            sealers,
        };
        let registry = Self { inner: Arc::new(inner) };
        registry.prepare_deployment().await?;
        Ok(registry)
    }

    /// Starts the background work: confirming what is remembered, collection, expiry of uploads, jobs, batched pull
    /// times and uses of keys. Call once, when serving.
    pub fn start_background(&self, collect_every: std::time::Duration) {
        self.start_confirming();
        self.start_collector(collect_every);
        self.start_pull_time_writer();
        self.start_key_use_writer();
        self.start_jobs();
    }

    /// Tells the background work to stop; whoever starts next goes on with what it leaves. Requests are still served.
    pub fn stop_background(&self) {
        self.inner.stop.cancel();
    }

    /// Stops the background work, writes what is batched, and closes the stores. Nothing may be called afterwards.
    pub async fn close(&self) {
        self.stop_background();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.write_pull_times().await {
            tracing::warn!(%error, "pull times were not written at shut-down");
        }
        if let Err(error) = self.write_key_uses().await {
            tracing::warn!(%error, "uses of access keys were not written at shut-down");
        }
        self.inner.meta.close().await;
    }

    /// The counters.
    pub fn stats(&self) -> &RegistryStats {
        &self.inner.stats
    }

    /// The metadata store's counters.
    pub fn meta_stats(&self) -> wharf_store::meta::MetaStats {
        self.inner.meta.stats()
    }

    /// How it was set up.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Whether both stores answer; the text says which does not.
    pub async fn ready(&self) -> Result<(), RegistryError> {
        self.inner
            .meta
            .read(|tx| {
                tx.query_one("SELECT id FROM deployment", &[], |row| row.get::<String>(0))
                    .map_err(RegistryError::from)
            })
            .await?;
        for store in self.stores() {
            store.free_space().await?;
        }
        Ok(())
    }
}
