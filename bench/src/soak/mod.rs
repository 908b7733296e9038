//! A long mixed load, watched: whether memory, descriptors, threads, log and latency stay as they are while the
//! collector and scrubs run all the time. `README.md` says what is done and what fails it.

mod ground;
mod verdict;
mod watch;
mod work;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;

use crate::client::Client;
use crate::server::{Kind, Programs, Server};
use crate::{Scratch, write};
use ground::{Ground, Stems};
use watch::{Sample, Watch};
use work::Worker;

/// Settings that let things be deleted for good within the soak: by default that takes days.
const SETTINGS: &[&str] = &[
    "--gc-interval",
    "1s",
    "--storage-trash-window",
    "10s",
    "--storage-unreferenced-grace",
    "20s",
    "--log-level",
    "warn",
];
/// Between two scrubs.
const SCRUB_PAUSE: Duration = Duration::from_secs(1);

/// A long mixed load on wharf: is it as small, as fast and as whole at the end as at the beginning?
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 110)]
pub struct Options {
    /// How long
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// Connections, each with a client of its own
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Mean milliseconds a client waits between two steps; 0 asks for all there is
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pause: u64,
    /// Seconds between two samples
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    every: f64,
    /// Without encryption
    #[arg(long)]
    plain: bool,
    /// Where wharf keeps its data meanwhile
    #[arg(long, value_name = "DIR", default_value = "target/data")]
    data: PathBuf,
    /// Where the samples go as JSON
    #[arg(long, value_name = "FILE", default_value = "target/soak.json")]
    json: PathBuf,
    /// The wharf to watch, a release build
    #[arg(long, value_name = "FILE", env = "WHARF_BIN")]
    wharf: PathBuf,
}

/// What the clients share with who watches them.
#[derive(Default)]
pub struct Shared {
    stop: AtomicBool,
    /// Microseconds of each request since the last sample.
    request_times: Mutex<Vec<u32>>,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn failed(&self, who: &str, error: &anyhow::Error) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("  {who}: {error:#}");
        failures.push(format!("{who}: {error:#}"));
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits, but not beyond the end.
    fn pause(&self, time: Duration) {
        let begun = Instant::now();
        while !self.is_over() && begun.elapsed() < time {
            thread::sleep(Duration::from_millis(50).min(time.saturating_sub(begun.elapsed())));
        }
    }
}

/// Runs the soak and prints what it saw.
///
/// # Errors
/// If anything failed, grew or got slower.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let wharf = fs::canonicalize(&options.wharf)
        .with_context(|| format!("no wharf at {}", options.wharf.display()))?;
    let programs = Programs { docker_registry: PathBuf::new(), wharf };
    fs::create_dir_all(&options.data)?;
    let data = fs::canonicalize(&options.data)?.join(format!("soak-{}", std::process::id()));
    let directory = Scratch::new(data)?;
    let kind = if options.plain { Kind::WharfPlain } else { Kind::Wharf };
    let server = Server::start_with(kind, &programs, &directory.0, SETTINGS)?;
    let stems = Stems::new();
    let ground = Ground::prepare(&server, &stems).context("preparation")?;
    eprintln!("{} connections for {} minutes", options.connections, options.minutes);
    let shared = Shared::default();
    let samples = soaked(options, &programs, &server, &ground, &shared);
    write(&options.json, &serde_json::to_string_pretty(&samples)?)?;
    let mut failures = shared.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failures.is_empty() {
        failures.extend(verdict::judge(&samples));
    }
    if let Err(error) = scrub(&programs, &server).context("the last scrub") {
        failures.push(format!("{error:#}"));
    }
    if let Err(error) = server.stop() {
        failures.push(format!("{error:#}"));
    }
    println!("{}", verdict::table(&samples));
    if failures.is_empty() {
        println!("Nothing failed, grew or got slower.");
        return Ok(());
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    bail!("the soak failed")
}

/// The load itself, with all that runs beside it.
fn soaked(
    options: &Options,
    programs: &Programs,
    server: &Server,
    ground: &Ground<'_>,
    shared: &Shared,
) -> Vec<Sample> {
    let end = Duration::from_secs_f64(options.minutes * 60.0);
    let pause = Duration::from_millis(options.pause);
    thread::scope(|scope| {
        for number in 0..options.connections {
            scope.spawn(move || {
                if let Err(error) = client(server, ground, shared, number as u64, pause) {
                    shared.failed(&format!("client {number}"), &error);
                }
            });
        }
        scope.spawn(|| {
            while !shared.is_over() {
                if let Err(error) = scrub(programs, server) {
                    shared.failed("scrub", &error);
                }
                shared.pause(SCRUB_PAUSE);
            }
        });
        let watched = Watch::new(server, shared).samples(end, Duration::from_secs_f64(options.every));
        shared.stop.store(true, Ordering::Relaxed);
        watched.unwrap_or_else(|(samples, error)| {
            shared.failed("watch", &error);
            samples
        })
    })
}

fn client(
    server: &Server,
    ground: &Ground<'_>,
    shared: &Shared,
    number: u64,
    pause: Duration,
) -> anyhow::Result<()> {
    let mut client = Client::connect(server)?;
    let mut worker = Worker::new(number);
    while !shared.is_over() {
        worker.step(&mut client, ground)?;
        let mut times = shared.request_times.lock().unwrap_or_else(PoisonError::into_inner);
        times.append(&mut client.request_times);
        drop(times);
        // Between nothing and twice the mean, so that clients do not march in step.
        shared.pause(pause.mul_f64(2.0 * worker.random(1000) as f64 / 1000.0));
    }
    Ok(())
}

fn scrub(programs: &Programs, server: &Server) -> anyhow::Result<()> {
    let found = server.command(programs, &["scrub", "--json"])?;
    ensure!(found["clean"] == true && found["locked"] == 0, "the scrub is not clean: {found}");
    Ok(())
}
