//! Images: put, pulled, listed, deleted, below both faces.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, image_of, index_of};
use wharf_registry::{
    ImageFailureCode, ImageFilter, ImageId, ImageStatus, PageRequest, PutImage, Quotas, RegistryError,
    TagStatus,
};
use wharf_types::{Digest, Manifest, Mutability, Reference, TagFilter};

fn by_tag(tag: &str) -> ImageId {
    ImageId { digest: None, tag: Some(tag.into()) }
}

fn by_digest(digest: &Digest) -> ImageId {
    ImageId { digest: Some(digest.to_string()), tag: None }
}

fn page(limit: usize, token: Option<String>) -> PageRequest {
    PageRequest { limit, token }
}

#[tokio::test]
async fn what_was_put_comes_back_byte_for_byte_also_after_a_restart() {
    let mut house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let manifest = house.image(&at, "one", None).await;
    let bytes = manifest.bytes().clone();
    let put = house.put(&at, manifest.clone(), Some("v1")).await.unwrap();
    assert!(put.changed);
    assert!(!house.put(&at, manifest, Some("v1")).await.unwrap().changed, "the same again changes nothing");
    for _ in 0..2 {
        for reference in [Reference::Tag("v1".parse().unwrap()), Reference::Digest(put.digest)] {
            let pulled = house.registry.get_manifest(&at, &reference, &[]).await.unwrap();
            assert_eq!(pulled.bytes, bytes);
            assert_eq!(pulled.digest, put.digest);
        }
        house.restart().await;
    }
}

#[tokio::test]
async fn an_immutable_tag_cannot_be_moved() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Immutable).await;
    let first = house.push(&at, "one", Some("v1")).await;
    let second = house.image(&at, "two", None).await;
    let refused = house.put(&at, second.clone(), Some("v1")).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ImageTagAlreadyExists { .. }));
    assert_eq!(
        refused.to_string(),
        "The image tag 'v1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable."
    );
    let pulled = house.registry.get_manifest(&at, &Reference::Tag("v1".parse().unwrap()), &[]).await.unwrap();
    assert_eq!(pulled.digest, first);
    let listed = house.registry.list_images(&at, ImageFilter::default(), page(10, None)).await.unwrap();
    assert_eq!(listed.items.len(), 1, "the refused image must not be there untagged either");
    // Excluded tags may move, others may not.
    let filter = vec![TagFilter::parse("dev*").unwrap()];
    house.registry.put_tag_mutability(&at, Mutability::ImmutableWithExclusion(filter)).await.unwrap();
    house.push(&at, "one", Some("dev")).await;
    assert!(house.put(&at, second.clone(), Some("dev")).await.is_ok());
    assert!(house.put(&at, second, Some("v1")).await.is_err());
}

#[tokio::test]
async fn an_image_needs_everything_it_names() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let held = house.blob(&at, b"held").await;
    let missing = Digest::sha256(b"missing");
    let refused = house.put(&at, image_of(held, &[missing], None), Some("v1")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "Layers with digests '[{missing}]' required for pushing image into repository with name 'team/app' in the registry with id '123456789012' do not exist"
        )
    );
    let refused = house.put(&at, index_of(&[missing]), Some("v1")).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ReferencedImagesNotFound(_, digests) if digests == [missing]));
    // Another repository's blobs do not count.
    let other = house.create("team/other", Mutability::Mutable).await;
    assert!(house.put(&other, image_of(held, &[], None), None).await.is_err());
    let listed = house.registry.list_images(&at, ImageFilter::default(), page(10, None)).await.unwrap();
    assert!(listed.items.is_empty());
    // A subject need not exist.
    assert!(house.put(&at, image_of(held, &[], Some(missing)), None).await.is_ok());
}

#[tokio::test]
async fn a_promised_digest_is_checked() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let manifest = house.image(&at, "one", None).await;
    let wrong = PutImage { manifest: manifest.clone(), digest: Some(Digest::sha256(b"x")), tags: vec![] };
    let refused = house.registry.put_image(&at, wrong).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ImageDigestDoesNotMatch { .. }));
    let long = Digest::sha512(manifest.bytes());
    let put = PutImage { manifest, digest: Some(long), tags: vec![] };
    assert_eq!(house.registry.put_image(&at, put).await.unwrap().digest, long);
    assert!(house.registry.get_manifest(&at, &Reference::Digest(long), &[]).await.is_ok());
}

