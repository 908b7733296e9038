use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::object::testing::{PowerLossFs, Survival, contract};

#[tokio::test]
async fn disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::run_all(&DiskObjects::open_dir(dir.path().join("blobs")).unwrap()).await;
}

#[tokio::test]
async fn the_simulated_disk_keeps_the_contract() {
    contract::run_all(&DiskObjects::with_fs("/", Arc::new(PowerLossFs::default())).unwrap()).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::run_all(&crate::object::MemoryObjects::new()).await;
}

#[tokio::test]
async fn files_are_private_and_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let id = ObjectId::random();
    let store = DiskObjects::open_dir(dir.path()).unwrap();
    write(&store, id, &[b"bytes"]).await.unwrap();
    assert!(store.free_space().await.unwrap().unwrap() > 0);
    let text = id.to_string();
    let path = dir.path().join("objects").join(&text[..2]).join(&text);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let again = DiskObjects::open_dir(dir.path()).unwrap();
    assert_eq!(again.open(id).await.unwrap().size(), 5);
    std::fs::write(dir.path().join("layout"), "wharf objects 9\n").unwrap();
    assert!(matches!(DiskObjects::open_dir(dir.path()), Err(ObjectError::Layout(_))));
}

#[tokio::test]
async fn open_files_are_bounded_and_forgotten_with_their_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskObjects::open_dir(dir.path()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..OPEN_FILES + 20 {
        let id = ObjectId::random();
        let (_, file) = store.0.create(id).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        store.open(id).await.unwrap();
        ids.push(id);
    }
    assert_eq!(store.0.handles.len(), OPEN_FILES);
    let newest = *ids.last().unwrap();
    assert!(store.0.handles.get(newest).is_some());
    assert!(store.0.handles.get(ids[0]).is_none());

    // A reader that was being opened while its object was deleted is not kept.
    let epoch = store.0.handles.epoch();
    let racing = store.0.open(newest).unwrap();
    store.delete(newest).await.unwrap();
    store.0.handles.keep(newest, &racing, epoch);
    assert!(matches!(store.open(newest).await.map(|_| ()), Err(ObjectError::NotFound(_))));
}

#[tokio::test]
async fn a_failed_sync_poisons_the_writer() {
    let fs = PowerLossFs::default();
    let store = DiskObjects::with_fs("/", Arc::new(fs.clone())).unwrap();
    let mut writer = store.create(ObjectId::random()).await.unwrap();
    writer.append(Bytes::from_static(b"x")).await.unwrap();
    fs.lose_power_after(0);
    assert!(matches!(writer.checkpoint().await, Err(ObjectError::Io { .. })));
    fs.lose_power_after(u64::MAX);
    assert!(matches!(writer.checkpoint().await, Err(ObjectError::Poisoned(_))), "never tried again");
    assert!(matches!(writer.append(Bytes::new()).await, Err(ObjectError::Poisoned(_))));
    assert!(matches!(writer.append_blocking(b"y"), Some(Err(ObjectError::Poisoned(_)))));
}

#[test]
fn system_errors_are_told_apart() {
    let sorted = |kind: io::ErrorKind| ObjectError::from_io("x", kind.into());
    assert!(matches!(sorted(io::ErrorKind::StorageFull), ObjectError::Full { .. }));
    assert!(matches!(sorted(io::ErrorKind::QuotaExceeded), ObjectError::Full { .. }));
    assert!(matches!(sorted(io::ErrorKind::ReadOnlyFilesystem), ObjectError::ReadOnly { .. }));
    assert!(matches!(sorted(io::ErrorKind::Other), ObjectError::Io { .. }));
    for (number, full, read_only) in
        [(28, true, false), (122, true, false), (30, false, true), (5, false, false)]
    {
        let error = ObjectError::from_io("x", io::Error::from_raw_os_error(number));
        assert_eq!(matches!(error, ObjectError::Full { .. }), full, "{number}");
        assert_eq!(matches!(error, ObjectError::ReadOnly { .. }), read_only, "{number}");
    }
}

