//! How values are written: sizes, durations, rates, and the words that settings choose between.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// A value that can be read from an operator's text. The error says what was expected.
pub trait Value: Sized {
    /// Reads the text.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// Empty text means that nothing is set.
impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

impl Value for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "").parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl Value for usize {
    fn parse(text: &str) -> Result<Self, String> {
        usize::try_from(u64::parse(text)?).map_err(|_| "number is too large for this machine".to_owned())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected bytes such as 4096, 64KiB, 4MiB or 2GB".to_owned();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let unit: u64 = match text[digits..].trim() {
            "" | "B" => 1,
            "KiB" | "K" | "k" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "TiB" | "T" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..digits].replace('_', "").parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Bytes).ok_or_else(wrong)
    }
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a time span such as 500ms, 30s, 12h, 7d or 1h30m".to_owned();
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit_end =
                rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
            let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
            let part = match rest[digits..unit_end].trim() {
                "ms" => Some(Duration::from_millis(number)),
                "s" => seconds(1),
                "m" | "min" => seconds(60),
                "h" => seconds(3_600),
                "d" => seconds(86_400),
                "w" => seconds(604_800),
                _ => None,
            };
            // A century is long enough, and far from any overflow of a clock.
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            if total > Duration::from_secs(100 * 366 * 86_400) {
                return Err("time span is longer than a century".to_owned());
            }
            rest = rest[unit_end..].trim_start();
        }
        Ok(total)
    }
}

/// The free space below which pushes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermark {
    /// Bytes free.
    Bytes(u64),
    /// Percent of the file system free, at most 100.
    Percent(u8),
}

impl Value for Watermark {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Self::Percent)
                .ok_or_else(|| "expected a percentage from 0% to 100%".to_owned()),
            None => Bytes::parse(text).map(|bytes| Self::Bytes(bytes.0)),
        }
    }
}

/// `name=value` pairs, separated by commas.
impl<T: Value> Value for BTreeMap<String, T> {
    fn parse(text: &str) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("expected name=value, found `{pair}`"))?;
            let (name, value) = (name.trim(), value.trim());
            let value = T::parse(value).map_err(|expected| format!("`{name}`: {expected}"))?;
            if map.insert(name.to_owned(), value).is_some() {
                return Err(format!("`{name}` is given twice"));
            }
        }
        Ok(map)
    }
}

/// Makes an enum whose variants are the words of a choice; the table checks the words, this maps them.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Value for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("expected one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

choice! {
    /// Where the TLS certificate comes from.
    TlsMode {
        /// Plain HTTP.
        Off = "off",
        /// A development authority kept in the data directory.
        SelfSigned = "self-signed",
        /// The operator's PEM files.
        Files = "files",
    }
}
choice! {
    /// How the log is written.
    LogFormat {
        /// For eyes.
        Human = "human",
        /// For machines, one object per line.
        Json = "json",
    }
}
choice! {
    /// Whom to follow where ECR refuses what OCI allows.
    Dialect {
        /// The OCI Distribution specification.
        Spec = "spec",
        /// Amazon ECR.
        Ecr = "ecr",
    }
}
choice! {
    /// When API rates are throttled.
    Throttle {
        /// Unless only this machine can reach the server.
        Auto = "auto",
        /// Always.
        On = "on",
        /// Never.
        Off = "off",
    }
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLog {
    /// Nowhere.
    Off,
    /// Into the log.
    Log,
    /// Into a file, appended.
    File(std::path::PathBuf),
}

impl Value for AuditLog {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("expected a file, `log` or `off`".to_owned()),
            "off" => Ok(Self::Off),
            "log" => Ok(Self::Log),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// Reads a value whose type knows how to parse itself.
pub fn from_str<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("4 MiB", 4 << 20), ("2GB", 2_000_000_000)]
        {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MiB", "4 mib", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("500ms", 500), ("0s", 0), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1h 5s", 3_605_000)]
        {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "h", "1x", "-1s", "99999999999999999999s", "9999999999w"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn watermarks_and_maps() {
        assert_eq!(Watermark::parse("5%"), Ok(Watermark::Percent(5)));
        assert_eq!(Watermark::parse("1GiB"), Ok(Watermark::Bytes(1 << 30)));
        assert!(Watermark::parse("101%").is_err());
        let map = BTreeMap::<String, u64>::parse("a=1, b=2,").unwrap();
        assert_eq!(map, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        assert!(BTreeMap::<String, u64>::parse("a").is_err());
        assert!(BTreeMap::<String, u64>::parse("a=1,a=2").is_err());
    }
}
