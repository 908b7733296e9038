//! The model: what a registry with these rules must look like after each operation. Plain maps, no caches, no
//! transactions, no files.

use std::collections::{BTreeMap, BTreeSet};

use wharf_registry::{Dialect, Options};
use wharf_types::{Digest, DigestAlgorithm, Manifest, Mutability, Tag};

/// The name of the error's variant, with the digests it lists.
pub type Refused = String;

/// Whether a key of KMS, rather than the registry's, encrypts.
pub type Kms = bool;

#[derive(Clone)]
pub struct Image {
    pub manifest: Manifest,
    pub pushed_at: i64,
    /// What it names and keeps alive.
    blobs: BTreeSet<Digest>,
    children: BTreeSet<Digest>,
    /// What it names, being sparse, and has not arrived.
    missing_blobs: BTreeSet<Digest>,
    missing_children: BTreeSet<Digest>,
}

impl Image {
    fn new(manifest: &Manifest, pushed_at: i64) -> Self {
        let missing_blobs =
            manifest.blobs().into_iter().filter(|blob| !blob.foreign).map(|blob| blob.digest).collect();
        let missing_children = manifest.children().into_iter().map(|child| child.digest).collect();
        let (blobs, children) = Default::default();
        Self { manifest: manifest.clone(), pushed_at, blobs, children, missing_blobs, missing_children }
    }

    fn blob_arrives(&mut self, blob: Digest) {
        if self.missing_blobs.remove(&blob) {
            self.blobs.insert(blob);
        }
    }

    fn child_arrives(&mut self, child: Digest) {
        if self.missing_children.remove(&child) {
            self.children.insert(child);
        }
    }
}

pub struct Repository {
    /// Tells repositories of the same name apart.
    pub generation: u64,
    pub kms: Kms,
    pub mutability: Mutability,
    pub images: BTreeMap<Digest, Image>,
    pub tags: BTreeMap<String, Digest>,
    /// Blobs, with since when no manifest names them.
    pub links: BTreeMap<Digest, Option<i64>>,
}

impl Repository {
    pub fn tags_of(&self, digest: Digest) -> Vec<String> {
        self.tags.iter().filter(|(_, at)| **at == digest).map(|(tag, _)| tag.clone()).collect()
    }

    fn named_by_image(&self, blob: Digest) -> bool {
        self.images.values().any(|image| image.blobs.contains(&blob))
    }

    fn held(&self, digest: Digest) -> bool {
        self.images.values().any(|image| image.children.contains(&digest))
    }

    /// A link made, or its grace renewed; answers whether it was there.
    fn touch(&mut self, digest: Digest, now: i64) -> bool {
        match self.links.get_mut(&digest) {
            Some(since) => {
                *since = since.map(|_| now);
                true
            }
            None => false,
        }
    }

    fn link(&mut self, digest: Digest, now: i64) -> bool {
        let already = self.touch(digest, now);
        if !already {
            self.images.values_mut().for_each(|image| image.blob_arrives(digest));
            self.links.insert(digest, (!self.named_by_image(digest)).then_some(now));
        }
        already
    }

    /// Adds an image, with edges to all it names that is there.
    fn insert(&mut self, digest: Digest, mut image: Image) {
        self.links.keys().for_each(|blob| image.blob_arrives(*blob));
        for blob in &image.blobs {
            self.links.insert(*blob, None);
        }
        self.images.keys().for_each(|child| image.child_arrives(*child));
        self.images.values_mut().for_each(|waiting| waiting.child_arrives(digest));
        self.images.insert(digest, image);
    }

    /// What is described as an image's size.
    pub fn size(&self, digest: Digest) -> u64 {
        let image = &self.images[&digest];
        match image.manifest.children().is_empty() {
            true => image.manifest.content_size(),
            false => image.children.iter().map(|child| self.size(*child)).max().unwrap_or_default(),
        }
    }
}

