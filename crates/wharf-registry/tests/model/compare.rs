//! The whole visible state of the registry, held against the model's.

use std::future::Future;

use wharf_registry::{
    ImageFilter, ImageId, ImageRef, ImageStatus, Page, PageRequest, RegistryError, TagStatus,
};
use wharf_types::{Digest, Manifest, Reference, Tag};

use super::player::{Player, refused};
use super::state::{Image, Repository};
use super::universe::{REPOSITORIES, TAGS};

/// Walks all pages.
async fn walk<T, F>(limit: usize, page: impl Fn(PageRequest) -> F) -> Vec<T>
where
    F: Future<Output = Result<Page<T>, RegistryError>>,
{
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let next = page(PageRequest { limit, token }).await.unwrap();
        assert!(next.items.len() <= limit, "a page is not longer than asked for");
        assert!(next.next.is_none() || next.items.len() == limit, "only the last page is short");
        all.extend(next.items);
        token = next.next;
        if token.is_none() {
            return all;
        }
    }
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

impl Player {
    /// Everything that a client can see.
    pub async fn compare(&mut self) {
        let limit = 1 + self.random.below(12);
        let registry = &self.house.registry;
        let here = self.house.here();
        let described = walk(limit, |page| registry.describe_repositories(&here, page)).await;
        let described: Vec<_> =
            described.iter().map(|r| (r.name.name.to_string(), r.mutability.clone())).collect();
        let expected: Vec<_> =
            self.model.repositories.iter().map(|(name, r)| (name.clone(), r.mutability.clone())).collect();
        assert_eq!(described, expected, "the repositories");
        let page = registry.catalog(&here, Some("app"), 1).await.unwrap();
        let after: Vec<&String> =
            self.model.repositories.keys().filter(|name| *name > &"app".to_owned()).collect();
        assert_eq!(page.names.last(), after.first().map(|name| name.as_str()), "the catalog");
        assert_eq!(page.more, after.len() > 1, "the catalog");
        for name in REPOSITORIES {
            match self.model.repositories.get(name) {
                Some(repository) => self.compare_repository(name, repository, limit).await,
                None => {
                    let digest = Reference::Digest(Digest::sha256(b""));
                    let error = registry.get_manifest(&self.house.at(name), &digest, &[]).await.unwrap_err();
                    assert_eq!(refused(&error), "RepositoryNotFound");
                }
            }
        }
    }

    async fn compare_repository(&self, name: &str, repository: &Repository, limit: usize) {
        self.compare_lists(name, repository, limit).await;
        self.compare_pulls(name, repository).await;
        self.compare_referrers(name, repository, limit).await;
        let at = self.house.at(name);
        for (digest, content) in &self.universe.blobs {
            match (self.house.registry.open_blob(&at, digest).await, repository.links.contains_key(digest)) {
                (Ok(blob), true) => {
                    assert_eq!(blob.info.size, content.len() as u64);
                    assert_eq!(blob.read_all(1 << 20).await.unwrap(), content, "{digest} in {name}");
                }
                (Err(RegistryError::BlobUnknown(_)), false) => {}
                (other, linked) => {
                    panic!("{digest} in {name}: linked {linked}, but {:?}", other.map(|blob| blob.info))
                }
            }
        }
    }

    async fn compare_lists(&self, name: &str, repository: &Repository, limit: usize) {
        let (registry, at) = (&self.house.registry, self.house.at(name));
        let mut details = 0;
        for tags in [TagStatus::Any, TagStatus::Tagged, TagStatus::Untagged] {
            let wanted = |digest: Digest| match tags {
                TagStatus::Any => true,
                TagStatus::Tagged => !repository.tags_of(digest).is_empty(),
                TagStatus::Untagged => repository.tags_of(digest).is_empty(),
            };
            let filter = ImageFilter { tags, status: limit.is_multiple_of(2).then_some(ImageStatus::Active) };
            let images = repository.images.iter().filter(|(digest, _)| wanted(**digest));
            let listed = walk(limit, |page| registry.list_images(&at, filter, page)).await;
            let expected: Vec<ImageRef> = images
                .clone()
                .flat_map(|(digest, _)| {
                    let names = repository.tags_of(*digest);
                    let tags = match names.is_empty() {
                        true => vec![None],
                        false => names.iter().map(|name| Some(tag(name))).collect(),
                    };
                    tags.into_iter().map(|tag| ImageRef { digest: *digest, tag })
                })
                .collect();
            assert_eq!(listed, expected, "images of {name}, {tags:?}");
            let described = walk(limit, |page| registry.describe_images(&at, filter, page)).await;
            let digests: Vec<&Digest> = images.map(|(digest, _)| digest).collect();
            assert_eq!(
                described.iter().map(|image| &image.digest).collect::<Vec<_>>(),
                digests,
                "described in {name}"
            );
            for detail in described {
                let image = &repository.images[&detail.digest];
                let names: Vec<Tag> =
                    repository.tags_of(detail.digest).iter().map(|name| tag(name)).collect();
                assert_eq!(detail.tags, names, "tags of {} in {name}", detail.digest);
                assert_eq!(
                    (
                        detail.size,
                        detail.pushed_at.as_micros(),
                        &detail.media_type,
                        detail.artifact_type.as_deref()
                    ),
                    (
                        repository.size(detail.digest),
                        image.pushed_at,
                        image.manifest.media_type(),
                        image.manifest.artifact_type()
                    ),
                    "what is said of {} in {name}",
                    detail.digest
                );
                assert_eq!(detail.subject, image.manifest.subject().map(|subject| subject.digest));
                assert_eq!(detail.status, ImageStatus::Active);
                details += 1;
            }
        }
        assert_eq!(details, 2 * repository.images.len());
        let after = TAGS[limit % TAGS.len()];
        let page = registry.list_tags(&at, Some(after), limit).await.unwrap();
        let expected: Vec<&String> = repository.tags.keys().filter(|name| name.as_str() > after).collect();
        assert!(
            page.names.iter().eq(expected.iter().take(limit).map(|name| name.as_str())),
            "tags of {name}"
        );
        assert_eq!(page.more, expected.len() > limit);
    }

