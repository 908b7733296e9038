//! What an import did, and how far it is.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::blobs::Outcome;

/// What became of one repository.
#[derive(Debug, Default, Serialize)]
pub struct RepositoryReport {
    /// Its name at the source.
    pub source: String,
    /// Its name here.
    pub repository: String,
    /// Whether it was made now.
    pub created: bool,
    /// Tags of the source that were imported.
    pub tags: u64,
    /// What was done, or would be.
    #[serde(flatten)]
    pub done: Done,
    /// What is worth knowing and no difference.
    pub notes: Vec<String>,
    /// What failed.
    pub failures: Vec<String>,
    /// Where the destination is not as the source.
    pub differences: Vec<String>,
}

/// Counts of what was transferred and what was there.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Done {
    /// Manifests that were pushed.
    pub manifests_copied: u64,
    /// Manifests that were there.
    pub manifests_present: u64,
    /// Tags that were set.
    pub tags_set: u64,
    /// Blobs whose bytes were transferred.
    pub blobs_copied: u64,
    /// Blobs that another repository had.
    pub blobs_mounted: u64,
    /// Blobs that were there.
    pub blobs_present: u64,
    /// Bytes of the blobs transferred.
    pub bytes_copied: u64,
}

impl Done {
    /// Counts a blob.
    pub fn blob(&mut self, outcome: Outcome, size: u64) {
        match outcome {
            Outcome::Copied => {
                self.blobs_copied += 1;
                self.bytes_copied += size;
            }
            Outcome::Mounted => self.blobs_mounted += 1,
            Outcome::Present => self.blobs_present += 1,
            Outcome::Elsewhere => {}
        }
    }

    fn add(&mut self, other: &Self) {
        self.manifests_copied += other.manifests_copied;
        self.manifests_present += other.manifests_present;
        self.tags_set += other.tags_set;
        self.blobs_copied += other.blobs_copied;
        self.blobs_mounted += other.blobs_mounted;
        self.blobs_present += other.blobs_present;
        self.bytes_copied += other.bytes_copied;
    }
}

/// What became of all.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// Whether the destination has all that the source has, and it is the same.
    pub identical: bool,
    /// What was done, or would be.
    pub total: Done,
    /// What failed or differs beside repositories.
    pub differences: Vec<String>,
    /// Repository by repository, by name.
    pub repositories: Vec<RepositoryReport>,
}

impl Report {
    /// Sums up.
    pub fn new(dry_run: bool, mut repositories: Vec<RepositoryReport>, differences: Vec<String>) -> Self {
        repositories.sort_by(|one, other| one.repository.cmp(&other.repository));
        let mut total = Done::default();
        for repository in &repositories {
            total.add(&repository.done);
        }
        let good = |each: &RepositoryReport| each.failures.is_empty() && each.differences.is_empty();
        let identical = differences.is_empty() && repositories.iter().all(good);
        Self { dry_run, identical, total, differences, repositories }
    }

    /// Prints it.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        for repository in &self.repositories {
            let RepositoryReport { notes, failures, differences, .. } = repository;
            for (kind, lines) in [("note", notes), ("failed", failures), ("differs", differences)] {
                for line in lines {
                    writeln!(out, "{kind}: {}: {line}", repository.repository)?;
                }
            }
        }
        for line in &self.differences {
            writeln!(out, "differs: {line}")?;
        }
        writeln!(out, "{} {}", if self.dry_run { "would import:" } else { "imported:" }, sum(&self.total))?;
        let repositories = self.repositories.len();
        let verdict = match (self.identical, self.dry_run) {
            (true, _) => "source and destination are the same",
            (false, true) => "source and destination differ",
            (false, false) => "source and destination still differ; what is there is kept, run it again",
        };
        writeln!(
            out,
            "{repositories} {}: {verdict}",
            if repositories == 1 { "repository" } else { "repositories" }
        )?;
        Ok(())
    }
}

fn sum(done: &Done) -> String {
    format!(
        "{} manifests ({} were there), {} tags, {} blobs of {} bytes ({} mounted, {} were there)",
        done.manifests_copied,
        done.manifests_present,
        done.tags_set,
        done.blobs_copied,
        done.bytes_copied,
        done.blobs_mounted,
        done.blobs_present
    )
}

/// How far an import is: a bar on a terminal, else a line for each repository.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    expected: AtomicU64,
}

impl Progress {
    /// Shows nothing where the output is for machines.
    pub fn new(json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = "{msg}: {bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {elapsed}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, quiet: json, expected: AtomicU64::new(0) }
    }

    /// So many bytes more are to come.
    pub fn expect(&self, bytes: u64) {
        let all = self.expected.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.set_length(all);
        }
    }

    /// So many bytes came, or need not come.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// A repository is begun.
    pub fn begin(&self, name: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(name.to_owned());
        }
    }

    /// A repository is done.
    pub fn end(&self, report: &RepositoryReport) {
        let failed = report.failures.len() + report.differences.len();
        let outcome =
            if failed == 0 { String::new() } else { format!("; {failed} failures and differences") };
        let line = format!("{}: {}{outcome}", report.repository, sum(&report.done));
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(&line)),
            None if !self.quiet => tell(&line),
            None => {}
        }
    }

    /// All is done.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error, which nobody may read.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
