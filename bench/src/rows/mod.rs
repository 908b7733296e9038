//! The rows of the table: what is done, from how many connections, and what wharf has to reach.

mod footprint;
mod lists;
mod mixed;
mod pull;
mod push;

use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;

use crate::content::Stem;
use crate::load::Load;
use crate::server::{Kind, Server};

pub use footprint::Footprint;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples of each row and server.
    pub rounds: usize,
    /// Less of everything, for a first impression.
    pub quick: bool,
}

impl Plan {
    /// How long a sample takes whose steps are short.
    pub fn time(&self) -> Duration {
        if self.quick { Duration::from_millis(1500) } else { Duration::from_secs(4) }
    }

    fn either<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// All samples of a row and server, the one to warm up included.
    fn samples(&self) -> u64 {
        self.rounds as u64 + 1
    }
}

/// What rows push and pull, made when it is first needed.
#[derive(Default)]
pub struct Contents {
    small: OnceLock<Stem>,
    large: OnceLock<Stem>,
    huge: OnceLock<Stem>,
}

impl Contents {
    /// Blobs of 16 KiB.
    pub fn small(&self) -> &Stem {
        self.small.get_or_init(|| Stem::new(16 << 10))
    }

    /// Blobs of 64 MiB.
    pub fn large(&self) -> &Stem {
        self.large.get_or_init(|| Stem::new(64 << 20))
    }

    /// Blobs of 128 MiB.
    pub fn huge(&self) -> &Stem {
        self.huge.get_or_init(|| Stem::new(128 << 20))
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Steps in a second.
    PerSecond,
    /// 10^9 bytes in a second.
    Gigabytes,
    /// Milliseconds, the fewer the better.
    Milliseconds,
    /// MiB, the fewer the better.
    Mebibytes,
}

/// What wharf has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Nothing.
    None,
    /// So many times what docker-registry does.
    Times(f64),
    /// So many in a second.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// Makes the load of a row ready on one server.
pub type Prepare = for<'a> fn(&'a Server, &'a Contents, &Plan) -> anyhow::Result<Load<'a>>;

/// How a row is measured.
#[derive(Clone, Copy)]
pub enum Measure {
    /// By load from so many connections.
    Load(usize, Prepare),
    /// By looking at a server that is started for it.
    Footprint(Footprint),
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// How it is asked for.
    pub name: &'static str,
    /// What a step of it is.
    pub what: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// What wharf must reach with encryption.
    pub goal: Goal,
    /// What wharf must reach without.
    pub goal_plain: Goal,
    /// Microseconds of CPU that a step may take wharf, with encryption.
    pub cpu_goal: Option<f64>,
    /// Milliseconds under which 99 of 100 steps must stay.
    pub p99_goal: Option<f64>,
    /// MiB under which wharf's resident memory must stay.
    pub peak_goal: f64,
    /// docker-registry cannot do it.
    pub wharf_only: bool,
    /// How it is measured.
    pub measure: Measure,
}

impl Row {
    const fn load(
        name: &'static str,
        what: &'static str,
        connections: usize,
        goal: Goal,
        prepare: Prepare,
    ) -> Self {
        Self {
            name,
            what,
            unit: Unit::PerSecond,
            goal,
            goal_plain: goal,
            cpu_goal: None,
            p99_goal: None,
            peak_goal: 64.0,
            wharf_only: false,
            measure: Measure::Load(connections, prepare),
        }
    }

    const fn bytes(name: &'static str, what: &'static str, goal: f64, plain: f64, prepare: Prepare) -> Self {
        Self {
            unit: Unit::Gigabytes,
            goal_plain: Goal::Times(plain),
            ..Self::load(name, what, 4, Goal::Times(goal), prepare)
        }
    }

    const fn lookup(name: &'static str, what: &'static str, prepare: Prepare) -> Self {
        Self { cpu_goal: Some(40.0), ..Self::load(name, what, 4, Goal::Times(12.0), prepare) }
    }

    const fn mixed(name: &'static str, what: &'static str, connections: usize) -> Self {
        Self { p99_goal: Some(50.0), ..Self::load(name, what, connections, Goal::Times(12.0), mixed::mixed) }
    }

