//! Sparse manifests: what they name and nobody has pushed is waited for, and belongs to them once it comes.
#![allow(clippy::unwrap_used)]

mod house;

use std::time::Duration;

use house::{House, body, image_of, index_of};
use wharf_registry::{Authorized, CollectReport, ImageFailureCode, ImageId, MountOutcome, RegistryError};
use wharf_types::{Digest, Manifest, Mutability, Reference, RepositoryRef};

type At = Authorized<RepositoryRef>;

/// A registry that takes sparse manifests and collects at once, with one repository.
async fn sparse_house() -> (House, At) {
    let house = House::with(|options| {
        options.sparse_manifests = true;
        options.unreferenced_grace = Duration::ZERO;
    })
    .await;
    let at = house.create("team/app", Mutability::Mutable).await;
    (house, at)
}

fn config() -> Digest {
    Digest::sha256(b"config")
}

fn layer() -> Digest {
    Digest::sha256(b"layer")
}

/// An image of which nothing has been pushed.
fn bare_image() -> Manifest {
    image_of(config(), &[layer()], None)
}

fn by_digest(digest: Digest) -> ImageId {
    ImageId { digest: Some(digest.to_string()), tag: None }
}

async fn delete(house: &House, at: &At, digest: Digest) -> Option<ImageFailureCode> {
    let (_, failures) = house.registry.delete_images(at, &[by_digest(digest)]).await.unwrap();
    failures.first().map(|failure| failure.code)
}

async fn collect(house: &House) -> CollectReport {
    house.clock.advance(Duration::from_secs(1));
    house.registry.collect(&()).await.unwrap()
}

/// References that are waited for, and edges to blobs and to manifests.
async fn references(house: &House) -> [u64; 3] {
    house
        .meta
        .read(|tx| {
            let mut count = |sql| tx.query_one(sql, &[], |row| row.get::<u64>(0));
            Ok::<_, wharf_store::meta::MetaError>([
                count("SELECT count(*) FROM missing_references")?,
                count("SELECT count(*) FROM manifest_blobs")?,
                count("SELECT count(*) FROM manifest_children")?,
            ])
        })
        .await
        .unwrap()
}

