//! The second store: content that only archived images need goes there byte for byte, and comes back.
#![allow(clippy::unwrap_used)]

mod depot;

use std::time::Duration;

use depot::{At, Depot, content};
use wharf_registry::{
    EncryptionType, ImageId, ImageStatus, NewKey, NewRepository, RegistryError, StorageClass,
};
use wharf_store::meta::{MetaError, events};
use wharf_store::object::testing::Fault;
use wharf_types::{Digest, Mutability};

/// More than lies in the metadata, and more than one segment.
const LARGE: usize = 300_000;
/// After this a job that failed is tried again, and the lease of one whose holder was lost has run out.
const RETRY: Duration = Duration::from_secs(61);

fn tag(tag: &str) -> ImageId {
    ImageId { digest: None, tag: Some(tag.to_owned()) }
}

async fn change(depot: &Depot, at: &At, name: &str, class: StorageClass) {
    depot.registry.update_image_storage_class(at, &tag(name), class).await.unwrap();
}

async fn status(depot: &Depot, at: &At, name: &str) -> ImageStatus {
    depot.registry.describe_images_by_id(at, &[tag(name)]).await.unwrap()[0].status
}

/// Bytes of the files of a store, each with its name.
fn stored(depot: &Depot, store: &str) -> Vec<(String, Vec<u8>)> {
    let files = depot.files_in(store).into_iter();
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

fn counts(depot: &Depot) -> (usize, usize) {
    (depot.files_in("objects").len(), depot.files_in("archive").len())
}

async fn work(depot: &Depot) -> u64 {
    depot.registry.run_due_jobs().await.unwrap()
}

/// A repository with two images, of which the first has a large layer of its own.
async fn two_images(depot: &Depot) -> (At, Digest, Digest) {
    let at = depot.create("team/app").await;
    let (own, shared) = (depot.put(&at, &content(1, LARGE)).await, depot.put(&at, &content(2, LARGE)).await);
    depot.image(&at, &[own, shared], "old").await.unwrap();
    depot.image(&at, &[shared], "new").await.unwrap();
    (at, own, shared)
}

#[tokio::test]
async fn content_moves_byte_for_byte_and_comes_back() {
    for encryption in [EncryptionType::Aes256, EncryptionType::KmsDsse] {
        for encrypt in [true, false] {
            let mut depot = Depot::with_archive(|options| options.encrypt = encrypt).await;
            let at = depot.create_with("team/app", encryption).await;
            let (own, shared) =
                (depot.put(&at, &content(1, LARGE)).await, depot.put(&at, &content(2, LARGE)).await);
            depot.image(&at, &[own, shared], "old").await.unwrap();
            depot.image(&at, &[shared], "new").await.unwrap();
            let (before, object) = (stored(&depot, "objects"), depot.object_of(&own).await);
            let original = &before.iter().find(|(name, _)| *name == object.to_string()).unwrap().1;

            change(&depot, &at, "old", StorageClass::Archive).await;
            assert_eq!(work(&depot).await, 1);
            let moved = stored(&depot, "archive");
            assert_eq!(moved.len(), 1, "what is shared stays");
            assert_eq!(moved[0].0, depot.object_of(&own).await.to_string());
            assert_ne!(moved[0].0, object.to_string(), "names are never used again");
            assert!(moved[0].1 == *original);
            assert_eq!(depot.registry.collect(&()).await.unwrap().objects_deleted, 1);
            assert_eq!(counts(&depot), (1, 1));
            depot.assert_clean().await;
            // Keys are wrapped again wherever the content is.
            depot.registry.rotate_key_ring(&()).await.unwrap();
            depot.restart().await;
            assert!(matches!(depot.read(&at, &own).await, Err(RegistryError::BlobUnknown(_))));

            change(&depot, &at, "old", StorageClass::Standard).await;
            assert_eq!(work(&depot).await, 1);
            assert_eq!(status(&depot, &at, "old").await, ImageStatus::Active);
            assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
            depot.registry.collect(&()).await.unwrap();
            assert_eq!((counts(&depot), work(&depot).await), ((2, 0), 0));
            assert!(stored(&depot, "objects").iter().any(|(_, bytes)| bytes == original));
            depot.assert_clean().await;
        }
    }
}

#[tokio::test]
async fn a_push_onto_archived_content_can_be_pulled_at_once() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(counts(&depot), (1, 1));
    // The client is told that the layer is there, and names it.
    assert!(depot.registry.stat_blob(&at, &own).await.unwrap().already_existed);
    depot.image(&at, &[own], "third").await.unwrap();
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE), "from where it is");
    assert_eq!(work(&depot).await, 1);
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(counts(&depot), (2, 0));
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
    assert_eq!(status(&depot, &at, "old").await, ImageStatus::Archived);
    depot.assert_clean().await;
}

