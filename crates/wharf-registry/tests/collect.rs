//! What nothing refers to goes, after its time; what is reachable stays; what is damaged is not served; what was deleted
//! can come back.
#![allow(clippy::unwrap_used)]

mod depot;

use std::sync::Arc;
use std::time::Duration;

use depot::{At, Depot, body, content};
use wharf_registry::{CollectReport, EncryptionType, ImageId, RegistryError};
use wharf_store::object::testing::Fault;
use wharf_types::{Digest, Reference, Tag};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn collect(depot: &Depot) -> CollectReport {
    depot.registry.collect(&()).await.unwrap()
}

async fn delete(depot: &Depot, at: &At, digest: &Digest) {
    let id = ImageId { digest: Some(digest.to_string()), tag: None };
    let (deleted, failures) = depot.registry.delete_images(at, &[id]).await.unwrap();
    assert!(failures.is_empty() && !deleted.is_empty(), "{failures:?}");
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_a_manifest_names_stays_and_the_rest_goes_after_its_grace_and_the_trash_window() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let (kept, small, large) = (
        depot.put(&at, &content(1, 100_000)).await,
        depot.put(&at, b"small").await,
        depot.put(&at, &content(2, 200_000)).await,
    );
    let image = depot.image(&at, &[kept], "v1").await.unwrap();
    depot.clock.advance(DAY / 2);
    assert_eq!(collect(&depot).await, CollectReport::default(), "within the grace");
    depot.clock.advance(DAY);
    let report = collect(&depot).await;
    assert_eq!((report.links_dropped, report.blobs_trashed, report.objects_deleted), (2, 2, 0));
    assert!(report.bytes_trashed > 200_000);
    for gone in [&small, &large] {
        assert!(matches!(depot.read(&at, gone).await, Err(RegistryError::BlobUnknown(_))));
    }
    assert_eq!(depot.files().len(), 2, "in the trash, not gone");
    depot.clock.advance(6 * DAY);
    assert_eq!(collect(&depot).await.objects_deleted, 0);
    depot.clock.advance(2 * DAY);
    let report = collect(&depot).await;
    assert_eq!((report.objects_deleted, depot.files().len()), (2, 1));
    assert_eq!(depot.read(&at, &kept).await.unwrap(), content(1, 100_000));
    delete(&depot, &at, &image).await;
    depot.clock.advance(2 * DAY);
    assert_eq!(collect(&depot).await.blobs_trashed, 2, "its layer and its configuration");
    depot.clock.advance(8 * DAY);
    let report = collect(&depot).await;
    assert_eq!((report.objects_deleted, report.tombstones_dropped, depot.files().len()), (2, 1, 0));
    depot.assert_clean().await;
}

#[tokio::test]
async fn asking_for_a_blob_keeps_it_for_another_grace() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let (asked, checked, forgotten) =
        (depot.put(&at, b"asked").await, depot.put(&at, b"checked").await, depot.put(&at, b"no").await);
    for _ in 0..4 {
        depot.clock.advance(DAY * 3 / 4);
        depot.registry.stat_blob(&at, &asked).await.unwrap();
        let checks = depot.registry.check_layers(&at, &[checked.to_string()]).await.unwrap();
        assert!(matches!(checks[0].state, wharf_registry::LayerState::Available { size: 7, .. }));
        collect(&depot).await;
    }
    assert!(depot.registry.stat_blob(&at, &asked).await.is_ok());
    assert!(depot.registry.stat_blob(&at, &checked).await.is_ok());
    assert!(depot.registry.stat_blob_now(&at, &forgotten).is_none());
    assert!(depot.registry.stat_blob(&at, &forgotten).await.is_err());
}

