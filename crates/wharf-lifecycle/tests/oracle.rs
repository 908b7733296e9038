//! The evaluator against a second one that was written from the user guide alone: from the policy's JSON, one image at a
//! time, without any order or index shared between rules. `LIFECYCLE_REPOSITORIES` sets how many random repositories
//! are compared (100,000), `LIFECYCLE_SEED` which.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::env;

use serde_json::{Value, json};
use wharf_lifecycle::{
    Action, Grammar, Image, ImageTag, LifecyclePolicy, Outcome, Protection, StorageClass, evaluate,
};
use wharf_types::Timestamp;

const DAY: i64 = 86_400_000_000;
const NOW: i64 = 20_000 * DAY;
const NAMES: [&str; 8] = ["a", "a-1", "a-2", "b-1", "b-2", "ab", "ba-1", "c"];
const PREFIXES: [&str; 5] = ["a", "a-", "b", "b-", "c"];
const PATTERNS: [&str; 6] = ["a*", "*1", "b-*", "*b*", "*-2", "a"];

/// Marsaglia's xorshift: the same repositories everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Mostly whole days, so that ties and exact ages happen.
    fn moment(&mut self) -> i64 {
        let day = NOW - 120 * DAY + self.below(120) as i64 * DAY;
        if self.chance(30) { day + self.below(3) as i64 - 1 } else { day }
    }

    fn some<'s>(&mut self, of: &[&'s str], most: usize) -> Vec<&'s str> {
        let count = 1 + self.below(most);
        let chosen: BTreeSet<&str> = (0..count).map(|_| of[self.below(of.len())]).collect();
        chosen.into_iter().collect()
    }
}

struct Stored {
    digest: String,
    tags: Vec<&'static str>,
    class: Option<StorageClass>,
    pushed: i64,
    pulled: Option<i64>,
    archived: Option<i64>,
    activated: Option<i64>,
    follows: bool,
    protection: Option<Protection>,
}

fn random_image(random: &mut Random, number: usize) -> Stored {
    let class = match random.below(10) {
        0 => None,
        1..=3 => Some(StorageClass::Archive),
        _ => Some(StorageClass::Standard),
    };
    let protection = match random.below(12) {
        0 => Some(Protection::InUse),
        1 => Some(Protection::ReferencedByManifestList),
        _ => None,
    };
    Stored {
        digest: format!("{number:04}"),
        tags: if random.chance(65) { random.some(&NAMES, 3) } else { Vec::new() },
        class,
        pushed: random.moment(),
        pulled: random.chance(50).then(|| random.moment()),
        archived: (class != Some(StorageClass::Standard) || random.chance(10)).then(|| random.moment()),
        activated: random.chance(15).then(|| random.moment()),
        follows: random.chance(8),
        protection,
    }
}

fn random_rule(random: &mut Random, priority: usize) -> Value {
    let archive = random.chance(25);
    let mut selection = json!({"storageClass": if archive { "archive" } else { "standard" }});
    let mut set = |name: &str, value: Value| selection[name] = value;
    match random.below(8) {
        0 => set("tagStatus", json!("any")),
        1 => set("tagStatus", json!("untagged")),
        2..=4 => {
            set("tagStatus", json!("tagged"));
            set("tagPrefixList", json!(random.some(&PREFIXES, 2)));
        }
        _ => {
            set("tagStatus", json!("tagged"));
            set("tagPatternList", json!(random.some(&PATTERNS, 2)));
        }
    }
    let mut transition = random.chance(30);
    if archive {
        set("countType", json!("sinceImageTransitioned"));
        set("countUnit", json!("days"));
        set("countNumber", json!(90 + random.below(30)));
        transition = false;
    } else if random.chance(50) {
        set("countType", json!("imageCountMoreThan"));
        set("countNumber", json!(1 + random.below(6)));
    } else {
        let pulled = random.chance(40);
        transition |= pulled;
        set("countType", json!(if pulled { "sinceImagePulled" } else { "sinceImagePushed" }));
        set("countUnit", json!("days"));
        set("countNumber", json!(1 + random.below(110)));
    }
    let action = match transition {
        true => json!({"type": "transition", "targetStorageClass": "archive"}),
        false => json!({"type": "expire"}),
    };
    json!({"rulePriority": priority, "selection": selection, "action": action})
}

/// `*` by definition.
fn glob(pattern: &str, tag: &str) -> bool {
    match pattern.split_at_checked(1) {
        None => tag.is_empty(),
        Some(("*", rest)) => (0..=tag.len()).any(|skip| glob(rest, &tag[skip..])),
        Some((first, rest)) => tag.strip_prefix(first).is_some_and(|tag| glob(rest, tag)),
    }
}

