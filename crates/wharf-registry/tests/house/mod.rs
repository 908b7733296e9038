//! A registry on an empty directory for tests, with a clock that stands still.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use wharf_registry::{
    Authorized, BodyStream, Clock, EncryptionType, NewRepository, Options, PutImage, PutOutcome, Registry,
    RegistryError,
};
use wharf_store::meta::Meta;
use wharf_store::object::{DiskObjects, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::{Digest, Manifest, MediaType, Mutability, RegistryRef, RepositoryRef, Tag, Timestamp};

#[path = "../place/mod.rs"]
mod place;
use place::Place;

pub const ACCOUNT: &str = "123456789012";

/// A registry, and what it needs to be opened again.
pub struct House {
    pub registry: Registry,
    pub clock: Clock,
    pub dir: Place,
    /// The registry's own metadata, to look at what no client sees.
    pub meta: Meta,
    options: Options,
    root: DataKey,
}

impl House {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap());
        change(&mut options);
        let (dir, root) = (Place::new(), DataKey::generate().unwrap());
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let (registry, meta) = open(&dir, &options, &clock, &root).await;
        Self { registry, clock, dir, meta, options, root }
    }

    /// Stops and starts it.
    pub async fn restart(&mut self) {
        self.registry.close().await;
        (self.registry, self.meta) = open(&self.dir, &self.options, &self.clock, &self.root).await;
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

    pub fn at(&self, name: &str) -> Authorized<RepositoryRef> {
        self.may(self.here().target().repository(name.parse().unwrap()))
    }

    pub async fn create(&self, name: &str, mutability: Mutability) -> Authorized<RepositoryRef> {
        let at = self.at(name);
        let new = NewRepository {
            mutability,
            scan_on_push: false,
            encryption_type: EncryptionType::Aes256,
            kms_key: None,
            tags: Vec::new(),
        };
        self.registry.create_repository(&at, new).await.unwrap();
        at
    }

    pub async fn blob(&self, at: &Authorized<RepositoryRef>, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        self.registry.put_blob(at, digest, body(content)).await.unwrap();
        digest
    }

    /// Pushes the blobs of an image and gives its manifest.
    pub async fn image(
        &self,
        at: &Authorized<RepositoryRef>,
        text: &str,
        subject: Option<Digest>,
    ) -> Manifest {
        let config = self.blob(at, format!("config of {text}").as_bytes()).await;
        let layer = self.blob(at, format!("layer of {text}").as_bytes()).await;
        image_of(config, &[layer], subject)
    }

    pub async fn put(
        &self,
        at: &Authorized<RepositoryRef>,
        manifest: Manifest,
        tag: Option<&str>,
    ) -> Result<PutOutcome, RegistryError> {
        let tags: Vec<Tag> = tag.iter().map(|tag| tag.parse().unwrap()).collect();
        self.registry.put_image(at, PutImage { manifest, digest: None, tags }).await
    }

    /// Pushes a whole image.
    pub async fn push(&self, at: &Authorized<RepositoryRef>, text: &str, tag: Option<&str>) -> Digest {
        let manifest = self.image(at, text, None).await;
        self.put(at, manifest, tag).await.unwrap().digest
    }
}

async fn open(dir: &Place, options: &Options, clock: &Clock, root: &DataKey) -> (Registry, Meta) {
    let meta = dir.open_meta(clock, None);
    let objects: Arc<dyn ObjectStore> = Arc::new(DiskObjects::open_dir(dir.path().join("objects")).unwrap());
    let registry =
        Registry::open(options.clone(), clock.clone(), meta.clone(), objects, RootKey::from_key(root))
            .await
            .unwrap();
    registry.ensure_default_account().await.unwrap();
    (registry, meta)
}

/// A request body in one piece.
pub fn body(content: &[u8]) -> BodyStream {
    Box::pin(futures_util::stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

pub fn image_of(config: Digest, layers: &[Digest], subject: Option<Digest>) -> Manifest {
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":20}}"#
            )
        })
        .collect();
    let subject = subject.map_or(String::new(), |digest| {
        format!(
            r#","subject":{{"mediaType":"{}","digest":"{digest}","size":7}},"annotations":{{"by":"test"}}"#,
            MediaType::OCI_MANIFEST
        )
    });
    parse(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":10}},"layers":[{}]{subject}}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        layers.join(",")
    ))
}

pub fn index_of(children: &[Digest]) -> Manifest {
    let children: Vec<String> = children
        .iter()
        .map(|child| {
            format!(r#"{{"mediaType":"{}","digest":"{child}","size":300}}"#, MediaType::OCI_MANIFEST)
        })
        .collect();
    parse(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        MediaType::OCI_INDEX,
        children.join(",")
    ))
}

fn parse(text: String) -> Manifest {
    Manifest::parse(Bytes::from(text), None).unwrap()
}
