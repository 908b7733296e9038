//! Power loss, for the whole program, metadata included. The real server runs under `strace`; from what it wrote, synced
//! and answered we make the disks that a power cut at any moment may have left (only what was synced is sure to be
//! there), open each, and find everything that was acknowledged and nothing half done. Then we leave out the syncs of
//! one place at a time, and find that something acknowledged is lost.
//!
//! `POWER_SEED` repeats a run's choices, `POWER_IMAGES` sets how many disks keep some of what was not synced.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

mod check;
#[allow(dead_code, reason = "the kill test uses the rest")]
#[path = "../kill/content.rs"]
mod content;
mod disk;
mod script;
#[allow(dead_code, reason = "the program's tests use the rest")]
#[path = "../program/server.rs"]
mod server;
mod trace;
#[path = "../wire/mod.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use check::{Moment, World};
use disk::{Disk, Image, Skipped, Unsynced};
use script::{COLLECTED, Recording, Told};
use wire::random::Random;

/// Disks on which some of what was not synced survives.
const IMAGES: u64 = 240;

/// Boundaries after a missing sync at which the power goes while everything else survives.
const NEAR: usize = 16;
/// How many of the changes that a missing sync was to make durable are lost alone, one after the other.
const ALONE: usize = 4;
/// Power cuts soon after a missing sync on which anything may survive.
const SEEDS: u64 = 6;
const NONE: Skipped<'static> = &|_| false;

/// Syncs that can be left out alone where another one of the same group makes the same durable before anything rests on
/// it; without all of a group something is lost. Each holds a promise whose caller cannot know of the others.
const COVERED: &[&str] = &[
    // The head and the first commit of a log are in one file; SQLite means logs that are used again.
    "content of metadata.sqlite-wal",
    // SQLite, the root key, the credentials and the object store sync the one directory in which they lie.
    "entries of data:",
];

/// SQLite's own, for a database that has been made a moment ago and holds nothing: the log takes over from the journal
/// before the first table is made.
const NEEDLESS: &[&str] =
    &["content of metadata.sqlite-journal", "content of metadata.sqlite-journal (head)"];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Disks in memory, where there are such: their own syncs cost nothing there.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A recording as a disk, and what was acknowledged when.
struct Film {
    recording: Recording,
    disk: Disk,
    /// After how many steps of the disk each acknowledgement was sent.
    told: Vec<usize>,
    verdicts: Mutex<HashMap<(u64, usize), Result<(), String>>>,
    nothing: World,
    opened: AtomicUsize,
}

impl Film {
    fn record(parent: &Path) -> Self {
        let recording = script::record(parent);
        let disk = Disk::replay(&recording.parent, &recording.traces);
        let heard: Vec<(usize, Told)> =
            disk.said().filter_map(|(at, bytes)| Some((at, Told::by(bytes)?))).collect();
        let expected: Vec<Told> = recording.acknowledged.iter().map(|ack| ack.told).collect();
        let kinds: Vec<Told> = heard.iter().map(|(_, told)| *told).collect();
        assert_eq!(kinds, expected, "the trace shows every acknowledgement");
        let told = heard.into_iter().map(|(at, _)| at).collect();
        let verdicts = Mutex::default();
        Self { recording, disk, told, verdicts, nothing: World::default(), opened: AtomicUsize::new(0) }
    }

    /// How much had been acknowledged when the disk had done `until` steps.
    fn acknowledged(&self, until: usize) -> usize {
        self.told.partition_point(|at| *at <= until)
    }

    fn world(&self, acknowledged: usize) -> &World {
        match acknowledged {
            0 => &self.nothing,
            count => &self.recording.acknowledged[count - 1].world,
        }
    }

    fn moment(&self, acknowledged: usize) -> Moment<'_> {
        let all = &self.recording.acknowledged;
        let collected = all[..acknowledged].iter().rposition(|ack| ack.what == COLLECTED);
        Moment {
            before: self.world(acknowledged),
            after: self.world((acknowledged + 1).min(all.len())),
            uploaded: &self.recording.uploaded,
            deleted: collected.map_or_else(BTreeSet::new, |at| self.disk.left(self.told[at])),
            listened: acknowledged > 0,
        }
    }

    /// What is wrong with the disk after a power cut, if anything.
    fn verdict(&self, until: usize, skipped: Skipped<'_>, unsynced: Unsynced) -> Result<(), String> {
        let image = self.disk.image(until, skipped, unsynced);
        let acknowledged = self.acknowledged(until);
        let key = (hash(&image), acknowledged);
        if let Some(known) = self.verdicts.lock().unwrap().get(&key) {
            return known.clone();
        }
        let verdict = self.open(&image, acknowledged);
        self.verdicts.lock().unwrap().insert(key, verdict.clone());
        verdict
    }

    fn open(&self, image: &Image, acknowledged: usize) -> Result<(), String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let directory = scratch();
        check::lay_out(image, directory.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let moment = self.moment(acknowledged);
        let verdict = runtime.block_on(check::check(&directory.path().join("data"), image, &moment));
        verdict.map_err(|wrong| {
            let last =
                acknowledged.checked_sub(1).map_or("nothing", |at| &self.recording.acknowledged[at].what);
            let next = self.recording.acknowledged.get(acknowledged).map_or("nothing", |ack| &ack.what);
            format!("after {last}, during {next}: {wrong}")
        })
    }

    /// The moments at which what is sure to be there, or what must be there, has changed.
    fn boundaries(&self) -> Vec<usize> {
        let syncs = self.disk.syncs().map(|(at, _)| at);
        let all: BTreeSet<usize> =
            syncs.chain(self.told.iter().copied()).chain([0, self.disk.len()]).collect();
        all.into_iter().collect()
    }

    /// What goes wrong when some places do not sync, if anything: with nothing else surviving, with everything else, with
    /// one change after the other lost alone, and with any part of it.
    fn loss_without(&self, skipped: Skipped<'_>) -> Option<String> {
        let missing: Vec<usize> =
            self.disk.syncs().filter(|(_, site)| skipped(site)).map(|(at, _)| at).collect();
        let boundaries = self.boundaries();
        let lost = boundaries.iter().map(|until| (*until, Unsynced::Lost));
        let soon = boundaries.iter().filter(|until| **until >= missing[0]).take(NEAR);
        let kept = soon.flat_map(|until| {
            let but = (0..ALONE).map(Unsynced::KeptBut);
            but.chain([Unsynced::Kept]).map(move |unsynced| (*until, unsynced))
        });
        let near = |seed: u64| {
            let steps =
                missing.iter().take(2).flat_map(|at| at + 1..at + 10).filter(|at| *at <= self.disk.len());
            steps.map(move |until| (until, Unsynced::Any(seed)))
        };
        lost.chain(kept).chain((0..SEEDS).flat_map(near)).find_map(|(until, unsynced)| {
            let wrong = self.verdict(until, skipped, unsynced).err()?;
            self.verdict(until, NONE, unsynced).expect("with all syncs nothing is lost");
            Some(format!("{unsynced:?}: {wrong}"))
        })
    }

    /// Places that sync, and how often each did.
    fn sites(&self) -> BTreeMap<&str, usize> {
        let mut sites = BTreeMap::new();
        for (_, site) in self.disk.syncs() {
            *sites.entry(site).or_default() += 1;
        }
        sites
    }
}

