//! One step of carrying out a policy: looks at an image again, acts through the one delete path, and notes what was done,
//! in one transaction.

use serde_json::json;
use wharf_lifecycle::{Action, Outcome};
use wharf_store::meta::lifecycle;
use wharf_store::meta::{Tx, archive, events};
use wharf_types::{Digest, Tag};

use super::in_use::holders_with_relatives;
use super::plan::Standing;
use crate::images::{Fate, InUse, delete_digest, untag};
use crate::repositories::stored;
use crate::storage_class;
use crate::{ImageRef, RegistryError, Repository};

/// What a plan wants done with one image.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) image: Standing,
    pub(super) outcome: Outcome,
    pub(super) rule: u64,
}

/// What was done with one image.
#[derive(Debug)]
pub(super) enum Done {
    /// Deleted, with the referrers that went with it.
    Expired { images: Vec<ImageRef>, referrers: Vec<ImageRef> },
    /// Archived, with its referrers.
    Archived { images: Vec<Digest> },
    /// It lost these tags.
    Untagged(Vec<ImageRef>),
    /// It is not what it was when the policy was evaluated, or has come into use; the next run looks at it again.
    Changed,
    /// An index names it by now.
    Held,
}

/// Does one step. `moves`: there is a second store for archived content.
pub(super) fn act(
    tx: &mut Tx<'_>,
    repository: &Repository,
    step: &Step,
    moves: bool,
) -> Result<Done, RegistryError> {
    let (id, digest) = (repository.id, step.image.row.digest.as_str());
    let same = lifecycle::find_image(tx, id, digest)?.as_ref() == Some(&step.image.row)
        && lifecycle::tags_of(tx, id, digest)? == step.image.tags;
    if !same || is_in_use(tx, repository, digest)? {
        return Ok(Done::Changed);
    }
    let done = match &step.outcome {
        Outcome::Act(Action::Expire) => expire(tx, repository, digest)?,
        Outcome::Act(Action::Archive) => to_archive(tx, repository, step, moves)?,
        Outcome::Untag(places) => remove_tags(tx, repository, step, places)?,
        Outcome::Keep | Outcome::Blocked(..) => Done::Changed,
    };
    note(tx, repository, step, &done)?;
    Ok(done)
}

/// Whether an image or one of its relatives runs.
fn is_in_use(tx: &mut Tx<'_>, repository: &Repository, digest: &str) -> Result<bool, RegistryError> {
    Ok(!holders_with_relatives(tx, repository, digest)?.is_empty())
}

fn expire(tx: &mut Tx<'_>, repository: &Repository, digest: &str) -> Result<Done, RegistryError> {
    match delete_digest(tx, repository, stored("digest", digest)?, InUse::Ignored)? {
        Fate::Removed(images) => {
            let referrers = expire_referrers(tx, repository, digest)?;
            Ok(Done::Expired { images, referrers })
        }
        Fate::Held(_) => Ok(Done::Held),
        Fate::Absent | Fate::Mismatch | Fate::InUse(_) => Ok(Done::Changed),
    }
}

/// Deletes the referrers of an image that is gone, and theirs; what an index names or somebody runs stays.
pub(super) fn expire_referrers(
    tx: &mut Tx<'_>,
    repository: &Repository,
    subject: &str,
) -> Result<Vec<ImageRef>, RegistryError> {
    let mut gone = Vec::new();
    let mut left = lifecycle::referrers(tx, repository.id, subject)?;
    while let Some(referrer) = left.pop() {
        if is_in_use(tx, repository, &referrer)? {
            continue;
        }
        if let Fate::Removed(images) =
            delete_digest(tx, repository, stored("digest", &referrer)?, InUse::Ignored)?
        {
            gone.extend(images);
            left.extend(lifecycle::referrers(tx, repository.id, &referrer)?);
        }
    }
    Ok(gone)
}

fn to_archive(
    tx: &mut Tx<'_>,
    repository: &Repository,
    step: &Step,
    moves: bool,
) -> Result<Done, RegistryError> {
    let digest = &step.image.row.digest;
    if !archive::unarchived_parents(tx, repository.id, digest)?.is_empty() {
        return Ok(Done::Held);
    }
    let images = storage_class::archive(tx, repository, digest, Some(step.rule), moves)?;
    Ok(if images.is_empty() { Done::Changed } else { Done::Archived { images } })
}

fn remove_tags(
    tx: &mut Tx<'_>,
    repository: &Repository,
    step: &Step,
    places: &[usize],
) -> Result<Done, RegistryError> {
    let mut removed = Vec::new();
    for place in places {
        let tag: Tag = stored("tag", &step.image.tags[*place].0)?;
        if let Fate::Removed(images) = untag(tx, repository, &tag)? {
            removed.extend(images);
        }
    }
    Ok(Done::Untagged(removed))
}

const IMAGE: &str = "ECR Image Action";
const REFERRER: &str = "ECR Referrer Action";

/// The events of what was done: ECR's own for every image, with the rule that decided.
fn note(tx: &mut Tx<'_>, repository: &Repository, step: &Step, done: &Done) -> Result<(), RegistryError> {
    let rule = Some(step.rule);
    match done {
        Done::Expired { images, referrers } => {
            note_deleted(tx, repository, IMAGE, images, rule)?;
            note_deleted(tx, repository, REFERRER, referrers, rule)
        }
        Done::Untagged(images) => note_deleted(tx, repository, IMAGE, images, rule),
        // Noted where it is done, since there are other ways to it.
        Done::Archived { .. } | Done::Changed | Done::Held => Ok(()),
    }
}

/// The events of referrers whose subject is gone: no rule decided over them.
pub(super) fn note_orphans(
    tx: &mut Tx<'_>,
    repository: &Repository,
    gone: &[ImageRef],
) -> Result<(), RegistryError> {
    note_deleted(tx, repository, REFERRER, gone, None)
}

fn note_deleted(
    tx: &mut Tx<'_>,
    repository: &Repository,
    kind: &str,
    images: &[ImageRef],
    rule: Option<u64>,
) -> Result<(), RegistryError> {
    let (account, region) = (&repository.name.registry.account, &repository.name.registry.region);
    for image in images {
        let mut detail = json!({
            "action-type": "DELETE", "result": "SUCCESS", "repository-name": repository.name.name.to_string(),
            "image-digest": image.digest.to_string(),
        });
        if let Some(tag) = &image.tag {
            detail["image-tag"] = json!(tag.as_str());
        }
        if let Some(rule) = rule {
            detail["lifecycle-rule-priority"] = json!(rule);
        }
        events::insert(tx, account.as_str(), region.as_str(), kind, &detail.to_string())?;
    }
    Ok(())
}
