//! The figures: medians, ratios within a round, and whether goals are met.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::Sample;
use crate::rows::{Goal, Measure, Plan, Row, Unit};
use crate::server::Kind;

/// What one server did in one row.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// One figure for each round, in the unit of the row.
    pub values: Vec<f64>,
    /// What they were made of.
    pub samples: Vec<Sample>,
    /// Why there are no more.
    pub error: Option<String>,
}

impl Outcome {
    /// Of one round.
    pub fn of_sample(row: &Row, sample: Sample) -> Self {
        let value = match row.unit {
            Unit::Gigabytes => sample.bytes_per_second / 1e9,
            _ => sample.per_second,
        };
        Self { values: vec![value], samples: vec![sample], error: None }
    }

    /// One more round.
    pub fn append(&mut self, more: Self) {
        self.values.extend(more.values);
        self.samples.extend(more.samples);
    }

    /// Why there is no further round.
    pub fn failed(&mut self, error: &anyhow::Error) {
        self.error = Some(format!("{error:#}"));
    }

    fn value(&self) -> Option<f64> {
        median(self.values.iter().copied())
    }

    fn of(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples.iter().map(figure))
    }

    fn peak(&self) -> Option<f64> {
        self.samples.iter().map(|sample| sample.peak_mib).reduce(f64::max)
    }
}

/// The middle of some figures.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        length if length % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

/// What a run showed.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    cores: usize,
    quick: bool,
    rounds: usize,
    servers: Vec<Kind>,
    rows: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    what: &'static str,
    unit: Unit,
    connections: usize,
    goal: Goal,
    goal_plain: Goal,
    results: Vec<Result>,
    #[serde(skip)]
    row: Row,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

#[derive(Debug, Serialize)]
struct Result {
    server: Kind,
    median: Option<f64>,
    ratio: Option<f64>,
    met: Option<bool>,
    cpu_us_per_operation: Option<f64>,
    cpu_seconds: Option<f64>,
    peak_mib: Option<f64>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report {
    /// Empty.
    pub fn new(kinds: &[Kind], plan: &Plan) -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Self {
            machine: model.unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            quick: plan.quick,
            rounds: plan.rounds,
            servers: kinds.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Takes what a row showed.
    pub fn add(&mut self, row: &Row, outcomes: Vec<(Kind, Outcome)>) {
        let base: Vec<f64> = outcomes
            .iter()
            .find(|(kind, _)| *kind == Kind::DockerRegistry)
            .map_or_else(Vec::new, |(_, outcome)| outcome.values.clone());
        let results = outcomes
            .into_iter()
            .map(|(server, outcome)| {
                let ratios = outcome.values.iter().zip(&base).map(|(value, base)| value / base);
                let ratio = (server != Kind::DockerRegistry).then(|| median(ratios)).flatten();
                let cpu = |sample: &Sample| sample.cpu_seconds / sample.operations as f64 * 1e6;
                let mut result = Result {
                    server,
                    median: outcome.value(),
                    ratio,
                    met: None,
                    cpu_us_per_operation: outcome.of(cpu),
                    cpu_seconds: outcome.of(|sample| sample.cpu_seconds),
                    peak_mib: outcome.peak(),
                    outcome,
                };
                result.met = met(row, &result);
                result
            })
            .collect();
        let connections = match row.measure {
            Measure::Load(connections, _) => connections,
            Measure::Footprint(_) => 0,
        };
        self.rows.push(Line {
            name: row.name,
            what: row.what,
            unit: row.unit,
            connections,
            goal: row.goal,
            goal_plain: row.goal_plain,
            results,
            row: *row,
        });
    }

    /// Whether a row could not be run on a server.
    pub fn any_error(&self) -> bool {
        self.rows.iter().any(|line| line.results.iter().any(|result| result.outcome.error.is_some()))
    }

    /// The tables.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{} cores of {}, load generator included; median of {} rounds{}.\n\n",
            self.cores,
            self.machine,
            self.rounds,
            if self.quick { ", quick" } else { "" }
        );
        self.speeds(&mut text);
        self.costs(&mut text);
        self.errors(&mut text);
        text
    }

    fn speeds(&self, text: &mut String) {
        text.push_str("| row | a step | unit |");
        for kind in &self.servers {
            let _ = write!(text, " {} |", kind.title());
            if *kind != Kind::DockerRegistry {
                text.push_str(" × | goal | met |");
            }
        }
        text.push_str("\n|---|---|---|");
        for kind in &self.servers {
            text.push_str(if *kind == Kind::DockerRegistry { "--:|" } else { "--:|--:|--:|---|" });
        }
        text.push('\n');
        for line in &self.rows {
            let _ = write!(text, "| `{}` | {}", line.name, line.what);
            let from = if line.connections > 0 {
                format!(", {} connections", line.connections)
            } else {
                String::new()
            };
            let _ = write!(text, "{from} | {} |", unit(line.unit));
            for kind in &self.servers {
                let result = line.results.iter().find(|result| result.server == *kind);
                let _ = write!(text, " {} |", figure(result.and_then(|result| result.median)));
                if *kind != Kind::DockerRegistry {
                    let ratio = result.and_then(|result| result.ratio);
                    let shown = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
                    let verdict = match result.and_then(|result| result.met) {
                        None => "–",
                        Some(true) => "yes",
                        Some(false) => "**no**",
                    };
                    let goal = if *kind == Kind::Wharf { line.goal } else { line.goal_plain };
                    let _ = write!(text, " {shown} | {} | {verdict} |", goal_text(goal));
                }
            }
            text.push('\n');
        }
    }