    const fn footprint(
        name: &'static str,
        what: &'static str,
        unit: Unit,
        goal: f64,
        measure: Footprint,
    ) -> Self {
        Self {
            unit,
            goal: Goal::AtMost(goal),
            goal_plain: Goal::AtMost(goal),
            measure: Measure::Footprint(measure),
            ..Self::load(name, what, 0, Goal::None, mixed::mixed)
        }
    }

    /// Whether it is run on such a server.
    pub fn runs_on(&self, kind: Kind) -> bool {
        !(self.wharf_only && kind == Kind::DockerRegistry)
    }
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row::lookup("manifest-get", "GET a manifest by tag", pull::manifest_by_tag),
    Row::lookup("manifest-get-digest", "GET a manifest by digest", pull::manifest_by_digest),
    Row::lookup("manifest-head", "HEAD of a manifest by tag", pull::manifest_head),
    Row::lookup("blob-head", "HEAD of a blob", pull::blob_head),
    Row::load("pull-small", "pull: manifest, config, 8 layers of 16 KiB", 4, Goal::Times(30.0), pull::small),
    Row::load(
        "range-64k",
        "GET 64 KiB at a random place of a 128 MiB blob",
        4,
        Goal::Times(20.0),
        pull::ranges,
    ),
    Row::bytes("pull-large", "GET blobs of 128 MiB", 0.4, 1.25, pull::large),
    Row::bytes("push-large-put", "push 64 MiB: POST, PUT", 2.0, 2.5, push::large_put),
    Row::bytes(
        "push-large-stream",
        "push 64 MiB: POST, one chunked PATCH, PUT",
        2.0,
        2.5,
        push::large_stream,
    ),
    Row::bytes(
        "push-large-chunks",
        "push 64 MiB: POST, PATCH of 8 MiB each, PUT",
        2.0,
        2.5,
        push::large_chunks,
    ),
    Row::load("push-small", "push: 8 layers of 16 KiB, config, manifest", 4, Goal::Times(10.0), push::small),
    Row::load(
        "push-existing",
        "push what is there: 9 HEAD, PUT manifest",
        4,
        Goal::Times(12.0),
        push::existing,
    ),
    Row::load(
        "mount",
        "push what another repository has: 9 mounts, PUT manifest",
        4,
        Goal::Times(12.0),
        push::mount,
    ),
    Row::load("tags-10k", "walk 10,000 tags in pages of 1,000", 4, Goal::Times(5.0), lists::tags_10k),
    Row::load("tags-100k", "walk 100,000 tags in pages of 1,000", 4, Goal::Times(5.0), lists::tags_100k),
    Row::load("catalog-1k", "walk a catalog of 1,000 repositories", 4, Goal::Times(50.0), lists::catalog),
    Row {
        wharf_only: true,
        ..Row::load(
            "referrers",
            "list the 100 referrers of a subject",
            4,
            Goal::AtLeast(5000.0),
            lists::referrers,
        )
    },
    Row::mixed("mixed-4", "90 % pull-small, 10 % push-small", 4),
    Row::mixed("mixed-32", "90 % pull-small, 10 % push-small", 32),
    Row {
        unit: Unit::Gigabytes,
        peak_goal: 150.0,
        ..Row::load(
            "push-64x64",
            "64 concurrent pushes of 64 MiB: POST, PUT",
            64,
            Goal::None,
            push::concurrent,
        )
    },
    Row::footprint(
        "startup",
        "start to first answer, empty directory",
        Unit::Milliseconds,
        100.0,
        Footprint::Start { images: 0 },
    ),
    Row {
        wharf_only: true,
        ..Row::footprint(
            "startup-100k",
            "start to first answer, 100,000 images",
            Unit::Milliseconds,
            300.0,
            Footprint::Start { images: 100_000 },
        )
    },
    Row::footprint(
        "idle",
        "resident memory a second after the start",
        Unit::Mebibytes,
        30.0,
        Footprint::Idle,
    ),
];