/// An image that was deleted and can be restored.
pub struct Dead {
    pub repository: String,
    pub kms: Kms,
    pub digest: Digest,
    pub image: Image,
    pub tags: Vec<String>,
    pub deleted_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Removed,
    ImageNotFound,
    ImageTagDoesNotMatchDigest,
    ImageReferencedByManifestList,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    Digest(Digest),
    Tag(String),
    Both(Digest, String),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub links: u64,
    pub blobs: u64,
    pub tombstones: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub restored: Vec<Digest>,
    pub tags: Vec<String>,
    pub skipped: Vec<Digest>,
}

pub struct Model {
    pub now: i64,
    pub options: Options,
    pub mounting: bool,
    pub repositories: BTreeMap<String, Repository>,
    pub dead: Vec<Dead>,
    /// Content nothing links to, by when it was trashed.
    pub trash: BTreeMap<(Kms, Digest), Vec<i64>>,
    generations: u64,
}

type Removed = Vec<(Digest, Option<String>)>;

impl Model {
    pub fn new(now: i64, options: Options) -> Self {
        let mounting = options.dialect == Dialect::Spec;
        let (repositories, dead, trash) = Default::default();
        Self { now, options, mounting, repositories, dead, trash, generations: 0 }
    }

    fn spec(&self) -> bool {
        self.options.dialect == Dialect::Spec
    }

    pub fn repository(&self, name: &str) -> Result<&Repository, Refused> {
        self.repositories.get(name).ok_or_else(|| "RepositoryNotFound".into())
    }

    fn change(&mut self, name: &str) -> Result<&mut Repository, Refused> {
        self.repositories.get_mut(name).ok_or_else(|| "RepositoryNotFound".into())
    }

    pub fn create(&mut self, name: &str, kms: Kms, mutability: Mutability) -> Result<(), Refused> {
        if self.repositories.contains_key(name) {
            return Err("RepositoryAlreadyExists".into());
        }
        if self.repositories.len() as u64 >= self.options.quotas.repositories {
            return Err("LimitExceeded".into());
        }
        self.generations += 1;
        let (images, tags, links) = Default::default();
        let new = Repository { generation: self.generations, kms, mutability, images, tags, links };
        self.repositories.insert(name.into(), new);
        Ok(())
    }

    pub fn delete(&mut self, name: &str, force: bool) -> Result<(), Refused> {
        if !self.repository(name)?.images.is_empty() && !force {
            return Err("RepositoryNotEmpty".into());
        }
        // Indexes go before what they name, a hundred at a time.
        loop {
            let repository = self.repository(name)?;
            let free: Vec<Digest> = repository
                .images
                .keys()
                .copied()
                .filter(|digest| !repository.held(*digest))
                .take(100)
                .collect();
            if free.is_empty() {
                break;
            }
            free.into_iter().for_each(|digest| drop(self.remove_image(name, digest)));
        }
        let links: Vec<Digest> = self.repository(name)?.links.keys().copied().collect();
        for digest in links {
            self.drop_link(name, digest);
        }
        self.repositories.remove(name);
        Ok(())
    }

    /// Answers whether that was its last link.
    fn drop_link(&mut self, name: &str, digest: Digest) -> bool {
        let repository = self.repositories.get_mut(name).expect("exists");
        repository.links.remove(&digest);
        let kms = repository.kms;
        let last =
            !self.repositories.values().any(|other| other.kms == kms && other.links.contains_key(&digest));
        if last {
            self.trash.entry((kms, digest)).or_default().push(self.now);
        }
        last
    }

    pub fn push_blob(&mut self, name: &str, digest: Digest) -> Result<bool, Refused> {
        let now = self.now;
        Ok(self.change(name)?.link(digest, now))
    }

