//! Looks at the server from time to time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::Shared;
use crate::load::percentile;
use crate::process;
use crate::server::Server;

/// What was seen at one moment, and of the time since the one before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Seconds since the load began.
    pub seconds: f64,
    /// Resident memory.
    pub resident_mib: f64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// The write-ahead log of the metadata.
    pub log_mib: f64,
    /// The metadata itself.
    pub metadata_mib: f64,
    /// CPU seconds of the server in a second.
    pub cpu: f64,
    /// Requests in a second.
    pub requests_per_second: f64,
    /// Half of the requests took at most so long.
    pub p50_ms: f64,
    /// 99 of 100 requests took at most so long.
    pub p99_ms: f64,
}

/// Watches one server.
pub struct Watch<'a> {
    server: &'a Server,
    shared: &'a Shared,
    metadata: Option<PathBuf>,
}

impl<'a> Watch<'a> {
    /// Finds what there is to watch.
    pub fn new(server: &'a Server, shared: &'a Shared) -> Self {
        let log = fs::read_dir(server.directory.join("data")).ok().and_then(|entries| {
            let mut paths = entries.flatten().map(|entry| entry.path());
            paths.find(|path| path.to_string_lossy().ends_with("-wal"))
        });
        let metadata = log.map(|path| PathBuf::from(path.to_string_lossy().trim_end_matches("-wal")));
        Self { server, shared, metadata }
    }

    /// Takes a sample so often until the end, or until something fails.
    ///
    /// # Errors
    /// If the server cannot be looked at any more, with what was seen before.
    pub fn samples(
        &self,
        end: Duration,
        every: Duration,
    ) -> Result<Vec<Sample>, (Vec<Sample>, anyhow::Error)> {
        let (mut samples, begun) = (Vec::new(), Instant::now());
        let (mut cpu, mut before) = (process::cpu_seconds(self.server.pid()).unwrap_or_default(), 0.0);
        while begun.elapsed() < end {
            self.shared.pause(every.min(end.saturating_sub(begun.elapsed())));
            if self.shared.is_over() {
                break;
            }
            let now = begun.elapsed().as_secs_f64();
            match self.sample(now, now - before, &mut cpu) {
                Ok(sample) => {
                    eprintln!(
                        "  {:4.0} s: {:.1} MiB, {} descriptors, {:.0} requests/s, p99 {:.1} ms",
                        now,
                        sample.resident_mib,
                        sample.descriptors,
                        sample.requests_per_second,
                        sample.p99_ms
                    );
                    samples.push(sample);
                }
                Err(error) => return Err((samples, error)),
            }
            before = now;
        }
        Ok(samples)
    }

    fn sample(&self, seconds: f64, span: f64, cpu: &mut f64) -> anyhow::Result<Sample> {
        let mut times = {
            let mut shared = self.shared.request_times.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *shared)
        };
        times.sort_unstable();
        let pid = self.server.pid();
        let used = process::cpu_seconds(pid).context("the server is gone")?;
        let used_before = std::mem::replace(cpu, used);
        Ok(Sample {
            seconds,
            resident_mib: process::resident_mib(pid)?,
            descriptors: process::descriptors(pid)?,
            threads: process::threads(pid)?,
            log_mib: self.metadata.as_ref().map_or(0.0, |path| mib(&with_suffix(path, "-wal"))),
            metadata_mib: self.metadata.as_ref().map_or(0.0, |path| mib(path)),
            cpu: (used - used_before) / span,
            requests_per_second: times.len() as f64 / span,
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
        })
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn mib(path: &Path) -> f64 {
    fs::metadata(path).map_or(0.0, |file| file.len() as f64 / f64::from(1 << 20))
}
