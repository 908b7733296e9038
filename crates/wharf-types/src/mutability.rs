//! Whether a tag may be moved to another image (ECR user guide, "Preventing image tags from being overwritten").

use crate::Tag;

/// A repository's tag mutability setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// Tags may move.
    Mutable,
    /// Tags may not move.
    Immutable,
    /// Tags may move unless a filter matches.
    MutableWithExclusion(Vec<TagFilter>),
    /// Tags may not move unless a filter matches.
    ImmutableWithExclusion(Vec<TagFilter>),
}

/// What is wrong with a mutability setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MutabilityError {
    /// Not one of the four settings.
    #[error("unknown tag mutability {0:?}")]
    Unknown(String),
    /// Filters are given exactly with the two `*_WITH_EXCLUSION` settings.
    #[error("exclusion filters and the setting {0} do not go together")]
    Filters(&'static str),
    /// One to five filters.
    #[error("1 to 5 exclusion filters are allowed, got {0}")]
    Count(usize),
    /// 1 to 128 of `[0-9a-zA-Z._*-]`, at most two `*`.
    #[error("invalid exclusion filter {0:?}")]
    Filter(String),
}

impl Mutability {
    /// Builds a setting from its API name and filters.
    pub fn new(name: &str, filters: Vec<TagFilter>) -> Result<Self, MutabilityError> {
        let (plain, known) = match name {
            "MUTABLE" => (Some(Self::Mutable), "MUTABLE"),
            "IMMUTABLE" => (Some(Self::Immutable), "IMMUTABLE"),
            "MUTABLE_WITH_EXCLUSION" => (None, "MUTABLE_WITH_EXCLUSION"),
            "IMMUTABLE_WITH_EXCLUSION" => (None, "IMMUTABLE_WITH_EXCLUSION"),
            other => return Err(MutabilityError::Unknown(other.chars().take(64).collect())),
        };
        match (plain, filters.len()) {
            (Some(setting), 0) => Ok(setting),
            (Some(_), _) | (None, 0) => Err(MutabilityError::Filters(known)),
            (None, 1..=5) if known == "MUTABLE_WITH_EXCLUSION" => Ok(Self::MutableWithExclusion(filters)),
            (None, 1..=5) => Ok(Self::ImmutableWithExclusion(filters)),
            (None, count) => Err(MutabilityError::Count(count)),
        }
    }

    /// The API's name of the setting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::Immutable => "IMMUTABLE",
            Self::MutableWithExclusion(_) => "MUTABLE_WITH_EXCLUSION",
            Self::ImmutableWithExclusion(_) => "IMMUTABLE_WITH_EXCLUSION",
        }
    }

    /// The exclusion filters; empty for the two plain settings.
    pub fn filters(&self) -> &[TagFilter] {
        match self {
            Self::Mutable | Self::Immutable => &[],
            Self::MutableWithExclusion(filters) | Self::ImmutableWithExclusion(filters) => filters,
        }
    }

    /// Whether `tag`, once it exists, may be pointed at another image.
    pub fn may_move(&self, tag: &Tag) -> bool {
        let excluded = || self.filters().iter().any(|filter| filter.matches(tag.as_str()));
        match self {
            Self::Mutable => true,
            Self::Immutable => false,
            Self::MutableWithExclusion(_) => !excluded(),
            Self::ImmutableWithExclusion(_) => excluded(),
        }
    }
}

/// A `WILDCARD` filter: `*` stands for zero or more characters, everything else for itself, over the whole tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFilter(Box<str>);

impl TagFilter {
    /// Checks the filter's bounds: 1 to 128 of `[0-9a-zA-Z._*-]`, at most two `*`.
    pub fn parse(text: &str) -> Result<Self, MutabilityError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._*-".contains(&b);
        let stars = text.bytes().filter(|b| *b == b'*').count();
        if (1..=128).contains(&text.len()) && text.bytes().all(legal) && stars <= 2 {
            Ok(Self(text.into()))
        } else {
            Err(MutabilityError::Filter(text.chars().take(160).collect()))
        }
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `tag` matches. Linear in the tag for a fixed filter.
    pub fn matches(&self, tag: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = tag.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_anchored_globs() {
        let table = [
            ("v1", "v1", true),
            ("v1", "v10", false),
            ("dev-*", "dev-", true),
            ("dev-*", "xdev-1", false),
            ("*-dev", "a-dev", true),
            ("*-dev", "a-dev2", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "ac", false),
            ("*", "anything", true),
            ("ab*ba", "aba", false),
        ];
        for (filter, tag, expected) in table {
            assert_eq!(TagFilter::parse(filter).unwrap().matches(tag), expected, "{filter} on {tag}");
        }
        for bad in ["", "a*b*c*", "a/b", &"x".repeat(129)] {
            assert!(TagFilter::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_four_settings() {
        let filters = || vec![TagFilter::parse("dev*").unwrap()];
        let may = |name: &str, filters: Vec<TagFilter>, tag: &str| {
            Mutability::new(name, filters).unwrap().may_move(&tag.parse().unwrap())
        };
        assert!(may("MUTABLE", vec![], "v1"));
        assert!(!may("IMMUTABLE", vec![], "v1"));
        assert!(may("IMMUTABLE_WITH_EXCLUSION", filters(), "dev1"));
        assert!(!may("IMMUTABLE_WITH_EXCLUSION", filters(), "v1"));
        assert!(!may("MUTABLE_WITH_EXCLUSION", filters(), "dev1"));
        assert!(may("MUTABLE_WITH_EXCLUSION", filters(), "v1"));
        assert!(Mutability::new("MUTABLE", filters()).is_err());
        assert!(Mutability::new("IMMUTABLE_WITH_EXCLUSION", vec![]).is_err());
        assert!(Mutability::new("mutable", vec![]).is_err());
    }
}
