//! Plays random operations on a registry and on the model, and holds their answers against each other.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::stream;
use wharf_registry::{
    Authorized, BodyError, BodyStream, EncryptionType, ImageId, LayerState, MountOutcome, NewRepository,
    PutImage, RegistryError,
};
use wharf_store::meta::{MetaError, repositories};
use wharf_types::{
    ByteRange, Digest, DigestAlgorithm, Mutability, Reference, RepositoryRef, TagFilter, UploadId,
};

use super::house::House;
use super::random::Random;
use super::state::{Id, Model, Refused};
use super::universe::{REPOSITORIES, TAGS, Universe};

const MINUTE: i64 = 60_000_000;

/// An upload under way, or finished and remembered.
struct Upload {
    id: UploadId,
    repository: String,
    generation: u64,
    blob: Digest,
    received: usize,
    parts: usize,
    expires_at: i64,
    finished: bool,
}

pub struct Player {
    pub house: House,
    pub model: Model,
    pub universe: Universe,
    pub random: Random,
    /// What was done, for the one who has to find out why it went wrong.
    pub log: Vec<String>,
    pub done: usize,
    uploads: Vec<Upload>,
}

/// The error as the model words it.
pub fn refused(error: &RegistryError) -> Refused {
    let listed = |digests: &[Digest]| digests.iter().map(|digest| format!(" {digest}")).collect::<String>();
    let debug = format!("{error:?}");
    let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    match error {
        RegistryError::LayersNotFound(_, digests) | RegistryError::ReferencedImagesNotFound(_, digests) => {
            format!("{name}{}", listed(digests))
        }
        RegistryError::Internal(_) | RegistryError::Meta(_) | RegistryError::Object(_) => debug,
        _ => name.to_owned(),
    }
}

fn whole(content: Bytes) -> BodyStream {
    // In two pieces, so that the first may be small and the rest not.
    let (head, tail) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
    Box::pin(stream::iter([Ok(head), Ok(tail)]))
}

fn broken(content: Bytes) -> BodyStream {
    let head = content.slice(..content.len() * 3 / 4);
    Box::pin(stream::iter([Ok(head), Err(BodyError { message: "gone".into() })]))
}

impl Player {
    pub fn new(house: House, universe: Universe, random: Random) -> Self {
        let now = house.clock.now().as_micros();
        let model = Model::new(now, house.registry.options().clone());
        Self { house, model, universe, random, log: Vec::new(), done: 0, uploads: Vec::new() }
    }

    /// One operation, chosen at random.
    pub async fn step(&mut self) {
        let choice = self.random.below(100);
        let name = (*self.random.pick(&REPOSITORIES)).to_owned();
        match choice {
            0..6 => self.create(&name).await,
            6..8 => self.delete_repository(&name).await,
            8..11 => self.set_mutability(&name).await,
            11..28 => self.post_blob(&name).await,
            28..40 => self.upload(&name).await,
            40..45 => self.mount(&name).await,
            45..67 => self.put_image(&name).await,
            67..72 => self.delete_images(&name).await,
            72..75 => self.delete_reference(&name).await,
            75..78 => self.delete_blob(&name).await,
            78..84 => self.head_blob(&name).await,
            84..90 => self.pass_time(),
            90..95 => self.collect().await,
            95..98 => self.undelete(&name).await,
            98 => self.rare().await,
            _ => self.check_uploads().await,
        }
        self.done += 1;
    }

    fn same<T: Debug + PartialEq>(
        &mut self,
        what: String,
        real: Result<T, RegistryError>,
        model: Result<T, Refused>,
    ) -> bool {
        let real = real.map_err(|error| refused(&error));
        let good = real.is_ok();
        self.log.push(format!("{}: {what} -> {real:?}", self.done));
        assert_eq!(real, model, "real registry (left) and model (right) differ at {what}");
        good
    }

    fn at(&self, name: &str) -> Authorized<RepositoryRef> {
        self.house.at(name)
    }

    fn mutability(&mut self) -> Mutability {
        let filters = |texts: &[&str]| texts.iter().map(|text| TagFilter::parse(text).unwrap()).collect();
        match self.random.below(8) {
            0..4 => Mutability::Mutable,
            4..6 => Mutability::Immutable,
            6 => Mutability::MutableWithExclusion(filters(&["v*"])),
            _ => Mutability::ImmutableWithExclusion(filters(&["dev-*", "latest"])),
        }
    }

