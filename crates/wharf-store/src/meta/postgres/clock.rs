//! The server's clock as seen from here, so that leases of all nodes are measured by one clock without a question per
//! transaction.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An estimate of the server's time: what it said, when, and how far off that may be.
pub(super) struct ServerClock {
    sample: Mutex<Option<Sample>>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    micros: i64,
    /// Half of the time the answer took.
    uncertainty: Duration,
}

/// A fresh sample is asked for once the last one is that old.
const DUE: Duration = Duration::from_secs(5);
/// How far two quartz clocks may drift apart, one in so many.
const DRIFT: u32 = 5_000;

/// A query for the server's time, in microseconds since 1970.
pub(super) const ASK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

impl ServerClock {
    pub fn new() -> Self {
        ServerClock { sample: Mutex::new(None) }
    }

    /// True if the next exchange should ask for the time, too.
    pub fn due(&self) -> bool {
        self.lock().is_none_or(|sample| sample.at.elapsed() > DUE)
    }

    /// Takes an answer into account: `micros` was read by the server between `sent` and now. An answer that took longer
    /// than the older one's has become inexact is no better than that.
    pub fn learn(&self, sent: Instant, micros: i64) {
        let now = Instant::now();
        let uncertainty = now.saturating_duration_since(sent) / 2;
        let mut kept = self.lock();
        let better = kept.is_none_or(|old| uncertainty <= old.uncertainty + old.at.elapsed() / DRIFT);
        if better {
            *kept = Some(Sample { at: sent + uncertainty, micros, uncertainty });
        }
    }

    /// The server's time now, in microseconds since 1970. Zero before the first answer.
    pub fn now_micros(&self) -> i64 {
        self.lock().map_or(0, |sample| {
            sample.micros + i64::try_from(sample.at.elapsed().as_micros()).unwrap_or(i64::MAX / 2)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Sample>> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sharper_answer_is_kept() {
        let clock = ServerClock::new();
        assert!(clock.due());
        let now = Instant::now();
        clock.learn(now, 1_000_000_000);
        let first = clock.now_micros();
        assert!((1_000_000_000..1_060_000_000).contains(&first), "{first}");
        // It took ten seconds: five of doubt, whatever it says.
        let long_ago = now.checked_sub(Duration::from_secs(10)).unwrap();
        clock.learn(long_ago, 9_000_000_000);
        assert!(clock.now_micros() < 2_000_000_000);
        assert!(!clock.due());
    }
}
