//! Two nodes, one upload.

use std::time::Duration;

use wharf_store::object::{ObjectId, ObjectStore};

use crate::server::Server;
use crate::{bytes, read_whole};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn another_node_goes_on_where_one_stopped() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (server.node().await, server.node().await);
    let content = bytes(20 * MIB, 1);
    let id = ObjectId::random();
    let mut writer = one.create(id).await.unwrap();
    writer.append(content.slice(..11 * MIB)).await.unwrap();
    let state = writer.checkpoint().await.unwrap();
    // Never acknowledged, and other bytes than those that follow.
    writer.append(bytes(7 * MIB, 2)).await.unwrap();
    let mut writer = two.resume(id, state, 11 * MIB as u64).await.unwrap();
    writer.append(content.slice(11 * MIB..13 * MIB)).await.unwrap();
    let state = writer.checkpoint().await.unwrap();
    let mut writer = one.resume(id, state, 13 * MIB as u64).await.unwrap();
    writer.append(content.slice(13 * MIB..)).await.unwrap();
    writer.finish().await.unwrap();
    one.settled(id).await.unwrap();
    assert!(read_whole(&two, id).await == content);
    server.nothing_left().await;
    two.delete(id).await.unwrap();
    assert!(one.open(id).await.is_err());
}

/// A node completes an object and dies before that is recorded; the client comes to another one.
#[tokio::test]
async fn what_was_completed_and_not_recorded_is_completed_again() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (server.node().await, server.node().await);
    for acknowledged in [9 * MIB, 8 * MIB, 3 * MIB, 10, 0] {
        let content = bytes(acknowledged + MIB, 3);
        let id = ObjectId::random();
        let mut writer = one.create(id).await.unwrap();
        writer.append(content.slice(..acknowledged)).await.unwrap();
        let state = writer.checkpoint().await.unwrap();
        let mut first = one.resume(id, state.clone(), acknowledged as u64).await.unwrap();
        // What a segment looks like that was sealed with another nonce.
        first.append(bytes(MIB, 4)).await.unwrap();
        first.finish().await.unwrap();
        let reopened = two.reopen(id, state.clone()).await.unwrap().expect("it was completed");
        assert_eq!(one.reopen(id, reopened.clone()).await.unwrap(), None, "the new upload is open");
        let mut again = two.resume(id, reopened.clone(), acknowledged as u64).await.unwrap();
        again.append(content.slice(acknowledged..)).await.unwrap();
        again.finish().await.unwrap();
        assert!(read_whole(&one, id).await == content, "{acknowledged}");
        assert!(one.reopen(id, reopened).await.unwrap().is_some(), "now this one is completed");
        one.delete(id).await.unwrap();
    }
    server.nothing_left().await;
}

/// A node that was taken for dead finishes after its successor, or in the middle of its work.
#[tokio::test]
async fn a_writer_that_was_given_up_cannot_complete_over_its_successor() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (server.patient_node(Duration::from_millis(300)).await, server.node().await);
    let content = bytes(10 * MIB, 6);
    let id = ObjectId::random();
    let mut writer = one.create(id).await.unwrap();
    writer.append(content.slice(..9 * MIB)).await.unwrap();
    let state = writer.checkpoint().await.unwrap();
    let mut zombie = one.resume(id, state.clone(), 9 * MIB as u64).await.unwrap();
    zombie.append(bytes(MIB, 7)).await.unwrap();
    let mut successor = two.resume(id, state.clone(), 9 * MIB as u64).await.unwrap();
    successor.append(content.slice(9 * MIB..)).await.unwrap();
    successor.finish().await.unwrap();
    assert!(zombie.finish().await.is_err(), "its part is of an upload that is over");
    assert!(read_whole(&one, id).await == content);
    two.delete(id).await.unwrap();

    // The object was deleted by another node meanwhile.
    let id = ObjectId::random();
    let mut writer = one.create(id).await.unwrap();
    writer.append(bytes(17 * MIB, 8)).await.unwrap();
    two.delete(id).await.unwrap();
    assert!(writer.finish().await.is_err());
    assert!(two.open(id).await.is_err());
    server.nothing_left().await;
}
