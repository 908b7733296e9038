//! Instants as policies write them: ISO 8601 (W3C profile) or seconds since the epoch.

/// Microseconds since the epoch. A year, month or day alone is its first instant, a time without a zone is UTC.
pub(super) fn parse(text: &str) -> Option<i64> {
    epoch(text).or_else(|| iso(text))
}

/// Seconds, perhaps with a fraction. A number of four digits is a number, not a year.
fn epoch(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let micros = number(seconds)?.checked_mul(1_000_000)?.checked_add(micros(fraction)?)?;
    Some(if negative { -micros } else { micros })
}

fn iso(text: &str) -> Option<i64> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = parts.next().map_or(Some(1), |day| digits(day, 2))?;
    let date =
        jiff::civil::Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let days = i64::from((date - jiff::civil::date(1970, 1, 1)).get_days());
    let of_day = time.map_or(Some(0), time_of_day)?;
    days.checked_mul(86_400_000_000)?.checked_add(of_day)
}

/// Microseconds from midnight UTC: `hh:mm[:ss[.s+]][Z|±hh[:]mm|±hh]`.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (&text[..at], zone(&text[at..])?),
        None => (text, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?, 2).filter(|hours| *hours <= 24)?;
    let minutes = digits(parts.next()?, 2).filter(|minutes| *minutes < 60)?;
    let (seconds, fraction) = match parts.next() {
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
        None => ("00", "0"),
    };
    let seconds = digits(seconds, 2).filter(|seconds| *seconds <= 60)?;
    let micros = micros(fraction)?;
    if hours == 24 && (minutes, seconds, micros) != (0, 0, 0) {
        return None;
    }
    Some((hours * 3600 + minutes * 60 + seconds - offset) * 1_000_000 + micros)
}

/// Seconds east of Greenwich.
fn zone(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (rest, "00"),
        4 => rest.split_at_checked(2)?,
        _ => rest.split_once(':')?,
    };
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A fraction of a second in microseconds; what is finer is cut off.
fn micros(fraction: &str) -> Option<i64> {
    number(fraction.get(..6).unwrap_or(fraction))
        .filter(|_| fraction.bytes().all(|b| b.is_ascii_digit()))
        .map(|value| value * 10_i64.pow(6 - fraction.len().min(6) as u32))
}

fn digits(text: &str, length: usize) -> Option<i64> {
    (text.len() == length).then(|| number(text))?
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_instant_in_every_spelling() {
        let new_year = 1_893_456_000_000_000;
        for text in [
            "2030-01-01T00:00:00Z",
            "2030-01-01",
            "2030-01",
            "2030-01-01T00:00Z",
            "2030-01-01T02:00:00+02:00",
            "2029-12-31T19:00:00-0500",
            "2029-12-31T24:00:00Z",
            "2030-01-01T00:00:00.000000000Z",
            "2030-01-01t00:00:00",
            "1893456000",
            "1893456000.0",
        ] {
            assert_eq!(parse(text), Some(new_year), "{text}");
        }
        assert_eq!(parse("2030-01-01T00:00:00.25Z"), Some(new_year + 250_000));
        assert_eq!(parse("2026"), Some(2_026_000_000));
        assert_eq!(parse("-1"), Some(-1_000_000));
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(-1_000_000));
        for bad in [
            "",
            "soon",
            "2030-13-01",
            "2030-02-30",
            "2030-1-1",
            "2030-01-01T25:00Z",
            "2030-01-01T",
            "2030-01-01T00:00:00X",
            "2030-01-01T00:00:00+9",
            "99999999999999999999",
            "é030-01-01",
            "1.é234567",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9TZtz:.+\\- é]{0,30}") {
            parse(&text);
        }
    }
}
