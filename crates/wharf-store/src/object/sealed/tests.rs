use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::object::testing::{Fault, Faults, FaultyObjects};
use crate::object::{DiskObjects, MemoryObjects, ObjectError, ObjectId, ObjectStore};
use crate::seal::{ContentKeys, DataKey, Layers, SEGMENT_SIZE};

const MAX: u64 = 1 << 40;
const BORDERS: [usize; 13] = [
    0,
    1,
    100,
    SEGMENT_SIZE - 1,
    SEGMENT_SIZE,
    SEGMENT_SIZE + 1,
    2 * SEGMENT_SIZE - 1,
    2 * SEGMENT_SIZE,
    2 * SEGMENT_SIZE + 1,
    4 * SEGMENT_SIZE,
    4 * SEGMENT_SIZE + 1,
    8 * SEGMENT_SIZE,
    8 * SEGMENT_SIZE + 1,
];

fn keys(layers: Layers) -> Option<Arc<ContentKeys>> {
    let key = || DataKey::generate().unwrap();
    match layers {
        Layers::Plain => None,
        Layers::Single => Some(Arc::new(ContentKeys::single(&key()))),
        Layers::Double => Some(Arc::new(ContentKeys::double(&key(), &key()))),
    }
}

fn content(size: usize) -> Vec<u8> {
    let mut state = size as u32 | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

async fn write(
    store: &dyn ObjectStore,
    id: ObjectId,
    keys: &Option<Arc<ContentKeys>>,
    content: &[u8],
    piece: usize,
) -> Finished {
    let mut writer = SealedWriter::create(store, id, keys.clone(), MAX).await.unwrap();
    for piece in content.chunks(piece.max(1)) {
        writer.append(piece).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(
    store: &dyn ObjectStore,
    id: ObjectId,
    keys: &Option<Arc<ContentKeys>>,
    size: usize,
) -> Result<Bytes, ReadError> {
    SealedReader::open(store, id, keys.clone(), size as u64).await?.read_all(MAX).await
}

async fn read_range(reader: &SealedReader, range: std::ops::Range<u64>) -> Vec<u8> {
    let chunks: Vec<Bytes> = reader.stream(range).try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= 4 * SEGMENT_SIZE));
    chunks.concat()
}

/// On disk (both ways to read a file are used) and in memory.
fn stores() -> (tempfile::TempDir, Vec<Arc<dyn ObjectStore>>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskObjects::open_dir(dir.path()).unwrap();
    (dir, vec![Arc::new(disk), Arc::new(MemoryObjects::new())])
}

#[tokio::test]
async fn every_size_at_a_border_comes_back() {
    let (_dir, stores) = stores();
    for store in &stores {
        for layers in [Layers::Plain, Layers::Single, Layers::Double] {
            let keys = keys(layers);
            for size in BORDERS {
                let (id, content) = (ObjectId::random(), content(size));
                let done = write(&**store, id, &keys, &content, 100_000).await;
                assert_eq!(done.size, size as u64);
                assert_eq!(done.sha256[..], Sha256::digest(&content)[..]);
                assert_eq!(done.stored_size, layers.stored_size(size as u64));
                assert_eq!(store.open(id).await.unwrap().size(), done.stored_size, "{layers:?} {size}");
                assert!(read(&**store, id, &keys, size).await.unwrap() == content, "{layers:?} {size}");
                for wrong in [size.wrapping_sub(1), size + 1, size + SEGMENT_SIZE] {
                    if wrong != usize::MAX {
                        let refused = read(&**store, id, &keys, wrong).await;
                        assert!(
                            matches!(refused, Err(ReadError::Corrupt { .. })),
                            "{layers:?} {size} as {wrong}"
                        );
                    }
                }
            }
        }
    }
}

fn layers() -> impl Strategy<Value = Layers> {
    prop_oneof![Just(Layers::Plain), Just(Layers::Single), Just(Layers::Double)]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0..20usize, prop::sample::select(&BORDERS[..]), 0..9 * SEGMENT_SIZE]
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_split_and_any_range(
        size in size(), pieces in proptest::collection::vec(1..150_000usize, 1..8), a in 0f64..1.0, b in 0f64..1.0,
        layers in layers()
    ) {
        run(async {
            let (_dir, stores) = stores();
            let (keys, content) = (keys(layers), content(size));
            for store in &stores {
                let id = ObjectId::random();
                let mut writer = SealedWriter::create(&**store, id, keys.clone(), MAX).await.unwrap();
                let mut rest = &content[..];
                for piece in pieces.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (now, later) = rest.split_at(rest.len().min(*piece));
                    writer.append(now).await.unwrap();
                    rest = later;
                }
                writer.finish().await.unwrap();
                let reader = SealedReader::open(&**store, id, keys.clone(), size as u64).await.unwrap();
                let (a, b) = ((a * size as f64) as u64, (b * size as f64) as u64);
                let range = a.min(b)..a.max(b);
                let expected = &content[range.start as usize..range.end as usize];
                assert!(read_range(&reader, range).await == expected);
                assert!(read_range(&reader, a..u64::MAX).await == content[a as usize..]);
            }
        });
    }

    /// Checkpoints at random places; after each the writer goes on, or is dropped after more bytes and resumed.
    #[test]
    fn resuming_equals_writing_at_once(
        size in size(), cuts in proptest::collection::vec((0f64..1.0, any::<bool>()), 1..5), layers in layers()
    ) {
        run(async {
            let (_dir, stores) = stores();
            let (keys, content) = (keys(layers), content(size));
            let mut cuts: Vec<_> = cuts.iter().map(|(at, drop)| ((at * size as f64) as usize, *drop)).collect();
            cuts.sort();
            for store in &stores {
                let id = ObjectId::random();
                let mut writer = SealedWriter::create(&**store, id, keys.clone(), MAX).await.unwrap();
                for (cut, dropped) in &cuts {
                    let at = writer.offset() as usize;
                    writer.append(&content[at..*cut]).await.unwrap();
                    let state = writer.checkpoint().await.unwrap();
                    assert_eq!(state.offset, *cut as u64);
                    assert!(state.tail.len() <= SEGMENT_SIZE);
                    if *dropped {
                        writer.append(&[0xFF; 300_000]).await.unwrap();
                        let state = UploadState::decode(&state.encode()).unwrap();
                        // The old writer may still be writing while the new one begins.
                        let new = SealedWriter::resume(&**store, id, keys.clone(), MAX, state).await.unwrap();
                        drop(std::mem::replace(&mut writer, new));
                    }
                }
                let at = writer.offset() as usize;
                writer.append(&content[at..]).await.unwrap();
                let done = writer.finish().await.unwrap();
                assert_eq!(done.sha256[..], Sha256::digest(&content)[..]);
                assert_eq!(store.open(id).await.unwrap().size(), done.stored_size);
                assert!(read(&**store, id, &keys, size).await.unwrap() == content);
            }
        });
    }

    #[test]
    fn damage_is_always_seen(
        size in 0..6 * SEGMENT_SIZE, at in 0f64..1.0, bit in 0u8..8, first in 0usize..6, second in 0usize..6,
        double in any::<bool>()
    ) {
        run(async {
            let store = MemoryObjects::new();
            let keys = keys(if double { Layers::Double } else { Layers::Single });
            let segment = keys.as_ref().unwrap().layers().stored_segment();
            let (id, other, content) = (ObjectId::random(), ObjectId::random(), content(size));
            let done = write(&store, id, &keys, &content, 50_000).await;
            write(&store, other, &keys, &content, 50_000).await;
            let bytes_of = async |id| {
                store.open(id).await.unwrap().read_at(0, done.stored_size as usize).await.unwrap().to_vec()
            };
            let (good, foreign) = (bytes_of(id).await, bytes_of(other).await);
            let at = (at * good.len() as f64) as usize;
            let mut damaged = Vec::new();
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            damaged.push(flipped);
            damaged.push(good[..at].to_vec());
            damaged.push([&good[..], &[0]].concat());
            let segments: Vec<&[u8]> = good.chunks(segment).collect();
            let (first, second) = (first % segments.len(), second % segments.len());
            if first != second {
                let mut swapped = segments.clone();
                swapped.swap(first, second);
                damaged.push(swapped.concat());
                let mut repeated = segments.clone();
                repeated[first] = segments[second];
                damaged.push(repeated.concat());
                let mut removed = segments.clone();
                removed.remove(first);
                damaged.push(removed.concat());
            }
            let mut replayed = segments.clone();
            replayed[first] = foreign.chunks(segment).nth(first).unwrap();
            damaged.push(replayed.concat());
            damaged.push(foreign);
            for bytes in damaged {
                assert!(bytes != good);
                let kind = bytes.len();
                assert!(store.damage(id, |stored| *stored = bytes));
                let outcome = read(&store, id, &keys, size).await;
                assert!(matches!(outcome, Err(ReadError::Corrupt { object, .. }) if object == id), "{kind} {outcome:?}");
            }
            store.damage(id, |stored| *stored = good);
            assert!(read(&store, id, &keys, size).await.unwrap() == content);
            let wrong = super::tests::keys(Layers::Single);
            assert!(matches!(read(&store, id, &wrong, size).await, Err(ReadError::Corrupt { .. })));
        });
    }
}