async fn write(store: &DiskObjects, id: ObjectId, pieces: &[&'static [u8]]) -> Result<(), ObjectError> {
    let mut writer = store.create(id).await?;
    for piece in pieces {
        writer.append(Bytes::from_static(piece)).await?;
    }
    writer.finish().await
}

/// What was acknowledged before the power went.
#[derive(Default)]
struct Acknowledged {
    finished: BTreeMap<ObjectId, &'static [u8]>,
    /// Bytes up to a checkpoint.
    resumable: Option<(ObjectId, &'static [u8])>,
    deleted: Option<ObjectId>,
    marker: Option<&'static str>,
    laid_out: bool,
}

fn id(number: u8) -> ObjectId {
    let mut id = [number; 16];
    id[0] = 7;
    ObjectId::from_bytes(id)
}

/// Does a bit of everything, noting each acknowledgement, until something fails.
async fn work(fs: &PowerLossFs, seen: &mut Acknowledged) -> Result<(), ObjectError> {
    let store = DiskObjects::with_fs("/", Arc::new(fs.clone()))?;
    seen.laid_out = true;
    for marker in ["first", "second"] {
        store.write_deployment_marker(marker).await?;
        seen.marker = Some(marker);
    }
    write(&store, id(1), &[b"one ", b"object"]).await?;
    seen.finished.insert(id(1), b"one object");

    let mut writer = store.create(id(2)).await?;
    writer.append(Bytes::from_static(b"checked ")).await?;
    let state = writer.checkpoint().await?;
    seen.resumable = Some((id(2), b"checked "));
    writer.append(Bytes::from_static(b"never acknowledged")).await?;
    let mut writer = store.resume(id(2), state, 8).await?;
    writer.append(Bytes::from_static(b"twice")).await?;
    writer.checkpoint().await?;
    seen.resumable = Some((id(2), b"checked twice"));
    writer.append(Bytes::from_static(b", done")).await?;
    writer.finish().await?;
    seen.finished.insert(id(2), b"checked twice, done");

    write(&store, id(3), &[b"to be deleted"]).await?;
    seen.finished.insert(id(3), b"to be deleted");
    seen.finished.remove(&id(3));
    store.delete(id(3)).await?;
    seen.deleted = Some(id(3));
    Ok(())
}

/// What of the acknowledged is missing on the disk after the power came back.
async fn missing(fs: &PowerLossFs, seen: &Acknowledged) -> Vec<String> {
    let mut missing = Vec::new();
    let store = match DiskObjects::with_fs("/", Arc::new(fs.clone())) {
        Ok(store) => store,
        Err(error) => return vec![format!("the store: {error}")],
    };
    if seen.laid_out
        && (0..=u8::MAX).any(|first| fs.for_each_name(&store.0.directory(first), &mut |_| {}).is_err())
    {
        missing.push("a directory".to_owned());
        return missing;
    }
    if let Some(marker) = seen.marker {
        let found = store.deployment_marker().await.ok().flatten();
        let whole = matches!(found.as_deref(), Some("first" | "second"));
        if !whole || (marker == "second" && found.as_deref() != Some("second")) {
            missing.push(format!("marker {marker}, found {found:?}"));
        }
    }
    for (id, expected) in &seen.finished {
        let found = match store.open(*id).await {
            Ok(reader) => reader.read_at(0, 1000).await.unwrap_or_default(),
            Err(_) => Bytes::new(),
        };
        if found != expected {
            missing.push(format!("finished {id}: {found:?}"));
        }
    }
    if let Some((id, expected)) = seen.resumable.filter(|(id, _)| !seen.finished.contains_key(id)) {
        match store.resume(id, WriterState::default(), expected.len() as u64).await {
            Ok(_) => {
                let found = store.open(id).await.unwrap().read_at(0, 1000).await.unwrap();
                if found != expected {
                    missing.push(format!("checkpoint of {id}: {found:?}"));
                }
            }
            Err(error) => missing.push(format!("checkpoint of {id}: {error}")),
        }
    }
    if let Some(id) = seen.deleted
        && store.open(id).await.is_ok()
    {
        missing.push(format!("deletion of {id}"));
    }
    missing
}

const SURVIVALS: [Survival; 6] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::Random(1),
    Survival::Random(2),
    Survival::Random(3),
    Survival::Random(4),
];

/// Everything that was lost over all crash points and survivals, leaving out one sync or none.
async fn lost(skip: Option<SyncPoint>) -> (u64, Vec<String>) {
    let whole = PowerLossFs::new(skip);
    let mut seen = Acknowledged::default();
    work(&whole, &mut seen).await.unwrap();
    assert!(seen.deleted.is_some());
    let operations = whole.operations();
    let mut lost = Vec::new();
    // The directories of the layout are many and alike: a few crash points among them are enough.
    let points = (0..=operations).filter(|n| *n < 4 || *n > 250 || n % 50 == 0);
    for n in points {
        let fs = PowerLossFs::new(skip);
        fs.lose_power_after(n);
        let mut seen = Acknowledged::default();
        assert_eq!(work(&fs, &mut seen).await.is_ok(), n == operations);
        for survival in SURVIVALS {
            let after = fs.after_power_loss(survival);
            let gone = missing(&after, &seen).await;
            lost.extend(gone.into_iter().map(|what| format!("power lost after {n}, {survival:?}: {what}")));
        }
    }
    (operations, lost)
}

#[tokio::test]
async fn power_loss_at_any_point_loses_nothing_acknowledged() {
    let (operations, lost) = lost(None).await;
    assert!(operations > 290, "{operations} operations are too few to be the whole work");
    assert_eq!(lost, Vec::<String>::new());
}

#[tokio::test]
async fn every_sync_is_needed() {
    use SyncPoint::{FanOut, Layout, Marker, MarkerEntry, ObjectData, ObjectEntry, RemovedEntry, Root};
    for (skip, what) in [
        (ObjectData, "finished"),
        (ObjectEntry, "finished"),
        (RemovedEntry, "deletion"),
        (FanOut, "a directory"),
        (Root, "a directory"),
        (Layout, "the store"),
        (Marker, "marker"),
        (MarkerEntry, "marker"),
    ] {
        let (_, lost) = lost(Some(skip)).await;
        assert!(lost.iter().any(|lost| lost.contains(what)), "without {skip:?}: {lost:?}");
    }
}
