//! The date a request was signed at.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

/// A point in time with the second's precision that signatures have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SignedDate(i64);

impl SignedDate {
    /// From seconds since the epoch.
    pub(super) fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub(super) fn seconds(self) -> i64 {
        self.0
    }

    /// Reads `YYYYMMDDTHHMMSSZ`.
    pub(super) fn from_basic(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let digits = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0_i16, |value, byte| {
                byte.is_ascii_digit().then(|| value * 10 + i16::from(byte - b'0'))
            })
        };
        let small = |from: usize| digits(from, from + 2).and_then(|value| i8::try_from(value).ok());
        let civil =
            DateTime::new(digits(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok()?;
        Some(Self(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()))
    }

    /// Reads the value of a `Date` header: RFC 7231, or basic format.
    pub(super) fn from_http(text: &str) -> Option<Self> {
        Self::from_basic(text)
            .or_else(|| Some(Self(rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_second())))
    }

    /// `YYYYMMDDTHHMMSSZ`; the nearest representable date for values out of the calendar.
    pub(super) fn to_basic(self) -> String {
        let time = match jiff::Timestamp::from_second(self.0) {
            Ok(time) => time,
            Err(_) if self.0 < 0 => jiff::Timestamp::MIN,
            Err(_) => jiff::Timestamp::MAX,
        };
        let civil = TimeZone::UTC.to_datetime(time);
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_format_goes_both_ways() {
        let date = SignedDate::from_basic("20150830T123600Z").unwrap();
        assert_eq!(date.seconds(), 1_440_938_160);
        assert_eq!(date.to_basic(), "20150830T123600Z");
        assert_eq!(SignedDate::from_http("Sun, 30 Aug 2015 12:36:00 GMT"), Some(date));
        assert_eq!(SignedDate::from_http("20150830T123600Z"), Some(date));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "20150830",
            "2015-08-30T12:36:00Z",
            "20150830T123600",
            "20150830t123600z",
            "20151330T123600Z",
            "20150230T123600Z",
            "20150830T246000Z",
            "2015083éT12360Z",
            "20150830T1236+1Z",
        ] {
            assert_eq!(SignedDate::from_basic(bad), None, "{bad:?}");
        }
    }
}
