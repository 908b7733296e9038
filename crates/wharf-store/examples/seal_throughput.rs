//! How fast one connection's worth of hash + seal + write and of read + open is, in a temporary directory:
//! `cargo run --release -p wharf-store --example seal_throughput [MiB]` (default 512). Prints MB/s, or answers per
//! second for 64 KiB ranges.

use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt;
use wharf_store::object::sealed::{SealedReader, SealedWriter};
use wharf_store::object::{DiskObjects, ObjectId, ObjectStore};
use wharf_store::seal::{ContentKeys, DataKey};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mebibytes: u64 = std::env::args().nth(1).map_or(Ok(512), |text| text.parse())?;
    let size = mebibytes.max(1) << 20;
    let root = std::env::temp_dir().join(format!("wharf-seal-throughput-{}", std::process::id()));
    let store = DiskObjects::open_dir(&root)?;
    let key = || DataKey::generate();
    let kinds = [
        ("plain", None),
        ("sealed", Some(Arc::new(ContentKeys::single(&key()?)))),
        ("sealed twice", Some(Arc::new(ContentKeys::double(&key()?, &key()?)))),
    ];
    for (name, keys) in kinds {
        let outcome = measure(&store, name, keys, size).await;
        if outcome.is_err() {
            std::fs::remove_dir_all(&root)?;
        }
        outcome?;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

async fn measure(store: &DiskObjects, name: &str, keys: Option<Arc<ContentKeys>>, size: u64) -> Outcome<()> {
    let id = ObjectId::random();
    let piece: Vec<u8> = (0..64 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let rate = |start: Instant| size as f64 / 1e6 / start.elapsed().as_secs_f64();

    let start = Instant::now();
    let mut writer = SealedWriter::create(store, id, keys.clone(), size).await?;
    for _ in 0..size / piece.len() as u64 {
        writer.append(&piece).await?;
    }
    let taken = rate(start);
    writer.finish().await?;
    let written = rate(start);

    let reader = SealedReader::open(store, id, keys, size).await?;
    let start = Instant::now();
    let mut stream = std::pin::pin!(reader.stream(0..size));
    let mut read = 0;
    while let Some(chunk) = stream.try_next().await? {
        read += chunk.len() as u64;
    }
    assert_eq!(read, size);
    let streamed = rate(start);

    let start = Instant::now();
    let ranges = 20_000;
    for n in 0..ranges {
        let from = n * 7_919_001 % (size - 65_536).max(1);
        let chunks: Vec<_> = reader.stream(from..from + 65_536).try_collect().await?;
        assert!(!chunks.is_empty());
    }
    let per_second = ranges as f64 / start.elapsed().as_secs_f64();
    println!(
        "{name:13} write {taken:5.0} MB/s, with sync {written:5.0} MB/s; read {streamed:5.0} MB/s; \
         64 KiB ranges {per_second:6.0} /s"
    );
    store.delete(id).await?;
    Ok(())
}
