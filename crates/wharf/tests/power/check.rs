//! Opens what a power cut has left, and holds it against what had been acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Caller, Clock, Options, PageRequest, Registry, RegistryError};
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::DiskObjects;
use wharf_store::seal::RootKey;
use wharf_types::{Digest, Reference, RegistryRef, RepositoryRef, UploadId};

use crate::disk::Image;

const ACCOUNT: &str = "123456789012";

/// What clients know to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub repositories: BTreeMap<String, Contents>,
    /// Access keys that were told to somebody: secret, and whether they may be used.
    pub keys: BTreeMap<String, (String, bool)>,
}

/// What clients know of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub manifests: BTreeMap<String, Vec<u8>>,
    pub tags: BTreeMap<String, String>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Unfinished uploads: acknowledged bytes.
    pub uploads: BTreeMap<String, u64>,
}

/// What must hold at one moment.
pub struct Moment<'a> {
    /// Everything up to here was acknowledged.
    pub before: &'a World,
    /// And this was under way; it happened wholly or not at all.
    pub after: &'a World,
    /// What each unfinished upload is going to be.
    pub uploaded: &'a BTreeMap<String, Vec<u8>>,
    /// Files whose deletion was acknowledged.
    pub deleted: BTreeSet<&'a str>,
    /// Whether the server had said that it listens.
    pub listened: bool,
}

