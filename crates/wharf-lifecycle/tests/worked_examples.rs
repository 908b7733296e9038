//! Examples of the user guide, and what goes beyond it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use wharf_lifecycle::{
    Action, Grammar, Image, ImageTag, LifecyclePolicy, Outcome, Protection, StorageClass, evaluate,
};
use wharf_types::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn image(digest: &'static str, age: u64, tags: &[&'static str]) -> Image<'static> {
    Image::pushed(digest, NOW.minus(days(age))).tagged(tags.iter().copied())
}

fn policy(rules: &[(u64, &str)]) -> LifecyclePolicy {
    let rule = |(priority, selection): &(u64, &str)| {
        format!(r#"{{"rulePriority":{priority},"selection":{{{selection}}},"action":{{"type":"expire"}}}}"#)
    };
    let rules: Vec<String> = rules.iter().map(rule).collect();
    LifecyclePolicy::parse(&format!(r#"{{"rules":[{}]}}"#, rules.join(",")), Grammar::Extended).unwrap()
}

/// The digests that go.
fn acted_on<'a>(policy: &LifecyclePolicy, images: &[Image<'a>]) -> Vec<&'a str> {
    let verdicts = evaluate(policy, images, NOW);
    let acted = images.iter().zip(verdicts).filter(|(_, verdict)| matches!(verdict.outcome, Outcome::Act(_)));
    acted.map(|(image, _)| image.digest).collect()
}

const PROD: &str =
    r#""tagStatus":"tagged","tagPatternList":["prod*"],"countType":"imageCountMoreThan","countNumber":1"#;
const BETA: &str =
    r#""tagStatus":"tagged","tagPatternList":["beta*"],"countType":"imageCountMoreThan","countNumber":1"#;

#[test]
fn a_stronger_rule_shields_what_it_keeps() {
    let images = [
        image("a", 10, &["beta-1", "prod-1"]),
        image("b", 9, &["beta-2", "prod-2"]),
        image("c", 8, &["beta-3"]),
    ];
    assert_eq!(acted_on(&policy(&[(1, PROD), (2, BETA)]), &images), ["a"]);
    assert_eq!(acted_on(&policy(&[(2, PROD), (1, BETA)]), &images), ["a", "b"]);
    let verdicts = evaluate(&policy(&[(1, PROD), (2, BETA)]), &images, NOW);
    assert_eq!((verdicts[1].claimed_by, verdicts[1].shielded_from), (Some(0), Some(1)));
}

#[test]
fn three_rules_of_three_kinds() {
    let images = [
        image("a", 4, &["alpha-1", "beta-1"]),
        image("b", 3, &[]),
        image("c", 2, &["alpha-2"]),
        image("d", 1, &["git"]),
        Image::pushed("e", NOW.minus(days(1)).plus(Duration::from_secs(1))),
    ];
    let alpha = r#""tagStatus":"tagged","tagPatternList":["alpha*"],"countType":"imageCountMoreThan","countNumber":1"#;
    let untagged =
        r#""tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":1"#;
    let any = r#""tagStatus":"any","countType":"imageCountMoreThan","countNumber":1"#;
    assert_eq!(acted_on(&policy(&[(1, alpha), (2, untagged), (3, any)]), &images), ["a", "b", "d"]);
}

#[test]
fn every_entry_of_a_list_wants_a_tag() {
    let both = r#""tagStatus":"tagged","tagPatternList":["alpha*","beta*"],"countType":"sinceImagePushed","countUnit":"days","countNumber":1"#;
    let images =
        [image("a", 9, &["alpha-1"]), image("b", 9, &["alpha-2", "beta-2"]), image("c", 9, &["beta-3"])];
    assert_eq!(acted_on(&policy(&[(1, both)]), &images), ["b"]);
}

#[test]
fn an_age_is_reached_to_the_microsecond() {
    let aged = r#""tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":31"#;
    let edge = NOW.minus(days(31));
    let images = [
        Image::pushed("exactly", edge),
        Image::pushed("older", Timestamp::from_micros(edge.as_micros() - 1)),
        Image { activated_at: Some(NOW), ..image("restored", 100, &[]) },
    ];
    assert_eq!(acted_on(&policy(&[(1, aged)]), &images), ["older"]);
}

#[test]
fn archived_images_age_from_their_archiving() {
    let archived = r#""tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90"#;
    let gone = |digest, age| Image {
        class: Some(StorageClass::Archive),
        archived_at: Some(NOW.minus(days(age))),
        ..image(digest, 500, &[])
    };
    let moving = Image { class: None, ..gone("moving", 400) };
    let images = [gone("a", 91), gone("b", 89), image("standard", 500, &[]), moving];
    assert_eq!(acted_on(&policy(&[(1, archived)]), &images), ["a"]);
}

