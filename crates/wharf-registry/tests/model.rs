//! Random sequences of operations, held against a small in-memory model of a registry.
//!
//! `WHARF_MODEL_OPERATIONS` says how many operations (default 3,000; the full run has 100,000), `WHARF_MODEL_SEED`
//! repeats a run: a failure prints the seed of its round and the operations that led to it.
#![allow(clippy::unwrap_used)]

#[path = "model/compare.rs"]
mod compare;
#[path = "model/crowd.rs"]
mod crowd;
mod house;
#[path = "model/player.rs"]
mod player;
#[path = "model/random.rs"]
mod random;
#[path = "model/state.rs"]
mod state;
#[path = "model/universe.rs"]
mod universe;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use wharf_registry::{Dialect, Options};

use house::House;
use player::Player;
use random::Random;
use universe::Universe;

/// Operations of one registry's life.
const ROUND: usize = 1_500;
/// Operations between two looks at everything.
const BETWEEN: usize = 25;

fn rules(options: &mut Options, random: &mut Random) {
    const MINUTE: Duration = Duration::from_secs(60);
    if random.chance(30) {
        options.dialect = Dialect::Ecr;
    }
    options.encrypt = random.chance(80);
    options.sparse_manifests = random.chance(30);
    options.unreferenced_grace = 60 * MINUTE;
    options.trash_window = 120 * MINUTE;
    options.upload_lifetime = 50 * MINUTE;
    if random.chance(50) {
        options.quotas.images_per_repository = 6;
        options.quotas.tags_per_image = 2;
        options.quotas.repositories = 3;
    }
}

async fn play(player: &mut Player, operations: usize) {
    for number in 1..=operations {
        player.step().await;
        if number % BETWEEN == 0 {
            player.compare().await;
        }
    }
    player.house.restart().await;
    player.compare().await;
    let scrubbed = player.house.registry.scrub(&()).await.unwrap();
    assert!(scrubbed.is_clean(), "{scrubbed:?}");
    let images: usize = player.model.repositories.values().map(|repository| repository.images.len()).sum();
    assert_eq!(scrubbed.manifests, images as u64);
}

async fn round(seed: u64, operations: usize) {
    let mut random = Random::new(seed);
    let house = House::with(|options| rules(options, &mut random)).await;
    let universe = Universe::new(&mut random);
    let mut player = Player::new(house, universe, random);
    let played = AssertUnwindSafe(play(&mut player, operations)).catch_unwind().await;
    if let Err(panic) = played {
        let from = player.log.len().saturating_sub(80);
        eprintln!("the last operations of {}:\n{}", player.done, shortened(&player.log[from..].join("\n")));
        eprintln!("WHARF_MODEL_SEED={seed} WHARF_MODEL_OPERATIONS={operations} repeats this round");
        std::panic::resume_unwind(panic);
    }
}

fn operations() -> usize {
    random::setting("WHARF_MODEL_OPERATIONS").map_or(3_000, |number| number as usize)
}

/// Digests by their first digits.
fn shortened(text: &str) -> String {
    let mut words = text.split("sha");
    let mut short = words.next().unwrap_or_default().to_owned();
    for word in words {
        let hex = word.get(4..).unwrap_or_default();
        let rest = hex.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        short += &format!("{}…{rest}", word.get(..10).unwrap_or(word));
    }
    short
}

#[tokio::test]
async fn any_sequence_of_operations_leaves_what_the_model_says() {
    let seed = random::seed();
    let mut left = operations();
    let mut number = 0;
    while left > 0 {
        let operations = left.min(ROUND);
        round(seed.wrapping_add(number), operations).await;
        left -= operations;
        number += 1;
    }
    println!("{number} rounds from seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_manifest_names_is_there_whatever_is_collected_meanwhile() {
    let seed = random::seed();
    let counts = crowd::run(seed, 6, operations() / 20).await;
    // It was no quiet day.
    for (what, counter, least) in [
        ("images put", &counts.images, 50),
        ("images deleted", &counts.deleted, 50),
        ("images refused", &counts.refused, 1),
        ("blobs mounted", &counts.mounted, 10),
        ("blobs uploaded", &counts.uploaded, 50),
        ("images looked at", &counts.looked_at, 50),
    ] {
        let number = counter.load(std::sync::atomic::Ordering::Relaxed);
        println!("seed {seed}: {number} {what}");
        assert!(number >= least, "only {number} {what}");
    }
}
