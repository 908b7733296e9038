//! What a policy did, as ECR records it: `PolicyExecutionEvent`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use wharf_store::meta::Tx;
use wharf_store::meta::lifecycle::PolicyRow;
use wharf_types::Tag;

use super::act::{Done, Step};
use super::plan::Standing;
use crate::service_events::{self, By};
use crate::{ImageRef, RegistryError, Repository};

/// Images of one record: ECR writes several from ten on.
const IMAGES: usize = 9;
/// Tags of an image that are named.
const TAGS: usize = 100;

/// A policy as records name it.
#[derive(Clone)]
pub(super) struct PolicyRecord(Value);

impl PolicyRecord {
    pub(super) fn of(stored: &PolicyRow) -> Self {
        let document: Value = serde_json::from_str(&stored.document).unwrap_or_default();
        let rules: Vec<Value> = document["rules"].as_array().into_iter().flatten().map(rule).collect();
        let hash = Sha256::digest(stored.document.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        let evaluated = stored.evaluated_at.map_or(0, |at| at.div_euclid(1000));
        Self(json!({
            "lifecycleEventRules": rules,
            "lastEvaluatedAt": evaluated,
            "policyVersion": stored.version,
            "policyId": uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
        }))
    }
}

/// A rule as it was written, in the words of the record.
fn rule(rule: &Value) -> Value {
    let selection = &rule["selection"];
    let mut shown = Map::new();
    shown.insert("tagStatus".into(), capital(selection["tagStatus"].as_str().unwrap_or_default()).into());
    shown
        .insert("tagPrefixList".into(), selection.get("tagPrefixList").cloned().unwrap_or_else(|| json!([])));
    let count = match selection["countType"].as_str() {
        Some("imageCountMoreThan") => "Image count more than",
        Some("sinceImagePushed") => "Since image pushed",
        Some("sinceImagePulled") => "Since image pulled",
        Some("sinceImageTransitioned") => "Since image transitioned",
        Some("sinceTagged") => "Since tagged",
        _ => "",
    };
    shown.insert("countType".into(), count.into());
    for name in ["tagPatternList", "countUnit", "countNumber", "storageClass", "wharf"] {
        if let Some(value) = selection.get(name) {
            shown.insert(name.into(), value.clone());
        }
    }
    json!({
        "rulePriority": rule["rulePriority"],
        "description": rule["description"].as_str().unwrap_or_default(),
        "lifecycleEventSelection": shown,
        "action": rule["action"]["type"],
    })
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// An image that a rule was carried out on.
fn image(step: &Step) -> Value {
    json!({"lifecycleEventImage": standing(&step.image), "rulePriority": step.rule})
}

fn standing(image: &Standing) -> Value {
    let tags: Vec<&str> = image.tags.iter().take(TAGS).map(|(name, _)| name.as_str()).collect();
    json!({
        "digest": image.row.digest,
        "tagStatus": tag_status(&tags),
        "tagList": tags,
        "pushedAt": image.row.pushed_at.div_euclid(1000),
    })
}

/// Referrers that went with their subject, by the rule that was about that, if it was one.
fn referrers(gone: &[ImageRef], rule: Option<u64>) -> Vec<Value> {
    let mut images: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for image in gone {
        let tags = images.entry(image.digest.to_string()).or_default();
        tags.extend(image.tag.as_ref().map(Tag::as_str));
    }
    let shown = |(digest, tags): (String, Vec<&str>)| {
        let image = json!({"digest": digest, "tagStatus": tag_status(&tags), "tagList": tags});
        match rule {
            Some(rule) => json!({"lifecycleEventImage": image, "rulePriority": rule}),
            None => json!({"lifecycleEventImage": image}),
        }
    };
    images.into_iter().map(shown).collect()
}

fn tag_status(tags: &[&str]) -> &'static str {
    if tags.is_empty() { "Untagged" } else { "Tagged" }
}

/// Records what one transaction did: every image with the rule that decided, and those that an index holds by now.
pub(super) fn note_done(
    tx: &mut Tx<'_>,
    repository: &Repository,
    policy: &PolicyRecord,
    done: &[(Step, Done)],
) -> Result<(), RegistryError> {
    let (mut actions, mut failures) = (Vec::new(), Vec::new());
    for (step, done) in done {
        match done {
            Done::Expired { referrers: gone, .. } => {
                actions.push(image(step));
                actions.extend(referrers(gone, Some(step.rule)));
            }
            Done::Archived { images } => {
                actions.push(image(step));
                let others = images.iter().map(ToString::to_string);
                let others = others.filter(|digest| *digest != step.image.row.digest);
                actions.extend(others.map(
                    |digest| json!({"lifecycleEventImage": {"digest": digest}, "rulePriority": step.rule}),
                ));
            }
            Done::Untagged(_) => actions.push(image(step)),
            Done::Held => failures.push(failure(&step.image, step.rule, "ImageReferencedByManifestList")),
            Done::Changed => {}
        }
    }
    note(tx, repository, policy, &actions, &failures)
}

/// Records referrers that went because their subject is gone.
pub(super) fn note_orphans(
    tx: &mut Tx<'_>,
    repository: &Repository,
    policy: &PolicyRecord,
    gone: &[ImageRef],
) -> Result<(), RegistryError> {
    note(tx, repository, policy, &referrers(gone, None), &[])
}

/// Records images that a rule would act on and cannot.
pub(super) fn note_failures(
    tx: &mut Tx<'_>,
    repository: &Repository,
    policy: &PolicyRecord,
    failures: &[Value],
) -> Result<(), RegistryError> {
    note(tx, repository, policy, &[], failures)
}

/// An image that a rule would act on and cannot.
pub(super) fn failure(image: &Standing, rule: u64, code: &'static str) -> Value {
    let reason = match code {
        "ImageInUse" => "The image, or one that it belongs to, is reported to be in use",
        _ => "The image is referenced by a manifest list",
    };
    json!({
        "lifecycleEventImage": standing(image), "rulePriority": rule, "failureCode": code, "failureReason": reason,
    })
}

fn note(
    tx: &mut Tx<'_>,
    repository: &Repository,
    policy: &PolicyRecord,
    actions: &[Value],
    failures: &[Value],
) -> Result<(), RegistryError> {
    let actions = actions.chunks(IMAGES).map(|some| ("lifecycleEventImageActions", some));
    let failures = failures.chunks(IMAGES).map(|some| ("lifecycleEventFailureDetails", some));
    for (member, some) in actions.chain(failures) {
        let mut details = json!({
            "repositoryName": repository.name.name.as_str(),
            "lifecycleEventPolicy": policy.0,
        });
        details[member] = some.into();
        service_events::note(tx, repository, By::Registry, "PolicyExecutionEvent", details)?;
    }
    Ok(())
}