/// Lays the image out below `directory`.
pub fn lay_out(image: &Image, directory: &Path) {
    for (path, content) in image {
        let path = directory.join(path.trim_start_matches('/'));
        match content {
            // In the order of paths a directory comes before what is in it.
            None => match std::fs::create_dir(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
                _ => {}
            },
            Some(bytes) => {
                std::fs::write(&path, bytes).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

/// Checks the data directory `data` as the next start would find it; says what is wrong with it.
pub async fn check(data: &Path, image: &Image, moment: &Moment<'_>) -> Result<(), String> {
    for path in image.keys() {
        let name = path.rsplit('/').next().unwrap_or_default();
        if moment.deleted.contains(name) && name.len() == 32 {
            return Err(format!("the deleted object {name} is back"));
        }
    }
    let registry = open(data).await.map_err(|error| format!("cannot be opened: {error:#}"))?;
    let outcome = Found { registry: &registry, moment }.check(data).await;
    registry.close().await;
    outcome
}

async fn open(data: &Path) -> anyhow::Result<Registry> {
    std::fs::create_dir_all(data)?;
    let root = RootKey::load_or_create(&data.join("root-key"))?;
    let meta = Meta::open_sqlite(
        &data.join("metadata.sqlite"),
        SqliteOptions { readers: 2, ..SqliteOptions::default() },
    )?;
    let objects = DiskObjects::open_dir(data.join("objects"))?;
    let options = Options::new(ACCOUNT.parse()?, "us-east-1".parse()?);
    let registry = Registry::open(options, Clock::System, meta, Arc::new(objects), root).await?;
    registry.ensure_default_account().await?;
    Ok(registry)
}

struct Found<'a> {
    registry: &'a Registry,
    moment: &'a Moment<'a>,
}

impl Found<'_> {
    fn may<T>(&self, target: T) -> Authorized<T> {
        let account = ACCOUNT.parse().unwrap();
        let caller = Caller::root(account, "AKIATEST");
        let needs = [Need::new("ecr:*", "*", account)];
        self.registry.authorize(&caller, target, &needs).now_or_never().unwrap().unwrap()
    }

    fn here(&self) -> RegistryRef {
        RegistryRef::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap())
    }

    async fn check(&self, data: &Path) -> Result<(), String> {
        if self.moment.listened {
            self.check_credentials(data).await?;
        }
        let found = self.world().await.map_err(|error| format!("cannot be read: {error}"))?;
        let (before, after) = (self.moment.before, self.moment.after);
        if found != *before && found != *after {
            let difference = difference(before, &found);
            return Err(format!("neither what was acknowledged nor what was under way: {difference}"));
        }
        self.scrub().await?;
        self.finish_uploads(&found).await?;
        self.scrub().await
    }

    async fn scrub(&self) -> Result<(), String> {
        let report =
            self.registry.scrub(&()).await.map_err(|error| format!("cannot be scrubbed: {error}"))?;
        if report.is_clean() { Ok(()) } else { Err(format!("{report:?}")) }
    }

    /// The first start has named a file to the operator.
    async fn check_credentials(&self, data: &Path) -> Result<(), String> {
        let text = std::fs::read(data.join("root-credentials.json"))
            .map_err(|error| format!("root-credentials.json: {error}"))?;
        let kept: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| format!("root-credentials.json: {error}"))?;
        let id = kept["access_key_id"].as_str().unwrap_or_default();
        let record = self.registry.authenticate_access_key(id).await.map_err(|error| error.to_string())?;
        let known =
            record.is_some_and(|record| Some(record.secret.as_str()) == kept["secret_access_key"].as_str());
        if known { Ok(()) } else { Err("the root credentials are not known".to_owned()) }
    }

    /// Everything that can be seen of what either world has.
    async fn world(&self) -> Result<World, RegistryError> {
        let mut world = World::default();
        let (before, after) = (self.moment.before, self.moment.after);
        let page = || PageRequest { limit: 1000, token: None };
        for repository in self.registry.describe_repositories(&self.may(self.here()), page()).await?.items {
            let name = repository.name.name.to_string();
            let known = [before, after].into_iter().filter_map(|world| world.repositories.get(&name));
            let contents = self.contents(&name, known.collect()).await?;
            world.repositories.insert(name, contents);
        }
        for id in before.keys.keys().chain(after.keys.keys()) {
            if let Some(record) = self.registry.authenticate_access_key(id).await? {
                world.keys.insert(id.clone(), (record.secret.to_string(), record.active));
            }
        }
        Ok(world)
    }

    fn at(&self, name: &str) -> Authorized<RepositoryRef> {
        self.may(self.here().repository(name.parse().unwrap()))
    }

    async fn contents(&self, name: &str, known: Vec<&Contents>) -> Result<Contents, RegistryError> {
        let (at, mut found) = (self.at(name), Contents::default());
        let page = PageRequest { limit: 1000, token: None };
        for image in self.registry.list_images(&at, Default::default(), page).await?.items {
            let manifest = self.registry.get_manifest(&at, &Reference::Digest(image.digest), &[]).await?;
            found.manifests.insert(image.digest.to_string(), manifest.bytes.to_vec());
            if let Some(tag) = image.tag {
                let tagged = self.registry.get_manifest(&at, &Reference::Tag(tag.clone()), &[]).await?;
                found.tags.insert(tag.to_string(), tagged.digest.to_string());
            }
        }
        for digest in known.iter().flat_map(|known| known.blobs.keys()) {
            let parsed: Digest = digest.parse().unwrap();
            match self.registry.open_blob(&at, &parsed).await {
                Ok(blob) => {
                    let content = blob.read_all(1 << 24).await?;
                    found.blobs.insert(digest.clone(), content.to_vec());
                }
                Err(RegistryError::BlobUnknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for id in known.iter().flat_map(|known| known.uploads.keys()) {
            match self.registry.upload_status(&at, id.parse::<UploadId>().unwrap()).await {
                // A session without bytes is no promise.
                Ok(progress) if progress.received == 0 => {}
                Ok(progress) => {
                    found.uploads.insert(id.clone(), progress.received);
                }
                Err(RegistryError::UploadNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// What is left of an upload goes on, and becomes what it was to be.
    async fn finish_uploads(&self, found: &World) -> Result<(), String> {
        for (name, contents) in &found.repositories {
            for (id, received) in &contents.uploads {
                let (at, whole) = (self.at(name), &self.moment.uploaded[id]);
                let digest = Digest::sha256(whole);
                let rest = Bytes::copy_from_slice(&whole[*received as usize..]);
                let body = stream::iter([Ok(rest)]).boxed();
                let id = id.parse::<UploadId>().unwrap();
                let failed = |error| format!("an upload that stands at {received} cannot go on: {error}");
                self.registry.finish_upload(&at, id, &[digest], None, Some(body)).await.map_err(failed)?;
                let blob = self.registry.open_blob(&at, &digest).await.map_err(failed)?;
                let content = blob.read_all(1 << 24).await.map_err(failed)?;
                assert!(content == *whole, "{digest} is not itself");
            }
        }
        Ok(())
    }
}

fn difference(acknowledged: &World, found: &World) -> String {
    let mut text = String::new();
    let mut say = |what: &str, name: &str| text += &format!("{what} {name}; ");
    for (id, key) in &acknowledged.keys {
        if found.keys.get(id) != Some(key) {
            say("the key", id);
        }
    }
    for (name, contents) in &acknowledged.repositories {
        let Some(there) = found.repositories.get(name) else {
            say("the repository", name);
            continue;
        };
        let lost = |digest: &&String| there.manifests.get(*digest) != contents.manifests.get(*digest);
        contents.manifests.keys().filter(lost).for_each(|digest| say("the image", digest));
        let lost = |digest: &&String| there.blobs.get(*digest) != contents.blobs.get(*digest);
        contents.blobs.keys().filter(lost).for_each(|digest| say("the blob", digest));
        let lost = |tag: &&String| there.tags.get(*tag) != contents.tags.get(*tag);
        contents.tags.keys().filter(lost).for_each(|tag| say("the tag", tag));
        if there.uploads != contents.uploads {
            say("uploads:", &format!("{:?} instead of {:?}", there.uploads, contents.uploads));
        }
    }
    if text.is_empty() { "there is more than that".to_owned() } else { text }
}
