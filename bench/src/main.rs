//! Runs the same work on wharf and on Debian's docker-registry, interleaved, and tells what each took.
//! `README.md` says how figures are computed.

mod client;
mod content;
mod http;
mod load;
mod process;
mod report;
mod rows;
mod server;
mod sigv4;
mod soak;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;

use report::{Outcome, Report};
use rows::{Contents, Measure, Plan, ROWS, Row};
use server::{Kind, Programs, Server};

/// Runs the same work on wharf and on docker-registry and compares what it took.
#[derive(Debug, Parser)]
#[command(
    max_term_width = 110,
    after_help = "As `soak` with options of its own (`soak --help`) it keeps wharf under load and watches it."
)]
struct Options {
    /// Only these rows: names, or beginnings of names
    #[arg(long, value_name = "ROW", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Only these servers
    #[arg(long, value_enum, value_name = "SERVER", num_args = 1.., value_delimiter = ',', default_values_t = Kind::ALL)]
    servers: Vec<Kind>,
    /// Samples of each row and server [default: 5, with --quick 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// Shorter samples and less data, for a first impression
    #[arg(long)]
    quick: bool,
    /// Name the rows and end
    #[arg(long)]
    list: bool,
    /// Where the servers keep their data meanwhile; on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = "target/data")]
    data: PathBuf,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE", default_value = "target/report.json")]
    json: PathBuf,
    /// Where the tables go, besides standard output
    #[arg(long, value_name = "FILE", default_value = "target/report.md")]
    markdown: PathBuf,
    /// The wharf to measure, a release build
    #[arg(long, value_name = "FILE", env = "WHARF_BIN")]
    wharf: PathBuf,
    /// The docker-registry to compare with
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/docker-registry")]
    docker_registry: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "soak") {
        return soak::run(&soak::Options::parse_from(std::env::args_os().skip(1)));
    }
    let options = Options::parse();
    let rows = chosen(&options.only)?;
    if options.list {
        for row in rows {
            println!("{:20} {}", row.name, row.what);
        }
        return Ok(());
    }
    let mut kinds = options.servers.clone();
    kinds.sort();
    kinds.dedup();
    let plan = Plan {
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 5 }).max(1),
        quick: options.quick,
    };
    let programs = Programs {
        docker_registry: options.docker_registry.clone(),
        wharf: fs::canonicalize(&options.wharf)
            .with_context(|| format!("no wharf at {}", options.wharf.display()))?,
    };
    fs::create_dir_all(&options.data)?;
    let data = fs::canonicalize(&options.data)?;
    let contents = Contents::default();
    let mut report = Report::new(&kinds, &plan);
    for row in rows {
        eprintln!("{}: {}", row.name, row.what);
        let directory = Scratch::new(data.join(format!("{}-{}", row.name, std::process::id())))?;
        report.add(row, run(row, &kinds, &plan, &programs, &directory.0, &contents));
        // After each row, so that what was measured survives whatever comes.
        write(&options.json, &serde_json::to_string_pretty(&report)?)?;
        write(&options.markdown, &report.markdown())?;
    }
    print!("{}", report.markdown());
    if report.any_error() {
        bail!("not every row could be run");
    }
    Ok(())
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    if let Some(unknown) = only.iter().find(|name| !ROWS.iter().any(|row| row.name.starts_with(*name))) {
        bail!("no row is called `{unknown}`; --list names them");
    }
    let exact = |row: &Row| only.iter().any(|name| row.name == *name);
    // An exact name means that row, and not those whose names go on.
    let begins = |row: &Row| {
        only.iter()
            .any(|name| row.name.starts_with(name.as_str()) && !ROWS.iter().any(|row| row.name == *name))
    };
    Ok(ROWS.iter().filter(|row| only.is_empty() || exact(row) || begins(row)).collect())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A directory that is gone when its row is done.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("  cannot remove {}: {error}", self.0.display());
        }
    }
}

fn run(
    row: &Row,
    kinds: &[Kind],
    plan: &Plan,
    programs: &Programs,
    directory: &Path,
    contents: &Contents,
) -> Vec<(Kind, Outcome)> {
    let kinds: Vec<_> = kinds.iter().copied().filter(|kind| row.runs_on(*kind)).collect();
    let mut outcomes: Vec<_> = kinds.iter().map(|kind| (*kind, Outcome::default())).collect();
    match row.measure {
        Measure::Load(connections, prepare) => {
            let servers: Vec<_> =
                kinds.iter().map(|kind| Server::start(*kind, programs, directory)).collect();
            let mut loads: Vec<_> = servers
                .iter()
                .map(|server| {
                    let server = server.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                    let load = prepare(server, contents, plan).context("preparation")?;
                    // Also the sample that warms up.
                    rest(false);
                    load::run(server, &load, connections, Some(plan.time() / 4)).context("warming up")?;
                    Ok::<_, anyhow::Error>((server, load))
                })
                .collect();
            let limit = Some(plan.time());
            interleaved(plan.rounds, &mut outcomes, |place, _| {
                let (server, load) = match &mut loads[place] {
                    Ok(ready) => ready,
                    Err(error) => bail!("{error:#}"),
                };
                // Steps of many bytes are counted and must not be cut, all others may be.
                let limit =
                    if row.unit == rows::Unit::Gigabytes && load.steps.is_some() { None } else { limit };
                Ok(Outcome::of_sample(row, load::run(server, load, connections, limit)?))
            });
            drop(loads);
            for (server, (_, outcome)) in servers.into_iter().zip(&mut outcomes) {
                if let Ok(server) = server
                    && let Err(error) = server.stop()
                {
                    outcome.failed(&error);
                }
            }
        }
        Measure::Footprint(footprint) => {
            let prepared: Vec<_> =
                kinds.iter().map(|kind| footprint.prepare(*kind, programs, directory, contents)).collect();
            interleaved(plan.rounds, &mut outcomes, |place, round| {
                if let Err(error) = &prepared[place] {
                    bail!("{error:#}");
                }
                let value = footprint.sample(kinds[place], programs, directory, round)?;
                Ok(Outcome { values: vec![value], ..Outcome::default() })
            });
        }
    }
    outcomes
}

/// Samples all servers in turn, each round beginning with another one. A server that fails is left out from then on.
fn interleaved(
    rounds: usize,
    outcomes: &mut [(Kind, Outcome)],
    mut sample: impl FnMut(usize, usize) -> anyhow::Result<Outcome>,
) {
    for round in 0..rounds {
        for turn in 0..outcomes.len() {
            let place = (round + turn) % outcomes.len();
            let (kind, outcome) = &mut outcomes[place];
            if outcome.error.is_some() {
                continue;
            }
            rest(true);
            match sample(place, round) {
                Ok(more) => {
                    let value = more.values.first().copied().unwrap_or_default();
                    eprintln!("  round {}: {:24} {value:.3}", round + 1, kind.title());
                    outcome.append(more);
                }
                Err(error) => {
                    eprintln!("  round {}: {:24} {error:#}", round + 1, kind.title());
                    outcome.failed(&error);
                }
            }
        }
    }
}

/// Lets the disk take what the sample before left to it, so that the next does not pay for that.
fn rest(pause: bool) {
    rustix::fs::sync();
    if pause {
        thread::sleep(Duration::from_millis(100));
    }
}
