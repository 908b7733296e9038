//! Sealed content in a bucket.

use std::sync::Arc;

use futures_util::TryStreamExt;
use wharf_store::object::sealed::{SealedReader, SealedWriter};
use wharf_store::object::{CloudObjects, ObjectId};
use wharf_store::seal::{ContentKeys, DataKey};

use crate::bytes;
use crate::proxy::{Fate, Proxy};
use crate::server::Server;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_stream_takes_few_requests_and_survives_cuts() {
    let Some(server) = Server::start() else { return };
    drop(server.node().await);
    let proxy = Proxy::before(server.address).await;
    let store = CloudObjects::open(&server.url_at(proxy.address)).await.unwrap();
    let keys = Arc::new(ContentKeys::single(&DataKey::generate().unwrap()));
    let content = bytes(12 * MIB + 77, 1);
    let id = ObjectId::random();
    let mut writer = SealedWriter::create(&store, id, Some(Arc::clone(&keys)), u64::MAX).await.unwrap();
    for chunk in content.chunks(300_000) {
        writer.append(chunk).await.unwrap();
    }
    let finished = writer.finish().await.unwrap();
    assert_eq!(finished.size, content.len() as u64);

    proxy.take_seen();
    let read = async |range: std::ops::Range<u64>| {
        let reader = SealedReader::open(&store, id, Some(Arc::clone(&keys)), finished.size).await.unwrap();
        let chunks: Vec<_> = reader.stream(range).try_collect().await.unwrap();
        chunks.concat()
    };
    assert!(read(0..finished.size).await == content);
    let requests = proxy.take_seen();
    assert!(requests.len() <= 12, "{} requests for 12 MiB: {requests:?}", requests.len());
    for (from, to) in [(0, 0), (0, 1), (65_535, 65_537), (3 * MIB - 1, 7 * MIB), (12 * MIB, 12 * MIB + 77)] {
        assert!(read(from as u64..to as u64).await == content[from..to], "{from}..{to}");
    }
    let few = proxy.take_seen();
    assert!(few.len() <= 16, "{few:?}");

    let count = std::sync::atomic::AtomicU64::new(0);
    proxy.judge_by(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 {
        0 => Fate::CutAnswer,
        _ => Fate::Pass,
    });
    assert!(read(0..finished.size).await == content);
}
