//! A store that hangs: whoever waits for it waits alone, and leaves nothing behind when its client gives up.
#![allow(clippy::unwrap_used)]

mod depot;

use std::time::Duration;

use depot::{Depot, body, content};
use wharf_store::object::testing::Fault;
use wharf_types::Digest;

/// Longer than a test may take: what waits for such a call does not come back.
const HANGS: Duration = Duration::from_secs(3600);

/// Every call of a push hangs in turn. Meanwhile others push the same and other content; then the client goes away.
#[tokio::test]
async fn a_call_that_hangs_holds_up_nobody_else_and_leaves_nothing_when_its_client_goes() {
    let (same, other) = (content(20, 300_000), content(21, 100_000));
    let digest = Digest::sha256(&same);
    let mut hung = 0;
    for nth in 0.. {
        let depot = Depot::new().await;
        let at = depot.create("team/app").await;
        depot.faults.fail_nth(depot.faults.total() + nth, Fault::Slow(HANGS));
        let (registry, place, bytes) = (depot.registry.clone(), depot.at("team/app"), same.clone());
        let slow = tokio::spawn(async move { registry.put_blob(&place, digest, body(&bytes)).await });
        depot.settled(async |depot| depot.faults.injected() > 0 || slow.is_finished()).await;
        if depot.faults.injected() == 0 {
            assert!(slow.await.unwrap().is_ok());
            break;
        }
        hung += 1;
        let others = async {
            let pushed = [depot.put(&at, &same).await, depot.put(&at, &other).await];
            depot.image(&at, &pushed, "v1").await.unwrap();
            depot.registry.collect(&()).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), others).await.expect("others do not wait");
        assert!(!slow.is_finished(), "call {nth} came back");
        slow.abort();
        assert!(slow.await.is_err());
        assert_eq!(depot.read(&at, &digest).await.unwrap(), same, "call {nth}");
        depot.clock.advance(Duration::from_secs(2 * 24 * 3600));
        depot.registry.collect(&()).await.unwrap();
        depot.settled(async |depot| depot.uploads().await == 0 && depot.objects("writing").await == 0).await;
        depot.registry.collect(&()).await.unwrap();
        assert_eq!(depot.files().len(), 2, "call {nth}");
        assert_eq!(depot.read(&at, &digest).await.unwrap(), same, "call {nth}");
        depot.assert_clean().await;
    }
    assert!(hung >= 2, "only {hung} calls were made");
}
