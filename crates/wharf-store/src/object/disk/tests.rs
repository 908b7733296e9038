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

/// Bytes that do not repeat at any power of two.
fn large(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// Writes pieces of odd lengths with checkpoints and resumptions among them, past the size from which on they go past
/// the page cache.
async fn write_large(store: &DiskObjects, id: ObjectId, content: &[u8]) -> Result<(), ObjectError> {
    let mut writer = store.create(id).await?;
    let mut at = 0;
    for (turn, piece) in
        [700_000, 262_256, 1, 86_318, 500_001, 4095, 4096, 3, 262_256].into_iter().enumerate()
    {
        let chunk = Bytes::copy_from_slice(&content[at..at + piece]);
        match turn % 2 {
            0 => writer.append(chunk).await?,
            _ => writer.append_blocking(&chunk).expect("disks can")?,
        }
        at += piece;
        if turn % 4 == 2 {
            let state = writer.checkpoint().await?;
            writer.append(Bytes::from_static(b"never acknowledged")).await?;
            writer = store.resume(id, state, at as u64).await?;
        } else if turn % 3 == 0 {
            writer.checkpoint().await?;
        }
    }
    writer.append(Bytes::copy_from_slice(&content[at..])).await?;
    writer.finish().await
}

#[tokio::test]
async fn large_objects_come_back_whatever_pieces_they_arrived_in() {
    let dir = tempfile::tempdir().unwrap();
    let disks = [
        DiskObjects::open_dir(dir.path()).unwrap(),
        DiskObjects::with_fs("/", Arc::new(PowerLossFs::default())).unwrap(),
    ];
    let content = large(2_000_000);
    for store in disks {
        write_large(&store, id(1), &content).await.unwrap();
        let reader = store.open(id(1)).await.unwrap();
        assert_eq!(reader.size(), content.len() as u64);
        assert!(reader.read_at(0, content.len()).await.unwrap() == content, "other bytes came back");
    }
}

#[tokio::test]
async fn a_large_object_needs_its_sync() {
    let content = large(2_000_000);
    for (skip, kept) in
        [(None, true), (Some(SyncPoint::ObjectData), false), (Some(SyncPoint::ObjectEntry), false)]
    {
        let fs = PowerLossFs::new(skip);
        let store = DiskObjects::with_fs("/", Arc::new(fs.clone())).unwrap();
        write_large(&store, id(1), &content).await.unwrap();
        for survival in [Survival::Nothing, Survival::Random(1), Survival::Random(2)] {
            let after = DiskObjects::with_fs("/", Arc::new(fs.after_power_loss(survival))).unwrap();
            let found = match after.open(id(1)).await {
                Ok(reader) => reader.read_at(0, content.len()).await.unwrap(),
                Err(_) => Bytes::new(),
            };
            // By luck some of what was not synced is there all the same.
            if kept || survival == Survival::Nothing {
                assert_eq!(found == content, kept, "{skip:?}, {survival:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_system_without_direct_writing_will_do() {
    for refuses_at in ["open", "write"] {
        let dir = tempfile::tempdir().unwrap();
        let file: Arc<dyn FsFile> = RealFs.create_new(&dir.path().join("file")).unwrap();
        let unable = || match refuses_at {
            "open" => Err(io::ErrorKind::InvalidInput.into()),
            _ => Ok(Arc::new(Refusing) as Arc<dyn FsFile>),
        };
        let content = large(1_300_000);
        let mut direct = direct::Direct::default();
        let mut at = 0;
        for piece in content.chunks(300_001) {
            direct.write(&*file, unable, piece, at).unwrap();
            at += piece.len() as u64;
        }
        direct.flush(&*file, at).unwrap();
        let mut found = vec![0; content.len() + 1];
        assert_eq!(file.read_at(&mut found, 0).unwrap(), content.len());
        assert!(found[..content.len()] == content, "{refuses_at}");
    }
}

/// A file that says only when it is written to that it cannot be written to so.
struct Refusing;

impl FsFile for Refusing {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::InvalidInput.into())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self, _: SyncPoint) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn file(&self) -> Option<&File> {
        None
    }
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
