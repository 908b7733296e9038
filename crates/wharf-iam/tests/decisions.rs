//! The published decision cases, whole.

#![allow(clippy::unwrap_used)]

use wharf_iam::evaluate::cases;

#[test]
fn every_published_case_comes_out_as_expected() {
    let mut run = 0;
    for line in include_str!("data/cases.jsonl").lines() {
        let result = cases::run(line).unwrap();
        assert!(result.passed(), "{result:?}");
        run += 1;
    }
    assert_eq!(run, 80);
}