async fn assert_clean(house: &House) {
    let report = house.registry.scrub(&()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn unless_told_otherwise_they_are_refused() {
    let house = House::new().await;
    let at = house.create("team/app", Mutability::Mutable).await;
    let refused = house.put(&at, bare_image(), Some("v1")).await;
    assert!(matches!(refused, Err(RegistryError::LayersNotFound(_, missing)) if missing.len() == 2));
    let refused = house.put(&at, index_of(&[layer()]), Some("all")).await;
    assert!(
        matches!(refused, Err(RegistryError::ReferencedImagesNotFound(_, missing)) if missing == [layer()])
    );
    assert_eq!(references(&house).await, [0, 0, 0]);
}

#[tokio::test]
async fn they_are_pulled_without_what_is_missing() {
    let (house, at) = sparse_house().await;
    house.blob(&at, b"config").await;
    let digest = house.put(&at, bare_image(), Some("v1")).await.unwrap().digest;
    let child = house.push(&at, "one platform", None).await;
    let index = house.put(&at, index_of(&[digest, child, layer()]), Some("all")).await.unwrap();
    assert!(index.changed);
    assert_eq!(references(&house).await, [2, 3, 2]);
    let again = house.put(&at, bare_image(), Some("v1")).await.unwrap();
    assert!(!again.changed, "the same once more");
    let tag = Reference::Tag("v1".parse().unwrap());
    assert_eq!(house.registry.get_manifest(&at, &tag, &[]).await.unwrap().digest, digest);
    assert!(house.registry.stat_blob(&at, &config()).await.is_ok());
    assert!(matches!(house.registry.stat_blob(&at, &layer()).await, Err(RegistryError::BlobUnknown(_))));
    assert!(matches!(house.registry.open_blob(&at, &layer()).await, Err(RegistryError::BlobUnknown(_))));
    assert_clean(&house).await;
}

#[tokio::test]
async fn a_blob_that_comes_later_belongs_to_all_that_waited_for_it() {
    let (house, at) = sparse_house().await;
    let first = house.put(&at, bare_image(), Some("v1")).await.unwrap().digest;
    let other = image_of(config(), &[Digest::sha256(b"never pushed"), layer()], None);
    let second = house.put(&at, other, Some("v2")).await.unwrap().digest;
    house.blob(&at, b"layer").await;
    let unrelated = house.blob(&at, b"unrelated").await;
    assert_eq!(references(&house).await, [3, 2, 0]);
    let report = collect(&house).await;
    assert_eq!((report.links_dropped, report.blobs_trashed), (1, 1), "the unrelated one");
    assert!(house.registry.stat_blob(&at, &unrelated).await.is_err());
    assert!(house.registry.stat_blob(&at, &layer()).await.is_ok());
    let refused = house.registry.delete_blob(&at, &layer()).await;
    assert!(matches!(refused, Err(RegistryError::Unsupported(_))), "{refused:?}");
    assert_clean(&house).await;
    assert_eq!(delete(&house, &at, first).await, None);
    assert_eq!(collect(&house).await.links_dropped, 0, "the second image names it too");
    assert_eq!(delete(&house, &at, second).await, None);
    assert_eq!(collect(&house).await.links_dropped, 1);
    assert_clean(&house).await;
}

#[tokio::test]
async fn a_blob_may_come_by_an_upload_or_a_mount_and_only_to_its_repository() {
    let (house, at) = sparse_house().await;
    let source = house.create("team/base", Mutability::Mutable).await;
    house.put(&at, bare_image(), Some("v1")).await.unwrap();
    house.push(&source, "keeps nothing of it", None).await;
    house.blob(&source, b"layer").await;
    assert_eq!(references(&house).await, [2, 2, 0], "another repository's blob is not ours");
    let mounted = house.registry.mount_blob(&at, &layer(), Some(&source)).await.unwrap();
    assert!(matches!(mounted, MountOutcome::Mounted(info) if !info.already_existed));
    assert_eq!(references(&house).await, [1, 3, 0]);
    let started = house.registry.start_upload(&at).await.unwrap();
    house.registry.finish_upload(&at, started.id, &[config()], None, Some(body(b"config"))).await.unwrap();
    assert_eq!(references(&house).await, [0, 4, 0]);
    assert_eq!(collect(&house).await.links_dropped, 1, "the source's link");
    assert!(house.registry.stat_blob(&at, &layer()).await.is_ok());
    assert!(house.registry.stat_blob(&at, &config()).await.is_ok());
    assert_clean(&house).await;
}

#[tokio::test]
async fn a_child_that_comes_later_is_held_by_its_index() {
    let (house, at) = sparse_house().await;
    let manifest = house.image(&at, "child", None).await;
    let child = manifest.digest(wharf_types::DigestAlgorithm::Sha256);
    let index = house.put(&at, index_of(&[child, layer()]), Some("all")).await.unwrap().digest;
    assert_eq!(references(&house).await, [2, 0, 0]);
    house.put(&at, manifest.clone(), None).await.unwrap();
    assert_eq!(references(&house).await, [1, 2, 1]);
    assert_eq!(delete(&house, &at, child).await, Some(ImageFailureCode::ImageReferencedByManifestList));
    let size: i64 = house
        .meta
        .read(move |tx| {
            let text = index.to_string();
            let sql = "SELECT content_size FROM manifests WHERE digest = $1";
            tx.query_one(sql, &[&text], |row| row.get(0)).map_err(|error: wharf_store::meta::MetaError| error)
        })
        .await
        .unwrap();
    assert_eq!(size, i64::try_from(manifest.content_size()).unwrap(), "as large as its largest child");
    assert_clean(&house).await;
    assert_eq!(delete(&house, &at, index).await, None);
    assert_eq!(delete(&house, &at, child).await, None);
    assert_eq!(references(&house).await, [0, 0, 0]);
}

#[tokio::test]
async fn deletion_leaves_nothing_that_waits() {
    let (house, at) = sparse_house().await;
    let image = house.put(&at, bare_image(), Some("v1")).await.unwrap().digest;
    let index = house.put(&at, index_of(&[image, layer()]), Some("all")).await.unwrap().digest;
    assert_eq!(references(&house).await, [3, 0, 1]);
    assert_eq!(delete(&house, &at, index).await, None);
    assert_eq!(delete(&house, &at, image).await, None);
    assert_eq!(references(&house).await, [0, 0, 0]);
    house.blob(&at, b"layer").await;
    assert_eq!(collect(&house).await.blobs_trashed, 1, "nobody waits for it any more");

    house.put(&at, bare_image(), Some("v1")).await.unwrap();
    house.registry.delete_repository(&at, true).await.unwrap();
    collect(&house).await;
    assert_eq!(references(&house).await, [0, 0, 0]);
    assert_clean(&house).await;
}

#[tokio::test]
async fn what_is_undeleted_waits_again_for_what_is_still_missing() {
    let (mut house, at) = sparse_house().await;
    house.blob(&at, b"layer").await;
    let missing = Digest::sha256(b"platform");
    let image = house.put(&at, bare_image(), Some("v1")).await.unwrap().digest;
    let late = house.image(&at, "late", None).await;
    let child = late.digest(wharf_types::DigestAlgorithm::Sha256);
    let index = house.put(&at, index_of(&[image, child, missing]), Some("all")).await.unwrap().digest;
    let before = references(&house).await;
    assert_eq!(before, [3, 1, 1]);
    for digest in [index, image] {
        assert_eq!(delete(&house, &at, digest).await, None);
    }
    // While they were deleted: the layer went to the trash, the configuration and a child came.
    collect(&house).await;
    house.blob(&at, b"config of late").await;
    house.blob(&at, b"layer of late").await;
    house.put(&at, late, Some("late")).await.unwrap();
    house.restart().await;
    let at = house.at("team/app");
    let report = house.registry.undelete(at.target(), Some(&index), None).await.unwrap();
    assert_eq!((report.restored, report.skipped), (vec![image, index], Vec::new()));
    assert_eq!(references(&house).await, [2, 3, 2], "a configuration and a platform are missing");
    assert_eq!(delete(&house, &at, child).await, Some(ImageFailureCode::ImageReferencedByManifestList));
    house.blob(&at, b"config").await;
    assert_eq!(references(&house).await, [1, 4, 2]);
    assert_eq!(collect(&house).await.links_dropped, 0);
    for digest in [config(), layer()] {
        assert!(house.registry.stat_blob(&at, &digest).await.is_ok());
    }
    assert_clean(&house).await;
}

#[tokio::test]
async fn who_waited_gets_a_blob_that_comes_back_with_an_undeleted_image() {
    let (house, at) = sparse_house().await;
    let whole = house.push(&at, "whole", None).await;
    assert_eq!(delete(&house, &at, whole).await, None);
    assert_eq!(collect(&house).await.blobs_trashed, 2);
    let sparse = image_of(config(), &[Digest::sha256(b"layer of whole")], None);
    house.put(&at, sparse, Some("v1")).await.unwrap();
    let index = house.put(&at, index_of(&[whole]), Some("all")).await.unwrap().digest;
    assert_eq!(references(&house).await, [3, 0, 0]);
    let report = house.registry.undelete(at.target(), Some(&whole), None).await.unwrap();
    assert_eq!((report.restored, report.skipped), (vec![whole], Vec::new()));
    assert_eq!(references(&house).await, [1, 3, 1]);
    assert_eq!(delete(&house, &at, index).await, None);
    assert_eq!(delete(&house, &at, whole).await, None);
    assert_eq!(collect(&house).await.links_dropped, 1, "its configuration; the sparse image has the layer");
    assert_clean(&house).await;
}
