//! Push, mount, delete, collect and undelete, in every order: three actors, two blobs, two manifests, on the real
//! transactions. After every step the stores are looked at whole; at every end everything is pulled, all windows pass,
//! and what is left is exactly what is named.
//!
//! `WHARF_PROTOCOL_PREEMPTIONS` sets how often operations may be left between two of their transactions (default 1),
//! `WHARF_PROTOCOL_ALL` tries all pairs of programs beside the collector.
#![allow(clippy::unwrap_used)]

mod actors;
#[path = "../depot/mod.rs"]
mod depot;
mod explore;
mod world;

use std::time::{Duration, Instant};

use actors::Op;
use explore::{Explored, Grain, explore};
use world::{Beginning, DAY};

/// The first image again, from its blobs on, in pieces of operations.
const PUSH: &[Op] = &[Op::PutBlob(0, 0), Op::PutBlob(0, 1), Op::PutImage(0, 0)];
/// A session in chunks, then the image that needs only that blob.
const UPLOAD: &[Op] = &[Op::Start(1), Op::Append(1, 0), Op::Finish(1, 0), Op::PutImage(1, 1)];
const MOUNT: &[Op] = &[Op::Mount(1, 0, 0), Op::PutImage(1, 1)];
const DELETE: &[Op] = &[Op::DeleteImage(0, 0), Op::DeleteBlob(0, 0)];
const UNTAG: &[Op] = &[Op::Untag(0), Op::Push(0, 0)];
const RESTORE: &[Op] = &[Op::DeleteImage(0, 0), Op::Undelete(0, 0)];
/// The grace passes, then the window of the trash.
const COLLECT: &[Op] = &[Op::Advance(DAY), Op::Collect, Op::Advance(TRASH), Op::Collect];
const TRASH: Duration = Duration::from_secs(2 * 24 * 3600);

async fn all(programs: &[&[&[Op]]], grain: impl Fn(usize) -> Grain) -> Explored {
    let (began, beginning) = (Instant::now(), Beginning::new().await);
    let mut total = Explored::default();
    for (at, programs) in programs.iter().enumerate() {
        total.add(explore(&beginning, programs, grain(at)).await);
        if let Some(wrong) = &total.wrong {
            panic!("{:?} {programs:?}: {wrong}", grain(at));
        }
        eprintln!("{:.1} s, {} states after {programs:?}", began.elapsed().as_secs_f64(), total.states);
    }
    println!("{} sets of programs in {:.1} s: {total:#?}", programs.len(), began.elapsed().as_secs_f64());
    assert!(total.strayed * 100 <= total.runs, "{} runs of {} strayed", total.strayed, total.runs);
    total
}

fn assert_met(explored: &Explored, outcomes: &[&str]) {
    for outcome in outcomes {
        assert!(explored.outcomes.contains_key(*outcome), "never met: {outcome}");
    }
}

#[tokio::test]
async fn every_order_of_operations_keeps_what_is_reachable() {
    let mut sets = vec![
        [COLLECT, PUSH, DELETE],
        [COLLECT, MOUNT, DELETE],
        [COLLECT, UPLOAD, RESTORE],
        [COLLECT, UNTAG, RESTORE],
        [PUSH, DELETE, MOUNT],
        [RESTORE, RESTORE, PUSH],
    ];
    if std::env::var_os("WHARF_PROTOCOL_ALL").is_some() {
        let others = [PUSH, UPLOAD, MOUNT, DELETE, UNTAG, RESTORE];
        let pairs =
            others.iter().enumerate().flat_map(|(at, one)| others[at..].iter().map(move |two| (one, two)));
        sets.extend(pairs.map(|(one, two)| [COLLECT, one, two]));
    }
    let sets: Vec<&[&[Op]]> = sets.iter().map(|set| set.as_slice()).collect();
    let explored = all(&sets, |_| Grain::Operation).await;
    let met = [
        "PutImage Done",
        "PutImage Refused(\"layers\")",
        "Finish Done",
        "Finish Refused(\"upload\")",
        "Mount Done",
        "Mount Refused(\"not there\")",
        "Undelete Done",
        "Undelete Refused(\"not in the trash\")",
        "DeleteBlob Done",
        "DeleteBlob Refused(\"in use\")",
        "Push Done",
    ];
    assert_met(&explored, &met);
}

/// Between any two transactions.
async fn interleaved(programs: &[&[&[Op]]]) -> Explored {
    let asked = std::env::var("WHARF_PROTOCOL_PREEMPTIONS").ok().map(|text| text.parse().unwrap());
    all(programs, |_| Grain::Transaction { preemptions: asked.unwrap_or(1) }).await
}

const SWEEP: &[Op] = &[Op::Advance(DAY), Op::Collect];

#[tokio::test]
async fn every_order_of_transactions_of_pushes_and_collection_keeps_what_is_reachable() {
    let explored = interleaved(&[
        &[SWEEP, &[Op::DeleteImage(0, 0)], &[Op::Push(0, 0)]],
        &[SWEEP, &[Op::Mount(1, 0, 0), Op::PutImage(1, 1)], &[Op::DeleteImage(0, 0)]],
        &[SWEEP, &[Op::PutBlob(1, 0), Op::PutImage(1, 1)], &[Op::PutBlob(1, 0)]],
    ])
    .await;
    assert_met(&explored, &["Push Done", "PutImage Done", "Mount Done", "Collect Done"]);
}

#[tokio::test]
async fn every_order_of_transactions_of_undeletion_and_collection_keeps_what_is_reachable() {
    let explored = interleaved(&[
        &[COLLECT, &[Op::DeleteImage(0, 0), Op::Undelete(0, 0)]],
        &[SWEEP, &[Op::DeleteImage(0, 0), Op::Undelete(0, 0)], &[Op::Push(0, 0)]],
    ])
    .await;
    assert_met(&explored, &["Undelete Done", "Undelete Refused(\"not in the trash\")", "Push Done"]);
}

#[tokio::test]
async fn every_order_of_transactions_of_uploads_and_collection_keeps_what_is_reachable() {
    let explored = interleaved(&[&[SWEEP, UPLOAD, &[Op::DeleteImage(0, 0)]]]).await;
    // A start writes nothing, so that no transaction comes between it and the first append.
    assert_met(&explored, &["Finish Done", "Finish Refused(\"upload\")"]);
}

#[tokio::test]
async fn a_broken_fence_is_found() {
    let beginning = Beginning::new().await;
    let grain = Grain::Transaction { preemptions: 2 };
    // The bytes go before the row says so: an undelete in between restores nothing.
    let sweep: &[Op] = &[Op::DeleteImage(0, 0), Op::Advance(DAY), Op::Collect, Op::BrokenSweep];
    let explored = explore(&beginning, &[sweep, &[Op::Undelete(0, 0)]], grain).await;
    let wrong = explored.wrong.expect("bytes are taken away from under an undelete");
    assert!(wrong.contains("bytes of a"), "{wrong}");
    // What is unreferenced when it is looked at is not when it is thrown away.
    let collect: &[Op] = &[Op::DeleteImage(0, 0), Op::BrokenCollect];
    let explored = explore(&beginning, &[collect, &[Op::Push(0, 0)]], grain).await;
    let wrong = explored.wrong.expect("a blob is collected from under a push");
    assert!(wrong.contains("blob"), "{wrong}");
}
