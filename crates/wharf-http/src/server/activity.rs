//! What a connection is doing, as its watchdog sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::ServerLimits;

/// Nothing is going on: the value of a mark that is not set.
const UNSET: u64 = u64::MAX;

/// Marks that the parts of one connection leave for its watchdog. They all run in few tasks and a mark only decides
/// about time-outs, so relaxed atomics suffice.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    in_flight: AtomicUsize,
    multiplexed: AtomicBool,
    idle_since: AtomicU64,
    header_since: AtomicU64,
    blocked_since: AtomicU64,
}

/// What the watchdog makes of the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after this long.
    Wait(Duration),
    /// No request for the idle time: close politely.
    Idle,
    /// Headers that never end, or a response nobody reads: cut.
    Stalled,
}

impl Activity {
    /// A connection that has just been accepted: its client owes the first request's headers.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            in_flight: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            header_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(UNSET),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(UNSET - 1)
    }

    /// Bytes came in. Between requests they begin the next one's headers (HTTP/2 has other frames there, so only its
    /// first request is timed like this; later ones fall under the idle time).
    pub(super) fn bytes_read(&self) {
        if self.in_flight.load(Relaxed) == 0
            && self.header_since.load(Relaxed) == UNSET
            && !self.multiplexed.load(Relaxed)
        {
            self.header_since.store(self.now(), Relaxed);
        }
    }

    /// The socket took bytes (`false`) or would not (`true`).
    pub(super) fn write_blocked(&self, blocked: bool) {
        let marked = self.blocked_since.load(Relaxed) != UNSET;
        if marked != blocked {
            self.blocked_since.store(if blocked { self.now() } else { UNSET }, Relaxed);
        }
    }

    /// A request's headers are complete.
    pub(super) fn request_started(&self, multiplexed: bool) {
        self.in_flight.fetch_add(1, Relaxed);
        self.multiplexed.store(multiplexed, Relaxed);
        self.header_since.store(UNSET, Relaxed);
    }

    /// A response's last byte was handed to the connection, or the response was given up.
    pub(super) fn request_finished(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(self.now(), Relaxed);
        }
    }

    /// Judges the marks now.
    pub(super) fn judge(&self, limits: &ServerLimits) -> Verdict {
        let now = self.now();
        let left = |since: u64, limit: Duration| {
            limit.checked_sub(Duration::from_millis(now.saturating_sub(since))).filter(|left| !left.is_zero())
        };
        let blocked = self.blocked_since.load(Relaxed);
        let mut wait = limits.write_timeout;
        if blocked != UNSET {
            match left(blocked, limits.write_timeout) {
                None => return Verdict::Stalled,
                Some(rest) => wait = rest,
            }
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Verdict::Wait(wait.min(limits.idle_timeout).min(limits.header_timeout));
        }
        let header = self.header_since.load(Relaxed);
        if header != UNSET {
            return match left(header, limits.header_timeout) {
                None => Verdict::Stalled,
                Some(rest) => Verdict::Wait(rest.min(wait)),
            };
        }
        match left(self.idle_since.load(Relaxed), limits.idle_timeout) {
            None => Verdict::Idle,
            Some(rest) => Verdict::Wait(rest.min(wait).min(limits.header_timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ServerLimits {
        ServerLimits {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(20),
            ..ServerLimits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_its_headers_is_stalled_and_one_between_requests_is_idle() {
        let activity = Activity::new();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Wait(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Stalled);

        activity.request_started(false);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(activity.judge(&limits()), Verdict::Wait(_)), "a request in flight may take long");
        activity.request_finished();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Wait(Duration::from_secs(1)));
        activity.bytes_read();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Stalled, "the next request's headers are timed");
        activity.request_started(true);
        activity.request_finished();
        activity.bytes_read();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Idle, "frames between HTTP/2 requests are no headers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_response_is_stalled() {
        let activity = Activity::new();
        activity.request_started(false);
        activity.write_blocked(true);
        tokio::time::advance(Duration::from_secs(19)).await;
        activity.write_blocked(true);
        assert_eq!(activity.judge(&limits()), Verdict::Wait(Duration::from_secs(1)));
        activity.write_blocked(false);
        activity.write_blocked(true);
        tokio::time::advance(Duration::from_secs(19)).await;
        assert!(matches!(activity.judge(&limits()), Verdict::Wait(_)), "progress starts the time anew");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.judge(&limits()), Verdict::Stalled);
    }
}