#[tokio::test]
async fn content_that_is_uploaded_again_needs_no_way_back() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    let other = depot.create("team/other").await;
    assert_eq!(depot.put(&other, &content(1, LARGE)).await, own);
    depot.image(&other, &[own], "mine").await.unwrap();
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(counts(&depot), (2, 0));
    assert!(depot.read(&other, &own).await.unwrap() == content(1, LARGE));
    assert!(matches!(depot.read(&at, &own).await, Err(RegistryError::BlobUnknown(_))));
    // When that image goes, its content goes back, once its grace is over.
    depot.registry.delete_images(&other, &[tag("mine")]).await.unwrap();
    depot.registry.collect(&()).await.unwrap();
    work(&depot).await;
    assert_eq!(depot.files_in("archive").len(), 0);
    depot.clock.advance(Duration::from_secs(25 * 3600));
    for _ in 0..2 {
        depot.registry.collect(&()).await.unwrap();
        work(&depot).await;
    }
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(counts(&depot), (1, 1));
    depot.assert_clean().await;
}

#[tokio::test]
async fn content_follows_to_the_archive_when_the_last_active_image_that_shares_it_is_deleted() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, _, shared) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    depot.registry.delete_images(&at, &[tag("new")]).await.unwrap();
    assert_eq!(work(&depot).await, 1, "not at the daily round only");
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(counts(&depot), (0, 2));
    change(&depot, &at, "old", StorageClass::Standard).await;
    work(&depot).await;
    assert!(depot.read(&at, &shared).await.unwrap() == content(2, LARGE));
    depot.assert_clean().await;
}

#[tokio::test]
async fn images_archived_without_a_second_store_go_there_when_it_is_there() {
    let mut depot = Depot::new().await;
    let (at, own, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    assert_eq!(work(&depot).await, 0);
    depot.archive_faults = Some(wharf_store::object::testing::Faults::none());
    depot.restart().await;
    depot.registry.collect(&()).await.unwrap();
    assert_eq!(work(&depot).await, 1);
    assert_eq!(depot.files_in("archive").len(), 1);

    // From then on it must be there, and be the one.
    depot.registry.close().await;
    let given = depot.archive_faults.take();
    let missing = depot.reopen().await.err().unwrap().to_string();
    assert!(missing.contains("say where, with the setting `archive`"), "{missing}");
    depot.archive_faults = given;
    let (archive, aside) = (depot.dir.path().join("archive"), depot.dir.path().join("aside"));
    std::fs::rename(&archive, &aside).unwrap();
    let unmounted = depot.reopen().await.err().unwrap().to_string();
    assert!(unmounted.contains("the archive belongs to deployment None"), "{unmounted}");
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();
    (depot.registry, depot.meta) = depot.reopen().await.unwrap();
    change(&depot, &at, "old", StorageClass::Standard).await;
    work(&depot).await;
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));

    let stranger = Depot::with_archive(|_| ()).await;
    stranger.registry.close().await;
    std::fs::remove_dir_all(stranger.dir.path().join("archive")).unwrap();
    std::fs::rename(archive, stranger.dir.path().join("archive")).unwrap();
    let foreign = stranger.reopen().await.err().unwrap().to_string();
    assert!(foreign.contains("the archive belongs to deployment Some"), "{foreign}");
}

