//! What a policy says about the images of a repository at one instant.

use std::collections::{BTreeMap, HashMap, HashSet};

use wharf_lifecycle::{
    Action, Image, ImageTag, LifecyclePolicy, Outcome, Protection, StorageClass, Verdict, evaluate,
};
use wharf_store::meta::lifecycle::{self, BlobUse, ImageRow};
use wharf_store::meta::{Tx, in_use};
use wharf_types::Timestamp;

use crate::{Registry, RegistryError, Repository};

/// An image as it stood when a policy was evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) row: ImageRow,
    /// Its tags with the times they were set, in order of name.
    pub(super) tags: Vec<(String, i64)>,
    pub(super) protection: Option<Protection>,
    /// Its subject is here.
    pub(super) follows_subject: bool,
    /// Indexes name it, and all of them are archived.
    pub(super) index_is_archived: bool,
}

/// A policy with its verdicts.
pub(super) struct Plan {
    pub(super) policy: LifecyclePolicy,
    pub(super) images: Vec<Standing>,
    pub(super) verdicts: Vec<Verdict>,
}

/// What becomes of an image that a policy is about, as an operator reads it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedAction {
    /// It stays.
    Keep,
    /// It is deleted.
    Expire,
    /// It goes to the archive.
    Archive,
    /// It loses these tags and stays.
    Untag(Vec<String>),
    /// It would be acted on, but an image index names it.
    KeepReferenced,
    /// It would be acted on, but is in use.
    KeepInUse,
}

/// One image of a plan.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedImage {
    /// Which.
    pub digest: String,
    /// Its tags in order of name.
    pub tags: Vec<String>,
    /// When it was pushed, in microseconds since the epoch.
    pub pushed_at: i64,
    /// What becomes of it.
    pub action: PlannedAction,
    /// The priority of the rule that decided.
    pub rule: Option<u64>,
    /// The priority of the rule that it was shielded from.
    pub shielded_from: Option<u64>,
    /// Bytes of content that nothing needs any more once this and all images before it in the order of their going are
    /// gone: what several share is counted with the last of them.
    pub bytes_freed: u64,
}

/// What a policy would do with a repository.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LifecycleExplanation {
    /// Every image, in order of digest.
    pub images: Vec<PlannedImage>,
    /// Images that would be deleted.
    pub expiring: u64,
    /// Images that would go to the archive.
    pub archiving: u64,
    /// Bytes that all the deletions free together, when the trash is emptied.
    pub bytes_freed: u64,
}

impl Registry {
    /// Evaluates a policy over a repository as it stands, pulls of the last seconds included.
    pub(super) async fn lifecycle_plan(
        &self,
        repository: &Repository,
        policy: LifecyclePolicy,
        at: Timestamp,
    ) -> Result<Plan, RegistryError> {
        self.write_pull_times().await?;
        let (id, account) = (repository.id, repository.name.registry.account.to_string());
        let images = self.inner.meta.read_background(move |tx| load(tx, id, &account, at)).await?;
        // Many images by many rules take a while.
        tokio::task::spawn_blocking(move || {
            let views: Vec<Image<'_>> = images.iter().map(Standing::view).collect();
            let mut verdicts = evaluate(&policy, &views, at);
            for (image, verdict) in images.iter().zip(&mut verdicts) {
                // What an archived index names may follow it there; to be deleted, it waits for the index to go.
                let blocked = Outcome::Blocked(Action::Archive, Protection::ReferencedByManifestList);
                if image.index_is_archived && verdict.outcome == blocked {
                    verdict.outcome = Outcome::Act(Action::Archive);
                }
            }
            Plan { policy, images, verdicts }
        })
        .await
        .map_err(|error| RegistryError::Internal(format!("an evaluation broke off: {error}")))
    }
}

impl Plan {
    /// The places of the images that are acted on, the oldest first.
    pub(super) fn acted_on(&self) -> Vec<usize> {
        let acts =
            |index: &usize| matches!(self.verdicts[*index].outcome, Outcome::Act(_) | Outcome::Untag(_));
        let mut places: Vec<usize> = (0..self.images.len()).filter(acts).collect();
        places.sort_by_key(|index| {
            let row = &self.images[*index].row;
            (row.pushed_at, row.digest.clone())
        });
        places
    }

    /// The priority of a rule.
    pub(super) fn priority(&self, rule: Option<usize>) -> Option<u64> {
        Some(self.policy.rules().get(rule?)?.priority)
    }

    /// What becomes of every image, and what that frees.
    pub(super) fn explain(&self, uses: Vec<BlobUse>) -> LifecycleExplanation {
        let mut images = self.describe();
        let mut left: HashMap<&str, u64> = HashMap::new();
        let mut blobs: HashMap<&str, Vec<&BlobUse>> = HashMap::new();
        for blob in &uses {
            // One that another repository holds is never freed by this one.
            *left.entry(&blob.digest).or_default() += 1 + u64::from(blob.elsewhere);
            blobs.entry(&blob.manifest).or_default().push(blob);
        }
        for index in self.acted_on() {
            if images[index].action != PlannedAction::Expire {
                continue;
            }
            for blob in blobs.get(self.images[index].row.digest.as_str()).into_iter().flatten() {
                let Some(uses) = left.get_mut(blob.digest.as_str()) else { continue };
                *uses -= 1;
                if *uses == 0 {
                    images[index].bytes_freed += blob.size;
                }
            }
        }
        let count =
            |action: &PlannedAction| images.iter().filter(|image| image.action == *action).count() as u64;
        LifecycleExplanation {
            expiring: count(&PlannedAction::Expire),
            archiving: count(&PlannedAction::Archive),
            bytes_freed: images.iter().map(|image| image.bytes_freed).sum(),
            images,
        }
    }

