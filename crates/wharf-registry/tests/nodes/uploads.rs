//! Uploads: any node goes on with what another has begun, and two never write to the same one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use wharf_registry::{BodyError, BodyStream, RegistryError};
use wharf_types::{ByteRange, Digest, Mutability};

use crate::cluster::{At, Cluster, Node, body};

/// Bytes that do not repeat.
fn content(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

async fn append(
    node: &Node,
    at: &At,
    id: wharf_types::UploadId,
    from: usize,
    part: &[u8],
) -> Result<u64, RegistryError> {
    let range = ByteRange { first: from as u64, last: (from + part.len() - 1) as u64 };
    Ok(node.append_upload(at, id, Some(range), body(part)).await?.received)
}

/// A body that the test sends piece by piece.
fn slow_body() -> (mpsc::UnboundedSender<Bytes>, BodyStream) {
    let (send, receive) = mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receive, |mut receive| async move {
        let piece = receive.recv().await?;
        Some((Ok::<_, BodyError>(piece), receive))
    });
    (send, pieces.boxed())
}

async fn an_upload_goes_on_at_any_node(cluster: Cluster) {
    let [a, b, c] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    for length in [300, 100_000, 700_000] {
        let content = content(length);
        let (third, digest) = (length / 3, Digest::sha256(&content));
        let id = a.start_upload(&at).await.unwrap().id;
        assert_eq!(b.upload_status(&at, id).await.unwrap().received, 0);
        assert_eq!(append(&b, &at, id, 0, &content[..third]).await.unwrap(), third as u64);
        assert_eq!(c.upload_status(&at, id).await.unwrap().received, third as u64);
        let received = append(&a, &at, id, third, &content[third..2 * third]).await.unwrap();
        assert_eq!(received, 2 * third as u64);
        let rest = Some(body(&content[2 * third..]));
        let done = c.finish_upload(&at, id, &[digest], None, rest).await.unwrap();
        assert_eq!(done.size, length as u64);
        for node in [&a, &b, &c] {
            assert_eq!(node.read(&at, &digest).await.unwrap(), content, "{length}");
        }
        // Its answer was lost: any node gives it again.
        for node in [&a, &c] {
            let again = node.finish_upload(&at, id, &[digest], None, None).await.unwrap();
            assert_eq!(again.size, length as u64);
        }
        let other = b.finish_upload(&at, id, &[Digest::sha256(b"other")], None, None).await;
        assert!(matches!(other, Err(RegistryError::UploadNotFound(_))), "{other:?}");
        assert!(matches!(append(&b, &at, id, 0, b"more").await, Err(RegistryError::UploadNotFound(_))));
    }
}