/// Moves content there and back, and has every call of either store fail once.
async fn fail_every_call(fault: Fault) {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    let archive = depot.archive_faults.clone().unwrap();
    let mut met = 0;
    for faults in [&depot.faults, &archive] {
        for (class, end) in
            [(StorageClass::Archive, ImageStatus::Archived), (StorageClass::Standard, ImageStatus::Active)]
        {
            for nth in 0.. {
                assert!(nth < 50, "a move makes fewer calls");
                let back = match class {
                    StorageClass::Archive => StorageClass::Standard,
                    StorageClass::Standard => StorageClass::Archive,
                };
                if status(&depot, &at, "old").await == end {
                    change(&depot, &at, "old", back).await;
                    work(&depot).await;
                }
                depot.registry.collect(&()).await.unwrap();
                let (before, injected) = (counts(&depot), faults.injected());
                faults.fail_nth(faults.total() + nth, fault);
                change(&depot, &at, "old", class).await;
                // An error while what was left is swept ends the run; the job is there all the same.
                let _ = depot.registry.run_due_jobs().await;
                faults.heal();
                let struck = faults.injected() > injected;
                met += u64::from(struck);
                depot.assert_clean().await;
                depot.clock.advance(RETRY);
                work(&depot).await;
                assert_eq!(status(&depot, &at, "old").await, end, "{fault:?} {class:?} {nth}");
                // Past the lease of a copy that was given up without being told.
                depot.clock.advance(Duration::from_secs(601));
                depot.registry.collect(&()).await.unwrap();
                work(&depot).await;
                depot.registry.collect(&()).await.unwrap();
                let moved = if class == StorageClass::Archive { (1, 1) } else { (2, 0) };
                assert_eq!(counts(&depot), moved, "{fault:?} {class:?} {nth}, from {before:?}");
                depot.assert_clean().await;
                if !struck {
                    break;
                }
            }
        }
    }
    assert!(met > 10, "{met} faults were met");
    if status(&depot, &at, "old").await == ImageStatus::Archived {
        change(&depot, &at, "old", StorageClass::Standard).await;
        work(&depot).await;
    }
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
}

#[tokio::test]
async fn a_call_of_either_store_that_fails_loses_nothing() {
    fail_every_call(Fault::Error).await;
}

#[tokio::test]
async fn a_call_of_either_store_that_does_half_loses_nothing() {
    fail_every_call(Fault::Short).await;
}

#[tokio::test]
async fn a_call_of_either_store_whose_answer_is_lost_loses_nothing() {
    fail_every_call(Fault::ErrorAfterEffect).await;
}

#[tokio::test]
async fn a_move_whose_process_died_is_taken_over() {
    for call in ["create", "append", "finish"] {
        let depot = Depot::with_archive(|_| ()).await;
        let (at, own, _) = two_images(&depot).await;
        let archive = depot.archive_faults.clone().unwrap();
        archive.fail_nth_of(call, 0, Fault::Slow(Duration::from_secs(3600)));
        change(&depot, &at, "old", StorageClass::Archive).await;
        let registry = depot.registry.clone();
        let dying = tokio::spawn(async move { registry.run_due_jobs().await });
        depot.settled(async |_| archive.calls().contains_key(call)).await;
        dying.abort();
        assert!(dying.await.unwrap_err().is_cancelled());
        assert_eq!((work(&depot).await, depot.objects("writing").await), (0, 1), "its lease holds");
        depot.clock.advance(RETRY);
        assert_eq!(work(&depot).await, 1);
        depot.clock.advance(Duration::from_secs(601));
        depot.registry.collect(&()).await.unwrap();
        assert_eq!((counts(&depot), depot.objects("writing").await), ((1, 1), 0));
        depot.assert_clean().await;
        change(&depot, &at, "old", StorageClass::Standard).await;
        work(&depot).await;
        assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
    }
}

#[tokio::test]
async fn content_that_is_needed_again_while_it_moves_stays() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    let archive = depot.archive_faults.clone().unwrap();
    archive.fail_nth_of("finish", 0, Fault::Slow(Duration::from_millis(300)));
    change(&depot, &at, "old", StorageClass::Archive).await;
    let (registry, object) = (depot.registry.clone(), depot.object_of(&own).await);
    let moving = tokio::spawn(async move { registry.run_due_jobs().await });
    depot.settled(async |_| archive.calls().contains_key("finish")).await;
    depot.image(&at, &[own], "third").await.unwrap();
    moving.await.unwrap().unwrap();
    assert_eq!(depot.object_of(&own).await, object);
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
    depot.registry.collect(&()).await.unwrap();
    work(&depot).await;
    assert_eq!(counts(&depot), (2, 0));
    depot.assert_clean().await;
}