    /// Every image with what becomes of it, in order of digest.
    fn describe(&self) -> Vec<PlannedImage> {
        let describe = |(image, verdict): (&Standing, &Verdict)| PlannedImage {
            digest: image.row.digest.clone(),
            tags: image.tags.iter().map(|(name, _)| name.clone()).collect(),
            pushed_at: image.row.pushed_at,
            action: match &verdict.outcome {
                Outcome::Keep => PlannedAction::Keep,
                Outcome::Act(Action::Expire) => PlannedAction::Expire,
                Outcome::Act(Action::Archive) => PlannedAction::Archive,
                Outcome::Blocked(_, Protection::ReferencedByManifestList) => PlannedAction::KeepReferenced,
                Outcome::Blocked(_, Protection::InUse) => PlannedAction::KeepInUse,
                Outcome::Untag(places) => {
                    PlannedAction::Untag(places.iter().map(|place| image.tags[*place].0.clone()).collect())
                }
            },
            rule: self.priority(verdict.claimed_by),
            shielded_from: self.priority(verdict.shielded_from),
            bytes_freed: 0,
        };
        self.images.iter().zip(&self.verdicts).map(describe).collect()
    }
}

impl Standing {
    fn view(&self) -> Image<'_> {
        let at = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        Image {
            digest: &self.row.digest,
            tags: self
                .tags
                .iter()
                .map(|(name, at)| ImageTag { name, tagged_at: Timestamp::from_micros(*at) })
                .collect(),
            class: match self.row.status.as_str() {
                "ACTIVE" => Some(StorageClass::Standard),
                "ARCHIVED" => Some(StorageClass::Archive),
                _ => None,
            },
            pushed_at: Timestamp::from_micros(self.row.pushed_at),
            pulled_at: at(self.row.pulled_at),
            archived_at: at(self.row.archived_at),
            activated_at: at(self.row.activated_at),
            follows_subject: self.follows_subject,
            protection: self.protection,
        }
    }
}

fn load(
    tx: &mut Tx<'_>,
    repository_id: i64,
    account: &str,
    now: Timestamp,
) -> Result<Vec<Standing>, RegistryError> {
    let rows = lifecycle::images(tx, repository_id)?;
    let mut tags: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for (digest, name, at) in lifecycle::tags(tx, repository_id)? {
        tags.entry(digest).or_default().push((name, at));
    }
    let edges = lifecycle::edges(tx, repository_id)?;
    let children: HashSet<&str> = edges.iter().map(|(child, _)| child.as_str()).collect();
    let running = in_use::digests(tx, account, now.as_micros())?;
    let in_use = in_use_with_relatives(&rows, &edges, running);
    let present: HashSet<&str> = rows.iter().map(|row| row.digest.as_str()).collect();
    let active: HashSet<&str> =
        rows.iter().filter(|row| row.status != "ARCHIVED").map(|row| row.digest.as_str()).collect();
    let needed: HashSet<&str> = edges
        .iter()
        .filter(|(_, parent)| active.contains(parent.as_str()))
        .map(|(child, _)| child.as_str())
        .collect();
    let facts: Vec<(bool, Option<Protection>, bool)> = rows
        .iter()
        .map(|row| {
            let follows = row.subject.as_deref().is_some_and(|subject| present.contains(subject));
            let protection = if in_use.contains(row.digest.as_str()) {
                Some(Protection::InUse)
            } else {
                children.contains(row.digest.as_str()).then_some(Protection::ReferencedByManifestList)
            };
            (follows, protection, !needed.contains(row.digest.as_str()))
        })
        .collect();
    let standing = |(row, (follows_subject, protection, index_is_archived)): (ImageRow, _)| {
        let tags = tags.remove(&row.digest).unwrap_or_default();
        Standing { row, tags, protection, follows_subject, index_is_archived }
    };
    Ok(rows.into_iter().zip(facts).map(standing).collect())
}

/// What runs, the indexes that name it (a node that starts tomorrow pulls those), and the children and referrers of all
/// of them.
fn in_use_with_relatives(
    rows: &[ImageRow],
    edges: &[(String, String)],
    running: Vec<String>,
) -> HashSet<String> {
    if running.is_empty() {
        return HashSet::new();
    }
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (child, parent) in edges {
        parents.entry(child).or_default().push(parent);
        below.entry(parent).or_default().push(child);
    }
    for row in rows {
        if let Some(subject) = &row.subject {
            below.entry(subject).or_default().push(&row.digest);
        }
    }
    let closure = |from: Vec<String>, relatives: &BTreeMap<&str, Vec<&str>>| {
        let mut reached: HashSet<String> = from.iter().cloned().collect();
        let mut left = from;
        while let Some(digest) = left.pop() {
            for relative in relatives.get(digest.as_str()).into_iter().flatten() {
                if reached.insert((*relative).to_owned()) {
                    left.push((*relative).to_owned());
                }
            }
        }
        reached
    };
    let upwards = closure(running, &parents);
    closure(upwards.into_iter().collect(), &below)
}
