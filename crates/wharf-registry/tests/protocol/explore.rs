//! Every order in which actors can take their steps. A step is an operation, or what an operation does up to the end of
//! its next transaction: then it waits, and we decide who goes on. Orders are found by trying: a run follows a list of
//! choices and goes on; where others could have gone on instead, that is another run. States that were met are not
//! entered again.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::actors::{Memory, Op, Outcome, begin};
use crate::world::{Beginning, World};

/// What one step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A whole operation.
    Operation,
    /// One transaction; at most so many times an operation is left before it ends.
    Transaction { preemptions: usize },
}

/// What was found.
#[derive(Debug, Default)]
pub struct Explored {
    /// Different states of the stores and of what the actors are at.
    pub states: usize,
    /// Steps tried, those on the way to a new one not counted.
    pub steps: usize,
    /// Runs from the beginning.
    pub runs: usize,
    /// Runs that came to the end of all programs.
    pub ends: usize,
    /// Runs that did not follow the steps of the run before them; no order is lost by more than a few.
    pub strayed: usize,
    /// How often operations ended how.
    pub outcomes: BTreeMap<String, usize>,
    /// The first thing that was wrong, and the steps that led there.
    pub wrong: Option<String>,
}

impl Explored {
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.steps += other.steps;
        self.runs += other.runs;
        self.ends += other.ends;
        self.strayed += other.strayed;
        for (outcome, times) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
        self.wrong = self.wrong.take().or(other.wrong);
    }
}

/// Wakes whoever waits for the end of a step.
struct Step(Notify);

impl Wake for Step {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

struct Actor {
    program: Vec<Op>,
    /// The operation it is at.
    at: usize,
    running: Option<BoxFuture<'static, Outcome>>,
    memory: Memory,
    /// What the operation may have seen.
    seen: u64,
    /// What others did since it began.
    met: Vec<Op>,
}

impl Actor {
    fn new(program: &[Op]) -> Self {
        Self {
            program: program.to_vec(),
            at: 0,
            running: None,
            memory: Memory::default(),
            seen: 0,
            met: Vec::new(),
        }
    }

    fn is_finished(&self) -> bool {
        self.at == self.program.len()
    }

    /// Takes one step; answers how the operation ended, if it did.
    async fn step(&mut self, world: &Arc<World>, grain: Grain) -> Option<Outcome> {
        let op = self.program[self.at];
        let (world, memory, gate) = (Arc::clone(world), Arc::clone(&self.memory), Arc::clone(&world.gate));
        let running = self.running.get_or_insert_with(|| begin(world, memory, op));
        let passed = gate.passed.load(Ordering::SeqCst);
        let outcome = loop {
            // A new one each time: who is woken late for an earlier step wakes nobody.
            let step = Arc::new(Step(Notify::new()));
            let waker = Waker::from(Arc::clone(&step));
            // A transaction that could end at once would let the operation begin its next one in the same step.
            let closed = gate.closed.lock().unwrap();
            let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
            drop(closed);
            if let Poll::Ready(outcome) = polled {
                break outcome;
            }
            tokio::time::timeout(Duration::from_secs(10), step.0.notified())
                .await
                .expect("every step ends by itself");
            if grain != Grain::Operation && gate.passed.load(Ordering::SeqCst) > passed {
                return None;
            }
        };
        self.running = None;
        self.at += 1;
        self.seen = 0;
        Some(outcome)
    }
}

/// What was acknowledged of the images.
#[derive(Default)]
struct Ledger {
    /// Put or restored, and no deletion has begun since.
    there: HashSet<(usize, usize)>,
    /// Deleted, and no put or undelete has begun since.
    gone: HashSet<(usize, usize)>,
}

/// Repository and manifest.
const IMAGES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

fn brings(op: Op, image: (usize, usize)) -> bool {
    matches!(op, Op::PutImage(at, manifest) | Op::Push(at, manifest) | Op::Undelete(at, manifest) if (at, manifest) == image)
}

fn takes(op: Op, image: (usize, usize)) -> bool {
    match op {
        Op::DeleteImage(at, manifest) => (at, manifest) == image,
        Op::Untag(at) => at == image.0,
        _ => false,
    }
}

impl Ledger {
    fn begun(&mut self, op: Op) {
        for image in IMAGES {
            if takes(op, image) {
                self.there.remove(&image);
            }
            if brings(op, image) {
                self.gone.remove(&image);
            }
        }
    }

    /// `met`: what others were doing meanwhile, at any time.
    fn ended(&mut self, op: Op, met: &[Op]) {
        for image in IMAGES {
            if brings(op, image) && !met.iter().any(|other| takes(*other, image)) {
                self.there.insert(image);
            }
            if matches!(op, Op::DeleteImage(..))
                && takes(op, image)
                && !met.iter().any(|other| brings(*other, image))
            {
                self.gone.insert(image);
            }
        }
    }

    fn broken(&self, world: &World) -> Option<String> {
        let images = world.images();
        let lost = self.there.iter().find(|image| !images.contains(image));
        let back = self.gone.iter().find(|image| images.contains(image));
        match (lost, back) {
            (Some(image), _) => Some(format!("image {image:?} was acknowledged and is not there")),
            (_, Some(image)) => Some(format!("image {image:?} was deleted and is there")),
            _ => None,
        }
    }
}

/// One run.
struct Run {
    world: Arc<World>,
    actors: Vec<Actor>,
    ledger: Ledger,
    last: Option<usize>,
    preemptions: usize,
    log: Vec<String>,
}

impl Run {
    async fn new(beginning: &Beginning, programs: &[&[Op]]) -> Self {
        let world = Arc::new(beginning.world().await);
        let actors = programs.iter().map(|program| Actor::new(program)).collect();
        let mut ledger = Ledger::default();
        ledger.there.insert((0, 0));
        Self { world, actors, ledger, last: None, preemptions: 0, log: Vec::new() }
    }

