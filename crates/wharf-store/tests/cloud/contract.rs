//! The contract suite, and objects of several parts.

use wharf_store::object::testing::contract;
use wharf_store::object::{ObjectError, ObjectId, ObjectStore};

use crate::server::Server;
use crate::{bytes, read_whole};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn keeps_the_contract() {
    let Some(server) = Server::start() else { return };
    contract::run_all(&server.node().await).await;
    server.nothing_left().await;
}

#[tokio::test]
async fn objects_of_any_size_come_back_whole() {
    let Some(server) = Server::start() else { return };
    let store = server.node().await;
    let mut ids = Vec::new();
    // Around one part and two, and with checkpoints whose tails are kept in the state, beside, and as a part.
    for (len, checkpoints) in [
        (8 * MIB, vec![]),
        (8 * MIB + 1, vec![]),
        (16 * MIB, vec![]),
        (17 * MIB, vec![1000]),
        (17 * MIB, vec![3 * MIB, 8 * MIB, 16 * MIB + 5]),
        (100_000, vec![50_000, 99_999, 100_000]),
    ] {
        let content = bytes(len, len as u64);
        let id = ObjectId::random();
        let mut writer = store.create(id).await.unwrap();
        let mut at = 0;
        while at < len {
            let stop = checkpoints.iter().copied().find(|stop| *stop > at).unwrap_or(len);
            let next = stop.min(at + 700_001);
            writer.append(content.slice(at..next)).await.unwrap();
            at = next;
            if checkpoints.contains(&at) {
                let state = writer.checkpoint().await.unwrap();
                writer = store.resume(id, state, at as u64).await.unwrap();
            }
        }
        writer.finish().await.unwrap();
        store.settled(id).await.unwrap();
        assert!(read_whole(&store, id).await == content, "{len} with {checkpoints:?}");
        ids.push((id, len as u64));
    }
    server.nothing_left().await;
    ids.sort();
    assert_eq!(store.list(None, 100).await.unwrap(), ids);
    let unfinished = ObjectId::random();
    let mut writer = store.create(unfinished).await.unwrap();
    writer.append(bytes(9 * MIB, 1)).await.unwrap();
    drop(writer.checkpoint().await.unwrap());
    drop(writer);
    let mut all: Vec<ObjectId> = ids.iter().map(|(id, _)| *id).collect();
    all.extend([unfinished, ObjectId::random()]);
    store.delete_many(&all).await.unwrap();
    assert_eq!(store.list(None, 100).await.unwrap(), []);
    server.nothing_left().await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_at_once() {
    let Some(server) = Server::start() else { return };
    drop(server.node().await);
    let url = server.url_at(server.address).to_string();
    assert!(!url.contains("secret"), "{url}");
    let elsewhere = format!("s3://no-such-bucket?endpoint=http://{}", server.address);
    let elsewhere: wharf_store::object::CloudUrl = elsewhere.parse().unwrap();
    let opened = wharf_store::object::CloudObjects::open(&elsewhere.with_access_key("key", "secret")).await;
    assert!(matches!(opened, Err(ObjectError::Io { .. })), "{opened:?}");
}