#[tokio::test]
async fn content_under_a_key_that_is_disabled_moves_when_the_key_is_enabled_again() {
    let depot = Depot::with_archive(|_| ()).await;
    let (here, registry) = (depot.here(), &depot.registry);
    let new = NewKey { description: String::new(), policy: None, tags: Vec::new() };
    let key = registry.kms_create_key(&here, new).await.unwrap().arn;
    let at = depot.at("team/own");
    let new = NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::KmsDsse,
        kms_key: Some(key.clone()),
        tags: Vec::new(),
    };
    registry.create_repository(&at, new).await.unwrap();
    let own = depot.put(&at, &content(1, LARGE)).await;
    depot.image(&at, &[own], "old").await.unwrap();
    let locked = Duration::from_secs(601);
    for (class, before, after) in
        [(StorageClass::Archive, (1, 0), (0, 1)), (StorageClass::Standard, (0, 1), (1, 0))]
    {
        change(&depot, &at, "old", class).await;
        registry.kms_set_enabled(&here, &key, false).await.unwrap();
        // It comes due again, and can do as little.
        for _ in 0..2 {
            assert_eq!(work(&depot).await, 1);
            depot.clock.advance(locked);
            registry.collect(&()).await.unwrap();
            assert_eq!(counts(&depot), before, "{class:?}");
        }
        registry.kms_set_enabled(&here, &key, true).await.unwrap();
        let waits = match class {
            StorageClass::Archive => ImageStatus::Archived,
            StorageClass::Standard => ImageStatus::Activating,
        };
        assert_eq!(status(&depot, &at, "old").await, waits);
        work(&depot).await;
        registry.collect(&()).await.unwrap();
        assert_eq!(counts(&depot), after, "{class:?}");
        depot.assert_clean().await;
    }
    assert_eq!(status(&depot, &at, "old").await, ImageStatus::Active);
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
}

#[tokio::test]
async fn content_that_was_damaged_in_the_archive_does_not_come_back() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    let file = depot.files_in("archive").remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[LARGE / 2] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    change(&depot, &at, "old", StorageClass::Standard).await;
    work(&depot).await;
    assert_eq!(status(&depot, &at, "old").await, ImageStatus::Archived);
    assert_eq!(depot.objects("quarantined").await, 1);
    let noted =
        depot.meta.read(|tx| events::page(tx, 0, 100)).await.map_err(|error: MetaError| error).unwrap();
    let last: serde_json::Value = serde_json::from_str(&noted.last().unwrap().detail).unwrap();
    let details = &last["serviceEventDetails"];
    assert_eq!((&details["result"], &details["imageStatus"]), (&"FAILED".into(), &"ARCHIVED".into()));
    // Pushed again, it is whole.
    depot.put(&at, &content(1, LARGE)).await;
    change(&depot, &at, "old", StorageClass::Standard).await;
    work(&depot).await;
    assert!(depot.read(&at, &own).await.unwrap() == content(1, LARGE));
    depot.assert_clean().await;
}

#[tokio::test]
async fn a_scrub_finds_damage_in_the_archive() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, own, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    depot.assert_clean().await;
    std::fs::remove_file(depot.files_in("archive").remove(0)).unwrap();
    depot.registry.close().await;
    let depot = {
        let mut depot = depot;
        (depot.registry, depot.meta) = depot.reopen().await.unwrap();
        depot
    };
    let report = depot.registry.scrub(&()).await.unwrap();
    assert_eq!((report.missing.len(), report.damaged.len()), (1, 0));
    assert!(report.missing[0].starts_with(&own.to_string()), "{report:?}");
}

#[tokio::test]
async fn strangers_in_the_archive_are_removed_as_in_the_store() {
    let depot = Depot::with_archive(|_| ()).await;
    let (at, _, _) = two_images(&depot).await;
    change(&depot, &at, "old", StorageClass::Archive).await;
    work(&depot).await;
    let known = depot.files_in("archive").remove(0);
    let name = known.file_name().unwrap().to_str().unwrap();
    let stranger = known.with_file_name(format!(
        "{}{}",
        &name[..2],
        wharf_store::object::ObjectId::random().to_string().split_off(2)
    ));
    std::fs::write(&stranger, b"nobody knows me").unwrap();
    let first = depot.registry.collect(&()).await.unwrap();
    assert_eq!((first.unknown_objects, stranger.exists()), (1, true));
    depot.clock.advance(Duration::from_secs(3700));
    depot.registry.collect(&()).await.unwrap();
    assert!(!stranger.exists() && known.exists());
}