    /// Whether choosing this actor leaves another in the middle of an operation.
    fn preempts(&self, choice: usize) -> bool {
        self.last.is_some_and(|last| last != choice && self.actors[last].running.is_some())
    }

    fn choices(&self, grain: Grain) -> Vec<usize> {
        let may = |choice: &usize| match grain {
            Grain::Operation => true,
            Grain::Transaction { preemptions } => !self.preempts(*choice) || self.preemptions < preemptions,
        };
        (0..self.actors.len()).filter(|choice| !self.actors[*choice].is_finished()).filter(may).collect()
    }

    /// Lets an actor take its next step; answers how its operation ended, if it did.
    async fn take(&mut self, choice: usize, grain: Grain) -> Option<(Op, Outcome)> {
        self.preemptions += usize::from(self.preempts(choice));
        self.last = Some(choice);
        let op = self.actors[choice].program[self.actors[choice].at];
        if self.actors[choice].running.is_none() {
            self.ledger.begun(op);
            let running = |actor: &mut Actor| {
                actor.running.is_some().then(|| (actor.met.push(op), actor.program[actor.at]).1)
            };
            self.actors[choice].met = self.actors.iter_mut().filter_map(running).collect();
        }
        let outcome = self.actors[choice].step(&self.world, grain).await;
        if outcome.is_some() {
            self.world.settle().await;
        }
        self.log.push(format!(
            "{choice}: {op:?} {}",
            outcome.as_ref().map_or("…".to_owned(), |o| format!("{o:?}"))
        ));
        let outcome = outcome?;
        if outcome == Outcome::Done {
            self.ledger.ended(op, &self.actors[choice].met);
        }
        Some((op, outcome))
    }

    fn wrong(&self, outcome: Option<&Outcome>) -> Option<String> {
        match outcome {
            Some(Outcome::Wrong(wrong)) => Some(wrong.clone()),
            _ => self.world.broken().or_else(|| self.ledger.broken(&self.world)),
        }
    }

    /// What everything that can happen from here depends on.
    fn state(&mut self, choice: usize, grain: Grain) -> u64 {
        let stores = self.world.digest();
        let actor = &mut self.actors[choice];
        if actor.running.is_some() {
            actor.seen = hash(&(actor.seen, stores));
        }
        let at: Vec<(usize, u64)> = self.actors.iter().map(|actor| (actor.at, actor.seen)).collect();
        let left = match grain {
            Grain::Operation => None,
            Grain::Transaction { .. } => {
                Some((self.preemptions, self.last.filter(|last| self.actors[*last].running.is_some())))
            }
        };
        let mut there: Vec<_> = self.ledger.there.iter().collect();
        let mut gone: Vec<_> = self.ledger.gone.iter().collect();
        there.sort();
        gone.sort();
        hash(&(stores, at, left, there, gone))
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Tries all orders of these programs.
pub async fn explore(beginning: &Beginning, programs: &[&[Op]], grain: Grain) -> Explored {
    let (mut explored, mut known) = (Explored::default(), HashSet::new());
    let mut open: Vec<Vec<usize>> = vec![Vec::new()];
    while let Some(prefix) = open.pop() {
        explored.runs += 1;
        let mut run = Run::new(beginning, programs).await;
        let mut path = prefix;
        let mut followed = 0;
        loop {
            let choice = match path.get(followed) {
                Some(choice) if run.actors[*choice].is_finished() => {
                    explored.strayed += 1;
                    break;
                }
                Some(choice) => *choice,
                None => {
                    let choices = run.choices(grain);
                    let Some((first, others)) = choices.split_first() else { break };
                    open.extend(others.iter().map(|other| [path.as_slice(), &[*other]].concat()));
                    path.push(*first);
                    *first
                }
            };
            followed += 1;
            let ended = run.take(choice, grain).await;
            if followed < path.len() {
                if grain != Grain::Operation {
                    run.state(choice, grain);
                }
                continue;
            }
            let state = run.state(choice, grain);
            explored.steps += 1;
            if let Some((op, outcome)) = &ended {
                let name = format!("{op:?}");
                let name = name.split('(').next().unwrap_or_default();
                *explored.outcomes.entry(format!("{name} {outcome:?}")).or_default() += 1;
            }
            if let Some(wrong) = run.wrong(ended.as_ref().map(|(_, outcome)| outcome)) {
                explored.wrong = Some(format!("{wrong}, after\n  {}", run.log.join("\n  ")));
                return explored;
            }
            if !known.insert(state) {
                break;
            }
        }
        if run.actors.iter().all(Actor::is_finished) && known.insert(hash(&("end", run.world.digest()))) {
            explored.ends += 1;
            if let Some(wrong) = run.world.end().await {
                explored.wrong = Some(format!("at the end {wrong}, after\n  {}", run.log.join("\n  ")));
                return explored;
            }
        }
        run.world.meta.close().await;
    }
    explored.states = known.len();
    explored
}