    async fn create(&mut self, name: &str) {
        let (kms, mutability) = (self.random.chance(25), self.mutability());
        let new = NewRepository {
            mutability: mutability.clone(),
            scan_on_push: false,
            encryption_type: if kms { EncryptionType::Kms } else { EncryptionType::Aes256 },
            kms_key: None,
            tags: Vec::new(),
        };
        let real = self.house.registry.create_repository(&self.at(name), new).await.map(drop);
        let model = self.model.create(name, kms, mutability);
        self.same(format!("create {name}, kms {kms}"), real, model);
    }

    async fn delete_repository(&mut self, name: &str) {
        let force = self.random.chance(60);
        let real = self.house.registry.delete_repository(&self.at(name), force).await.map(drop);
        // The contents are dropped behind the answer; the model does it at once.
        while self
            .house
            .meta
            .read(|tx| Ok::<_, MetaError>(!repositories::deleted(tx, 1)?.is_empty()))
            .await
            .unwrap()
        {
            tokio::task::yield_now().await;
        }
        let model = self.model.delete(name, force);
        self.same(format!("delete {name}, force {force}"), real, model);
    }

    async fn set_mutability(&mut self, name: &str) {
        let mutability = self.mutability();
        let real = self.house.registry.put_tag_mutability(&self.at(name), mutability.clone()).await.map(drop);
        let model = self.model.repository(name).map(drop);
        if let Some(repository) = self.model.repositories.get_mut(name) {
            repository.mutability = mutability.clone();
        }
        self.same(format!("tags of {name} are {}", mutability.name()), real, model);
    }

    async fn post_blob(&mut self, name: &str) {
        let (digest, content) = self.random.pick(&self.universe.blobs).clone();
        let wrong = Digest::sha256(b"something else");
        let registry = &self.house.registry;
        let (what, real, model) = match self.random.below(20) {
            0 => {
                let real = registry.put_blob(&self.at(name), wrong, whole(content)).await;
                ("wrong blob", real, self.model.repository(name).and(Err("InvalidLayer".into())))
            }
            1 => {
                let real = registry.put_blob(&self.at(name), digest, broken(content)).await;
                ("half a blob", real, self.model.repository(name).and(Err("BodyBroken".into())))
            }
            _ => {
                let real = registry.put_blob(&self.at(name), digest, whole(content)).await;
                ("blob", real, self.model.push_blob(name, digest))
            }
        };
        self.same(format!("post {what} {digest} to {name}"), real.map(|blob| blob.already_existed), model);
    }

    async fn upload(&mut self, name: &str) {
        if self.uploads.len() < 3 || self.random.chance(20) {
            return self.start_upload(name).await;
        }
        let index = self.random.below(self.uploads.len());
        match self.random.below(10) {
            0..6 => self.append(index).await,
            6..9 => self.finish(index).await,
            _ => self.cancel(index).await,
        }
    }

    async fn start_upload(&mut self, name: &str) {
        let real = self.house.registry.start_upload(&self.at(name)).await;
        let generation = self.model.repository(name).map(|repository| repository.generation);
        if let (Ok(upload), Ok(generation)) = (&real, &generation) {
            let blob = self.random.pick(&self.universe.blobs).0;
            let expires_at = self.model.now + self.lifetime();
            let (id, repository, generation) = (upload.id, name.to_owned(), *generation);
            let new = Upload {
                id,
                repository,
                generation,
                blob,
                received: 0,
                parts: 0,
                expires_at,
                finished: false,
            };
            self.uploads.push(new);
            if self.uploads.len() > 6 {
                self.uploads.remove(0);
            }
        }
        self.same(format!("start an upload to {name}"), real.map(drop), generation.map(drop));
    }

    fn lifetime(&self) -> i64 {
        self.model.options.upload_lifetime.as_micros() as i64
    }

    /// Whether an upload can be found.
    fn upload_state(&self, upload: &Upload) -> Result<(), Refused> {
        let repository = self.model.repository(&upload.repository)?;
        let stands = repository.generation == upload.generation && upload.expires_at > self.model.now;
        if stands && !upload.finished { Ok(()) } else { Err("UploadNotFound".into()) }
    }

