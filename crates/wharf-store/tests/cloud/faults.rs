//! A store that is slow, overloaded, or away for a while: everything ends well or with an error that leaves nothing
//! half visible.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use wharf_store::object::{CloudObjects, ObjectError, ObjectId, ObjectStore};

use crate::proxy::{Fate, Proxy};
use crate::server::Server;
use crate::{bytes, read_whole};

const MIB: usize = 1 << 20;

async fn behind_proxy(patience: Duration) -> Option<(Server, Proxy, CloudObjects)> {
    let server = Server::start()?;
    drop(server.node().await);
    let proxy = Proxy::before(server.address).await;
    let store = CloudObjects::open(&server.url_at(proxy.address).with_patience(patience)).await.unwrap();
    Some((server, proxy, store))
}

/// Pushes through two checkpoints, as clients do that send layers in chunks.
async fn push(store: &dyn ObjectStore, content: &Bytes) -> Result<ObjectId, ObjectError> {
    let id = ObjectId::random();
    let mut writer = store.create(id).await?;
    let mut at = 0;
    for stop in [content.len() / 3, content.len() * 2 / 3] {
        writer.append(content.slice(at..stop)).await?;
        let state = writer.checkpoint().await?;
        writer = store.resume(id, state, stop as u64).await?;
        at = stop;
    }
    writer.append(content.slice(at..)).await?;
    writer.finish().await?;
    store.settled(id).await?;
    Ok(id)
}

#[tokio::test]
async fn requests_that_fail_now_and_then_are_repeated() {
    let Some((server, proxy, store)) = behind_proxy(Duration::from_secs(60)).await else { return };
    let content = bytes(18 * MIB, 1);
    for fate in [Fate::Drop, Fate::SlowDown, Fate::Late, Fate::CutAnswer] {
        let count = AtomicU64::new(0);
        proxy.judge_by(move |line| {
            // Requests to delete are not repeated by the store's client: the collector comes again.
            let deletes = line.starts_with("DELETE") || line.starts_with("POST") && line.contains("delete");
            let nth = if deletes { 1 } else { count.fetch_add(1, Ordering::SeqCst) };
            if nth % 3 == 0 { fate } else { Fate::Pass }
        });
        let id = push(&store, &content).await.unwrap_or_else(|error| panic!("{fate:?}: {error:?}"));
        assert!(read_whole(&store, id).await == content, "{fate:?}");
        store.delete(id).await.unwrap();
    }
    server.nothing_left().await;
}

/// Every request whose answer can be lost loses it once.
#[tokio::test]
async fn lost_answers_do_no_harm() {
    let Some((server, proxy, store)) = behind_proxy(Duration::from_secs(60)).await else { return };
    for content in [bytes(18 * MIB, 2), bytes(200_000, 3)] {
        let lost = Arc::new(Mutex::new(Vec::<String>::new()));
        let losing = Arc::clone(&lost);
        proxy.judge_by(move |line| {
            // Each kind of request: the method and what its query is about, not the values.
            let target = line.split(' ').nth(1).unwrap_or_default();
            let query = target.split_once('?').map_or("", |(_, query)| query);
            let names: Vec<&str> = query
                .split('&')
                .filter_map(|pair| pair.split('=').next())
                .filter(|name| !name.is_empty())
                .collect();
            let place = ["/objects/", "/writing/"].into_iter().find(|place| target.contains(place));
            let kind = format!("{} {place:?} {names:?}", line.split(' ').next().unwrap_or_default());
            let mut lost = losing.lock().unwrap();
            if kind.starts_with("DELETE") || names.contains(&"delete") || lost.contains(&kind) {
                return Fate::Pass;
            }
            lost.push(kind);
            Fate::LoseAnswer
        });
        let id = push(&store, &content).await.unwrap();
        assert!(read_whole(&store, id).await == content);
        let kinds = lost.lock().unwrap().clone();
        assert!(kinds.iter().any(|kind| kind.starts_with("POST") && kind.contains("uploadId")), "{kinds:?}");
        assert!(kinds.iter().any(|kind| kind.starts_with("PUT") && kind.contains("partNumber")), "{kinds:?}");
        proxy.judge_by(|_| Fate::Pass);
        store.delete(id).await.unwrap();
    }
    // The multipart upload whose id was lost with its answer is nobody's: the bucket's lifecycle rule aborts it.
    let left = server.leftovers();
    assert!(left.iter().all(|key| !key.contains("/writing/")), "{left:?}");
}

