//! Background work of several nodes: jobs change hands when their holder dies, nothing is done twice, and collectors do
//! each other no harm.

use std::time::Duration;

use wharf_registry::{ImageFilter, ImageId, MountOutcome, PageRequest, TagStatus};
use wharf_store::meta::jobs::{self, Job};
use wharf_types::{Digest, Mutability};

use crate::cluster::{At, Cluster, Node};

const DAY: Duration = Duration::from_secs(86_400);
const KEEP_TWO: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":2},"action":{"type":"expire"}}]}"#;

async fn count(cluster: &Cluster, sql: &'static str) -> i64 {
    cluster.meta.read(move |tx| tx.query_one(sql, &[], |row| row.get::<i64>(0))).await.unwrap()
}

async fn images(node: &Node, at: &At) -> usize {
    let filter = ImageFilter { tags: TagStatus::Any, status: None };
    let page = PageRequest { limit: 1000, token: None };
    node.describe_images(at, filter, page).await.unwrap().items.len()
}

async fn push_daily(cluster: &Cluster, node: &Node, at: &At, count: usize) {
    for image in 0..count {
        node.push(at, &format!("image {image}"), Some(&format!("v{image}"))).await;
        cluster.clock.advance(DAY);
    }
}

async fn a_job_is_taken_over_when_its_holder_has_died_and_done_once(cluster: Cluster) {
    let [a, b] = cluster.nodes().await;
    let at = a.create("team/app", Mutability::Mutable).await;
    push_daily(&cluster, &a, &at, 5).await;
    a.put_lifecycle_policy(&at, KEEP_TWO).await.unwrap();
    cluster.clock.advance(Duration::from_secs(3700));
    // A takes the job and dies.
    let claim = |tx: &mut wharf_store::meta::Tx<'_>| jobs::claim(tx, "lifecycle", 60_000_000);
    let held: Job = cluster.meta.write(claim).await.unwrap().expect("a job that is due");
    assert_eq!(b.run_due_jobs().await.unwrap(), 0, "somebody has it");
    assert_eq!(images(&b, &at).await, 5);
    cluster.clock.advance(Duration::from_secs(61));
    assert_eq!(b.run_due_jobs().await.unwrap(), 1);
    assert_eq!(images(&b, &at).await, 2);
    // Back from the dead, A can neither extend its lease nor give the job back for another round.
    let (late, lease) = (held.clone(), 60_000_000);
    assert!(!cluster.meta.write(move |tx| jobs::hold(tx, &late, lease)).await.unwrap());
    let before = count(&cluster, "SELECT due_at FROM jobs WHERE kind = 'lifecycle'").await;
    cluster.meta.write(move |tx| jobs::release(tx, &held, Some(0), true)).await.unwrap();
    assert_eq!(count(&cluster, "SELECT due_at FROM jobs WHERE kind = 'lifecycle'").await, before);
}

async fn nodes_that_carry_out_policies_at_once_act_once(cluster: Cluster) {
    let nodes: [Node; 3] = cluster.nodes().await;
    let mut places = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let at = nodes[0].create(name, Mutability::Mutable).await;
        push_daily(&cluster, &nodes[0], &at, 6).await;
        nodes[1].put_lifecycle_policy(&at, KEEP_TWO).await.unwrap();
        places.push(at);
    }
    cluster.clock.advance(Duration::from_secs(3700));
    let done = tokio::join!(nodes[0].run_due_jobs(), nodes[1].run_due_jobs(), nodes[2].run_due_jobs());
    assert_eq!(done.0.unwrap() + done.1.unwrap() + done.2.unwrap(), 4, "each job by one node");
    // The same again, by three operators at once, on what is left.
    for at in &places {
        assert_eq!(images(&nodes[2], at).await, 2);
        push_daily(&cluster, &nodes[1], at, 6).await;
    }
    let runs = tokio::join!(
        nodes[0].run_lifecycle(None, &()),
        nodes[1].run_lifecycle(None, &()),
        nodes[2].run_lifecycle(None, &()),
    );
    let expired = [runs.0, runs.1, runs.2].into_iter().map(|run| run.unwrap().expired).sum::<u64>();
    for at in &places {
        assert_eq!(images(&nodes[0], at).await, 2);
    }
    let events = "SELECT COUNT(*) FROM deleted_manifests";
    assert_eq!(expired, 4 * 4 + count(&cluster, events).await as u64 - 2 * 4 * 4, "none is counted twice");
}

async fn collectors_on_two_nodes_take_nothing_that_is_reachable(cluster: Cluster) {
    let nodes: [Node; 3] = cluster.nodes().await;
    let one = nodes[0].create("one", Mutability::Mutable).await;
    let two = nodes[0].create("two", Mutability::Mutable).await;
    let collecting: Vec<_> = nodes[1..]
        .iter()
        .cloned()
        .map(|node| {
            tokio::spawn(async move {
                for _ in 0..25 {
                    node.collect(&()).await.unwrap();
                }
            })
        })
        .collect();
    let mut kept = Vec::new();
    for round in 0..12 {
        let (text, tag) = (format!("image {}", round % 3), format!("v{round}"));
        let digest = nodes[round % 3].push(&one, &text, Some(&tag)).await;
        let layer = Digest::sha256(format!("layer of {text}").as_bytes());
        let mounted = nodes[(round + 1) % 3].mount_blob(&two, &layer, Some(&one)).await.unwrap();
        assert!(matches!(mounted, MountOutcome::Mounted(_)), "{mounted:?}");
        if round % 3 == 2 {
            let id = ImageId { digest: Some(digest.to_string()), tag: None };
            nodes[(round + 2) % 3].delete_images(&one, &[id]).await.unwrap();
            kept.retain(|(known, _)| *known != digest);
            // Whatever has no manifest any more is due for collection now, and so is what was just mounted.
            cluster.clock.advance(2 * DAY);
        } else {
            kept.retain(|(known, _)| *known != digest);
            kept.push((digest, text));
        }
    }
    for collector in collecting {
        collector.await.unwrap();
    }
    nodes[0].collect(&()).await.unwrap();
    assert!(!kept.is_empty());
    for (digest, text) in kept {
        for node in &nodes {
            assert_eq!(node.pull(&one, &digest.to_string()).await.unwrap(), digest);
            for part in ["config", "layer"] {
                let content = format!("{part} of {text}");
                assert_eq!(node.read(&one, &Digest::sha256(content.as_bytes())).await.unwrap(), content);
            }
        }
    }
    let checked = cluster.meta.read(|tx| wharf_store::meta::scrub::contradictions(tx, 10)).await.unwrap();
    assert!(checked.is_empty(), "{checked:?}");
}

crate::on_every_engine!(
    a_job_is_taken_over_when_its_holder_has_died_and_done_once,
    nodes_that_carry_out_policies_at_once_act_once,
    collectors_on_two_nodes_take_nothing_that_is_reachable,
);
