//! Backups that break off, and stores that lack what they ought to have.
#![allow(clippy::unwrap_used)]

mod depot;

use std::path::Path;

use depot::{At, Depot, content};
use wharf_registry::BackupReport;
use wharf_store::object::testing::Fault;
use wharf_types::Digest;

async fn back_up(depot: &Depot, to: &Path) -> BackupReport {
    depot.registry.back_up(to, &()).await.unwrap()
}

async fn layer(depot: &Depot, at: &At, number: u8) -> Digest {
    let layer = depot.put(at, &content(number.into(), 200_000)).await;
    depot.image(at, &[layer], &format!("v{number}")).await.unwrap();
    layer
}

#[tokio::test]
async fn a_backup_that_breaks_off_leaves_the_earlier_one_and_is_mended_by_the_next() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let first = layer(&depot, &at, 1).await;
    let to = depot.dir.path().join("backup");
    let report = back_up(&depot, &to).await;
    assert_eq!((report.objects, report.copied, report.removed), (1, 1, 0));
    assert_eq!(back_up(&depot, &to).await, BackupReport { objects: 1, ..BackupReport::default() });
    let metadata = std::fs::read(to.join("metadata.sqlite")).unwrap();

    let second = layer(&depot, &at, 2).await;
    depot.faults.fail_nth_of(
        "read_at",
        depot.faults.calls().get("read_at").copied().unwrap_or(0),
        Fault::Error,
    );
    depot.registry.back_up(&to, &()).await.unwrap_err();
    assert_eq!(depot.faults.injected(), 1, "it was the copy that failed");
    assert!(to.join("incomplete").exists());
    assert!(
        std::fs::read(to.join("metadata.sqlite")).unwrap() == metadata,
        "the earlier backup is as it was"
    );

    // A cut of power at that moment may have left a file of the right length with nothing in it.
    let source = depot.file_of(depot.object_of(&first).await);
    let copy =
        depot.files_in("backup/objects").into_iter().find(|path| path.file_name() == source.file_name());
    let copy = copy.unwrap();
    std::fs::write(&copy, vec![0; std::fs::metadata(&source).unwrap().len() as usize]).unwrap();
    depot.faults.heal();
    let report = back_up(&depot, &to).await;
    assert_eq!((report.objects, report.copied), (2, 2), "{report:?}");
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(&source).unwrap());
    assert!(!to.join("incomplete").exists());
    assert_eq!(depot.read(&at, &second).await.unwrap(), content(2, 200_000));
}

#[tokio::test]
async fn what_the_store_lacks_is_told() {
    let depot = Depot::new().await;
    let at = depot.create("team/app").await;
    let digest = layer(&depot, &at, 1).await;
    layer(&depot, &at, 2).await;
    let object = depot.object_of(&digest).await;
    std::fs::remove_file(depot.file_of(object)).unwrap();
    let mut depot = depot;
    // Files that are open stay readable.
    depot.restart().await;
    let report = back_up(&depot, &depot.dir.path().join("backup")).await;
    assert_eq!((report.objects, report.missing), (1, vec![object.to_string()]));
}

#[tokio::test]
async fn collection_waits_for_a_backup() {
    let depot = Depot::with(|options| {
        options.trash_window = std::time::Duration::ZERO;
        options.unreferenced_grace = std::time::Duration::ZERO;
    })
    .await;
    let at = depot.create("team/app").await;
    for number in 0..4 {
        depot.put(&at, &content(number, 200_000)).await;
    }
    depot.clock.advance(std::time::Duration::from_secs(60));
    let to = depot.dir.path().join("backup");
    let (backup, collected) = tokio::join!(depot.registry.back_up(&to, &()), depot.registry.collect(&()));
    assert_eq!(backup.unwrap().copied, 4, "it came first, and everything was still there");
    assert!(collected.unwrap().blobs_trashed == 4 && depot.files().is_empty());
    let report = back_up(&depot, &to).await;
    assert_eq!((report.objects, report.removed), (0, 4));
}
