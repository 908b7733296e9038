//! What one rule is about and what of that is due, as though it were the only rule.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use semver::Version;
use wharf_types::Timestamp;

use super::tag_text::TagText;
use super::{Image, Protection};
use crate::extension::{Extension, Order, newest_version_first, version};
use crate::policy::{Count, Selection, StorageClass, TagSelection};

/// What a rule wants of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it is young, or among the newest.
    Not,
    /// To act on it.
    Whole,
    /// To take some of its tags away.
    Tags(Vec<usize>),
}

/// All images, sorted once for all rules.
pub(super) struct Board<'a> {
    images: &'a [Image<'a>],
    standard: Lane,
    archive: Lane,
}

/// The images of one storage class, newest first.
struct Lane {
    /// Their places among all images.
    places: Vec<usize>,
    tags: TagText,
}

impl<'a> Board<'a> {
    pub(super) fn new(images: &'a [Image<'a>]) -> Self {
        let lane = |class: StorageClass| {
            let wanted = |image: &Image<'_>| image.class == Some(class) && !image.follows_subject;
            let mut places: Vec<usize> = (0..images.len()).filter(|index| wanted(&images[*index])).collect();
            places.sort_by_key(|index| (Reverse(images[*index].effective_push()), images[*index].digest));
            let tags = TagText::of(places.iter().map(|index| &images[*index]));
            Lane { places, tags }
        };
        Self { images, standard: lane(StorageClass::Standard), archive: lane(StorageClass::Archive) }
    }

    /// Every image the rule is about with what it wants of it.
    pub(super) fn candidates(&self, selection: &Selection, now: Timestamp) -> Vec<(usize, Due)> {
        let lane = match selection.storage_class {
            StorageClass::Standard => &self.standard,
            StorageClass::Archive => &self.archive,
        };
        let numbered = lane.places.iter().copied().enumerate();
        let by_tags = numbered.filter(|(number, _)| lane.tags.are_meant(*number, &selection.tags));
        let mut candidates: Vec<usize> = by_tags.map(|(_, index)| index).collect();
        match &selection.extension {
            None => self.by_images(selection.count, None, candidates, now),
            Some(extension) => {
                let choice = Choice { tags: &selection.tags, extension };
                candidates.retain(|index| choice.is_about(&self.images[*index]));
                match extension.per_tag {
                    true => self.by_tags(selection.count, choice, &candidates, now),
                    false => self.by_images(selection.count, Some(choice), candidates, now),
                }
            }
        }
    }

    fn by_images(
        &self,
        count: Count,
        choice: Option<Choice<'_>>,
        candidates: Vec<usize>,
        now: Timestamp,
    ) -> Vec<(usize, Due)> {
        let due = |due: bool| if due { Due::Whole } else { Due::Not };
        match (count, choice) {
            (Count::MoreThan(newest), None) => {
                let places = candidates.into_iter().zip(0_u64..);
                places.map(|(index, place)| (index, due(place >= newest))).collect()
            }
            (Count::MoreThan(newest), Some(choice)) => {
                let mut counted: HashMap<&str, u64> = HashMap::new();
                let ordered = self.ordered(choice, candidates);
                let judge = |index: usize| (index, due(self.is_beyond(index, newest, choice, &mut counted)));
                ordered.into_iter().map(judge).collect()
            }
            (count, choice) => {
                let since = |index: &usize| self.since(count, choice, &self.images[*index]);
                let judge = |index: usize| (index, due(since(&index).is_some_and(|age| age.over(now))));
                candidates.into_iter().map(judge).collect()
            }
        }
    }

    /// Newest first in the rule's own order.
    fn ordered(&self, choice: Choice<'_>, mut candidates: Vec<usize>) -> Vec<usize> {
        if choice.extension.order == Order::SemanticVersion {
            let highest = |index: &usize| -> Option<Version> {
                let meant = self.images[*index].tags.iter().filter(|tag| choice.means(tag.name));
                meant.filter_map(|tag| version(tag.name)).max()
            };
            let mut keyed: Vec<_> = candidates.iter().map(|index| (highest(index), *index)).collect();
            // Stable: images of one version stay in the order of their push times.
            keyed.sort_by(|(one, _), (other, _)| newest_version_first(one.as_ref(), other.as_ref()));
            candidates = keyed.into_iter().map(|(_, index)| index).collect();
        }
        candidates
    }

    /// Whether N newer images are there in every group the image belongs to. An image without a group stays.
    fn is_beyond(
        &self,
        index: usize,
        newest: u64,
        choice: Choice<'_>,
        counted: &mut HashMap<&'a str, u64>,
    ) -> bool {
        let image = &self.images[index];
        let mut groups: Vec<&str> = match image.tags.is_empty() {
            true if choice.extension.group_by.is_none() => vec![""],
            true => Vec::new(),
            false => {
                let meant = image.tags.iter().filter(|tag| choice.means(tag.name));
                meant.filter_map(|tag| choice.extension.group(tag.name)).collect()
            }
        };
        groups.sort_unstable();
        groups.dedup();
        let mut beyond = !groups.is_empty();
        for group in groups {
            let place = counted.entry(group).or_default();
            beyond &= *place >= newest;
            *place += 1;
        }
        beyond
    }

    /// Since when the image's age counts, and the age a rule allows; `None`: it does not age.
    fn since(&self, count: Count, choice: Option<Choice<'_>>, image: &Image<'_>) -> Option<Age> {
        let (since, allowed) = match count {
            Count::MoreThan(_) => return None,
            Count::SincePushed(allowed) => (image.effective_push(), allowed),
            Count::SincePulled(allowed) => (image.effective_pull(), allowed),
            Count::SinceTransitioned(allowed) => (image.archived_at?, allowed),
            Count::SinceTagged(allowed) => {
                let means = |name: &str| choice.is_none_or(|choice| choice.means(name));
                let meant = image.tags.iter().filter(|tag| means(tag.name));
                (meant.map(|tag| tag.tagged_at).max()?, allowed)
            }
        };
        Some(Age { since, allowed })
    }

    /// Tags one by one. An image that would lose every tag is due as a whole.
    fn by_tags(
        &self,
        count: Count,
        choice: Choice<'_>,
        candidates: &[usize],
        now: Timestamp,
    ) -> Vec<(usize, Due)> {
        let mut tags: Vec<(usize, usize)> = Vec::new();
        for index in candidates {
            let meant = |(_, tag): &(usize, &super::ImageTag<'_>)| choice.means(tag.name);
            let places = self.images[*index].tags.iter().enumerate().filter(meant);
            tags.extend(places.map(|(place, _)| (*index, place)));
        }
        let mut leaving: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, place) in self.due_tags(count, choice, tags, now) {
            leaving.entry(index).or_default().push(place);
        }
        let judge = |index: &usize| match leaving.remove(index) {
            None => (*index, Due::Not),
            Some(places) if places.len() == self.images[*index].tags.len() => (*index, Due::Whole),
            Some(mut places) => {
                places.sort_unstable();
                (*index, Due::Tags(places))
            }
        };
        candidates.iter().map(judge).collect()
    }

    fn due_tags(
        &self,
        count: Count,
        choice: Choice<'_>,
        mut tags: Vec<(usize, usize)>,
        now: Timestamp,
    ) -> Vec<(usize, usize)> {
        let tag = |(index, place): &(usize, usize)| &self.images[*index].tags[*place];
        let Count::MoreThan(newest) = count else {
            tags.retain(|of| {
                let image = &self.images[of.0];
                let own = Image { tags: vec![*tag(of)], ..Image::pushed(image.digest, image.pushed_at) };
                let aged = match count {
                    Count::SinceTagged(_) => self.since(count, None, &own),
                    _ => self.since(count, Some(choice), image),
                };
                aged.is_some_and(|age| age.over(now))
            });
            return tags;
        };
        match choice.extension.order {
            Order::Pushed => tags.sort_by_key(|of| (Reverse(tag(of).tagged_at), tag(of).name)),
            Order::SemanticVersion => tags.sort_by(|one, other| {
                newest_version_first(version(tag(one).name).as_ref(), version(tag(other).name).as_ref())
                    .then_with(|| tag(other).tagged_at.cmp(&tag(one).tagged_at))
                    .then_with(|| tag(one).name.cmp(tag(other).name))
            }),
        }
        let mut counted: HashMap<&str, u64> = HashMap::new();
        tags.retain(|of| {
            let Some(group) = choice.extension.group(tag(of).name) else { return false };
            let place = counted.entry(group).or_default();
            *place += 1;
            *place > newest
        });
        tags
    }
}

/// How old something may become.
struct Age {
    since: Timestamp,
    allowed: Duration,
}

impl Age {
    fn over(&self, now: Timestamp) -> bool {
        self.since < now.minus(self.allowed)
    }
}

/// What a rule that goes beyond ECR's is about: images by both parts of its selection, and of those the tags that both
/// mean, so that no tag is counted or taken away that only one of them names.
#[derive(Clone, Copy)]
struct Choice<'s> {
    tags: &'s TagSelection,
    extension: &'s Extension,
}

impl Choice<'_> {
    fn means(&self, tag: &str) -> bool {
        self.tags.names(tag) && self.extension.means(tag)
    }

    /// Whether the rule is about an image that ECR's part of the selection is about.
    fn is_about(&self, image: &Image<'_>) -> bool {
        let any = |matches: &dyn Fn(&str) -> bool| image.tags.iter().any(|tag| matches(tag.name));
        let meant = match self.tags {
            TagSelection::Any if self.extension.any_of.is_empty() => true,
            TagSelection::Untagged => true,
            _ => any(&|tag| self.means(tag)),
        };
        let running = self.extension.not_in_use && image.protection == Some(Protection::InUse);
        meant && !running && !any(&|tag| self.extension.excludes(tag))
    }
}
