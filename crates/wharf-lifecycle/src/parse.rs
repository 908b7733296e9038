//! The text of a policy, understood or refused in the words ECR's users know (`PutLifecyclePolicy`, "Lifecycle policy
//! validation failure"). First the schema is checked from the outside in, then what rules mean to each other.

mod beyond;
mod schema;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use self::schema::{Members, SchemaError};
use crate::extension::{Extension, Order};
use crate::glob::Glob;
use crate::policy::{Action, Count, LifecyclePolicy, Rule, Selection, StorageClass, TagSelection};

/// Most rules in a policy.
const RULES: usize = 50;
/// Most `*` in a pattern.
const STARS: usize = 4;
/// Fewest days an image stays in ECR's archive.
const ARCHIVED_DAYS: u64 = 90;
const DAY: u64 = 24 * 60 * 60;

/// Which language policies are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grammar {
    /// ECR's, and nothing else.
    #[default]
    Ecr,
    /// ECR's, and `wharf` objects in selections.
    Extended,
}

/// Why a policy is refused; `Display` is the detail that ECR gives after "Lifecycle policy validation failure: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON.
    #[error("Could not map policyString into LifecyclePolicy.")]
    Json,
    /// The shape of the document.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// `tagged` without a list.
    #[error("Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.")]
    NoTagList,
    /// Both lists in one selection.
    #[error("Cannot specify both tagPrefixList and tagPatternList in the same rule.")]
    BothTagLists,
    /// A list without `tagged`.
    #[error("Cannot specify tagPrefixList or tagPatternList when tagStatus={0}.")]
    TagListNotAllowed(&'static str),
    /// Too many `*`.
    #[error("tagPatternList entries may contain at most 4 wildcards (*): {0}")]
    Wildcards(String),
    /// The action has a target it must not have, or lacks one.
    #[error("targetStorageClass must be specified if and only if the action type is transition.")]
    Target,
    /// A unit of a count that has none, or none of one that needs it.
    #[error("instance failed to match exactly one schema (matched 0 out of 2)")]
    CountUnit,
    /// A count type that does not go with the storage class.
    #[error("countType={0} is not allowed for storageClass={1}.")]
    CountClass(&'static str, &'static str),
    /// A count type that does not go with the action.
    #[error("countType={0} is not allowed for action type {1}.")]
    CountAction(&'static str, &'static str),
    /// Fewer days in the archive than an image stays there, which are these.
    #[error("countNumber must be at least {0} when countType=sinceImageTransitioned.")]
    ArchivedDays(u64),
    /// Two rules of one priority.
    #[error("Rule priorities must be unique. Duplicate rulePriority: {0}")]
    Priority(u64),
    /// A rule below one that takes everything.
    #[error("Rule for tagStatus=ANY must have the lowest priority per storage class")]
    AnyNotLast,
    /// Two rules for everything.
    #[error("Only one rule can select Any images per storage class")]
    TwoAny,
    /// Two rules for untagged images.
    #[error("Only one rule can select Untagged images per storage class")]
    TwoUntagged,
    /// Two rules for the same tags.
    #[error("tagPrefixList and tagPatternList must be unique per storage class")]
    SameTagList,
    /// A fault in a `wharf` object.
    #[error("{0}")]
    Extension(String),
}

/// A rule's tags with its storage class, for comparison with other rules.
type Key = (StorageClass, &'static str, Vec<String>);

impl LifecyclePolicy {
    /// Understands a policy. The number of characters is its caller's to check (100 to 30,720 in ECR's API).
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(text: &str, grammar: Grammar) -> Result<Self, PolicyError> {
        Self::parse_with(text, grammar, ARCHIVED_DAYS)
    }

    /// As [`parse`](Self::parse), where an image stays in the archive for another number of days at least than ECR's 90.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse_with(text: &str, grammar: Grammar, archived_days: u64) -> Result<Self, PolicyError> {
        let document: Value = serde_json::from_str(text).map_err(|_| PolicyError::Json)?;
        let members = Members::of(&document, &["rules"], &["rules"])?;
        let list = schema::list(members.get("rules"), 1, RULES)?;
        let mut rules = Vec::with_capacity(list.len());
        let mut keys = Vec::new();
        for value in list {
            let (rule, key) = parse_rule(value, grammar, archived_days)?;
            keys.extend(key.map(|key| (key, rule.priority)));
            rules.push(rule);
        }
        check_together(&rules, &keys)?;
        Ok(Self::new(rules))
    }
}

