//! Which images a policy acts on (Amazon ECR user guide, "How lifecycle policies work").
//!
//! Every rule is evaluated over all images it is about, as if no other had acted; then rules claim images in the order of
//! their priorities. An image is acted on by the first rule that is about it or by none.

mod candidates;
mod tag_text;

use wharf_types::Timestamp;

use self::candidates::{Board, Due};
use crate::policy::{Action, LifecyclePolicy, StorageClass};

/// An image as its repository holds it.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Names it; breaks ties of time.
    pub digest: &'a str,
    /// Its tags, in any order.
    pub tags: Vec<ImageTag<'a>>,
    /// Its storage class; `None` while it moves from one to the other: no rule is about it then.
    pub class: Option<StorageClass>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
    /// When it was last pulled.
    pub pulled_at: Option<Timestamp>,
    /// When it was last archived.
    pub archived_at: Option<Timestamp>,
    /// When it last came back from the archive.
    pub activated_at: Option<Timestamp>,
    /// It is a referrer of an image that is there, and shares its fate: no rule is about it.
    pub follows_subject: bool,
    /// Why it is not acted on whatever a rule says. Rules count it all the same.
    pub protection: Option<Protection>,
}

/// A tag of an image.
#[derive(Clone, Copy, Debug)]
pub struct ImageTag<'a> {
    /// The tag.
    pub name: &'a str,
    /// When it was set to this image.
    pub tagged_at: Timestamp,
}

/// What keeps an image that a rule would act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// An image index in the repository names it (`ImageReferencedByManifestList`).
    ReferencedByManifestList,
    /// It is reported to be running, or belongs to one that is.
    InUse,
}

/// What a policy says about one image. Rules are named by their place in [`LifecyclePolicy::rules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The strongest rule that is about it: the one that decided, or that shields it from those below.
    pub claimed_by: Option<usize>,
    /// The strongest rule below that one which would have acted on it.
    pub shielded_from: Option<usize>,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays.
    Keep,
    /// A rule acts on it.
    Act(Action),
    /// A rule would act on it, were it not protected.
    Blocked(Action, Protection),
    /// It loses some of its tags (places in [`Image::tags`]) and stays.
    Untag(Vec<usize>),
}

impl<'a> Image<'a> {
    /// A standard image of that age, pushed and never pulled, without tags.
    pub fn pushed(digest: &'a str, pushed_at: Timestamp) -> Self {
        Self {
            digest,
            tags: Vec::new(),
            class: Some(StorageClass::Standard),
            pushed_at,
            pulled_at: None,
            archived_at: None,
            activated_at: None,
            follows_subject: false,
            protection: None,
        }
    }

    /// The same with tags that were set when it was pushed.
    #[must_use]
    pub fn tagged(self, tags: impl IntoIterator<Item = &'a str>) -> Self {
        let tagged_at = self.pushed_at;
        let tags = tags.into_iter().map(|name| ImageTag { name, tagged_at }).collect();
        Self { tags, ..self }
    }

    /// What counts as its push time: a restored image is as new as its restoration.
    pub(crate) fn effective_push(&self) -> Timestamp {
        self.activated_at.map_or(self.pushed_at, |activated| activated.max(self.pushed_at))
    }

    /// What counts as its pull time.
    pub(crate) fn effective_pull(&self) -> Timestamp {
        let pulled = self.pulled_at.unwrap_or(self.pushed_at);
        self.activated_at.map_or(pulled, |activated| activated.max(pulled))
    }
}

/// Judges every image at one instant; verdicts are in the order of the images. The cost is the number of images times
/// the number of rules, and one sort.
pub fn evaluate(policy: &LifecyclePolicy, images: &[Image<'_>], now: Timestamp) -> Vec<Verdict> {
    let board = Board::new(images);
    let keep = Verdict { outcome: Outcome::Keep, claimed_by: None, shielded_from: None };
    let mut verdicts = vec![keep; images.len()];
    for (place, rule) in policy.rules().iter().enumerate() {
        for (index, due) in board.candidates(&rule.selection, now) {
            let verdict = &mut verdicts[index];
            match (verdict.claimed_by, due) {
                (None, due) => {
                    verdict.claimed_by = Some(place);
                    verdict.outcome = outcome(due, rule.action, images[index].protection);
                }
                (Some(_), Due::Not) => {}
                (Some(_), Due::Whole | Due::Tags(_)) => {
                    verdict.shielded_from.get_or_insert(place);
                }
            }
        }
    }
    verdicts
}

fn outcome(due: Due, action: Action, protection: Option<Protection>) -> Outcome {
    match (due, protection) {
        (Due::Not, _) => Outcome::Keep,
        (Due::Whole, None) => Outcome::Act(action),
        (Due::Whole | Due::Tags(_), Some(protection)) => Outcome::Blocked(action, protection),
        (Due::Tags(tags), None) => Outcome::Untag(tags),
    }
}