fn is_candidate(rule: &Value, image: &Stored) -> bool {
    let selection = &rule["selection"];
    let class =
        if selection["storageClass"] == "archive" { StorageClass::Archive } else { StorageClass::Standard };
    if image.class != Some(class) || image.follows {
        return false;
    }
    let every = |list: &str, matches: &dyn Fn(&str, &str) -> bool| {
        let list = selection[list].as_array().cloned().unwrap_or_default();
        list.iter().all(|entry| image.tags.iter().any(|tag| matches(entry.as_str().unwrap(), tag)))
    };
    match selection["tagStatus"].as_str().unwrap() {
        "any" => true,
        "untagged" => image.tags.is_empty(),
        _ => every("tagPrefixList", &|prefix, tag| tag.starts_with(prefix)) && every("tagPatternList", &glob),
    }
}

fn is_due(rule: &Value, image: &Stored, images: &[Stored]) -> bool {
    let number = rule["selection"]["countNumber"].as_i64().unwrap();
    let push = |image: &Stored| image.activated.filter(|at| *at > image.pushed).unwrap_or(image.pushed);
    let age = match rule["selection"]["countType"].as_str().unwrap() {
        "imageCountMoreThan" => {
            let newer = |other: &&Stored| {
                is_candidate(rule, other)
                    && (push(other) > push(image)
                        || push(other) == push(image) && other.digest < image.digest)
            };
            return images.iter().filter(newer).count() as i64 >= number;
        }
        "sinceImagePushed" => NOW - push(image),
        "sinceImagePulled" => {
            let pulled = image.pulled.unwrap_or(image.pushed);
            NOW - image.activated.filter(|at| *at > pulled).unwrap_or(pulled)
        }
        _ => match image.archived {
            Some(archived) => NOW - archived,
            None => return false,
        },
    };
    age > number * DAY
}

fn expected(rules: &[Value], images: &[Stored]) -> Vec<Outcome> {
    let verdict = |image: &Stored| {
        let mut by_priority: Vec<&Value> = rules.iter().collect();
        by_priority.sort_by_key(|rule| rule["rulePriority"].as_u64());
        let Some(rule) = by_priority.into_iter().find(|rule| is_candidate(rule, image)) else {
            return Outcome::Keep;
        };
        let action = if rule["action"]["type"] == "expire" { Action::Expire } else { Action::Archive };
        match (is_due(rule, image, images), image.protection) {
            (false, _) => Outcome::Keep,
            (true, None) => Outcome::Act(action),
            (true, Some(protection)) => Outcome::Blocked(action, protection),
        }
    };
    images.iter().map(verdict).collect()
}

fn view(image: &Stored) -> Image<'_> {
    let at = Timestamp::from_micros;
    Image {
        digest: &image.digest,
        tags: image.tags.iter().map(|name| ImageTag { name, tagged_at: at(image.pushed) }).collect(),
        class: image.class,
        pushed_at: at(image.pushed),
        pulled_at: image.pulled.map(at),
        archived_at: image.archived.map(at),
        activated_at: image.activated.map(at),
        follows_subject: image.follows,
        protection: image.protection,
    }
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_evaluator_agrees_with_the_oracle() {
    let repositories = setting("LIFECYCLE_REPOSITORIES", 100_000);
    let seed = setting("LIFECYCLE_SEED", 0x9e37_79b9_7f4a_7c15);
    let mut random = Random(seed.max(1));
    let (mut valid, mut acted) = (0, 0);
    while valid < repositories {
        let count = 1 + random.below(4);
        let mut rules = Vec::new();
        for _ in 0..count {
            let priority = 1 + random.below(20);
            rules.push(random_rule(&mut random, priority));
        }
        let text = json!({ "rules": rules }).to_string();
        // Rules that contradict each other are the parser's matter.
        let Ok(policy) = LifecyclePolicy::parse(&text, Grammar::Ecr) else { continue };
        valid += 1;
        let count = random.below(14);
        let stored: Vec<Stored> = (0..count).map(|number| random_image(&mut random, number)).collect();
        let images: Vec<Image<'_>> = stored.iter().map(view).collect();
        let verdicts = evaluate(&policy, &images, Timestamp::from_micros(NOW));
        for ((image, verdict), expected) in stored.iter().zip(verdicts).zip(expected(&rules, &stored)) {
            acted += u64::from(expected != Outcome::Keep);
            assert_eq!(verdict.outcome, expected, "seed {seed}: image {} of {text}", image.digest);
        }
    }
    assert!(acted > repositories / 2, "the repositories exercise nothing: {acted}");
}
