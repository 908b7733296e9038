//! Failed authentications: each address has so many a minute. Beyond that it is told to wait instead of being told that
//! its credential is wrong. A good credential always passes, so nobody locks out those behind the same address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// With more sources than this, those that have been quiet for a minute are forgotten.
const MANY: usize = 10_000;

/// Failures by source.
#[derive(Debug)]
pub struct Failures {
    /// A minute; 0 = no limit.
    limit: u32,
    sources: Mutex<HashMap<IpAddr, Source>>,
}

/// A bucket that fills over a minute.
#[derive(Clone, Copy, Debug)]
struct Source {
    failures: f64,
    at: Instant,
}

impl Failures {
    /// At most `limit` failures a minute from each source; 0 = no limit.
    pub fn new(limit: u32) -> Self {
        Self { limit, sources: Mutex::default() }
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// There were too many: the time after which the source may fail again.
    pub fn count(&self, address: IpAddr) -> Result<(), Duration> {
        if self.limit == 0 { Ok(()) } else { self.count_at(address, Instant::now()) }
    }

    fn count_at(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let limit = f64::from(self.limit);
        let rate = limit / 60.0;
        let left = |source: &Source| {
            (source.failures - now.saturating_duration_since(source.at).as_secs_f64() * rate).max(0.0)
        };
        // A panic while holding the lock leaves counts that are right or one off.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MANY {
            sources.retain(|_, source| left(source) > 0.0);
            // All of them are at it: the oldest counts are worth less than bounded memory.
            if sources.len() >= MANY {
                sources.clear();
            }
        }
        let source = sources.entry(source(address)).or_insert(Source { failures: 0.0, at: now });
        let failures = left(source);
        if failures + 1.0 > limit {
            return Err(Duration::from_secs_f64((failures + 1.0 - limit) / rate));
        }
        *source = Source { failures: failures + 1.0, at: now };
        Ok(())
    }
}

/// One client has a whole /64 of IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_fails_so_often_a_minute_and_others_are_not_touched() {
        let (failures, start) = (Failures::new(60), Instant::now());
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let counted = |address, now| (0..100).filter(|_| failures.count_at(address, now).is_ok()).count();
        assert_eq!(counted(one, start), 60);
        let wait = failures.count_at(one, start).unwrap_err();
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(counted("2001:db8::ffff:2".parse().unwrap(), start), 0, "the same network");
        assert_eq!(counted("2001:db8:0:1::1".parse().unwrap(), start), 60);
        assert_eq!(counted(one, start + Duration::from_millis(5_001)), 5);
        assert!((0..1000).all(|_| Failures::new(0).count(one).is_ok()));
    }

    #[test]
    fn memory_is_bounded() {
        let (failures, start) = (Failures::new(60), Instant::now());
        for number in 0..3 * MANY {
            let address = IpAddr::V4(u32::try_from(number).unwrap().into());
            assert!(failures.count_at(address, start).is_ok());
        }
        assert!(failures.sources.lock().unwrap().len() <= MANY);
    }
}