#[tokio::test]
async fn content_cut_at_a_segment_border_is_seen_even_with_its_size() {
    let store = MemoryObjects::new();
    let (id, keys, content) = (ObjectId::random(), keys(Layers::Single), content(3 * SEGMENT_SIZE));
    write(&store, id, &keys, &content, 1 << 20).await;
    store.damage(id, |stored| stored.truncate(2 * Layers::Single.stored_segment()));
    let outcome = read(&store, id, &keys, 2 * SEGMENT_SIZE).await;
    assert!(matches!(outcome, Err(ReadError::Corrupt { segment: 1, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_stream_gives_what_is_whole_and_ends_at_the_damage() {
    let store = MemoryObjects::new();
    let (id, keys, content) = (ObjectId::random(), keys(Layers::Single), content(12 * SEGMENT_SIZE));
    write(&store, id, &keys, &content, 1 << 20).await;
    store.damage(id, |stored| stored[5 * Layers::Single.stored_segment() + 99] ^= 1);
    let reader = SealedReader::open(&store, id, keys, content.len() as u64).await.unwrap();
    let mut stream = std::pin::pin!(reader.stream(0..u64::MAX));
    assert!(stream.try_next().await.unwrap().unwrap() == content[..4 * SEGMENT_SIZE]);
    assert!(matches!(stream.try_next().await, Err(ReadError::Corrupt { segment: 5, .. })));
    assert!(stream.try_next().await.unwrap().is_none());
    assert!(read_range(&reader, 0..100).await == content[..100], "other segments are still readable");
}

#[tokio::test]
async fn a_file_cut_under_an_open_reader_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskObjects::open_dir(dir.path()).unwrap();
    let (id, keys, content) = (ObjectId::random(), keys(Layers::Single), content(2 * SEGMENT_SIZE));
    write(&store, id, &keys, &content, 1 << 20).await;
    let reader = SealedReader::open(&store, id, keys, content.len() as u64).await.unwrap();
    let path = dir.path().join("objects").join(&id.to_string()[..2]).join(id.to_string());
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    assert!(matches!(reader.read_all(MAX).await, Err(ReadError::Corrupt { .. })));
}

#[tokio::test]
async fn the_limit_is_exact() {
    let store = MemoryObjects::new();
    let mut writer = SealedWriter::create(&store, ObjectId::random(), None, 10).await.unwrap();
    writer.append(&[0; 6]).await.unwrap();
    let refused = writer.append(&[0; 5]).await;
    assert!(matches!(refused, Err(WriteError::TooLarge { limit: 10, at_least: 11 })), "{refused:?}");
    assert_eq!(writer.offset(), 6, "nothing of the refused chunk was taken");
    writer.append(&[0; 4]).await.unwrap();
    assert!(writer.append(&[0]).await.is_err());
    assert_eq!(writer.finish().await.unwrap().size, 10);
}

#[tokio::test]
async fn content_with_the_wrong_digest_can_be_given_up_before_it_is_synced() {
    let faults = Faults::none();
    let store = FaultyObjects::new(Arc::new(MemoryObjects::new()), faults.clone());
    let id = ObjectId::random();
    let mut writer = SealedWriter::create(&store, id, keys(Layers::Single), MAX).await.unwrap();
    writer.append(b"content").await.unwrap();
    let (finished, writer) = writer.seal_rest().await.unwrap();
    assert_eq!(finished.sha256[..], Sha256::digest(b"content")[..]);
    writer.abort().await.unwrap();
    assert!(matches!(store.open(id).await.map(|_| ()), Err(ObjectError::NotFound(_))));
    assert_eq!(faults.calls().get("finish"), None);
}

#[tokio::test]
async fn a_state_that_contradicts_itself_is_refused() {
    let store = MemoryObjects::new();
    let (id, keys) = (ObjectId::random(), keys(Layers::Single));
    let mut writer = SealedWriter::create(&store, id, keys.clone(), MAX).await.unwrap();
    writer.append(&[7; 100_000]).await.unwrap();
    let good = writer.checkpoint().await.unwrap();
    let broken = [
        UploadState { offset: 99_999, ..good.clone() },
        UploadState { next_segment: 0, ..good.clone() },
        UploadState { tail: vec![7; 1], ..good.clone() },
        UploadState { sha256_state: vec![1, 2, 3], ..good.clone() },
    ];
    for state in broken {
        assert!(matches!(
            SealedWriter::resume(&store, id, keys.clone(), MAX, state).await.map(|_| ()),
            Err(WriteError::Seal(_))
        ));
    }
    assert!(SealedWriter::resume(&store, id, keys, MAX, good).await.is_ok());
}

#[tokio::test]
async fn content_can_be_hashed_again() {
    let (_dir, stores) = stores();
    for store in &stores {
        let (id, keys, content) = (ObjectId::random(), keys(Layers::Single), content(700_000));
        write(&**store, id, &keys, &content, 9_000).await;
        let reader = SealedReader::open(&**store, id, keys, 700_000).await.unwrap();
        assert_eq!(rehash_sha512(&reader).await.unwrap()[..], Sha512::digest(&content)[..]);
        assert_eq!(rehash_sha256(&reader).await.unwrap()[..], Sha256::digest(&content)[..]);
        assert!(matches!(reader.read_all(699_999).await, Err(ReadError::TooLarge { .. })));
    }
}

/// Every call fails once, in every way; resuming from the last checkpoint always leads to the same object.
#[tokio::test]
async fn after_any_fault_the_upload_goes_on_from_its_checkpoint() {
    let kinds = [Fault::Error, Fault::Full, Fault::ReadOnly, Fault::Short, Fault::ErrorAfterEffect];
    let (keys, content) = (keys(Layers::Single), content(11 * SEGMENT_SIZE + 7));
    let attempt =
        async |store: &FaultyObjects, id, from: Option<UploadState>, last: &mut Option<UploadState>| {
            let mut writer = match from {
                Some(state) => SealedWriter::resume(store, id, keys.clone(), MAX, state).await?,
                None => SealedWriter::create(store, id, keys.clone(), MAX).await?,
            };
            let half = content.len() / 2;
            if (writer.offset() as usize) < half {
                let at = writer.offset() as usize;
                writer.append(&content[at..half]).await?;
                *last = Some(writer.checkpoint().await?);
            }
            let at = writer.offset() as usize;
            writer.append(&content[at..]).await?;
            writer.finish().await
        };
    let mut faults_seen = 0;
    for kind in kinds {
        for n in 0.. {
            let faults = Faults::none();
            let store = FaultyObjects::new(Arc::new(MemoryObjects::new()), faults.clone());
            faults.fail_nth(n, kind);
            let (mut id, mut last) = (ObjectId::random(), None);
            let done = match attempt(&store, id, None, &mut last).await {
                Ok(done) => done,
                Err(_) => {
                    assert_eq!(faults.injected(), 1, "{kind:?} {n}");
                    faults_seen += 1;
                    if last.is_none() {
                        id = ObjectId::random();
                    }
                    attempt(&store, id, last.clone(), &mut last).await.unwrap()
                }
            };
            assert_eq!(done.sha256[..], Sha256::digest(&content)[..]);
            let ended = faults.injected() == 0;
            faults.heal();
            assert!(read(&store, id, &keys, content.len()).await.unwrap() == content, "{kind:?} {n}");
            if ended {
                break;
            }
        }
    }
    assert!(faults_seen >= 5 * 5, "{faults_seen}");
}

#[tokio::test]
async fn a_fault_of_the_store_is_not_corruption() {
    let faults = Faults::none();
    let store = FaultyObjects::new(Arc::new(MemoryObjects::new()), faults.clone());
    let (id, keys, content) = (ObjectId::random(), keys(Layers::Single), content(500_000));
    write(&store, id, &keys, &content, 1 << 20).await;
    for (n, kind) in [Fault::Error, Fault::Short].into_iter().enumerate() {
        faults.fail_nth_of("read_at", faults.calls().get("read_at").copied().unwrap_or(0), kind);
        let outcome = read(&store, id, &keys, content.len()).await;
        assert!(matches!(outcome, Err(ReadError::Object(ObjectError::Io { .. }))), "{n} {outcome:?}");
        assert!(read(&store, id, &keys, content.len()).await.unwrap() == content);
    }
    faults.fail_nth_of("open", faults.calls()["open"], Fault::ReadOnly);
    assert!(matches!(
        read(&store, id, &keys, content.len()).await,
        Err(ReadError::Object(ObjectError::ReadOnly { .. }))
    ));
}

#[tokio::test]
async fn random_faults_are_repeatable() {
    let count = async |seed| {
        let faults = Faults::none();
        let store = FaultyObjects::new(Arc::new(MemoryObjects::new()), faults.clone());
        faults.fail_randomly(seed, 5);
        let mut outcomes = Vec::new();
        for _ in 0..200 {
            outcomes.push(store.list(None, 1).await.is_ok());
        }
        assert_eq!(outcomes.iter().filter(|ok| !**ok).count() as u64, faults.injected());
        outcomes
    };
    let first = count(11).await;
    assert_eq!(first, count(11).await);
    assert_ne!(first, count(12).await);
    let failed = first.iter().filter(|ok| !**ok).count();
    assert!((15..90).contains(&failed), "{failed}");
}