#[tokio::test]
async fn a_small_object_survives_the_loss_of_its_answer() {
    let Some((server, proxy, store)) = behind_proxy(Duration::from_secs(60)).await else { return };
    let once = AtomicBool::new(false);
    proxy.judge_by(move |line| {
        let lose =
            line.starts_with("PUT") && line.contains("/objects/") && !once.swap(true, Ordering::SeqCst);
        if lose { Fate::LoseAnswer } else { Fate::Pass }
    });
    let id = ObjectId::random();
    let mut writer = store.create(id).await.unwrap();
    writer.append(bytes(MIB, 4)).await.unwrap();
    writer.finish().await.unwrap();
    assert!(read_whole(&store, id).await == bytes(MIB, 4));
    let puts =
        proxy.take_seen().into_iter().filter(|line| line.starts_with("PUT") && line.contains("/objects/"));
    assert_eq!(puts.count(), 2);
    server.nothing_left().await;
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_is_waited_for() {
    let Some((server, proxy, store)) = behind_proxy(Duration::from_secs(60)).await else { return };
    let away = Arc::new(AtomicBool::new(false));
    let judging = Arc::clone(&away);
    proxy.judge_by(move |_| if judging.load(Ordering::SeqCst) { Fate::Drop } else { Fate::Pass });
    let content = bytes(20 * MIB, 5);
    let id = ObjectId::random();
    let mut writer = store.create(id).await.unwrap();
    writer.append(content.slice(..9 * MIB)).await.unwrap();
    away.store(true, Ordering::SeqCst);
    let back = Arc::clone(&away);
    let healing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        back.store(false, Ordering::SeqCst);
    });
    writer.append(content.slice(9 * MIB..)).await.unwrap();
    writer.finish().await.unwrap();
    healing.await.unwrap();
    assert!(read_whole(&store, id).await == content);
    server.nothing_left().await;
}

#[tokio::test]
async fn a_store_that_stays_away_is_an_error_and_the_upload_goes_on_afterwards() {
    let Some((server, proxy, store)) = behind_proxy(Duration::from_millis(300)).await else { return };
    let away = Arc::new(AtomicBool::new(false));
    let judging = Arc::clone(&away);
    proxy.judge_by(move |_| if judging.load(Ordering::SeqCst) { Fate::Drop } else { Fate::Pass });
    let content = bytes(12 * MIB, 6);
    let id = ObjectId::random();
    let mut writer = store.create(id).await.unwrap();
    writer.append(content.slice(..9 * MIB)).await.unwrap();
    let state = writer.checkpoint().await.unwrap();
    away.store(true, Ordering::SeqCst);
    let mut lost = store.resume(id, state.clone(), 9 * MIB as u64).await.unwrap();
    let failed = lost.append(content.slice(9 * MIB..)).await;
    assert!(matches!(failed, Err(ObjectError::Io { .. })), "{failed:?}");
    let again = lost.finish().await;
    assert!(matches!(again, Err(ObjectError::Poisoned(_))), "{again:?}");
    assert!(store.delete(ObjectId::random()).await.is_err());
    away.store(false, Ordering::SeqCst);
    assert!(
        matches!(store.open(id).await.map(|_| ()), Err(ObjectError::NotFound(_))),
        "nothing is half visible"
    );
    let mut writer = store.resume(id, state, 9 * MIB as u64).await.unwrap();
    writer.append(content.slice(9 * MIB..)).await.unwrap();
    writer.finish().await.unwrap();
    store.settled(id).await.unwrap();
    assert!(read_whole(&store, id).await == content);
    server.nothing_left().await;
}
