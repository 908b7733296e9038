//! What a policy says, once its text was understood.

use std::time::Duration;

use crate::extension::Extension;
use crate::glob::Glob;

/// A policy that passed validation: 1 to 50 rules with different priorities.
#[derive(Clone, Debug)]
pub struct LifecyclePolicy {
    rules: Vec<Rule>,
}

impl LifecyclePolicy {
    /// Puts rules in the order of their priorities.
    pub(crate) fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by_key(|rule| rule.priority);
        Self { rules }
    }

    /// The rules, the smallest priority number (the strongest) first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// From 1; the smaller number goes first.
    pub priority: u64,
    /// Free text.
    pub description: Option<String>,
    /// Which images it is about.
    pub selection: Selection,
    /// What becomes of those it acts on.
    pub action: Action,
}

/// Which images a rule is about, and when it acts on them.
#[derive(Clone, Debug)]
pub struct Selection {
    /// By tags.
    pub tags: TagSelection,
    /// By storage class.
    pub storage_class: StorageClass,
    /// By number or age.
    pub count: Count,
    /// What ECR does not know.
    pub extension: Option<Extension>,
}

/// Which images a rule is about, by their tags.
#[derive(Clone, Debug)]
pub enum TagSelection {
    /// `any`: every image.
    Any,
    /// `untagged`: images without a tag.
    Untagged,
    /// `tagged` with `tagPrefixList`: every prefix begins at least one of the image's tags.
    Prefixes(Vec<String>),
    /// `tagged` with `tagPatternList`: every pattern matches at least one of the image's tags.
    Patterns(Vec<Glob>),
    /// `tagged`, chosen by the rule's [`Extension`].
    Extended,
}

impl TagSelection {
    /// Whether a tag is one of those that a list of prefixes or patterns names; without a list every tag is.
    pub(crate) fn names(&self, tag: &str) -> bool {
        match self {
            Self::Any | Self::Untagged | Self::Extended => true,
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| tag.starts_with(&**prefix)),
            Self::Patterns(globs) => globs.iter().any(|glob| glob.matches(tag)),
        }
    }
}

/// Where an image's layers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StorageClass {
    /// `standard`.
    #[default]
    Standard,
    /// `archive`.
    Archive,
}

/// When a rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `imageCountMoreThan`: on all but the newest N.
    MoreThan(u64),
    /// `sinceImagePushed`: on images pushed longer ago.
    SincePushed(Duration),
    /// `sinceImagePulled`: on images not pulled for longer.
    SincePulled(Duration),
    /// `sinceImageTransitioned`: on images archived longer ago.
    SinceTransitioned(Duration),
    /// `sinceTagged` (extension): on images whose newest matching tag was set longer ago.
    SinceTagged(Duration),
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `expire`: it is deleted.
    Expire,
    /// `transition` to `archive`.
    Archive,
}