    /// `None`: not mounted. Otherwise whether it was there.
    pub fn mount(&mut self, name: &str, digest: Digest, source: &str) -> Result<Option<bool>, Refused> {
        let (now, spec, kms) = (self.now, self.spec(), self.repository(name)?.kms);
        if !self.mounting {
            return Ok(None);
        }
        let Some(source) = self.repositories.get_mut(source).filter(|source| source.kms == kms) else {
            return Ok(None);
        };
        if !source.links.contains_key(&digest) || (!spec && !source.named_by_image(digest)) {
            return Ok(None);
        }
        source.touch(digest, now);
        Ok(Some(self.change(name)?.link(digest, now)))
    }

    pub fn head_blob(&mut self, name: &str, digest: Digest) -> Result<(), Refused> {
        let (now, due) = (self.now, self.options.unreferenced_grace.as_micros() as i64 / 8);
        match self.change(name)?.links.get_mut(&digest) {
            None => Err("BlobUnknown".into()),
            Some(since) => {
                *since = since.map(|since| if now > since + due { now } else { since });
                Ok(())
            }
        }
    }

    pub fn delete_blob(&mut self, name: &str, digest: Digest) -> Result<(), Refused> {
        if !self.spec() {
            return Err("Unsupported".into());
        }
        let repository = self.repository(name)?;
        if !repository.links.contains_key(&digest) {
            return Err("BlobUnknown".into());
        }
        if repository.named_by_image(digest) {
            return Err("Unsupported".into());
        }
        self.drop_link(name, digest);
        Ok(())
    }

    pub fn put(
        &mut self,
        name: &str,
        manifest: &Manifest,
        algorithm: DigestAlgorithm,
        tags: &[String],
    ) -> Result<bool, Refused> {
        let (now, quotas, sparse) = (self.now, self.options.quotas, self.options.sparse_manifests);
        let repository = self.change(name)?;
        let digest = manifest.digest(algorithm);
        let moved: BTreeSet<&String> =
            tags.iter().filter(|tag| repository.tags.get(*tag) != Some(&digest)).collect();
        for tag in &moved {
            let parsed: Tag = tag.parse().unwrap();
            if repository.tags.contains_key(*tag) && !repository.mutability.may_move(&parsed) {
                return Err("ImageTagAlreadyExists".into());
            }
        }
        let new = !repository.images.contains_key(&digest);
        if new {
            may_be_put(repository, manifest, quotas.images_per_repository, sparse)?;
        }
        if !moved.is_empty()
            && (repository.tags_of(digest).len() + moved.len()) as u64 > quotas.tags_per_image
        {
            return Err("LimitExceeded".into());
        }
        if new {
            let mut image = Image::new(manifest, now);
            // What is foreign is kept if it happens to be there.
            let foreign = manifest.blobs().into_iter().filter(|blob| blob.foreign).map(|blob| blob.digest);
            image.blobs.extend(foreign.filter(|digest| repository.links.contains_key(digest)));
            repository.insert(digest, image);
        }
        for tag in &moved {
            repository.tags.insert((*tag).clone(), digest);
        }
        Ok(new || !moved.is_empty())
    }

    pub fn delete_images(&mut self, name: &str, ids: &[Id]) -> Result<(Removed, Vec<(Id, Fate)>), Refused> {
        self.repository(name)?;
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        let mut left: Vec<&Id> = ids.iter().collect();
        loop {
            let mut held = Vec::new();
            for id in &left {
                match self.delete_image(name, id, &mut removed) {
                    Fate::Removed => {}
                    Fate::ImageReferencedByManifestList => held.push(*id),
                    fate => failed.push(((*id).clone(), fate)),
                }
            }
            if held.len() == left.len() || held.is_empty() {
                failed.extend(held.into_iter().map(|id| (id.clone(), Fate::ImageReferencedByManifestList)));
                return Ok((removed, failed));
            }
            left = held;
        }
    }