    async fn append(&mut self, index: usize) {
        let upload = &self.uploads[index];
        let (at, id, received) = (self.at(&upload.repository), upload.id, upload.received);
        let content = self.universe.content(upload.blob).slice(received..);
        let chunk = content.slice(..self.random.below(content.len() + 1));
        let mut model = self.upload_state(upload);
        let registry = self.house.registry.clone();
        let range = |first: usize, length: usize| {
            (length > 0).then(|| ByteRange { first: first as u64, last: (first + length - 1) as u64 })
        };
        let (what, real) = match self.random.below(6) {
            0 if !chunk.is_empty() => {
                model = model.and(Err("InvalidLayerPart".into()));
                let chunk_range = range(received + 1, chunk.len());
                (
                    "a chunk from elsewhere",
                    registry.append_upload(&at, id, chunk_range, whole(chunk.clone())).await,
                )
            }
            1 => {
                model = model.and(Err("BodyBroken".into()));
                ("half a chunk", registry.append_upload(&at, id, None, broken(chunk.clone())).await)
            }
            2 if chunk.len() > 1 => {
                model = model.and(Err("InvalidLayerPart".into()));
                let chunk_range = range(received, chunk.len() - 1);
                ("more than said", registry.append_upload(&at, id, chunk_range, whole(chunk.clone())).await)
            }
            _ => {
                let chunk_range = range(received, chunk.len());
                let real = registry.append_upload(&at, id, chunk_range, whole(chunk.clone())).await;
                ("a chunk", real)
            }
        };
        let length = chunk.len();
        let model = model.map(|()| received + length);
        if model.is_ok() && length > 0 {
            let expires_at = self.model.now + self.lifetime();
            let upload = &mut self.uploads[index];
            (upload.received, upload.parts, upload.expires_at) =
                (received + length, upload.parts + 1, expires_at);
        }
        self.same(
            format!("append {what} of {length} to {id}"),
            real.map(|progress| progress.received as usize),
            model,
        );
    }

    async fn finish(&mut self, index: usize) {
        let upload = &self.uploads[index];
        let (at, id, received, name) =
            (self.at(&upload.repository), upload.id, upload.received, upload.repository.clone());
        let (finished, blob) = (upload.finished, upload.blob);
        let rest = self.universe.content(blob).slice(received..);
        let complete = self.random.chance(85);
        let body = if complete { rest } else { Bytes::from_static(b"this is not how it goes on") };
        let found = self.upload_state(upload);
        let too_small = self.model.options.dialect == wharf_registry::Dialect::Ecr
            && upload.parts > 0
            && upload.parts + usize::from(!body.is_empty()) > 1;
        let linked = self
            .model
            .repositories
            .get(&name)
            .is_some_and(|now| now.generation == upload.generation && now.links.contains_key(&blob));
        let real = self.house.registry.finish_upload(&at, id, &[blob], None, Some(whole(body))).await;
        let model = match found {
            // The answer that was lost is given again.
            Err(refused) if refused == "UploadNotFound" && finished && linked => Ok(false),
            Err(refused) => Err(refused),
            Ok(()) if too_small => Err("LayerPartTooSmall".into()),
            Ok(()) if !complete => {
                self.uploads.remove(index);
                Err("InvalidLayer".into())
            }
            Ok(()) => {
                self.uploads[index].finished = true;
                self.model.push_blob(&name, blob)
            }
        };
        self.same(format!("finish {id} in {name} as {blob}"), real.map(|blob| blob.already_existed), model);
    }

    async fn cancel(&mut self, index: usize) {
        let upload = &self.uploads[index];
        let (id, at, model) = (upload.id, self.at(&upload.repository), self.upload_state(upload));
        let real = self.house.registry.cancel_upload(&at, id).await;
        if model.is_ok() {
            self.uploads.remove(index);
        }
        self.same(format!("cancel {id}"), real, model);
    }

    async fn check_uploads(&mut self) {
        let all: Vec<_> = self
            .uploads
            .iter()
            .map(|upload| (upload.repository.clone(), upload.id, upload.received, self.upload_state(upload)))
            .collect();
        for (name, id, received, state) in all {
            let real = self.house.registry.upload_status(&self.at(&name), id).await;
            self.same(
                format!("status of {id}"),
                real.map(|progress| progress.received as usize),
                state.map(|()| received),
            );
        }
    }

