//! How long one evaluation takes: 100,000 images by 50 rules.
//!
//! `cargo run --release -p wharf-lifecycle --example evaluate`

use std::time::{Duration, Instant};

use wharf_lifecycle::{Grammar, Image, LifecyclePolicy, evaluate};
use wharf_types::Timestamp;

fn main() {
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let rule = |priority: usize| {
        let (list, entry) =
            if priority.is_multiple_of(2) { ("tagPrefixList", "-") } else { ("tagPatternList", "-*7") };
        format!(
            r#"{{"rulePriority":{priority},"selection":{{"tagStatus":"tagged","{list}":["branch{priority}{entry}"],
            "countType":"imageCountMoreThan","countNumber":5}},"action":{{"type":"expire"}}}}"#
        )
    };
    let rules: Vec<String> = (1..=50).map(rule).collect();
    let policy = LifecyclePolicy::parse(&format!(r#"{{"rules":[{}]}}"#, rules.join(",")), Grammar::Ecr)
        .expect("the policy is valid");
    let names: Vec<(String, [String; 2])> = (0..100_000)
        .map(|n| (format!("sha256:{n:064x}"), [format!("branch{}-{n}", n % 60), format!("build-{n}")]))
        .collect();
    let image = |(n, (digest, tags)): (usize, &'static (String, [String; 2]))| {
        let pushed = now.minus(Duration::from_secs((n as u64 * 7919) % 10_000_000));
        Image::pushed(digest, pushed).tagged(tags.iter().map(String::as_str))
    };
    let names: &'static [_] = names.leak();
    let images: Vec<Image<'_>> = names.iter().enumerate().map(image).collect();
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(evaluate(&policy, &images, now).len(), images.len());
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("100,000 images by 50 rules: median {:?} of {times:?}", times[3]);
}