#[tokio::test]
async fn a_blob_that_was_deleted_is_forgotten_at_once_and_one_in_use_is_not_deleted() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let (used, free) = (depot.put(&at, b"used").await, depot.put(&at, b"free").await);
    depot.image(&at, &[used], "v1").await.unwrap();
    assert!(matches!(depot.registry.delete_blob(&at, &used).await, Err(RegistryError::Unsupported(_))));
    assert_eq!(depot.read(&at, &free).await.unwrap(), b"free");
    assert!(depot.registry.stat_blob_now(&at, &free).unwrap().is_ok(), "it is in memory");
    depot.registry.delete_blob(&at, &free).await.unwrap();
    assert!(depot.registry.stat_blob_now(&at, &free).is_none());
    assert!(matches!(depot.read(&at, &free).await, Err(RegistryError::BlobUnknown(_))));
    assert!(matches!(depot.registry.delete_blob(&at, &free).await, Err(RegistryError::BlobUnknown(_))));
    assert_eq!(depot.read(&at, &used).await.unwrap(), b"used");
}

#[tokio::test]
async fn damage_is_quarantined_and_a_new_push_repairs_it() {
    let mut depot = Depot::new().await;
    let (at, other) = (depot.create("team/app").await, depot.create("team/other").await);
    let (one, two) = (content(1, 300_000), content(2, 300_000));
    let (first, second) = (depot.put(&at, &one).await, depot.put(&at, &two).await);
    for damage in ["flip", "cut", "swap", "remove"] {
        depot.registry.put_blob(&other, first, body(&one)).await.unwrap();
        let object = depot.object_of(&first).await;
        let (file, foreign) = (depot.file_of(object), depot.file_of(depot.object_of(&second).await));
        let mut bytes = std::fs::read(&file).unwrap();
        match damage {
            "flip" => bytes[200_000] ^= 1,
            "cut" => bytes.truncate(250_000),
            "swap" => bytes = std::fs::read(foreign).unwrap(),
            _ => {}
        }
        match damage {
            "remove" => std::fs::remove_file(&file).unwrap(),
            _ => std::fs::write(&file, bytes).unwrap(),
        }
        // Some damage is met through an open handle, some when the file is opened again.
        if matches!(damage, "cut" | "remove") {
            depot.restart().await;
        }
        let refused = depot.read(&at, &first).await;
        assert!(matches!(refused, Err(RegistryError::Damaged(_))), "{damage}: {refused:?}");
        for at in [&at, &other] {
            assert!(matches!(depot.read(at, &first).await, Err(RegistryError::Damaged(_))), "{damage}");
            assert!(matches!(depot.registry.stat_blob(at, &first).await, Err(RegistryError::BlobUnknown(_))));
        }
        assert_eq!(depot.objects("quarantined").await, 1);
        assert_eq!(depot.read(&at, &second).await.unwrap(), two);
        depot.registry.put_blob(&at, first, body(&one)).await.unwrap();
        for at in [&at, &other] {
            assert_eq!(depot.read(at, &first).await.unwrap(), one, "{damage}");
        }
        assert_ne!(depot.object_of(&first).await, object);
        depot.assert_clean().await;
    }
    depot.clock.advance(8 * DAY);
    depot.registry.stat_blob(&at, &first).await.unwrap();
    collect(&depot).await;
    assert_eq!(depot.objects("quarantined").await, 0);
}

#[tokio::test]
async fn a_scrub_finds_damage_that_nobody_has_read() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let (large, small) = (depot.put(&at, &content(1, 300_000)).await, depot.put(&at, b"small").await);
    depot.image(&at, &[large, small], "v1").await.unwrap();
    depot.assert_clean().await;
    let file = depot.file_of(depot.object_of(&large).await);
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    depot
        .meta
        .write(|tx| {
            tx.execute("UPDATE objects SET content = keys WHERE inline AND size = 5", &[])?;
            tx.execute("UPDATE manifests SET content = keys", &[])
        })
        .await
        .map_err(|error: wharf_store::meta::MetaError| error)
        .unwrap();
    let report = depot.registry.scrub(&()).await.unwrap();
    assert_eq!((report.damaged.len(), report.objects, report.manifests), (3, 3, 1), "{report:?}");
    assert!(report.contradictions.is_empty());
    depot.put(&at, &content(1, 300_000)).await;
    depot.put(&at, b"small").await;
    let report = depot.registry.scrub(&()).await.unwrap();
    assert_eq!(report.damaged.len(), 1, "only the manifest: {report:?}");
}