    async fn compare_pulls(&self, name: &str, repository: &Repository) {
        let (registry, at) = (&self.house.registry, self.house.at(name));
        let pull = async |reference: Reference| match registry.get_manifest_now(&at, &reference, &[]) {
            Some(answer) => answer,
            None => registry.get_manifest(&at, &reference, &[]).await,
        };
        for manifest in &self.universe.manifests {
            for digest in [Digest::sha256(manifest.bytes()), Digest::sha512(manifest.bytes())] {
                let expected: Option<&Manifest> = repository.images.get(&digest).map(|image| &image.manifest);
                match (pull(Reference::Digest(digest)).await, expected) {
                    (Ok(pulled), Some(expected)) => {
                        assert_eq!(
                            (&pulled.bytes, pulled.digest),
                            (expected.bytes(), digest),
                            "{digest} in {name}"
                        );
                        assert_eq!(pulled.media_type, *expected.media_type());
                    }
                    (Err(RegistryError::ManifestUnknown), None) => {}
                    (other, expected) => {
                        panic!("{digest} in {name} is there: {}, but {other:?}", expected.is_some())
                    }
                }
            }
        }
        let mut asked = Vec::new();
        for name_of_tag in TAGS {
            let pulled = pull(Reference::Tag(tag(name_of_tag))).await.map(|pulled| pulled.digest);
            let expected = repository.tags.get(name_of_tag).copied().ok_or("ManifestUnknown".to_owned());
            assert_eq!(pulled.map_err(|error| refused(&error)), expected, "{name}:{name_of_tag}");
            asked.push(ImageId { digest: None, tag: Some(name_of_tag.into()) });
        }
        let (images, failures) = registry.batch_get_images(&at, &asked, &[]).await.unwrap();
        let images: Vec<_> = images
            .iter()
            .map(|image| (image.id.tag.clone().map(|t| t.to_string()), image.id.digest))
            .collect();
        let expected =
            TAGS.iter().filter_map(|name| Some((Some((*name).to_owned()), *repository.tags.get(*name)?)));
        assert_eq!(images, expected.collect::<Vec<_>>(), "a batch from {name}");
        assert_eq!(images.len() + failures.len(), TAGS.len());
    }

    async fn compare_referrers(&self, name: &str, repository: &Repository, limit: usize) {
        let (registry, at) = (&self.house.registry, self.house.at(name));
        for subject in &self.universe.subjects {
            let referrers = |narrow: Option<&str>| -> Vec<Digest> {
                let refers =
                    |image: &Image| image.manifest.subject().is_some_and(|named| named.digest == *subject);
                let fits =
                    |image: &Image| narrow.is_none_or(|kind| image.manifest.artifact_type() == Some(kind));
                let images = repository.images.iter().filter(|(_, image)| refers(image) && fits(image));
                images.map(|(digest, _)| *digest).collect()
            };
            for narrow in [None, Some("application/vnd.example.sbom")] {
                let types: Vec<String> = narrow.iter().map(ToString::to_string).collect();
                let listed =
                    walk(limit, |page| registry.list_referrers(&at, subject, &types, None, page)).await;
                assert_eq!(
                    listed.iter().map(|referrer| referrer.digest).collect::<Vec<_>>(),
                    referrers(narrow),
                    "referrers of {subject} in {name}"
                );
                for referrer in &listed {
                    let manifest = &repository.images[&referrer.digest].manifest;
                    assert_eq!(&referrer.annotations, manifest.annotations());
                    assert_eq!(referrer.size, manifest.bytes().len() as u64);
                }
            }
        }
    }
}
