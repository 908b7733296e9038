//! Points in time.

use std::time::Duration;

/// Microseconds since the Unix epoch, as the metadata store keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The system clock's time.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, in 32 bits: from 1970 to 2106.
    pub fn as_seconds(self) -> u32 {
        u32::try_from(self.0.div_euclid(1_000_000).max(0)).unwrap_or(u32::MAX)
    }

    /// Seconds since the epoch with milliseconds, the form of AWS JSON 1.1 answers.
    pub fn as_epoch_seconds(self) -> f64 {
        (self.0.div_euclid(1000)) as f64 / 1000.0
    }

    /// Later by `duration`; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by `duration`; saturates.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// RFC 3339 in UTC, for people and logs.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_microsecond(self.0).map_or_else(|_| self.0.to_string(), |time| time.to_string())
    }
}