async fn an_upload_outlives_the_node_that_had_it(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (content, half) = (content(400_000), 200_000);
    let digest = Digest::sha256(&content);
    let id = a.start_upload(&at).await.unwrap().id;
    append(&a, &at, id, 0, &content[..half]).await.unwrap();
    // In the middle of the next chunk A dies: nothing of it is heard again.
    let (send, slow) = slow_body();
    send.send(Bytes::copy_from_slice(&content[half..half + 70_000])).unwrap();
    let (at_a, watched) = (at.clone(), a.clone());
    let dying = tokio::spawn(async move { a.append_upload(&at_a, id, None, slow).await });
    // It has written what it has got, and waits for more: its own clock does not tell it that its time is over.
    let has_written = || watched.stats().bytes_in.load(Ordering::Relaxed) == half as u64 + 70_000;
    for _ in 0..3000 {
        if has_written() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(has_written());
    std::mem::forget(send);
    let busy = append(&b, &at, id, half, &content[half..]).await;
    assert!(matches!(busy, Err(RegistryError::UploadBusy)), "{busy:?}");
    // Its lease runs out.
    cluster.clock.advance(Duration::from_secs(20));
    assert_eq!(b.upload_status(&at, id).await.unwrap().received, half as u64);
    assert_eq!(append(&b, &at, id, half, &content[half..]).await.unwrap(), 400_000);
    b.finish_upload(&at, id, &[digest], None, None).await.unwrap();
    assert_eq!(b.read(&at, &digest).await.unwrap(), content);
    dying.abort();
}

async fn of_two_nodes_that_write_to_an_upload_one_is_refused_and_spoils_nothing(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (content, half) = (content(400_000), 200_000);
    let digest = Digest::sha256(&content);
    let id = a.start_upload(&at).await.unwrap().id;
    append(&a, &at, id, 0, &content[..half]).await.unwrap();
    let (send, slow) = slow_body();
    let (node, place) = (a.clone(), at.clone());
    let first = tokio::spawn(async move { node.append_upload(&place, id, None, slow).await });
    send.send(Bytes::copy_from_slice(&content[half..half + 70_000])).unwrap();
    until(&cluster, "SELECT COUNT(*) FROM jobs WHERE kind = 'upload-turn'", 1).await;
    for _ in 0..3 {
        let second = b.append_upload(&at, id, None, body(&[7; 90_000])).await;
        assert!(matches!(second, Err(RegistryError::UploadBusy)), "{second:?}");
        let finish = b.finish_upload(&at, id, &[digest], None, Some(body(b"x"))).await;
        assert!(matches!(finish, Err(RegistryError::UploadBusy)), "{finish:?}");
    }
    send.send(Bytes::copy_from_slice(&content[half + 70_000..])).unwrap();
    drop(send);
    assert_eq!(first.await.unwrap().unwrap().received, 400_000);
    // The turn was given back with the acknowledgement.
    b.finish_upload(&at, id, &[digest], None, None).await.unwrap();
    assert_eq!(a.read(&at, &digest).await.unwrap(), content);
}

async fn a_chunk_that_fails_gives_the_turn_back(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let (content, half) = (content(400_000), 200_000);
    let id = a.start_upload(&at).await.unwrap().id;
    append(&a, &at, id, 0, &content[..half]).await.unwrap();
    let broken = stream::iter([
        Ok(Bytes::copy_from_slice(&content[half..half + 70_000])),
        Err(BodyError { message: "the client went away".to_owned() }),
    ]);
    let failed = a.append_upload(&at, id, None, broken.boxed()).await;
    assert!(matches!(failed, Err(RegistryError::BodyBroken(_))), "{failed:?}");
    until(&cluster, "SELECT COUNT(*) FROM jobs WHERE kind = 'upload-turn'", 0).await;
    append(&b, &at, id, half, &content[half..]).await.unwrap();
    let digest = Digest::sha256(&content);
    b.finish_upload(&at, id, &[digest], None, None).await.unwrap();
    assert_eq!(a.read(&at, &digest).await.unwrap(), content);
}

async fn two_nodes_that_finish_an_upload_give_one_answer(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    for round in 0..6_u8 {
        let mut content = content(150_000);
        content[0] = round;
        let digest = Digest::sha256(&content);
        let id = a.start_upload(&at).await.unwrap().id;
        append(&a, &at, id, 0, &content).await.unwrap();
        let finish = async |node: &Node| loop {
            match node.finish_upload(&at, id, &[digest], None, None).await {
                // As a client does that is told that somebody else is at it.
                Err(RegistryError::UploadBusy) => tokio::task::yield_now().await,
                answer => return answer,
            }
        };
        let (one, two) = tokio::join!(finish(&a), finish(&b));
        assert_eq!((one.unwrap().size, two.unwrap().size), (150_000, 150_000));
        assert_eq!(b.read(&at, &digest).await.unwrap(), content);
    }
}

async fn what_is_cancelled_on_one_node_is_over_on_the_other(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    let content = content(100_000);
    let id = a.start_upload(&at).await.unwrap().id;
    append(&a, &at, id, 0, &content).await.unwrap();
    b.cancel_upload(&at, id).await.unwrap();
    assert!(matches!(a.upload_status(&at, id).await, Err(RegistryError::UploadNotFound(_))));
    let finish = a.finish_upload(&at, id, &[Digest::sha256(&content)], None, None).await;
    assert!(matches!(finish, Err(RegistryError::UploadNotFound(_))), "{finish:?}");
    let fresh = b.start_upload(&at).await.unwrap().id;
    a.cancel_upload(&at, fresh).await.unwrap();
    assert!(matches!(append(&b, &at, fresh, 0, b"late").await, Err(RegistryError::UploadNotFound(_))));
}

/// Waits until a count is what it should be.
async fn until(cluster: &Cluster, sql: &'static str, expected: i64) {
    for _ in 0..3000 {
        let count = cluster.meta.read(move |tx| tx.query_one(sql, &[], |row| row.get::<i64>(0))).await;
        if count.unwrap() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{sql} never was {expected}");
}

crate::on_every_engine!(
    an_upload_goes_on_at_any_node,
    an_upload_outlives_the_node_that_had_it,
    of_two_nodes_that_write_to_an_upload_one_is_refused_and_spoils_nothing,
    a_chunk_that_fails_gives_the_turn_back,
    two_nodes_that_finish_an_upload_give_one_answer,
    what_is_cancelled_on_one_node_is_over_on_the_other,
);
