//! What an operation costs in round trips to the database, once its statements are prepared.

use wharf_registry::RegistryError;
use wharf_types::{Digest, Mutability};

use crate::cluster::{At, Cluster, Node, image_of};

const LAYERS: usize = 10;

/// The least of several times: connections that are used for the first time prepare their statements.
async fn least(node: &Node, mut operation: impl AsyncFnMut(usize) -> Result<(), RegistryError>) -> u64 {
    let mut least = u64::MAX;
    for round in 0..8 {
        let before = node.meta_stats().round_trips;
        operation(round).await.unwrap();
        least = least.min(node.meta_stats().round_trips - before);
    }
    least
}

async fn image(node: &Node, at: &At, text: &str) -> wharf_types::Manifest {
    let mut blobs: Vec<Digest> = Vec::new();
    for number in 0..=LAYERS {
        blobs.push(node.blob(at, format!("{number} of {text}").as_bytes()).await);
    }
    image_of(blobs[0], &blobs[1..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_pull_is_one_round_trip_and_a_push_of_ten_layers_four() {
    let Some(cluster) = Cluster::on_postgres().await else { return };
    let node = cluster.node().await;
    let at = node.create("team/app", Mutability::Mutable).await;
    let mut images = Vec::new();
    for round in 0..8 {
        images.push(image(&node, &at, &format!("image {round}")).await);
    }
    let push = least(&node, async |round| {
        node.put(&at, images[round].clone(), Some(&format!("v{round}"))).await.map(drop)
    });
    let push = push.await;
    let again = least(&node, async |round| {
        node.put(&at, images[round].clone(), Some(&format!("v{round}"))).await.map(drop)
    });
    let again = again.await;
    let moved =
        least(&node, async |round| node.put(&at, images[round].clone(), Some("latest")).await.map(drop))
            .await;
    let pull = least(&node, async |_| node.pull(&at, "v0").await.map(drop)).await;
    let layer = Digest::sha256(b"1 of image 0");
    let blob = least(&node, async |_| node.read(&at, &layer).await.map(drop)).await;
    let stat = least(&node, async |_| node.stat_blob(&at, &layer).await.map(drop)).await;
    println!("push {push}, again {again}, tag moved {moved}, pull {pull}, blob {blob}, stat {stat}");
    assert_eq!((pull, blob, stat), (1, 1, 1));
    assert!(push <= 4, "{push} round trips for a push of {LAYERS} layers");
}
