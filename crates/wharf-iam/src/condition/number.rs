//! Decimal numbers of any length, compared exactly.

use std::cmp::Ordering;

/// A decimal number without leading and trailing zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    /// Digits before the point.
    whole: Box<str>,
    /// Digits after it.
    fraction: Box<str>,
}

impl Number {
    /// Reads an integer or decimal, e.g. `-12.50`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, whole: whole.into(), fraction: fraction.into() })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |a: &Self, b: &Self| {
            (a.whole.len(), &a.whole, &a.fraction).cmp(&(b.whole.len(), &b.whole, &b.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        let number = |text| Number::parse(text).unwrap();
        let rising =
            ["-10", "-9.5", "-0.1", "0", "0.05", "0.5", "9", "10", "9007199254740993", "9007199254740993.5"];
        for pair in rising.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        for (a, b) in [("300", "300.0"), ("-0", "0"), ("+5", "5"), ("007", "7"), (".5", "0.5")] {
            assert_eq!(number(a), number(b));
        }
        for bad in ["", ".", "-", "1e3", "0x1", " 1", "1 ", "1.2.3", "١", "NaN", "inf"] {
            assert_eq!(Number::parse(bad), None, "{bad}");
        }
    }
}
