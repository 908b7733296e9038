//! The `wharf` object of a selection.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::schema::{self, Members};
use super::{Extension, Glob, Order, PolicyError};
use crate::extension::Matcher;

/// Bytes a compiled expression may take.
const REGEX_SIZE: usize = 1 << 18;

pub(super) fn parse(value: &Value) -> Result<Extension, PolicyError> {
    const MEMBERS: [&str; 8] = [
        "tagPatternsAnyOf",
        "tagRegexAnyOf",
        "excludeTagPatterns",
        "excludeTagRegexes",
        "groupBy",
        "order",
        "notInUse",
        "perTag",
    ];
    let members = Members::of(value, &MEMBERS, &[])?;
    let matchers = |patterns: &str, expressions: &str| -> Result<Vec<Matcher>, PolicyError> {
        let texts = |name| members.find(name).map(schema::texts).transpose();
        let globs = texts(patterns)?.unwrap_or_default();
        let mut matchers: Vec<Matcher> = globs.iter().map(|text| Matcher::Glob(Glob::new(text))).collect();
        for text in texts(expressions)?.unwrap_or_default() {
            matchers.push(Matcher::Regex(expression(&text)?));
        }
        Ok(matchers)
    };
    let order =
        members.find("order").map(|order| schema::one_of(order, &["pushed", "semver"])).transpose()?;
    let order = if order == Some("semver") { Order::SemanticVersion } else { Order::Pushed };
    let truth = |name| members.find(name).map(schema::truth).transpose();
    let group_by = members.find("groupBy").map(schema::text).transpose()?;
    Ok(Extension {
        any_of: matchers("tagPatternsAnyOf", "tagRegexAnyOf")?,
        none_of: matchers("excludeTagPatterns", "excludeTagRegexes")?,
        group_by: group_by.map(expression).transpose()?,
        order,
        not_in_use: truth("notInUse")?.unwrap_or_default(),
        per_tag: truth("perTag")?.unwrap_or_default(),
    })
}

/// Tags are ASCII, so expressions are as well: `\d` is `[0-9]`. They are not anchored unless they say so.
fn expression(text: &str) -> Result<Regex, PolicyError> {
    let invalid = |error: regex::Error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        PolicyError::Extension(format!("{text:?} is not a regular expression: {last}"))
    };
    RegexBuilder::new(text).unicode(false).size_limit(REGEX_SIZE).build().map_err(invalid)
}