#[tokio::test]
async fn a_disabled_key_stops_reads_at_once_also_from_memory() {
    let depot = Depot::new().await;
    let at = depot.create_with("team/kms", EncryptionType::Kms).await;
    let (small, large) = (depot.put(&at, b"small").await, depot.put(&at, &content(1, 200_000)).await);
    depot.read(&at, &small).await.unwrap();
    let key = depot.registry.repository(&at).await.unwrap().domain.encryption.kms_key().unwrap().to_owned();
    depot.registry.kms_set_enabled(&depot.here(), &key, false).await.unwrap_err();
    // AWS's own key cannot be disabled; one of ours can.
    let new = wharf_registry::NewKey { description: String::new(), policy: None, tags: Vec::new() };
    let own = depot.registry.kms_create_key(&depot.here(), new).await.unwrap();
    let at = depot.at("team/own");
    let new = wharf_registry::NewRepository {
        mutability: wharf_types::Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::KmsDsse,
        kms_key: Some(own.arn.clone()),
        tags: Vec::new(),
    };
    depot.registry.create_repository(&at, new).await.unwrap();
    for bytes in [b"small".to_vec(), content(1, 200_000)] {
        let digest = depot.put(&at, &bytes).await;
        assert_eq!(depot.read(&at, &digest).await.unwrap(), bytes);
        depot.registry.kms_set_enabled(&depot.here(), &own.arn, false).await.unwrap();
        for refused in [
            depot.read(&at, &digest).await.map(drop),
            depot.registry.stat_blob(&at, &digest).await.map(drop),
            depot.registry.stat_blob_now(&at, &digest).unwrap().map(drop),
            depot.registry.put_blob(&at, digest, body(&bytes)).await.map(drop),
            depot.registry.start_upload(&at).await.map(drop),
        ] {
            assert!(
                matches!(refused, Err(RegistryError::Kms { code: "DisabledException", .. })),
                "{refused:?}"
            );
        }
        let locked = depot.registry.scrub(&()).await.unwrap();
        assert!(locked.is_clean() && locked.locked > 0);
        depot.registry.kms_set_enabled(&depot.here(), &own.arn, true).await.unwrap();
        assert_eq!(depot.read(&at, &digest).await.unwrap(), bytes);
    }
    let _ = large;
}

#[tokio::test]
async fn a_key_nobody_named_is_removed_only_after_an_hour_and_never_from_a_foreign_store() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    depot.put(&at, &content(1, 100_000)).await;
    let known = depot.files().pop().unwrap();
    let mut name = known.file_name().unwrap().to_str().unwrap().to_owned();
    let last = if name.pop() == Some('0') { '1' } else { '0' };
    name.push(last);
    let stray = known.with_file_name(name);
    std::fs::write(&stray, b"stray").unwrap();
    let report = collect(&depot).await;
    assert_eq!((report.unknown_objects, report.objects_deleted), (1, 0));
    depot.clock.advance(Duration::from_secs(1800));
    assert_eq!(collect(&depot).await.objects_deleted, 0);
    let marker = depot.dir.path().join("objects/deployment");
    let own = std::fs::read(&marker).unwrap();
    std::fs::write(&marker, "another\n").unwrap();
    depot.clock.advance(Duration::from_secs(3600));
    depot.registry.collect(&()).await.unwrap_err();
    assert!(stray.exists());
    std::fs::write(&marker, own).unwrap();
    assert_eq!(collect(&depot).await.objects_deleted, 1);
    assert!(!stray.exists() && known.exists());
    assert_eq!(collect(&depot).await.unknown_objects, 0);
}

#[tokio::test]
async fn a_removal_that_fails_is_taken_up_again() {
    let depot = Depot::with(|options| options.trash_window = Duration::ZERO).await;
    let at = depot.create("team/app").await;
    depot.put(&at, &content(1, 100_000)).await;
    depot.clock.advance(2 * DAY);
    depot.faults.fail_nth_of(
        "delete",
        depot.faults.calls().get("delete").copied().unwrap_or(0),
        Fault::Error,
    );
    depot.registry.collect(&()).await.unwrap_err();
    assert_eq!((depot.objects("deleting").await, depot.files().len()), (1, 1));
    depot.put(&at, &content(1, 100_000)).await;
    assert_eq!(collect(&depot).await.objects_deleted, 1);
    assert_eq!((depot.objects("deleting").await, depot.files().len()), (0, 1), "the new copy stays");
    depot.assert_clean().await;
}