#[tokio::test]
async fn deleting_by_tag_and_by_digest() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let one = house.push(&at, "one", Some("a")).await;
    house.push(&at, "one", Some("b")).await;
    let two = house.push(&at, "two", Some("c")).await;
    house.push(&at, "two", Some("d")).await;

    let (deleted, failures) =
        house.registry.delete_images(&at, &[by_tag("a"), by_tag("nope")]).await.unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!(failures[0].code, ImageFailureCode::ImageNotFound);
    assert!(house.registry.describe_images_by_id(&at, &[by_digest(&one)]).await.is_ok());
    house.registry.delete_images(&at, &[by_tag("b")]).await.unwrap();
    let gone = house.registry.describe_images_by_id(&at, &[by_digest(&one)]).await.unwrap_err();
    assert!(matches!(gone, RegistryError::ImageNotFound(..)), "the image goes with its last tag");

    let mixed = ImageId { digest: Some(one.to_string()), tag: Some("c".into()) };
    let (_, failures) = house.registry.delete_images(&at, &[mixed, ImageId::default()]).await.unwrap();
    let mut codes: Vec<_> = failures.iter().map(|failure| failure.code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["ImageTagDoesNotMatchDigest", "MissingDigestAndTag"]);

    let (deleted, _) = house.registry.delete_images(&at, &[by_digest(&two)]).await.unwrap();
    assert_eq!(deleted.len(), 2, "one entry per tag");
    let refused =
        house.registry.get_manifest(&at, &Reference::Tag("c".parse().unwrap()), &[]).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ManifestUnknown));
}

#[tokio::test]
async fn a_child_stays_while_its_index_is_there() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    let index = house.put(&at, index_of(&[child]), Some("v1")).await.unwrap().digest;
    let (_, failures) = house.registry.delete_images(&at, &[by_digest(&child)]).await.unwrap();
    assert_eq!(failures[0].code, ImageFailureCode::ImageReferencedByManifestList);
    assert_eq!(failures[0].reason, format!("Requested image referenced by manifest list: [{index}]"));
    let refused = house.registry.delete_reference(&at, &Reference::Digest(child)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ReferencedByManifestList(parents) if parents == [index]));
    // Child first, index second: both go.
    let (deleted, failures) =
        house.registry.delete_images(&at, &[by_digest(&child), by_digest(&index)]).await.unwrap();
    assert_eq!((deleted.len(), failures.len()), (2, 0));
}

#[tokio::test]
async fn pages_show_everything_once() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    for n in 0..7 {
        let tag = format!("t{n}");
        house.push(&at, &n.to_string(), (n % 2 == 0).then_some(tag.as_str())).await;
    }
    house.push(&at, "0", Some("again")).await;
    for (tags, entries, images) in
        [(TagStatus::Any, 8, 7), (TagStatus::Tagged, 5, 4), (TagStatus::Untagged, 3, 3)]
    {
        let filter = ImageFilter { tags, status: Some(ImageStatus::Active) };
        let (mut token, mut seen) = (None, Vec::new());
        loop {
            let page = house.registry.list_images(&at, filter, page(3, token)).await.unwrap();
            seen.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), entries, "{tags:?}");
        assert!(seen.is_sorted_by(|a, b| a < b), "{tags:?}");
        let (mut token, mut described) = (None, 0);
        loop {
            let page = house.registry.describe_images(&at, filter, page(2, token)).await.unwrap();
            described += page.items.len();
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(described, images, "{tags:?}");
    }
    // A token of one query is none of another, and junk is refused.
    let first = house.registry.list_images(&at, ImageFilter::default(), page(1, None)).await.unwrap();
    let refused =
        house.registry.describe_images(&at, ImageFilter::default(), page(1, first.next)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::InvalidParameter { member: "nextToken", .. }));
    let refused = house.registry.list_images(&at, ImageFilter::default(), page(1, Some("x".into()))).await;
    assert!(refused.is_err());
    let page = house.registry.list_tags(&at, Some("again"), 2).await.unwrap();
    assert!(page.names.iter().eq(["t0", "t2"]) && page.more);
}

