//! Decision cases, whole: the published ones, and more of our own.

#![allow(clippy::unwrap_used)]

use wharf_iam::evaluate::cases;

#[track_caller]
fn run(lines: &str, count: usize) {
    let mut run = 0;
    for line in lines.lines() {
        let result = cases::run(line).unwrap();
        assert!(result.passed(), "{result:?}");
        run += 1;
    }
    assert_eq!(run, count);
}

#[test]
fn every_published_case_comes_out_as_expected() {
    run(include_str!("data/cases.jsonl"), 80);
}

/// Made by `fixtures/make_adversarial_cases.py`: every operator at its edges, every kind of principal on both sides of
/// an account's border, boundaries and session policies with each strength of grant, and what is no policy.
#[test]
fn adversarial_cases_come_out_as_the_rules_say() {
    run(include_str!("data/adversarial.jsonl"), 341);
}