    fn delete_image(&mut self, name: &str, id: &Id, removed: &mut Removed) -> Fate {
        let repository = &self.repositories[name];
        match id {
            Id::Digest(digest) => self.delete_digest(name, *digest, removed),
            Id::Tag(tag) => match repository.tags.get(tag).copied() {
                None => Fate::ImageNotFound,
                Some(digest) if repository.tags_of(digest).len() == 1 => {
                    self.delete_digest(name, digest, removed)
                }
                Some(digest) => {
                    removed.push((digest, Some(tag.clone())));
                    self.repositories.get_mut(name).expect("exists").tags.remove(tag);
                    Fate::Removed
                }
            },
            Id::Both(digest, tag) => match repository.tags.get(tag) {
                Some(at) if at == digest => self.delete_image(name, &Id::Tag(tag.clone()), removed),
                None if !repository.images.contains_key(digest) => Fate::ImageNotFound,
                _ => Fate::ImageTagDoesNotMatchDigest,
            },
        }
    }

    fn delete_digest(&mut self, name: &str, digest: Digest, removed: &mut Removed) -> Fate {
        let repository = &self.repositories[name];
        if !repository.images.contains_key(&digest) {
            return Fate::ImageNotFound;
        }
        if repository.held(digest) {
            return Fate::ImageReferencedByManifestList;
        }
        let tags = self.remove_image(name, digest);
        match tags.is_empty() {
            true => removed.push((digest, None)),
            false => removed.extend(tags.into_iter().map(|tag| (digest, Some(tag)))),
        }
        Fate::Removed
    }

    fn remove_image(&mut self, name: &str, digest: Digest) -> Vec<String> {
        let now = self.now;
        let repository = self.repositories.get_mut(name).expect("exists");
        let tags = repository.tags_of(digest);
        repository.tags.retain(|_, at| *at != digest);
        let image = repository.images.remove(&digest).expect("exists");
        for blob in &image.blobs {
            if !repository.named_by_image(*blob) {
                repository.links.insert(*blob, Some(now));
            }
        }
        let (repository, kms, deleted_at) = (name.to_owned(), repository.kms, now);
        self.dead.push(Dead { repository, kms, digest, image, tags: tags.clone(), deleted_at });
        tags
    }

    /// OCI's delete.
    pub fn delete_reference(&mut self, name: &str, id: &Id) -> Result<(), Refused> {
        let spec = self.spec();
        let repository = self.change(name)?;
        let fate = match id {
            Id::Tag(tag) if spec => match repository.tags.remove(tag) {
                Some(_) => Fate::Removed,
                None => Fate::ImageNotFound,
            },
            id => self.delete_image(name, id, &mut Vec::new()),
        };
        match fate {
            Fate::Removed => Ok(()),
            Fate::ImageReferencedByManifestList => Err("ReferencedByManifestList".into()),
            _ => Err("ManifestUnknown".into()),
        }
    }

    pub fn collect(&mut self) -> Collected {
        let mut report = Collected::default();
        let cutoff = self.now - self.options.unreferenced_grace.as_micros() as i64;
        let due: Vec<(String, Digest)> = self
            .repositories
            .iter()
            .flat_map(|(name, repository)| repository.links.iter().map(move |link| (name, link)))
            .filter(|(_, (_, since))| since.is_some_and(|since| since <= cutoff))
            .map(|(name, (digest, _))| (name.clone(), *digest))
            .collect();
        for (name, digest) in due {
            report.links += 1;
            report.blobs += u64::from(self.drop_link(&name, digest));
        }
        let cutoff = self.now - self.options.trash_window.as_micros() as i64;
        self.trash.values_mut().for_each(|times| times.retain(|at| *at > cutoff));
        let before = self.dead.len();
        self.dead.retain(|dead| dead.deleted_at > cutoff);
        report.tombstones = (before - self.dead.len()) as u64;
        report
    }

    pub fn undelete(
        &mut self,
        name: &str,
        digest: Option<Digest>,
        tag: Option<&str>,
    ) -> Result<Restored, Refused> {
        self.repository(name)?;
        let wanted: Vec<Digest> = match digest {
            Some(digest) => vec![digest],
            None => self
                .dead
                .iter()
                .filter(|dead| dead.repository == name)
                .filter(|dead| tag.is_none_or(|tag| dead.tags.iter().any(|had| had == tag)))
                .map(|dead| dead.digest)
                .collect(),
        };
        let (mut report, mut seen) = (Restored::default(), BTreeSet::new());
        for digest in wanted {
            self.restore(name, digest, &mut seen, &mut report);
        }
        Ok(report)
    }

