//! `kill -9` at random points of concurrent pushes, tag moves and deletes. After each restart the registry must be in
//! the state that was acknowledged, but for the one request each client had under way: that has happened wholly or not
//! at all. `KILL_SEED` repeats a run's choices, `KILL_COUNT` sets how many kills each test does.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

mod check;
mod content;
mod ledger;
mod process;
#[allow(dead_code, reason = "the program's tests use the rest")]
#[path = "../program/server.rs"]
mod server;
#[path = "../wire/mod.rs"]
mod wire;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use check::Found;
use content::Pool;
use ledger::{Claims, Ledger, REPOSITORIES};
use process::Process;
use server::{succeeds, wharf};
use wire::random::Random;
use wire::{AwsKey, Client, basic};

/// Kills of each test; there are two.
const KILLS: u64 = 110;
/// Clients at work at once.
const WORKERS: usize = 4;
/// Most steps that the clients do before a kill, together. Steps and not time: on a slow machine as much is hit.
const STEPS: u64 = 40;
/// Longest time from there to the kill, so that it strikes within a step.
const STRIKE_MICROS: u64 = 8_000;
/// A step that takes longer is one that does not end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Starts that are killed before they are finished.
const EARLY_PERCENT: u64 = 12;

/// Encrypted, with collection running all the time and throwing away at once what nobody needs.
#[test]
fn kills_while_collection_runs_lose_nothing_acknowledged() {
    let settings =
        ["--gc-interval", "20ms", "--storage-trash-window", "0s", "--storage-unreferenced-grace", "2s"];
    run("collecting", &settings, true);
}

/// Not encrypted, and with the windows of an ordinary deployment.
#[test]
fn kills_without_encryption_lose_nothing_acknowledged() {
    run("plain", &["--encryption", "off"], false);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn run(name: &str, settings: &[&str], collecting: bool) {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("KILL_SEED").unwrap_or(time.as_micros() as u64 & 0xffff_ffff);
    let kills = number("KILL_COUNT").unwrap_or(KILLS);
    eprintln!("repeat with KILL_SEED={seed} KILL_COUNT={kills}");
    let mut random = Random::new(seed);
    let began = Instant::now();
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");

    let mut process = Process::start(&data, settings);
    let password = succeeds(&mut wharf(&data, &["token", "issue", "--account", "123456789012"]));
    let credential = basic(password.trim());
    create_repositories(&data, &process.address);
    let pool = Pool::new(&mut random);
    let claims = Claims::default();
    let mut ledgers: Vec<Ledger> = (0..WORKERS).map(|number| Ledger::new(number, !collecting)).collect();
    let mut done = 0;
    while done < kills {
        ledgers = load_and_kill(process, ledgers, &pool, &claims, &credential, &mut random);
        done += 1;
        while done < kills && random.percent(EARLY_PERCENT) {
            Process::start_and_kill(&data, settings, Duration::from_micros(random.below(150_000)));
            done += 1;
        }
        if done % 20 == 0 {
            assert_scrubbed(&data, done);
        }
        process = Process::start(&data, settings);
        check_all(&mut ledgers, &claims, &process, &credential, done);
    }
    assert_scrubbed(&data, done);
    process.kill();
    assert_scrubbed(&data, done);
    let total = ledgers.into_iter().map(|ledger| ledger.tally).fold(ledger::Tally::default(), |a, b| a + b);
    let (found, claimed) = (total.clone(), claims.acknowledged());
    println!(
        "{name}: {done} kills in {:.1} s, seed {seed}: {found:?}, {claimed} claims",
        began.elapsed().as_secs_f64()
    );
    total.assert_not_vacuous(kills, claimed);
    assert_nothing_left_over(&data, settings);
}

fn create_repositories(data: &std::path::Path, address: &str) {
    let key = AwsKey::of(data);
    let mut client = Client::connect(address).unwrap();
    for name in REPOSITORIES {
        let body = serde_json::json!({ "repositoryName": name });
        assert_eq!(key.call(&mut client, "CreateRepository", &body).status, 200);
    }
    let body = serde_json::json!({ "repositoryName": ledger::FIXED, "imageTagMutability": "IMMUTABLE" });
    assert_eq!(key.call(&mut client, "CreateRepository", &body).status, 200);
}

/// Has every client work until the server is killed, at a moment of chance.
fn load_and_kill(
    process: Process,
    ledgers: Vec<Ledger>,
    pool: &Pool,
    claims: &Claims,
    credential: &str,
    random: &mut Random,
) -> Vec<Ledger> {
    let (killing, address) = (&AtomicBool::new(false), &process.address.clone());
    let (step, steps) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for mut ledger in ledgers {
            let random = random.fork();
            let client = Client::connect(address).unwrap().with(credential);
            let step = step.clone();
            threads.push(scope.spawn(move || {
                let number = ledger.number;
                let error = worker::Worker { client, ledger: &mut ledger, pool, claims, random }.work(&step);
                assert!(
                    killing.load(Ordering::SeqCst),
                    "client {number} was cut off before the kill: {error}"
                );
                ledger
            }));
        }
        for _ in 0..random.below(STEPS) {
            steps.recv_timeout(PATIENCE).expect("the clients work");
        }
        std::thread::park_timeout(Duration::from_micros(random.below(STRIKE_MICROS)));
        killing.store(true, Ordering::SeqCst);
        process.kill();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Compares everything, one thread for each client's things.
fn check_all(ledgers: &mut [Ledger], claims: &Claims, process: &Process, credential: &str, kills: u64) {
    let address = &process.address;
    std::thread::scope(|scope| {
        for ledger in ledgers.iter_mut() {
            scope.spawn(move || {
                let client = Client::connect(address).unwrap().with(credential);
                let mut found = Found { client, kills };
                found.check(ledger);
                if ledger.number == 0 {
                    found.check_claims(claims);
                }
            });
        }
    });
}

fn assert_scrubbed(data: &std::path::Path, kills: u64) {
    let report = succeeds(&mut wharf(data, &["scrub", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["clean"], true, "after {kills} kills: {report}");
    assert!(report["manifests"].as_u64().unwrap() > 0, "a scrub of nothing: {report}");
}

/// When everything is deleted and every window is over, no blob file may be left: kills leak nothing.
fn assert_nothing_left_over(data: &std::path::Path, settings: &[&str]) {
    let over = [
        "--storage-trash-window",
        "0s",
        "--storage-unreferenced-grace",
        "0s",
        "--limits-upload-lifetime",
        "1ms",
    ];
    let all: Vec<&str> =
        settings.iter().take_while(|flag| **flag != "--gc-interval").copied().chain(over).collect();
    let process = Process::start(data, &all);
    let (key, mut client) = (AwsKey::of(data), Client::connect(&process.address).unwrap());
    for name in REPOSITORIES.into_iter().chain([ledger::FIXED]) {
        let body = serde_json::json!({ "repositoryName": name, "force": true });
        assert_eq!(key.call(&mut client, "DeleteRepository", &body).status, 200);
    }
    let mut left = Vec::new();
    server::eventually("the collector to take everything", || {
        succeeds(&mut wharf(data, &["gc", "--json"]));
        left = process::blob_files(data);
        left.is_empty().then_some(())
    });
    let report = succeeds(&mut wharf(data, &["scrub", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["clean"], &report["manifests"]), (&true.into(), &0.into()), "{report}");
}
