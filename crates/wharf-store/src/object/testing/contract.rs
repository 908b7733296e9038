//! The contract of [`ObjectStore`] as functions that panic where it is broken. Every implementation runs
//! [`run_all`] on an empty store.

use bytes::Bytes;

use crate::object::{ObjectError, ObjectId, ObjectStore, ObjectWriter, WriterState};

/// Runs the whole suite. The store is empty at the beginning and at the end.
///
/// # Panics
/// Where the store breaks its contract.
pub async fn run_all(store: &dyn ObjectStore) {
    written_bytes_come_back(store).await;
    an_id_is_created_once(store).await;
    missing_objects_are_named(store).await;
    a_resumed_object_is_cut_at_its_checkpoint(store).await;
    acknowledged_bytes_that_are_missing_are_reported(store).await;
    an_old_writer_is_shut_out(store).await;
    a_deleted_object_is_gone(store).await;
    an_aborted_object_is_gone(store).await;
    a_list_is_in_order_and_paged(store).await;
    the_marker_is_replaced_whole(store).await;
}

const FINE: &str = "the store must be able to do this";

async fn create(store: &dyn ObjectStore, id: ObjectId) -> Box<dyn ObjectWriter> {
    store.create(id).await.expect(FINE)
}

async fn put(store: &dyn ObjectStore, id: ObjectId, bytes: &'static [u8]) {
    let mut writer = create(store, id).await;
    writer.append(Bytes::from_static(bytes)).await.expect(FINE);
    writer.finish().await.expect(FINE);
}

async fn get(store: &dyn ObjectStore, id: ObjectId) -> Bytes {
    let reader = store.open(id).await.expect(FINE);
    let size = usize::try_from(reader.size()).expect("objects of the suite are small");
    reader.read_at(0, size).await.expect(FINE)
}

async fn is_gone(store: &dyn ObjectStore, id: ObjectId) -> bool {
    matches!(store.open(id).await.map(|_| ()), Err(ObjectError::NotFound(gone)) if gone == id)
}

/// What was appended in pieces is read whole and by range; a range beyond the end is short or empty.
pub async fn written_bytes_come_back(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    let mut writer = create(store, id).await;
    for piece in ["one ", "", "two ", "three"] {
        writer.append(Bytes::from_static(piece.as_bytes())).await.expect(FINE);
    }
    writer.finish().await.expect(FINE);
    assert_eq!(get(store, id).await, "one two three");
    let reader = store.open(id).await.expect(FINE);
    assert_eq!(reader.size(), 13);
    assert_eq!(reader.read_at(4, 3).await.expect(FINE), "two");
    assert_eq!(reader.read_at(8, 100).await.expect(FINE), "three");
    assert_eq!(reader.read_at(13, 1).await.expect(FINE), "");
    assert_eq!(reader.read_at(u64::MAX, 1).await.expect(FINE), "");
    store.delete(id).await.expect(FINE);

    let empty = ObjectId::random();
    put(store, empty, b"").await;
    assert_eq!(store.open(empty).await.expect(FINE).size(), 0);
    store.delete(empty).await.expect(FINE);
}

/// A second create fails and leaves the object alone.
pub async fn an_id_is_created_once(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    put(store, id, b"first").await;
    let again = store.create(id).await.map(|_| ());
    assert!(matches!(again, Err(ObjectError::AlreadyExists(taken)) if taken == id), "{again:?}");
    assert_eq!(get(store, id).await, "first");
    store.delete(id).await.expect(FINE);
}

/// Reading or resuming what is not there says so; deleting it is fine.
pub async fn missing_objects_are_named(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    assert!(is_gone(store, id).await);
    let resumed = store.resume(id, WriterState::default(), 0).await.map(|_| ());
    assert!(matches!(resumed, Err(ObjectError::NotFound(_))), "{resumed:?}");
    store.delete(id).await.expect(FINE);
}

/// What follows the checkpoint is cut off and other bytes may take its place.
pub async fn a_resumed_object_is_cut_at_its_checkpoint(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    let mut writer = create(store, id).await;
    writer.append(Bytes::from_static(b"kept ")).await.expect(FINE);
    let state = writer.checkpoint().await.expect(FINE);
    writer.append(Bytes::from_static(b"dropped, and longer than what follows")).await.expect(FINE);
    drop(writer);
    let mut writer = store.resume(id, state.clone(), 5).await.expect(FINE);
    writer.append(Bytes::from_static(b"again ")).await.expect(FINE);
    drop(writer);
    let mut writer = store.resume(id, state, 5).await.expect(FINE);
    writer.append(Bytes::from_static(b"new")).await.expect(FINE);
    writer.finish().await.expect(FINE);
    assert_eq!(get(store, id).await, "kept new");
    store.delete(id).await.expect(FINE);
}