fn parse_rule(
    value: &Value,
    grammar: Grammar,
    archived_days: u64,
) -> Result<(Rule, Option<Key>), PolicyError> {
    let members = Members::of(
        value,
        &["rulePriority", "description", "selection", "action"],
        &["action", "rulePriority", "selection"],
    )?;
    let priority = schema::count(members.get("rulePriority"))?;
    let description = members.find("description").map(schema::text).transpose()?.map(str::to_owned);
    let (selection, key) = parse_selection(members.get("selection"), grammar, archived_days)?;
    let action = parse_action(members.get("action"))?;
    check_rule(&selection, action)?;
    Ok((Rule { priority, description, selection, action }, key))
}

fn parse_selection(
    value: &Value,
    grammar: Grammar,
    archived_days: u64,
) -> Result<(Selection, Option<Key>), PolicyError> {
    const OWN: [&str; 7] = [
        "tagStatus",
        "tagPatternList",
        "tagPrefixList",
        "storageClass",
        "countType",
        "countUnit",
        "countNumber",
    ];
    let mut allowed = OWN.to_vec();
    if grammar == Grammar::Extended {
        allowed.push("wharf");
    }
    let members = Members::of(value, &allowed, &["countNumber", "countType", "tagStatus"])?;
    let status = schema::one_of(members.get("tagStatus"), &["any", "tagged", "untagged"])?;
    let class = match members.find("storageClass") {
        Some(value) => schema::one_of(value, &["archive", "standard"])?,
        None => "standard",
    };
    let storage_class = if class == "archive" { StorageClass::Archive } else { StorageClass::Standard };
    let prefixes = members.find("tagPrefixList").map(schema::texts).transpose()?;
    let patterns = members.find("tagPatternList").map(schema::texts).transpose()?;
    let extension = members.find("wharf").map(beyond::parse).transpose()?;
    let count = parse_count(&members, extension.is_some(), archived_days)?;
    let key = |status, list: &[String]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        extension.is_none().then_some((storage_class, status, list))
    };
    let (tags, key) = match (status, prefixes, patterns) {
        ("tagged", Some(_), Some(_)) => return Err(PolicyError::BothTagLists),
        ("tagged", Some(prefixes), None) => {
            let key = key("prefixes", &prefixes);
            (TagSelection::Prefixes(prefixes), key)
        }
        ("tagged", None, Some(patterns)) => {
            if let Some(pattern) = patterns.iter().find(|text| text.matches('*').count() > STARS) {
                return Err(PolicyError::Wildcards(pattern.clone()));
            }
            let key = key("patterns", &patterns);
            (TagSelection::Patterns(patterns.iter().map(|text| Glob::new(text)).collect()), key)
        }
        ("tagged", None, None) if extension.is_some() => (TagSelection::Extended, None),
        ("tagged", None, None) => return Err(PolicyError::NoTagList),
        ("any", None, None) => (TagSelection::Any, key("any", &[])),
        (_, None, None) => (TagSelection::Untagged, key("untagged", &[])),
        ("any", ..) => return Err(PolicyError::TagListNotAllowed("ANY")),
        _ => return Err(PolicyError::TagListNotAllowed("UNTAGGED")),
    };
    Ok((Selection { tags, storage_class, count, extension }, key))
}

