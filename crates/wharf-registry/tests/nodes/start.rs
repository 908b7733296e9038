//! Nodes that start at once, on stores that nobody has used.

use crate::cluster::{Cluster, Node};

async fn nodes_that_start_at_once_are_one_deployment_with_one_first_key(cluster: Cluster) {
    let nodes = tokio::join!(cluster.node(), cluster.node(), cluster.node());
    let nodes: [Node; 3] = nodes.into();
    let keys = tokio::join!(
        nodes[0].ensure_default_account(),
        nodes[1].ensure_default_account(),
        nodes[2].ensure_default_account(),
    );
    let made = [keys.0, keys.1, keys.2].into_iter().filter_map(Result::unwrap).count();
    assert_eq!(made, 1);
    assert_eq!(nodes[0].list_accounts().await.unwrap().len(), 1);
}

crate::on_every_engine!(nodes_that_start_at_once_are_one_deployment_with_one_first_key,);
