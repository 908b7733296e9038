//! `wharf policy test`: whether policies decide as a team expects.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use wharf_iam::evaluate::cases::{self, CaseResult};

/// Cases that cannot be read at all, as opposed to decisions that differ.
const UNREADABLE: u8 = 2;

/// Runs every case of a file (`-`: standard input), prints those that differ from what they expect and how many did.
/// Exit status: 0 none differs, 1 some do, 2 the file or a line of it cannot be read.
///
/// # Errors
/// If the results cannot be written.
pub fn test(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let read = open(file).and_then(|cases| {
        let name = if file == Path::new("-") { "standard input".into() } else { file.to_string_lossy() };
        run(cases, &name, json, &mut out)
    });
    match read {
        Ok(tally) => {
            tally.print(json, &mut out)?;
            out.flush()?;
            Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        // A reader of ours that left is not a file that cannot be read.
        Err(error) if error.is::<WriteError>() => Err(error.downcast::<WriteError>()?.0.into()),
        Err(error) => {
            out.flush()?;
            let _ = writeln!(std::io::stderr(), "wharf: {error:#}");
            Ok(ExitCode::from(UNREADABLE))
        }
    }
}

/// How many cases came out as expected.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn print(&self, json: bool, out: &mut impl Write) -> std::io::Result<()> {
        let Self { passed, failed } = self;
        if json {
            writeln!(out, "{}", json!({ "passed": passed, "failed": failed }))
        } else {
            writeln!(out, "{passed} passed, {failed} failed")
        }
    }
}

/// Results could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write results")]
struct WriteError(#[source] std::io::Error);

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}

fn run(cases: impl BufRead, name: &str, json: bool, out: &mut impl Write) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for (index, line) in cases.lines().enumerate() {
        let place = || format!("{name}, line {}", index + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        let result = cases::run(&line).with_context(place)?;
        if result.passed() {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            print(&result, index + 1, json, out).map_err(WriteError)?;
        }
    }
    Ok(tally)
}

fn print(result: &CaseResult, line: usize, json: bool, out: &mut impl Write) -> std::io::Result<()> {
    let CaseResult { name, expected, actual, why } = result;
    if json {
        let object =
            json!({ "name": name, "line": line, "expected": expected, "actual": actual, "why": why });
        return writeln!(out, "{object}");
    }
    let name = if name.is_empty() { format!("line {line}") } else { name.clone() };
    writeln!(out, "{name}: expected {expected}, got {actual}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = r#"{"name":"NAME","request":{"principal":"arn:aws:iam::222233334444:user/erin","action":"ecr:PutImage","resource":"arn:aws:ecr:eu-west-1:222233334444:repository/a","resourceAccount":"222233334444","context":{}},"identityPolicies":[{"Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*","Sid":"all"}}],"expected":"EXPECTED"}"#;

    fn case(name: &str, expected: &str) -> String {
        CASE.replace("NAME", name).replace("EXPECTED", expected) + "\n"
    }

    fn output(cases: &str, json: bool) -> (anyhow::Result<Tally>, String) {
        let mut out = Vec::new();
        let tally = run(cases.as_bytes(), "cases.jsonl", json, &mut out);
        (tally, String::from_utf8(out).unwrap())
    }

    #[test]
    fn cases_that_differ_are_printed_with_the_reason() {
        let cases = case("one", "Allowed") + "\n" + &case("two", "ImplicitlyDenied") + &case("", "invalid");
        let (tally, text) = output(&cases, false);
        assert_eq!(tally.unwrap(), Tally { passed: 1, failed: 2 });
        assert_eq!(
            text,
            "two: expected ImplicitlyDenied, got Allowed: an identity-based policy allows the action \
             (identityPolicies[0], statement 1 \"all\")\n\
             line 4: expected invalid, got Allowed: an identity-based policy allows the action \
             (identityPolicies[0], statement 1 \"all\")\n"
        );
        let (_, text) = output(&cases, true);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&first["name"], &first["actual"]), (&json!("two"), &json!("Allowed")));
    }

    #[test]
    fn a_line_that_is_no_case_is_named() {
        let cases = case("one", "Allowed") + &case("two", "Allowed").replace("erin\"", "erin\"x");
        let error = output(&cases, false).0.unwrap_err();
        assert!(format!("{error:#}").starts_with("cases.jsonl, line 2: not a decision case"), "{error:#}");
        let nobody = case("one", "Allowed").replace("arn:aws:iam::222233334444:user/erin", "erin");
        let error = output(&nobody, false).0.unwrap_err();
        assert_eq!(format!("{error:#}"), "cases.jsonl, line 1: unknown form of principal \"erin\"");
    }
}