fn hash(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

/// Runs `work` for every item, on all processors; the answers in order.
fn for_all<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let answer = work(item);
                    answers.lock().unwrap().push((at, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap();
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn film() -> Option<(tempfile::TempDir, Film)> {
    if let Some(obstacle) = script::obstacle() {
        println!("SKIPPED: {obstacle}");
        return None;
    }
    let parent = scratch();
    let path = parent.path().canonicalize().unwrap().join("disk");
    std::fs::create_dir(&path).unwrap();
    let film = Film::record(&path);
    Some((parent, film))
}

#[test]
fn whenever_the_power_goes_everything_acknowledged_is_there_and_nothing_is_half_done() {
    let Some((_parent, film)) = film() else { return };
    let began = Instant::now();
    let boundaries = film.boundaries();
    let verdicts = for_all(&boundaries, |until| film.verdict(*until, NONE, Unsynced::Lost));
    for (until, verdict) in boundaries.iter().zip(verdicts) {
        verdict.unwrap_or_else(|wrong| panic!("a power cut after step {until}: {wrong}"));
    }
    let strict = film.opened.load(Ordering::Relaxed);

    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("POWER_SEED").unwrap_or(time.as_micros() as u64 & 0xffff_ffff);
    let count = number("POWER_IMAGES").unwrap_or(IMAGES);
    eprintln!("repeat with POWER_SEED={seed} POWER_IMAGES={count}");
    let mut random = Random::new(seed);
    let cuts: Vec<(usize, Unsynced)> = (0..count)
        .map(|number| {
            let until = random.below(film.disk.len() as u64 + 1) as usize;
            let seed = random.next();
            (until, if number % 2 == 0 { Unsynced::Prefix(seed) } else { Unsynced::Any(seed) })
        })
        .collect();
    let verdicts = for_all(&cuts, |(until, unsynced)| film.verdict(*until, NONE, *unsynced));
    for ((until, unsynced), verdict) in cuts.iter().zip(verdicts) {
        verdict.unwrap_or_else(|wrong| panic!("a power cut after step {until}, {unsynced:?}: {wrong}"));
    }
    println!(
        "{} answers, {} steps, {} syncs; {strict} disks with what was synced, {} with a part of the rest, in {:.1} s",
        film.told.len(),
        film.disk.len(),
        film.disk.syncs().count(),
        film.opened.load(Ordering::Relaxed) - strict,
        began.elapsed().as_secs_f64()
    );
    assert!(film.told.len() > 40 && strict > 80, "it was no quiet day");
}

#[test]
fn without_any_one_of_the_syncs_something_acknowledged_is_lost() {
    let Some((_parent, film)) = film() else { return };
    let began = Instant::now();
    let sites: Vec<(&str, usize)> = film.sites().into_iter().collect();
    let losses = for_all(&sites, |(site, _)| film.loss_without(&|skipped| skipped == *site));
    let mut wrong = Vec::new();
    for ((site, times), loss) in sites.iter().zip(&losses) {
        println!("{times:4} × {site}: {}", loss.as_deref().unwrap_or("nothing is lost"));
        let covered = COVERED.iter().any(|group| site.starts_with(group));
        if loss.is_some() == NEEDLESS.contains(site) && !covered {
            wrong.push(*site);
        }
    }
    let together = for_all(COVERED, |group| film.loss_without(&|skipped| skipped.starts_with(group)));
    for (group, loss) in COVERED.iter().zip(&together) {
        println!("all that begin {group:?}: {}", loss.as_deref().unwrap_or("nothing is lost"));
        if loss.is_none() {
            wrong.push(group);
        }
    }
    println!(
        "{} places, {} disks, {:.1} s",
        sites.len(),
        film.opened.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(wrong, Vec::<&str>::new(), "needless, or needed though said to be needless");
}