#[tokio::test]
async fn sizes_types_and_referrers_are_told() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let image = house.push(&at, "one", Some("v1")).await;
    let index = house.put(&at, index_of(&[image]), Some("all")).await.unwrap().digest;
    let signature = house.image(&at, "signature", Some(image)).await;
    let signature = house.put(&at, signature, None).await.unwrap();
    assert_eq!(signature.subject, Some(image));
    let details = house.registry.describe_images_by_id(&at, &[by_tag("v1"), by_tag("all")]).await.unwrap();
    assert_eq!((details[0].size, details[1].size), (30, 30), "an index is as large as its largest child");
    let found = house.registry.list_referrers(&at, &image, &[], None, page(10, None)).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].digest, signature.digest);
    assert_eq!(found.items[0].annotations["by"], "test");
    let none =
        house.registry.list_referrers(&at, &image, &["a/b".into()], None, page(10, None)).await.unwrap();
    assert!(none.items.is_empty());
    let none = house.registry.list_referrers(&at, &index, &[], None, page(10, None)).await.unwrap();
    assert!(none.items.is_empty());
}

/// Annotations are content of the manifest, also where lists of referrers keep them.
#[tokio::test]
async fn nothing_of_a_sealed_manifest_lies_open_in_the_metadata() {
    let secret = "nobody-should-read-this-on-the-disk";
    for encrypted in [true, false] {
        let house = House::with(|options| options.encrypt = encrypted).await;
        if house.dir.is_postgres() {
            eprintln!("skipped on PostgreSQL: its files are not here to be searched");
            return;
        }
        let at = house.create("team/app", Mutability::Mutable).await;
        let subject = house.push(&at, "one", Some("v1")).await;
        let signature = house.image(&at, "signature", Some(subject)).await;
        let text = String::from_utf8(signature.bytes().to_vec())
            .unwrap()
            .replace("\"test\"", &format!("\"{secret}\""));
        let signature = Manifest::parse(text.into(), None).unwrap();
        let digest = house.put(&at, signature, None).await.unwrap().digest;
        let listed =
            async || house.registry.list_referrers(&at, &subject, &[], None, page(10, None)).await.unwrap();
        assert_eq!(listed().await.items[0].annotations["by"], secret);
        house.registry.delete_reference(&at, &Reference::Digest(digest)).await.unwrap();
        house.registry.undelete(at.target(), Some(&digest), None).await.unwrap();
        assert_eq!(listed().await.items[0].annotations["by"], secret, "after it came back");
        let open = std::fs::read_dir(house.dir.path()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        });
        assert_eq!(open, !encrypted, "the search finds what is stored plain");
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_not_served_and_heals_when_it_is_pushed_again() {
    let mut house = House::new().await;
    let at = house.create("team/app", Mutability::Immutable).await;
    let manifest = house.image(&at, "one", None).await;
    let digest = house.put(&at, manifest.clone(), Some("v1")).await.unwrap().digest;
    house.meta.write(|tx| tx.execute("UPDATE manifests SET content = keys", &[])).await.unwrap();
    house.restart().await;
    let at = house.at("team/app");
    let pull = async |house: &House| {
        house.registry.get_manifest(&house.at("team/app"), &Reference::Digest(digest), &[]).await
    };
    assert!(matches!(pull(&house).await, Err(RegistryError::Damaged(_))));
    assert!(house.put(&at, manifest.clone(), Some("v1")).await.unwrap().changed);
    assert_eq!(&pull(&house).await.unwrap().bytes, manifest.bytes());
    assert!(!house.put(&at, manifest, Some("v1")).await.unwrap().changed);
}

#[tokio::test]
async fn quotas_are_exact() {
    let quotas = Quotas { repositories: 1, images_per_repository: 2, tags_per_image: 2 };
    let house = House::with(|options| options.quotas = quotas).await;
    let at = house.create("team/app", Mutability::Mutable).await;
    house.push(&at, "one", Some("a")).await;
    house.push(&at, "one", Some("b")).await;
    let again = house.image(&at, "one", None).await;
    assert!(matches!(house.put(&at, again, Some("c")).await, Err(RegistryError::LimitExceeded(_))));
    let two = house.push(&at, "two", None).await;
    let three = house.image(&at, "three", None).await;
    assert!(matches!(house.put(&at, three.clone(), None).await, Err(RegistryError::LimitExceeded(_))));
    house.registry.delete_images(&at, &[by_digest(&two)]).await.unwrap();
    assert!(house.put(&at, three, None).await.is_ok(), "a deleted image makes room");
}

#[tokio::test]
async fn a_repository_goes_with_force_only_and_its_name_is_free_at_once() {
    let mut house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let child = house.push(&at, "child", None).await;
    house.put(&at, index_of(&[child]), Some("v1")).await.unwrap();
    house.registry.start_upload(&at).await.unwrap();
    let refused = house.registry.delete_repository(&at, false).await.unwrap_err();
    assert!(matches!(refused, RegistryError::RepositoryNotEmpty(_)));
    house.registry.delete_repository(&at, true).await.unwrap();
    assert!(matches!(house.registry.repository(&at).await, Err(RegistryError::RepositoryNotFound(_))));
    let at = house.create("team/app", Mutability::Mutable).await;
    assert!(house.registry.get_manifest(&at, &Reference::Digest(child), &[]).await.is_err());
    house.push(&at, "child", Some("v1")).await;
    house.restart().await;
    house.registry.collect(&()).await.unwrap();
    assert!(house.registry.get_manifest(&at, &Reference::Digest(child), &[]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tag_that_moves_is_never_missed() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    house.push(&at, "first", Some("v1")).await;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (registry, at, done) = (house.registry.clone(), at.clone(), done.clone());
            tokio::spawn(async move {
                let (tag, id) = (Reference::Tag("v1".parse().unwrap()), by_tag("v1"));
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    registry.get_manifest(&at, &tag, &[]).await.expect("the tag is always there");
                    let (images, failures) =
                        registry.batch_get_images(&at, std::slice::from_ref(&id), &[]).await.unwrap();
                    assert_eq!((images.len(), failures.len()), (1, 0), "{failures:?}");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut before = house.push(&at, "before", Some("v1")).await;
    for number in 0..150 {
        let next = house.push(&at, &format!("image {number}"), Some("v1")).await;
        let (deleted, _) = house.registry.delete_images(&at, &[by_digest(&before)]).await.unwrap();
        assert_eq!(deleted.len(), 1);
        before = next;
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn whatever_names_what_an_undelete_brings_everything_back() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    // An index of an image and of an index of the same image, in either order of their digests.
    for number in 0..8 {
        let image = house.push(&at, &format!("image {number}"), None).await;
        let inner = house.put(&at, index_of(&[image]), None).await.unwrap().digest;
        let outer = house.put(&at, index_of(&[image, inner]), Some("outer")).await.unwrap().digest;
        let all = [outer, inner, image];
        let (_, failures) =
            house.registry.delete_images(&at, &all.map(|digest| by_digest(&digest))).await.unwrap();
        assert!(failures.is_empty());
        let report = house.registry.undelete(at.target(), Some(&outer), None).await.unwrap();
        assert_eq!(report.restored, [image, inner, outer], "{report:?}");
        assert!(report.skipped.is_empty(), "{report:?}");
    }
}

#[tokio::test]
async fn an_undelete_keeps_to_the_quota_of_tags() {
    let house = House::with(|options| options.quotas.tags_per_image = 2).await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let digest = house.push(&at, "one", Some("a")).await;
    house.push(&at, "one", Some("b")).await;
    house.registry.delete_images(&at, &[by_digest(&digest)]).await.unwrap();
    house.push(&at, "one", Some("c")).await;
    let report = house.registry.undelete(at.target(), Some(&digest), None).await.unwrap();
    assert_eq!(report.tags, ["a".parse().unwrap()]);
    assert!(house.registry.list_tags(&at, None, 9).await.unwrap().names.iter().eq(["a", "c"]));
}