    fn costs(&self, text: &mut String) {
        text.push_str(
            "\n| row | server | CPU s | CPU µs a step | p50 ms | p99 ms | request p99 ms | peak MiB | generator CPU s |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for line in &self.rows {
            for result in line.results.iter().filter(|result| !result.outcome.samples.is_empty()) {
                let outcome = &result.outcome;
                let row = &line.row;
                let wharf = result.server != Kind::DockerRegistry;
                let marked = |value: Option<f64>, limit: Option<f64>| {
                    let over = wharf && value.zip(limit).is_some_and(|(value, limit)| value > limit);
                    if over { format!("**{}**", figure(value)) } else { figure(value) }
                };
                let p99 = outcome.of(|sample| sample.p99_ms);
                let _ = writeln!(
                    text,
                    "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
                    line.name,
                    result.server.title(),
                    figure(result.cpu_seconds),
                    marked(result.cpu_us_per_operation, row.cpu_goal),
                    figure(outcome.of(|sample| sample.p50_ms)),
                    marked(p99, row.p99_goal),
                    figure(outcome.of(|sample| sample.request_p99_ms)),
                    marked(result.peak_mib, Some(row.peak_goal)),
                    figure(outcome.of(|sample| sample.generator_cpu_seconds)),
                );
            }
        }
    }

    fn errors(&self, text: &mut String) {
        for line in &self.rows {
            for result in &line.results {
                if let Some(error) = &result.outcome.error {
                    let _ = writeln!(text, "\n`{}` on {}: {error}", line.name, result.server.title());
                }
            }
        }
    }
}

/// Whether all that a row asks of wharf is met; nothing is said of its peer.
fn met(row: &Row, result: &Result) -> Option<bool> {
    let value = result.median?;
    let goal = match result.server {
        Kind::DockerRegistry => return None,
        Kind::Wharf => row.goal,
        Kind::WharfPlain => row.goal_plain,
    };
    let speed = match goal {
        Goal::None => true,
        Goal::Times(times) => result.ratio? >= times,
        Goal::AtLeast(least) => value >= least,
        Goal::AtMost(most) => value <= most,
    };
    let within = |value: Option<f64>, limit: Option<f64>| {
        limit.is_none_or(|limit| value.is_none_or(|value| value <= limit))
    };
    Some(
        speed
            && within(result.cpu_us_per_operation, row.cpu_goal)
            && within(result.outcome.of(|sample| sample.p99_ms), row.p99_goal)
            && within(result.peak_mib, Some(row.peak_goal)),
    )
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "/s",
        Unit::Gigabytes => "GB/s",
        Unit::Milliseconds => "ms",
        Unit::Mebibytes => "MiB",
    }
}

fn goal_text(goal: Goal) -> String {
    match goal {
        Goal::None => "–".to_owned(),
        Goal::Times(times) => format!("≥ {times}×"),
        Goal::AtLeast(least) => format!("≥ {least}"),
        Goal::AtMost(most) => format!("≤ {most}"),
    }
}

/// Three digits that matter.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn outcome(values: &[f64]) -> Outcome {
        Outcome { values: values.to_vec(), ..Outcome::default() }
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn the_ratio_is_the_median_of_the_ratios_of_rounds() {
        let plan = Plan { rounds: 3, quick: true };
        let mut report = Report::new(&Kind::ALL, &plan);
        report.add(
            row("mount"),
            vec![
                (Kind::DockerRegistry, outcome(&[10.0, 20.0, 40.0])),
                (Kind::Wharf, outcome(&[130.0, 260.0, 400.0])),
                (Kind::WharfPlain, outcome(&[100.0, 200.0, 400.0])),
            ],
        );
        let results = &report.rows[0].results;
        assert_eq!(
            (results[1].median, results[1].ratio, results[1].met),
            (Some(260.0), Some(13.0), Some(true))
        );
        assert_eq!((results[2].ratio, results[2].met), (Some(10.0), Some(false)));
        assert!(
            report.markdown().contains("| 20.0 | 260 | 13.00 | ≥ 12× | yes | 200 | 10.00 | ≥ 12× | **no** |")
        );
    }

    #[test]
    fn names_of_rows_are_distinct() {
        let names: std::collections::HashSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