#[tokio::test]
async fn a_deleted_image_comes_back_whole_while_it_is_in_the_trash() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let layer = depot.put(&at, &content(1, 200_000)).await;
    let shared = depot.put(&at, b"shared").await;
    let child = depot.image(&at, &[layer, shared], "child").await.unwrap();
    let index = depot.index(&at, &[child], "v1").await;
    delete(&depot, &at, &index).await;
    delete(&depot, &at, &child).await;
    depot.clock.advance(2 * DAY);
    assert_eq!(collect(&depot).await.blobs_trashed, 3);
    // One blob is pushed again meanwhile, and one tag is somebody else's now.
    depot.put(&at, b"shared").await;
    let newer = depot.image(&at, &[], "child").await.unwrap();
    let report = depot.registry.undelete(at.target(), None, Some(&tag("v1"))).await.unwrap();
    assert_eq!((report.restored, report.tags), (vec![child, index], vec![tag("v1")]), "{:?}", report.skipped);
    assert_eq!(depot.read(&at, &layer).await.unwrap(), content(1, 200_000));
    let by_tag = |text: &str| Reference::Tag(tag(text));
    assert_eq!(depot.registry.get_manifest(&at, &by_tag("v1"), &[]).await.unwrap().digest, index);
    assert_eq!(depot.registry.get_manifest(&at, &by_tag("child"), &[]).await.unwrap().digest, newer);
    depot.clock.advance(30 * DAY);
    collect(&depot).await;
    assert_eq!(depot.read(&at, &layer).await.unwrap(), content(1, 200_000), "its edges are back too");
    depot.assert_clean().await;
    // Deleted again, and this time too late.
    delete(&depot, &at, &index).await;
    delete(&depot, &at, &child).await;
    depot.clock.advance(2 * DAY);
    collect(&depot).await;
    depot.clock.advance(6 * DAY);
    depot
        .meta
        .write(|tx| tx.execute("UPDATE objects SET trashed_at = 1 WHERE state = 'trashed'", &[]))
        .await
        .map_err(|error: wharf_store::meta::MetaError| error)
        .unwrap();
    depot
        .meta
        .write(|tx| tx.execute("UPDATE deleted_manifests SET deleted_at = deleted_at + 86400000000 * 9", &[]))
        .await
        .map_err(|error: wharf_store::meta::MetaError| error)
        .unwrap();
    collect(&depot).await;
    let report = depot.registry.undelete(at.target(), Some(&index), None).await.unwrap();
    assert!(report.restored.is_empty() && report.skipped.len() == 2, "{report:?}");
    assert!(report.skipped[0].1.ends_with("is gone"), "{report:?}");
    let unknown = depot.registry.undelete(at.target(), Some(&Digest::sha256(b"?")), None).await.unwrap();
    assert_eq!(unknown.skipped.len(), 1);
    depot.assert_clean().await;
}

#[tokio::test]
async fn a_deleted_repository_lets_go_of_its_blobs_and_uploads() {
    let depot = Depot::new().await;
    let (at, other) = (depot.create("team/app").await, depot.create("team/other").await);
    let (own, shared) = (depot.put(&at, &content(1, 100_000)).await, depot.put(&at, b"shared").await);
    depot.put(&other, b"shared").await;
    depot.image(&at, &[own, shared], "v1").await.unwrap();
    let id = depot.registry.start_upload(&at).await.unwrap().id;
    depot.registry.append_upload(&at, id, None, body(&content(2, 100_000))).await.unwrap();
    depot.registry.delete_repository(&at, true).await.unwrap();
    assert!(matches!(depot.read(&at, &own).await, Err(RegistryError::RepositoryNotFound(_))));
    collect(&depot).await;
    assert_eq!(depot.uploads().await, 0);
    assert_eq!(depot.read(&other, &shared).await.unwrap(), b"shared");
    let at = depot.create("team/app").await;
    assert!(matches!(depot.read(&at, &own).await, Err(RegistryError::BlobUnknown(_))));
    let report = depot.registry.undelete(at.target(), None, None).await.unwrap();
    assert_eq!(report.restored.len(), 1, "{report:?}");
    assert_eq!(depot.read(&at, &own).await.unwrap(), content(1, 100_000));
    depot.assert_clean().await;
}

