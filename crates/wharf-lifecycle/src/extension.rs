//! What rules can say beyond ECR's language, in the `wharf` object of a selection. ECR's parser refuses such policies;
//! ours takes them where the operator has said so ([`Grammar::Extended`](crate::Grammar)).

use std::cmp::Ordering;

use regex::Regex;

use crate::glob::Glob;

/// The `wharf` object of a selection.
#[derive(Clone, Debug, Default)]
pub struct Extension {
    /// `tagPatternsAnyOf`, `tagRegexAnyOf`: a tag is meant if any of these matches; every tag if both are absent.
    pub(crate) any_of: Vec<Matcher>,
    /// `excludeTagPatterns`, `excludeTagRegexes`: an image with such a tag is not.
    pub(crate) none_of: Vec<Matcher>,
    /// `groupBy`: images are counted per captured part of the tag.
    pub(crate) group_by: Option<Regex>,
    /// `order`: what "newest" means for `imageCountMoreThan`.
    pub(crate) order: Order,
    /// `notInUse`: images in use are not counted, rather than counted and kept.
    pub(crate) not_in_use: bool,
    /// `perTag`: tags are counted and taken away one by one; an image goes with its last tag.
    pub(crate) per_tag: bool,
}

/// What "newest" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By push time, as ECR does.
    #[default]
    Pushed,
    /// By the highest semantic version among the tags that are meant (a leading `v` is skipped); images without one are
    /// older than all that have one.
    SemanticVersion,
}

/// One pattern or regular expression. The expressions are of a kind that takes linear time.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Glob(Glob),
    Regex(Regex),
}

impl Matcher {
    pub(crate) fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(tag),
            Self::Regex(regex) => regex.is_match(tag),
        }
    }
}

impl Extension {
    /// Whether a tag is one of those the rule is about.
    pub(crate) fn means(&self, tag: &str) -> bool {
        self.any_of.is_empty() || self.any_of.iter().any(|matcher| matcher.matches(tag))
    }

    /// Whether a tag keeps its image out of the rule.
    pub(crate) fn excludes(&self, tag: &str) -> bool {
        self.none_of.iter().any(|matcher| matcher.matches(tag))
    }

    /// The group a tag belongs to: what `groupBy` captures first, or the whole match; `None` when it does not match,
    /// and the one group there is without `groupBy`.
    pub(crate) fn group<'t>(&self, tag: &'t str) -> Option<&'t str> {
        let Some(regex) = &self.group_by else { return Some("") };
        let captures = regex.captures(tag)?;
        let captured = captures.iter().skip(1).flatten().next().or_else(|| captures.get(0))?;
        Some(captured.as_str())
    }
}

/// A semantic version as a tag writes it.
pub(crate) fn version(tag: &str) -> Option<semver::Version> {
    semver::Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// Newest first, those without a version last.
pub(crate) fn newest_version_first(
    one: Option<&semver::Version>,
    other: Option<&semver::Version>,
) -> Ordering {
    other.cmp(&one)
}