fn parse_count(members: &Members<'_>, extended: bool, archived_days: u64) -> Result<Count, PolicyError> {
    let mut types =
        vec!["imageCountMoreThan", "sinceImagePulled", "sinceImagePushed", "sinceImageTransitioned"];
    if extended {
        types.push("sinceTagged");
    }
    let kind = schema::one_of(members.get("countType"), &types)?;
    let number = schema::count(members.get("countNumber"))?;
    let unit = members.find("countUnit").map(|unit| schema::one_of(unit, &["days"])).transpose()?;
    if unit.is_some() == (kind == "imageCountMoreThan") {
        return Err(PolicyError::CountUnit);
    }
    let days = Duration::from_secs(number.saturating_mul(DAY));
    Ok(match kind {
        "imageCountMoreThan" => Count::MoreThan(number),
        "sinceImagePushed" => Count::SincePushed(days),
        "sinceImagePulled" => Count::SincePulled(days),
        "sinceTagged" => Count::SinceTagged(days),
        _ if number < archived_days => return Err(PolicyError::ArchivedDays(archived_days)),
        _ => Count::SinceTransitioned(days),
    })
}

fn parse_action(value: &Value) -> Result<Action, PolicyError> {
    let members = Members::of(value, &["type", "targetStorageClass"], &["type"])?;
    let kind = schema::one_of(members.get("type"), &["expire", "transition"])?;
    let target = members.find("targetStorageClass");
    let target = target.map(|target| schema::one_of(target, &["archive"])).transpose()?;
    match (kind, target) {
        ("expire", None) => Ok(Action::Expire),
        ("transition", Some(_)) => Ok(Action::Archive),
        _ => Err(PolicyError::Target),
    }
}

/// Which counts go with which storage class and action.
fn check_rule(selection: &Selection, action: Action) -> Result<(), PolicyError> {
    let kind = match selection.count {
        Count::MoreThan(_) => "imageCountMoreThan",
        Count::SincePushed(_) => "sinceImagePushed",
        Count::SincePulled(_) => "sinceImagePulled",
        Count::SinceTransitioned(_) => "sinceImageTransitioned",
        Count::SinceTagged(_) => "sinceTagged",
    };
    let archived = selection.storage_class == StorageClass::Archive;
    match (selection.count, action) {
        (Count::SinceTransitioned(_), _) if !archived => Err(PolicyError::CountClass(kind, "standard")),
        (Count::SinceTransitioned(_), Action::Archive) => Err(PolicyError::CountAction(kind, "transition")),
        (Count::SinceTransitioned(_), Action::Expire) => Ok(()),
        _ if archived => Err(PolicyError::CountClass(kind, "archive")),
        (Count::SincePulled(_), Action::Expire) => Err(PolicyError::CountAction(kind, "expire")),
        _ => per_tag_expires(selection.extension.as_ref(), action),
    }
}

fn per_tag_expires(extension: Option<&Extension>, action: Action) -> Result<(), PolicyError> {
    let Some(extension) = extension else { return Ok(()) };
    if extension.per_tag && action == Action::Archive {
        return Err(PolicyError::Extension("wharf.perTag is allowed for action type expire only.".into()));
    }
    Ok(())
}

/// What rules must not say about the same images.
fn check_together(rules: &[Rule], keys: &[(Key, u64)]) -> Result<(), PolicyError> {
    let mut priorities = HashSet::new();
    if let Some(rule) = rules.iter().find(|rule| !priorities.insert(rule.priority)) {
        return Err(PolicyError::Priority(rule.priority));
    }
    let mut seen = HashSet::new();
    for (key, _) in keys {
        if !seen.insert(key) {
            return Err(match key.1 {
                "any" => PolicyError::TwoAny,
                "untagged" => PolicyError::TwoUntagged,
                _ => PolicyError::SameTagList,
            });
        }
    }
    for ((class, status, _), priority) in keys {
        let below = |rule: &Rule| rule.selection.storage_class == *class && rule.priority > *priority;
        if *status == "any" && rules.iter().any(below) {
            return Err(PolicyError::AnyNotLast);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
