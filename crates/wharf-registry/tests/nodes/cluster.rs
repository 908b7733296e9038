//! Several nodes on one metadata store and one object store: each a registry with a memory of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_iam::decision::Need;
use wharf_registry::{
    Authorized, BodyStream, Caller, Clock, EncryptionType, NewRepository, Nodes, Options, PutImage,
    PutOutcome, Registry, RegistryError, StoredManifest,
};
use wharf_store::meta::{Clock as MetaClock, Meta, PostgresOptions, SqliteOptions};
use wharf_store::object::{MemoryObjects, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_testing::postgres::{Database, PrivateServer};
use wharf_types::{
    AccountId, Digest, Manifest, MediaType, Mutability, Region, RegistryRef, RepositoryRef, Tag, Timestamp,
};

pub const ACCOUNT: &str = "123456789012";
pub type At = Authorized<RepositoryRef>;

/// What nodes share, and how they are opened.
pub struct Cluster {
    /// A handle on the metadata that no node has, or that all have.
    pub meta: Meta,
    pub clock: Clock,
    pub options: Options,
    pub objects: Arc<dyn ObjectStore>,
    root: DataKey,
    place: Place,
}

enum Place {
    /// A server of its own, which may be stopped; the database first, for it goes first.
    Private(Database, PrivateServer),
    /// All nodes share the one handle.
    Sqlite(#[expect(dead_code, reason = "kept until the end")] tempfile::TempDir),
    Postgres(Database),
}

impl Cluster {
    pub fn on_sqlite() -> Self {
        let (clock, micros) = clock();
        let dir = tempfile::tempdir().unwrap();
        let sqlite = SqliteOptions { clock: micros, ..SqliteOptions::default() };
        let meta = Meta::open_sqlite(&dir.path().join("meta.db"), sqlite).unwrap();
        Self::of(meta, clock, Place::Sqlite(dir))
    }

    /// `None` where there is no PostgreSQL.
    pub async fn on_postgres() -> Option<Self> {
        let database = tokio::task::spawn_blocking(Database::create).await.unwrap()?;
        let (clock, micros) = clock();
        let meta = open(database.url(), micros).await;
        Some(Self::of(meta, clock, Place::Postgres(database)))
    }

    /// With a server of its own; `None` where there is no PostgreSQL.
    pub async fn on_a_server() -> Option<Self> {
        let server = tokio::task::spawn_blocking(PrivateServer::start).await.unwrap()?;
        let database = server.create_database();
        let (clock, micros) = clock();
        let meta = open(database.url(), micros).await;
        Some(Self::of(meta, clock, Place::Private(database, server)))
    }

    /// Stops the server as a crash would, and starts it again.
    pub fn restart_server(&self) {
        if let Place::Private(_, server) = &self.place {
            server.crash_and_restart();
        }
    }

    fn of(meta: Meta, clock: Clock, place: Place) -> Self {
        let mut options = Options::new(account(), region());
        options.nodes = Nodes::Many;
        let (objects, root) = (Arc::new(MemoryObjects::new()), DataKey::generate().unwrap());
        Self { meta, clock, options, objects, root, place }
    }

    /// As much time as a node may go on by what it remembers, and a little.
    pub fn a_second_passes(&self) {
        self.clock.advance(Duration::from_millis(1001));
    }

    /// Another node.
    pub async fn node(&self) -> Node {
        let (options, clock) = (self.options.clone(), self.clock.clone());
        let meta = match &self.place {
            Place::Sqlite(_) => self.meta.clone(),
            Place::Postgres(database) | Place::Private(database, _) => {
                open(database.url(), micros_of(&clock)).await
            }
        };
        let root = RootKey::from_key(&self.root);
        let registry = Registry::open(options, clock, meta, Arc::clone(&self.objects), root).await.unwrap();
        Node { registry }
    }

    pub async fn nodes<const N: usize>(&self) -> [Node; N] {
        let mut nodes = Vec::new();
        for _ in 0..N {
            nodes.push(self.node().await);
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("there are N"))
    }
}

fn clock() -> (Clock, MetaClock) {
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let micros = micros_of(&clock);
    (clock, micros)
}

fn micros_of(clock: &Clock) -> MetaClock {
    let clock = clock.clone();
    Arc::new(move || clock.now().as_micros())
}

/// Few connections: many tests run at once.
async fn open(url: String, clock: MetaClock) -> Meta {
    let options = PostgresOptions {
        writers: 3,
        readers: 3,
        background: 1,
        clock: Some(clock),
        ..PostgresOptions::new(url.parse().unwrap())
    };
    tokio::task::spawn_blocking(move || Meta::open_postgres(options).unwrap()).await.unwrap()
}

/// One node.
#[derive(Clone)]
pub struct Node {
    pub registry: Registry,
}

impl std::ops::Deref for Node {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl Node {
    pub async fn may<T>(&self, target: T) -> Authorized<T> {
        let caller = Caller::root(account(), "AKIATEST");
        self.registry.authorize(&caller, target, &[Need::new("ecr:*", "*", account())]).await.unwrap()
    }

    pub async fn here(&self) -> Authorized<RegistryRef> {
        self.may(RegistryRef::new(account(), region())).await
    }

    pub async fn at(&self, name: &str) -> At {
        self.may(RegistryRef::new(account(), region()).repository(name.parse().unwrap())).await
    }

    pub async fn create(&self, name: &str, mutability: Mutability) -> At {
        self.create_with(name, mutability, EncryptionType::Aes256).await
    }

    pub async fn create_with(
        &self,
        name: &str,
        mutability: Mutability,
        encryption_type: EncryptionType,
    ) -> At {
        let at = self.at(name).await;
        let new = NewRepository {
            mutability,
            scan_on_push: false,
            encryption_type,
            kms_key: None,
            tags: Vec::new(),
        };
        self.registry.create_repository(&at, new).await.unwrap();
        at
    }

    pub async fn blob(&self, at: &At, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.registry.put_blob(at, digest, body(content)).await.unwrap();
        digest
    }

    /// Pushes the blobs of an image and gives its manifest.
    pub async fn image(&self, at: &At, text: &str) -> Manifest {
        let config = self.blob(at, format!("config of {text}").as_bytes()).await;
        let layer = self.blob(at, format!("layer of {text}").as_bytes()).await;
        image_of(config, &[layer])
    }

    pub async fn put(
        &self,
        at: &At,
        manifest: Manifest,
        tag: Option<&str>,
    ) -> Result<PutOutcome, RegistryError> {
        let tags: Vec<Tag> = tag.iter().map(|tag| tag.parse().unwrap()).collect();
        self.registry.put_image(at, PutImage { manifest, digest: None, tags }).await
    }

    /// Pushes a whole image.
    pub async fn push(&self, at: &At, text: &str, tag: Option<&str>) -> Digest {
        let manifest = self.image(at, text).await;
        self.put(at, manifest, tag).await.unwrap().digest
    }

    /// Pulls as the OCI face does: from memory alone if that may answer.
    pub async fn pull(&self, at: &At, reference: &str) -> Result<Digest, RegistryError> {
        Ok(self.manifest(at, reference).await?.digest)
    }

    pub async fn manifest(&self, at: &At, reference: &str) -> Result<Arc<StoredManifest>, RegistryError> {
        let reference = reference.parse().unwrap();
        match self.registry.get_manifest_now(at, &reference, &[]) {
            Some(answer) => answer,
            None => self.registry.get_manifest(at, &reference, &[]).await,
        }
    }

    pub async fn read(&self, at: &At, digest: &Digest) -> Result<Bytes, RegistryError> {
        self.registry.open_blob(at, digest).await?.read_all(64 << 20).await
    }
}

pub fn account() -> AccountId {
    ACCOUNT.parse().unwrap()
}

pub fn region() -> Region {
    "us-east-1".parse().unwrap()
}

/// A request body in one piece.
pub fn body(content: &[u8]) -> BodyStream {
    Box::pin(futures_util::stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

pub fn image_of(config: Digest, layers: &[Digest]) -> Manifest {
    let layer = |digest: &Digest| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":20}}"#)
    };
    let layers: Vec<String> = layers.iter().map(layer).collect();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":10}},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        layers.join(",")
    );
    Manifest::parse(Bytes::from(text), None).unwrap()
}