    async fn mount(&mut self, name: &str) {
        let digest = self.random.pick(&self.universe.blobs).0;
        let source = *self.random.pick(&REPOSITORIES);
        let from = self.at(source);
        let real = self.house.registry.mount_blob(&self.at(name), &digest, Some(&from)).await;
        let real = real.map(|outcome| match outcome {
            MountOutcome::Mounted(blob) => Some(blob.already_existed),
            MountOutcome::NotMounted => None,
        });
        let model = self.model.mount(name, digest, source);
        self.same(format!("mount {digest} from {source} to {name}"), real, model);
    }

    async fn put_image(&mut self, name: &str) {
        let manifest = self.random.pick(&self.universe.manifests).clone();
        let promised = match self.random.below(12) {
            0 => Some(Digest::sha512(manifest.bytes())),
            1 => Some(Digest::sha256(manifest.bytes())),
            _ => None,
        };
        let algorithm = promised.map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm());
        let tags: Vec<String> = self.random.some(&TAGS, 0, 2).into_iter().map(str::to_owned).collect();
        let at = self.at(name);
        if self.random.chance(70) {
            // Most pushes bring what they need.
            for blob in manifest.blobs() {
                let content = self.universe.content(blob.digest).clone();
                let real = self.house.registry.put_blob(&at, blob.digest, whole(content)).await;
                let model = self.model.push_blob(name, blob.digest);
                self.same(
                    format!("push {} to {name}", blob.digest),
                    real.map(|blob| blob.already_existed),
                    model,
                );
            }
        }
        let put = PutImage {
            manifest: manifest.clone(),
            digest: promised,
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        };
        let real = self.house.registry.put_image(&at, put).await;
        let model = match self.model.repository(name).map(drop) {
            Ok(()) => self.model.put(name, &manifest, algorithm, &tags),
            Err(refused) => Err(refused),
        };
        let what = format!("put {} into {name} as {tags:?}", manifest.digest(algorithm));
        self.same(what, real.map(|outcome| outcome.changed), model);
    }

    fn image_ids(&mut self, name: &str, most: usize) -> Vec<Id> {
        let mut digests: Vec<Digest> =
            self.universe.manifests.iter().map(|m| Digest::sha256(m.bytes())).collect();
        if let Some(repository) = self.model.repositories.get(name) {
            // Mostly what is there.
            let there: Vec<Digest> = repository.images.keys().copied().collect();
            (0..4).for_each(|_| digests.extend(there.iter().copied()));
        }
        let count = 1 + self.random.below(most);
        (0..count)
            .map(|_| {
                let tag = (*self.random.pick(&TAGS)).to_owned();
                match self.random.below(5) {
                    0..2 => Id::Tag(tag),
                    2..4 => Id::Digest(*self.random.pick(&digests)),
                    _ => Id::Both(*self.random.pick(&digests), tag),
                }
            })
            .collect()
    }

    async fn delete_images(&mut self, name: &str) {
        let ids = self.image_ids(name, 4);
        let asked: Vec<ImageId> = ids.iter().map(image_id).collect();
        let real =
            self.house.registry.delete_images(&self.at(name), &asked).await.map(|(removed, failed)| {
                let mut removed: Vec<_> = removed
                    .into_iter()
                    .map(|image| (image.digest, image.tag.map(|tag| tag.to_string())))
                    .collect();
                let mut failed: Vec<_> = failed
                    .into_iter()
                    .map(|failure| format!("{:?} {}", failure.id, failure.code.as_str()))
                    .collect();
                removed.sort();
                failed.sort();
                (removed, failed)
            });
        let model = self.model.delete_images(name, &ids).map(|(mut removed, failed)| {
            let mut failed: Vec<_> =
                failed.iter().map(|(id, fate)| format!("{:?} {fate:?}", image_id(id))).collect();
            removed.sort();
            failed.sort();
            (removed, failed)
        });
        self.same(format!("delete {ids:?} from {name}"), real, model);
    }

    async fn delete_reference(&mut self, name: &str) {
        let id = self.image_ids(name, 1).remove(0);
        let reference = match &id {
            Id::Tag(tag) | Id::Both(_, tag) => Reference::Tag(tag.parse().unwrap()),
            Id::Digest(digest) => Reference::Digest(*digest),
        };
        let id = if let Id::Both(_, tag) = id { Id::Tag(tag) } else { id };
        let real = self.house.registry.delete_reference(&self.at(name), &reference).await;
        let model = self.model.delete_reference(name, &id);
        self.same(format!("delete {id:?} from {name} as OCI does"), real, model);
    }

    async fn delete_blob(&mut self, name: &str) {
        let digest = self.random.pick(&self.universe.blobs).0;
        let real = self.house.registry.delete_blob(&self.at(name), &digest).await;
        let model = match self.model.options.dialect {
            // The dialect is looked at before the repository.
            wharf_registry::Dialect::Ecr => Err("Unsupported".into()),
            wharf_registry::Dialect::Spec => self.model.delete_blob(name, digest),
        };
        self.same(format!("delete blob {digest} from {name}"), real, model);
    }

    async fn head_blob(&mut self, name: &str) {
        let digest = self.random.pick(&self.universe.blobs).0;
        let at = self.at(name);
        let model = self.model.head_blob(name, digest);
        let registry = &self.house.registry;
        let real = match (self.random.chance(50), registry.stat_blob_now(&at, &digest)) {
            (true, _) => registry.check_layers(&at, &[digest.to_string()]).await.and_then(|checks| {
                match &checks[0].state {
                    LayerState::Available { .. } => Ok(()),
                    LayerState::Unavailable => Err(RegistryError::BlobUnknown(digest)),
                    other => Err(RegistryError::Internal(format!("{other:?}"))),
                }
            }),
            (_, Some(now)) => now.map(drop),
            (_, None) => registry.stat_blob(&at, &digest).await.map(drop),
        };
        self.same(format!("head of {digest} in {name}"), real, model);
    }

    fn pass_time(&mut self) {
        let minutes = *self.random.pick(&[10, 10, 20, 30, 60, 60, 120, 180]);
        self.house.clock.advance(std::time::Duration::from_secs(minutes as u64 * 60));
        self.model.now += minutes * MINUTE;
        self.log.push(format!("{}: {minutes} minutes pass", self.done));
    }

    async fn collect(&mut self) {
        let real = self.house.registry.collect(&()).await;
        let real = real.map(|report| {
            assert_eq!(report.unknown_objects, 0, "bytes without a row: {report:?}");
            (report.links_dropped, report.blobs_trashed, report.tombstones_dropped)
        });
        let model = self.model.collect();
        self.same("collect".into(), real, Ok((model.links, model.blobs, model.tombstones)));
    }

    async fn undelete(&mut self, name: &str) {
        let (mut digest, mut tag) = (None, None);
        match self.random.below(3) {
            0 => digest = Some(Digest::sha256(self.random.pick(&self.universe.manifests).bytes())),
            1 => tag = Some(*self.random.pick(&TAGS)),
            _ => {}
        }
        let parsed = tag.map(|tag| tag.parse().unwrap());
        let real =
            self.house.registry.undelete(self.at(name).target(), digest.as_ref(), parsed.as_ref()).await;
        let real = real.map(|report| super::state::Restored {
            restored: report.restored,
            tags: report.tags.iter().map(ToString::to_string).collect(),
            skipped: report.skipped.iter().map(|(digest, _)| *digest).collect(),
        });
        let model = self.model.undelete(name, digest, tag);
        self.same(format!("undelete {digest:?} {tag:?} of {name}"), real, model);
    }

    /// What happens seldom and must not be seen.
    async fn rare(&mut self) {
        match self.random.below(3) {
            0 => {
                self.log.push(format!("{}: restart", self.done));
                self.house.restart().await;
                // Which uploads were finished is remembered by the process only.
                self.uploads.retain(|upload| !upload.finished);
            }
            1 => {
                self.log.push(format!("{}: rotate", self.done));
                self.house.registry.rotate_key_ring(&()).await.unwrap();
            }
            _ => {
                let on = self.random.chance(70);
                let value = if on { "ENABLED" } else { "DISABLED" };
                let real =
                    self.house.registry.put_account_setting(&self.house.here(), "BLOB_MOUNTING", value).await;
                self.model.mounting = on;
                self.same(format!("mounting is {value}"), real.map(drop), Ok(()));
            }
        }
    }
}

fn image_id(id: &Id) -> ImageId {
    let (digest, tag) = match id {
        Id::Digest(digest) => (Some(digest.to_string()), None),
        Id::Tag(tag) => (None, Some(tag.clone())),
        Id::Both(digest, tag) => (Some(digest.to_string()), Some(tag.clone())),
    };
    ImageId { digest, tag }
}
