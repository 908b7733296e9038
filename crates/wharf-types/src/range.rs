//! HTTP byte ranges (RFC 9110 §14): one range of a representation of known size.

/// What a `Range` header asks of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte, from 0.
    pub first: u64,
    /// Last byte, inclusive; at least `first`.
    pub last: u64,
}

/// Why a `Range` header is not served as a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not a single `bytes=` range: the header is ignored and the whole representation served.
    #[error("not a single byte range")]
    Ignored,
    /// Begins beyond the end: answered 416.
    #[error("range not satisfiable")]
    Unsatisfiable,
}

impl ByteRange {
    /// Reads `bytes=first-last`, `bytes=first-` or `bytes=-suffix` against a representation of `size` bytes.
    pub fn parse(header: &str, size: u64) -> Result<Self, RangeError> {
        let (unit, spec) = header.trim().split_once('=').ok_or(RangeError::Ignored)?;
        // Names of units are case-insensitive (RFC 9110 §14.1).
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(RangeError::Ignored);
        }
        let spec = spec.trim();
        let (first, last) = spec.split_once('-').ok_or(RangeError::Ignored)?;
        let number = |text: &str| -> Result<Option<u64>, RangeError> {
            match text.trim() {
                "" => Ok(None),
                // Digits only: `u64::from_str` alone would take a sign.
                digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                    Ok(Some(digits.parse().unwrap_or(u64::MAX)))
                }
                _ => Err(RangeError::Ignored),
            }
        };
        match (number(first)?, number(last)?) {
            (None, None) => Err(RangeError::Ignored),
            (None, Some(0)) => Err(RangeError::Unsatisfiable),
            (None, Some(_)) if size == 0 => Err(RangeError::Unsatisfiable),
            (None, Some(suffix)) => Ok(Self { first: size.saturating_sub(suffix), last: size - 1 }),
            (Some(first), Some(last)) if last < first => Err(RangeError::Ignored),
            (Some(first), _) if first >= size => Err(RangeError::Unsatisfiable),
            (Some(first), last) => Ok(Self { first, last: last.unwrap_or(u64::MAX).min(size - 1) }),
        }
    }

    /// Reads the `Content-Range` of an upload chunk: `first-last`, optionally after `bytes ` (distribution-spec,
    /// "Pushing a blob in chunks").
    pub fn parse_chunk(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
        let (first, last) = text.split('/').next()?.split_once('-')?;
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(Self { first, last })
    }

    /// Number of bytes; never 0. Saturates for the range of all 64-bit offsets.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_a_range() {
        let ok = |first, last| Ok(ByteRange { first, last });
        let table = [
            ("bytes=0-0", ok(0, 0)),
            ("Bytes=0-0", ok(0, 0)),
            ("bytes=0-", ok(0, 9)),
            ("bytes=5-99", ok(5, 9)),
            ("bytes=-3", ok(7, 9)),
            ("bytes=-99", ok(0, 9)),
            ("bytes=10-", Err(RangeError::Unsatisfiable)),
            ("bytes=-0", Err(RangeError::Unsatisfiable)),
            ("bytes=99999999999999999999-", Err(RangeError::Unsatisfiable)),
            ("bytes=3-2", Err(RangeError::Ignored)),
            ("bytes=0-1,3-4", Err(RangeError::Ignored)),
            ("bytes=+1-2", Err(RangeError::Ignored)),
            ("items=0-1", Err(RangeError::Ignored)),
            ("bytes=-", Err(RangeError::Ignored)),
            ("", Err(RangeError::Ignored)),
        ];
        for (header, expected) in table {
            assert_eq!(ByteRange::parse(header, 10), expected, "{header}");
        }
        assert_eq!(ByteRange::parse("bytes=0-", 0), Err(RangeError::Unsatisfiable));
        assert_eq!(ByteRange::parse("bytes=-1", 0), Err(RangeError::Unsatisfiable));
    }

    #[test]
    fn the_forms_of_a_chunk() {
        assert_eq!(ByteRange::parse_chunk("0-9"), Some(ByteRange { first: 0, last: 9 }));
        assert_eq!(ByteRange::parse_chunk("bytes 5-9/10"), Some(ByteRange { first: 5, last: 9 }));
        for bad in ["", "9", "9-0", "a-b", "-1", "1-", "99999999999999999999-1"] {
            assert_eq!(ByteRange::parse_chunk(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_range_lies_inside(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in any::<u64>()) {
            if let Ok(range) = ByteRange::parse(&header, size) {
                prop_assert!(range.first <= range.last && range.last < size);
            }
        }

        #[test]
        fn parsing_never_panics(header in ".{0,60}", size in any::<u64>()) {
            let _ = ByteRange::parse(&header, size);
            let _ = ByteRange::parse_chunk(&header);
        }
    }
}