    /// Restores an image after the children it needs.
    fn restore(&mut self, name: &str, digest: Digest, seen: &mut BTreeSet<Digest>, report: &mut Restored) {
        if !seen.insert(digest) {
            return;
        }
        let newest = |model: &Self| {
            model.dead.iter().rposition(|dead| dead.repository == name && dead.digest == digest)
        };
        let Some(at) = newest(self).filter(|at| self.dead[*at].kms == self.repositories[name].kms) else {
            report.skipped.push(digest);
            return;
        };
        let (image, tags) = (self.dead[at].image.clone(), self.dead[at].tags.clone());
        if !self.repositories[name].images.contains_key(&digest) {
            // The last named comes back first.
            for child in image.children.iter().rev() {
                if !self.repositories[name].images.contains_key(child) {
                    self.restore(name, *child, seen, report);
                }
            }
            if !self.revive(name, digest, image) {
                report.skipped.push(digest);
                return;
            }
        }
        let repository = self.repositories.get_mut(name).expect("exists");
        for tag in tags {
            let full = repository.tags_of(digest).len() as u64 >= self.options.quotas.tags_per_image;
            if !full && !repository.tags.contains_key(&tag) {
                repository.tags.insert(tag.clone(), digest);
                report.tags.push(tag);
            }
        }
        let at = newest(self).expect("still there");
        self.dead.remove(at);
        report.restored.push(digest);
    }

    fn revive(&mut self, name: &str, digest: Digest, image: Image) -> bool {
        let (now, kms) = (self.now, self.repositories[name].kms);
        let repository = &self.repositories[name];
        let whole = image.children.iter().all(|child| repository.images.contains_key(child));
        let room = (repository.images.len() as u64) < self.options.quotas.images_per_repository;
        let linked = |blob: &Digest| {
            self.repositories.values().any(|other| other.kms == kms && other.links.contains_key(blob))
        };
        let trashed = |blob: &Digest| self.trash.get(&(kms, *blob)).is_some_and(|times| !times.is_empty());
        if !whole || !room || !image.blobs.iter().all(|blob| linked(blob) || trashed(blob)) {
            return false;
        }
        let from_trash: Vec<Digest> = image.blobs.iter().copied().filter(|blob| !linked(blob)).collect();
        for blob in from_trash {
            self.trash.get_mut(&(kms, blob)).expect("trashed").pop();
        }
        let repository = self.repositories.get_mut(name).expect("exists");
        for blob in &image.blobs {
            repository.link(*blob, now);
        }
        repository.insert(digest, image);
        true
    }
}

fn may_be_put(repository: &Repository, manifest: &Manifest, most: u64, sparse: bool) -> Result<(), Refused> {
    if repository.images.len() as u64 >= most {
        return Err("LimitExceeded".into());
    }
    if sparse {
        return Ok(());
    }
    let missing =
        |digests: Vec<Digest>| digests.iter().map(|digest| format!(" {digest}")).collect::<String>();
    let own = manifest.blobs().into_iter().filter(|blob| !blob.foreign).map(|blob| blob.digest);
    let layers: Vec<Digest> = own.filter(|digest| !repository.links.contains_key(digest)).collect();
    if !layers.is_empty() {
        return Err(format!("LayersNotFound{}", missing(layers)));
    }
    let children = manifest.children().into_iter().map(|child| child.digest);
    let children: Vec<Digest> = children.filter(|digest| !repository.images.contains_key(digest)).collect();
    match children.is_empty() {
        true => Ok(()),
        false => Err(format!("ReferencedImagesNotFound{}", missing(children))),
    }
}