#[test]
fn protected_images_are_counted_and_kept() {
    let any = r#""tagStatus":"any","countType":"imageCountMoreThan","countNumber":1"#;
    let child = Image { protection: Some(Protection::ReferencedByManifestList), ..image("child", 2, &[]) };
    let running = Image { protection: Some(Protection::InUse), ..image("running", 3, &[]) };
    let referrer = Image { follows_subject: true, ..image("signature", 1, &[]) };
    let images = [referrer, child, running, image("old", 4, &[])];
    let verdicts = evaluate(&policy(&[(1, any)]), &images, NOW);
    assert_eq!((&verdicts[0].outcome, verdicts[0].claimed_by), (&Outcome::Keep, None));
    assert_eq!(verdicts[1].outcome, Outcome::Keep, "the newest");
    assert_eq!(verdicts[2].outcome, Outcome::Blocked(Action::Expire, Protection::InUse));
    assert_eq!(verdicts[3].outcome, Outcome::Act(Action::Expire));
}

#[test]
fn a_group_keeps_its_own_newest() {
    let grouped = r#""tagStatus":"tagged","wharf":{"groupBy":"^([a-z]+)-"},"countType":"imageCountMoreThan","countNumber":1"#;
    let images = [
        image("a", 9, &["api-1"]),
        image("b", 8, &["web-1"]),
        image("c", 7, &["api-2", "web-2"]),
        image("d", 6, &["api-3"]),
        image("e", 5, &["other"]),
    ];
    // c is the newest web; e belongs to no group.
    assert_eq!(acted_on(&policy(&[(1, grouped)]), &images), ["a", "b"]);
}

#[test]
fn versions_are_ordered_as_versions() {
    let semver = r#""tagStatus":"tagged","wharf":{"tagRegexAnyOf":["^v\\d"],"order":"semver"},"countType":"imageCountMoreThan","countNumber":2"#;
    let images = [
        image("old-major", 1, &["v1.9.0"]),
        image("ten", 5, &["v2.10.0", "latest"]),
        image("nine", 4, &["v2.9.0"]),
        image("pre", 2, &["v2.10.0-rc.1"]),
        image("odd", 1, &["v2"]),
    ];
    assert_eq!(acted_on(&policy(&[(1, semver)]), &images), ["old-major", "nine", "odd"]);
}

#[test]
fn exclusions_keep_images_out_of_the_count() {
    let excluded = r#""tagStatus":"any","wharf":{"excludeTagPatterns":["keep*"],"notInUse":true},"countType":"imageCountMoreThan","countNumber":1"#;
    let running = Image { protection: Some(Protection::InUse), ..image("running", 1, &[]) };
    let images = [running, image("kept", 2, &["keep-me"]), image("newest", 3, &[]), image("old", 4, &["x"])];
    assert_eq!(acted_on(&policy(&[(1, excluded)]), &images), ["old"]);
}

#[test]
fn of_an_image_that_ecrs_lists_choose_only_the_tags_they_name_count() {
    let tag = |name, age| ImageTag { name, tagged_at: NOW.minus(days(age)) };
    let tagged = |digest, tags| Image { tags, ..image(digest, 30, &[]) };
    let images = [
        tagged("a", vec![tag("nightly-1", 9), tag("stable", 30)]),
        tagged("b", vec![tag("nightly-2", 9), tag("release", 1)]),
    ];
    let rule = |list: &str, more: &str| {
        format!(
            r#""tagStatus":"tagged",{list},"wharf":{{{more}}},"countType":"sinceTagged","countUnit":"days","countNumber":7"#
        )
    };
    for list in [r#""tagPatternList":["nightly-*"]"#, r#""tagPrefixList":["nightly-"]"#] {
        let verdicts = evaluate(&policy(&[(1, &rule(list, r#""perTag":true"#))]), &images, NOW);
        assert_eq!(verdicts[0].outcome, Outcome::Untag(vec![0]), "{list}: stable stays");
        assert_eq!(verdicts[1].outcome, Outcome::Untag(vec![0]), "{list}: release stays");
        // By images: how old the tags are that the list names.
        let whole = evaluate(&policy(&[(1, &rule(list, r#""excludeTagPatterns":["keep"]"#))]), &images, NOW);
        assert!(whole.iter().all(|verdict| verdict.outcome == Outcome::Act(Action::Expire)), "{list}");
    }
}

#[test]
fn tags_go_one_by_one_and_the_image_with_the_last() {
    let per_tag = r#""tagStatus":"tagged","wharf":{"tagPatternsAnyOf":["nightly-*"],"perTag":true},"countType":"sinceTagged","countUnit":"days","countNumber":7"#;
    let tag = |name, age| ImageTag { name, tagged_at: NOW.minus(days(age)) };
    let tagged = |digest, tags| Image { tags, ..image(digest, 30, &[]) };
    let images = [
        tagged("a", vec![tag("nightly-1", 9), tag("stable", 30)]),
        tagged("b", vec![tag("nightly-2", 8)]),
        tagged("c", vec![tag("nightly-3", 8), tag("nightly-4", 1)]),
    ];
    let verdicts = evaluate(&policy(&[(1, per_tag)]), &images, NOW);
    assert_eq!(verdicts[0].outcome, Outcome::Untag(vec![0]));
    assert_eq!(verdicts[1].outcome, Outcome::Act(Action::Expire));
    assert_eq!(verdicts[2].outcome, Outcome::Untag(vec![0]));
}