/// A checkpoint beyond the bytes that are there is an error, not a hole.
pub async fn acknowledged_bytes_that_are_missing_are_reported(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    let mut writer = create(store, id).await;
    writer.append(Bytes::from_static(b"four")).await.expect(FINE);
    let state = writer.checkpoint().await.expect(FINE);
    drop(writer);
    let resumed = store.resume(id, state, 5).await.map(|_| ());
    assert!(matches!(resumed, Err(ObjectError::Short { expected: 5, found: 4, .. })), "{resumed:?}");
    store.delete(id).await.expect(FINE);
}

/// After a resume the writer before it changes nothing, whatever it tries; nor does one whose object was deleted.
pub async fn an_old_writer_is_shut_out(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    let mut old = create(store, id).await;
    let state = old.checkpoint().await.expect(FINE);
    let mut new = store.resume(id, state, 0).await.expect(FINE);
    new.append(Bytes::from_static(b"new")).await.expect(FINE);
    let late = old.append(Bytes::from_static(b"old bytes")).await;
    assert!(matches!(late, Err(ObjectError::Superseded(_))), "{late:?}");
    assert!(old.checkpoint().await.is_err());
    assert!(old.abort().await.is_err());
    new.append(Bytes::from_static(b"er")).await.expect(FINE);
    new.finish().await.expect(FINE);
    assert_eq!(get(store, id).await, "newer");
    store.delete(id).await.expect(FINE);

    let id = ObjectId::random();
    let mut writer = create(store, id).await;
    store.delete(id).await.expect(FINE);
    assert!(writer.append(Bytes::from_static(b"late")).await.is_err());
    assert!(writer.finish().await.is_err(), "a deleted object cannot be finished");
    assert!(is_gone(store, id).await);
}

/// After a delete a new reader finds nothing, also if the object was read before; deleting again is fine.
pub async fn a_deleted_object_is_gone(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    put(store, id, b"bytes").await;
    let before = store.open(id).await.expect(FINE);
    store.delete(id).await.expect(FINE);
    assert!(is_gone(store, id).await);
    match before.read_at(0, 5).await {
        Ok(bytes) => assert_eq!(bytes, "bytes", "an open reader sees the old bytes or none"),
        Err(error) => assert!(matches!(error, ObjectError::NotFound(_)), "{error:?}"),
    }
    store.delete(id).await.expect(FINE);
}

/// An aborted object leaves nothing behind.
pub async fn an_aborted_object_is_gone(store: &dyn ObjectStore) {
    let id = ObjectId::random();
    let mut writer = create(store, id).await;
    writer.append(Bytes::from_static(b"half")).await.expect(FINE);
    writer.abort().await.expect(FINE);
    assert!(is_gone(store, id).await);
    assert!(!store.list(None, 1000).await.expect(FINE).iter().any(|(listed, _)| *listed == id));
}

/// Pages follow each other without gaps or repeats, in the order of ids, with sizes.
pub async fn a_list_is_in_order_and_paged(store: &dyn ObjectStore) {
    assert_eq!(store.list(None, 10).await.expect(FINE), [], "the suite leaves nothing behind");
    let mut expected = Vec::new();
    for number in 0..25u8 {
        // Few first bytes, so that some objects share a directory.
        let mut id = *ObjectId::random().as_bytes();
        id[0] = number % 4 * 80;
        let id = ObjectId::from_bytes(id);
        put(store, id, &b"0123456789"[..usize::from(number % 10)]).await;
        expected.push((id, u64::from(number % 10)));
    }
    expected.sort();
    for limit in [1, 4, 24, 25, 26] {
        let mut found = Vec::new();
        loop {
            let page = store.list(found.last().map(|(id, _)| *id), limit).await.expect(FINE);
            assert!(page.len() <= limit);
            let ended = page.len() < limit;
            found.extend(page);
            if ended {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
    for (id, _) in expected {
        store.delete(id).await.expect(FINE);
    }
    assert_eq!(store.list(None, 10).await.expect(FINE), []);
}

/// There is no marker at first; the last one written is the one read. It is no object.
pub async fn the_marker_is_replaced_whole(store: &dyn ObjectStore) {
    assert_eq!(store.deployment_marker().await.expect(FINE), None);
    for marker in ["a-long-deployment-id", "short"] {
        store.write_deployment_marker(marker).await.expect(FINE);
        assert_eq!(store.deployment_marker().await.expect(FINE).as_deref(), Some(marker));
    }
    assert_eq!(store.list(None, 10).await.expect(FINE), []);
}