/// Push, mount, delete and re-push of the same few blobs while the collector runs all the time without any grace: an
/// image that was accepted has all its content, every time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collection_never_takes_what_an_image_names() {
    let depot = Arc::new(
        Depot::with(|options| {
            options.unreferenced_grace = Duration::ZERO;
            options.trash_window = Duration::ZERO;
        })
        .await,
    );
    let names = ["team/one", "team/two"];
    for name in names {
        depot.create(name).await;
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let collector = tokio::spawn({
        let (depot, stop) = (Arc::clone(&depot), Arc::clone(&stop));
        async move {
            let mut total = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let report = collect(&depot).await;
                total += report.blobs_trashed;
            }
            total
        }
    });
    let mut clients = Vec::new();
    for client in 0..4_u64 {
        let depot = Arc::clone(&depot);
        clients.push(tokio::spawn(async move {
            let mut accepted = 0;
            for round in 0..40 {
                let at = depot.at(names[(client + round) as usize % 2]);
                let other = depot.at(names[(client + round + 1) as usize % 2]);
                // A small one and a large one, each wanted by several clients at once.
                let blobs = [content(round % 3, 500), content(round % 2, 70_000)];
                for bytes in &blobs {
                    let digest = Digest::sha256(bytes);
                    depot.registry.mount_blob(&at, &digest, Some(&other)).await.unwrap();
                    depot.registry.put_blob(&at, digest, body(bytes)).await.unwrap();
                }
                let digests: Vec<Digest> = blobs.iter().map(|bytes| Digest::sha256(bytes)).collect();
                let image = match depot.image(&at, &digests, &format!("c{client}")).await {
                    Ok(image) => image,
                    Err(RegistryError::LayersNotFound(..)) => continue,
                    Err(other) => panic!("{other:?}"),
                };
                accepted += 1;
                for (bytes, digest) in blobs.iter().zip(&digests) {
                    assert_eq!(&depot.read(&at, digest).await.unwrap(), bytes);
                }
                // Others may have put the very same image; then it is theirs to delete.
                let id = ImageId { digest: Some(image.to_string()), tag: None };
                depot.registry.delete_images(&at, &[id]).await.unwrap();
            }
            accepted
        }));
    }
    let mut accepted = 0;
    for client in clients {
        accepted += client.await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let trashed = collector.await.unwrap();
    assert!(accepted > 0, "no image was ever accepted");
    assert!(trashed > 0, "the collector never had anything to do");
    collect(&depot).await;
    assert_eq!((depot.objects("live").await, depot.files().len()), (0, 0), "and everything goes in the end");
    depot.assert_clean().await;
}

/// The moment between a commit and its word to the caches: another request may have pushed the blob again by then.
#[tokio::test]
async fn a_blob_that_was_collected_and_pushed_again_is_read_also_past_a_stale_memory() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let digest = depot.put(&at, &content(1, 100_000)).await;
    assert!(depot.read(&at, &digest).await.is_ok(), "and now it is in memory");
    let (id, text) = (depot.registry.repository(&at).await.unwrap().id, digest.to_string());
    let unlinked = depot.meta.write(move |tx| wharf_store::meta::blobs::unlink(tx, id, &text, 1)).await;
    assert!(matches!(unlinked, Ok(wharf_store::meta::blobs::Unlinked::Dropped(_))));
    collect(&depot).await;
    assert!(depot.files().is_empty(), "the bytes are gone");
    depot.put(&at, &content(1, 100_000)).await;
    assert_eq!(depot.read(&at, &digest).await.unwrap(), content(1, 100_000));
}
