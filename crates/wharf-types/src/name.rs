//! Repository names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A repository name that passed the registry's rules, e.g. `team/api`: 2 to 256 characters of
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` joined by `/` (ECR model, shape `RepositoryName`; also the OCI grammar).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// Text that is not a repository name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not 2 to 256 characters long.
    #[error("a repository name has 2 to 256 characters, got {0}")]
    Length(usize),
    /// A component breaks the grammar.
    #[error("invalid repository name component {0:?}")]
    Component(String),
}

impl RepositoryName {
    /// The pattern of the service model (`ecr/2015-09-21`), as `InvalidParameterException` prints it.
    pub const PATTERN: &str = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*";

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(2..=256).contains(&text.len()) {
            return Err(NameError::Length(text.len()));
        }
        match text.split('/').find(|part| !is_name_component(part)) {
            Some(part) => Err(NameError::Component(part.chars().take(64).collect())),
            None => Ok(Self(text.into())),
        }
    }
}

/// Runs of `[a-z0-9]` joined by `.`, `_`, `__` or any number of `-`.
fn is_name_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let separators = bytes.chunk_by(|a, b| alphanumeric(a) == alphanumeric(b));
    edges
        && separators
            .filter(|run| !alphanumeric(&run[0]))
            .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_pass() {
        for good in ["ab", "team/api", "a.b_c__d---e", "0a/1b", "a-b/c.d/e_f"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good:?}");
        }
        assert!("a".repeat(256).parse::<RepositoryName>().is_ok());
    }

    #[test]
    fn names_that_do_not() {
        let long = "a".repeat(257);
        let bad = [
            "", "a", "Ab", "a/", "/a", "a//b", "a..b", "a___b", "a._b", "-a", "a-", "a/../b", "a%2fb", "a b",
            "é1", &long,
        ];
        for text in bad {
            assert!(text.parse::<RepositoryName>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,300}") {
            let _ = text.parse::<RepositoryName>();
        }
    }
}
