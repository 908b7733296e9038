//! A registry whose stores can be looked into and made to fail.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use wharf_registry::{
    Authorized, BodyError, BodyStream, Clock, EncryptionType, NewRepository, Options, PutImage, Registry,
    RegistryError,
};
use wharf_store::meta::testing::FaultPlan;
use wharf_store::meta::{Meta, MetaError};
use wharf_store::object::testing::{Faults, FaultyObjects};
use wharf_store::object::{DiskObjects, ObjectId, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::{
    ByteRange, Digest, Manifest, MediaType, Mutability, RegistryRef, RepositoryRef, Timestamp,
};

#[path = "../place/mod.rs"]
mod place;
use place::Place;

pub const ACCOUNT: &str = "123456789012";
pub type At = Authorized<RepositoryRef>;

pub struct Depot {
    pub registry: Registry,
    pub meta: Meta,
    pub clock: Clock,
    pub faults: Faults,
    /// Those of the archive, where there is one.
    pub archive_faults: Option<Faults>,
    pub meta_faults: Arc<FaultPlan>,
    pub dir: Place,
    options: Options,
    root: DataKey,
}

impl Depot {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::build(change, None).await
    }

    /// With a second store for what only archived images need.
    pub async fn with_archive(change: impl FnOnce(&mut Options)) -> Self {
        Self::build(change, Some(Faults::none())).await
    }

    async fn build(change: impl FnOnce(&mut Options), archive_faults: Option<Faults>) -> Self {
        let mut options = Options::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap());
        change(&mut options);
        let (dir, root) = (Place::new(), DataKey::generate().unwrap());
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let (faults, meta_faults) = (Faults::none(), Arc::new(FaultPlan::new()));
        let stores = (faults.clone(), archive_faults.clone());
        let (registry, meta) = open(&dir, &options, &clock, &root, &stores, &meta_faults).await.unwrap();
        Self { registry, meta, clock, faults, archive_faults, meta_faults, dir, options, root }
    }

    /// Stops it and starts it with a few options changed.
    pub async fn restart(&mut self) {
        self.registry.close().await;
        (self.registry, self.meta) = self.reopen().await.unwrap();
    }

    /// Opens the same stores again.
    pub async fn reopen(&self) -> Result<(Registry, Meta), RegistryError> {
        let stores = (self.faults.clone(), self.archive_faults.clone());
        open(&self.dir, &self.options, &self.clock, &self.root, &stores, &self.meta_faults).await
    }

    pub fn may<T: Send + Clone>(&self, target: T) -> Authorized<T>
    where
        Authorized<T>: Send,
    {
        place::authorized(&self.registry, target)
    }

    pub fn here(&self) -> Authorized<RegistryRef> {
        self.may(RegistryRef::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap()))
    }

    pub fn at(&self, name: &str) -> At {
        self.may(self.here().target().repository(name.parse().unwrap()))
    }

    pub async fn create(&self, name: &str) -> At {
        self.create_with(name, EncryptionType::Aes256).await
    }

    pub async fn create_with(&self, name: &str, encryption_type: EncryptionType) -> At {
        let at = self.at(name);
        let new = NewRepository {
            mutability: Mutability::Mutable,
            scan_on_push: false,
            encryption_type,
            kms_key: None,
            tags: Vec::new(),
        };
        self.registry.create_repository(&at, new).await.unwrap();
        at
    }

    pub async fn put(&self, at: &At, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.registry.put_blob(at, digest, body(content)).await.unwrap();
        digest
    }

    /// An image with one configuration and these layers, which are there already.
    pub async fn image(&self, at: &At, layers: &[Digest], tag: &str) -> Result<Digest, RegistryError> {
        let config = self.put(at, format!("{{\"of\":\"{tag}\"}}").as_bytes()).await;
        let manifest = manifest_of(config, layers);
        let put = PutImage { manifest, digest: None, tags: vec![tag.parse().unwrap()] };
        Ok(self.registry.put_image(at, put).await?.digest)
    }

    pub async fn index(&self, at: &At, children: &[Digest], tag: &str) -> Digest {
        let put = PutImage { manifest: index_of(children), digest: None, tags: vec![tag.parse().unwrap()] };
        self.registry.put_image(at, put).await.unwrap().digest
    }

    pub async fn read(&self, at: &At, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        read_range(self.registry.open_blob(at, digest).await?, None).await
    }

    /// Objects in a state, counted in the metadata.
    pub async fn objects(&self, state: &'static str) -> u64 {
        self.meta.read(move |tx| wharf_store::meta::objects::count(tx, state)).await.unwrap()
    }

    pub async fn uploads(&self) -> u64 {
        self.meta.read(wharf_store::meta::uploads::count).await.unwrap()
    }

    /// The live object that holds a digest.
    pub async fn object_of(&self, digest: &Digest) -> ObjectId {
        let text = digest.to_string();
        let id: String = self
            .meta
            .read(move |tx| {
                tx.query_one("SELECT object_id FROM blobs WHERE digest = $1", &[&text], |row| row.get(0))
                    .map_err(|error: MetaError| error)
            })
            .await
            .unwrap();
        id.parse().unwrap()
    }

    /// The files of the object store, by object.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files_in("objects")
    }

    /// The files of one of the stores.
    pub fn files_in(&self, store: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.dir.path().join(store)];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if path.file_name().unwrap().to_str().unwrap().parse::<ObjectId>().is_ok() {
                    found.push(path);
                }
            }
        }
        found
    }

    pub fn file_of(&self, object: ObjectId) -> PathBuf {
        let name = object.to_string();
        self.files().into_iter().find(|path| path.ends_with(&name)).unwrap()
    }

    /// Waits for cleanup that runs beside requests.
    pub async fn settled(&self, holds: impl AsyncFn(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self).await {
            assert!(began.elapsed().as_secs() < 60, "what was to be cleaned up is still there");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until failed requests have left nothing to do: what is made to fail next is the next request.
    pub async fn tidied(&self) {
        self.settled(async |depot| {
            let mut left = depot.uploads().await;
            for state in ["writing", "trashed", "deleting"] {
                left += depot.objects(state).await;
            }
            left == 0
        })
        .await;
    }

    pub async fn assert_clean(&self) {
        let report = self.registry.scrub(&()).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

async fn open(
    dir: &Place,
    options: &Options,
    clock: &Clock,
    root: &DataKey,
    (faults, archive_faults): &(Faults, Option<Faults>),
    meta_faults: &Arc<FaultPlan>,
) -> Result<(Registry, Meta), RegistryError> {
    let meta = dir.open_meta(clock, Some(Arc::clone(meta_faults)));
    let disk = Arc::new(DiskObjects::open_dir(dir.path().join("objects")).unwrap());
    let objects = Arc::new(FaultyObjects::new(disk, faults.clone()));
    let root = RootKey::from_key(root);
    let archive = archive_faults.as_ref().map(|faults| {
        let disk = Arc::new(DiskObjects::open_dir(dir.path().join("archive")).unwrap());
        Arc::new(FaultyObjects::new(disk, faults.clone())) as Arc<dyn ObjectStore>
    });
    let (options, clock, opened) = (options.clone(), clock.clone(), meta.clone());
    let registry = Registry::open_with_archive(options, clock, opened, objects, archive, root).await?;
    registry.ensure_default_account().await.unwrap();
    Ok((registry, meta))
}

/// The right to do anything in a repository.
pub fn place(registry: &Registry, name: &str) -> At {
    let here = RegistryRef::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap());
    place::authorized(registry, here.repository(name.parse().unwrap()))
}

/// A repository as most are.
pub async fn create_repository(registry: &Registry, name: &str) {
    let new = NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::Aes256,
        kms_key: None,
        tags: Vec::new(),
    };
    registry.create_repository(&place(registry, name), new).await.unwrap();
}

/// A manifest with one tag.
pub fn put(manifest: &Manifest, tag: &str) -> PutImage {
    PutImage { manifest: manifest.clone(), digest: None, tags: vec![tag.parse().unwrap()] }
}

/// A request body in pieces of 10,000 bytes.
pub fn body(content: &[u8]) -> BodyStream {
    let chunks: Vec<_> = content.chunks(10_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    stream::iter(chunks).boxed()
}

/// A body that breaks off after its content.
pub fn broken(content: &[u8]) -> BodyStream {
    let end = stream::iter([Err(BodyError { message: "connection reset".into() })]);
    body(content).chain(end).boxed()
}

pub async fn read_range(
    reader: wharf_registry::BlobReader,
    range: Option<ByteRange>,
) -> Result<Vec<u8>, RegistryError> {
    let chunks: Result<Vec<Bytes>, BodyError> = reader.stream(range).await?.try_collect().await;
    chunks.map(|chunks| chunks.concat()).map_err(|error| RegistryError::BodyBroken(error.message))
}

/// Content that does not repeat.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn manifest_of(config: Digest, layers: &[Digest]) -> Manifest {
    let layer = |digest: &Digest| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":20}}"#)
    };
    let layers = layers.iter().map(layer).collect::<Vec<_>>().join(",");
    let (own, config_type) = (MediaType::OCI_MANIFEST, MediaType::OCI_CONFIG);
    parse(format!(
        r#"{{"schemaVersion":2,"mediaType":"{own}","config":{{"mediaType":"{config_type}","digest":"{config}","size":10}},"layers":[{layers}]}}"#
    ))
}

pub fn index_of(children: &[Digest]) -> Manifest {
    let child = |digest: &Digest| {
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":300}}"#, MediaType::OCI_MANIFEST)
    };
    let children = children.iter().map(child).collect::<Vec<_>>().join(",");
    parse(format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{children}]}}"#, MediaType::OCI_INDEX))
}

fn parse(text: String) -> Manifest {
    Manifest::parse(Bytes::from(text), None).unwrap()
}
