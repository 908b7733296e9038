//! Parameters that many operations share, with the constraints of the model `iam/2010-05-08`.

use wharf_registry::{IamError, PageRequest, RegistryError};

use crate::aws::{AwsError, Input, Text};

/// `markerType`; ours are longer than the model's 320 characters when names are long.
const MARKER: Text = Text::length(1, 1024);
/// `arnType`.
const ARN: Text = Text::length(20, 2048);
/// `policyDocumentType`; its characters are checked with its grammar.
const DOCUMENT: Text = Text::length(1, 131_072);
/// The longest name of a policy.
pub(super) const POLICY_NAME: usize = 128;

/// A name: up to `longest` of `[\w+=,.@-]`.
pub(super) fn optional_name(
    input: &mut Input,
    member: &str,
    longest: usize,
) -> Result<Option<String>, AwsError> {
    let Some(name) = input.text(member, &Text::length(1, longest))? else { return Ok(None) };
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)) {
        return Ok(Some(name));
    }
    let text = "It must contain only alphanumeric characters and/or the following: +=,.@_-";
    Err(invalid(member, text))
}

/// A name that must be there.
pub(super) fn name(input: &mut Input, member: &str, longest: usize) -> Result<String, AwsError> {
    let name = optional_name(input, member, longest)?;
    input.required(member, name)
}

/// `pathType`: `/`, or printable characters between two.
pub(super) fn path(input: &mut Input, member: &str) -> Result<Option<String>, AwsError> {
    let Some(path) = input.text(member, &Text::length(1, 512))? else { return Ok(None) };
    let printable = path.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if path == "/" || (path.len() > 2 && printable && path.starts_with('/') && path.ends_with('/')) {
        return Ok(Some(path));
    }
    let text = "It must begin and end with / and contain only alphanumeric characters and/or / characters.";
    Err(invalid(member, text))
}

/// `policyPathType`: `/`, or names of `[A-Za-z0-9.,+@=_-]` between two.
pub(super) fn policy_path(input: &mut Input, member: &str) -> Result<Option<String>, AwsError> {
    let path = path(input, member)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/.,+@=_-".contains(&b);
    match path {
        Some(path) if path.contains("//") || !path.bytes().all(legal) => {
            Err(invalid(member, "It must begin and end with / and contain only alphanumeric characters."))
        }
        path => Ok(path),
    }
}

/// `pathPrefixType`; every path if absent.
pub(super) fn path_prefix(input: &mut Input) -> Result<String, AwsError> {
    let Some(prefix) = input.text("PathPrefix", &Text::length(1, 512))? else { return Ok("/".into()) };
    let printable = prefix.bytes().all(|b| (0x21..=0x7f).contains(&b));
    match printable && prefix.starts_with('/') {
        true => Ok(prefix),
        false => Err(invalid("PathPrefix", "It must begin with / and contain only printable characters.")),
    }
}

fn invalid(member: &str, text: &str) -> AwsError {
    let mut member = member.to_owned();
    if let Some(first) = member.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let message = format!("The specified value for {member} is invalid. {text}");
    RegistryError::from(IamError::Validation(message)).into()
}

/// `Marker` and `MaxItems`.
pub(super) fn page(input: &mut Input) -> Result<PageRequest, AwsError> {
    let limit = input.integer("MaxItems", 1..=1000)?.and_then(|limit| usize::try_from(limit).ok());
    Ok(PageRequest { limit: limit.unwrap_or(100), token: input.text("Marker", &MARKER)? })
}

/// An ARN that must be there.
pub(super) fn arn(input: &mut Input, member: &str) -> Result<String, AwsError> {
    input.required_text(member, &ARN)
}

/// An ARN.
pub(super) fn optional_arn(input: &mut Input, member: &str) -> Result<Option<String>, AwsError> {
    input.text(member, &ARN)
}

/// A policy that must be there.
pub(super) fn document(input: &mut Input, member: &str) -> Result<String, AwsError> {
    input.required_text(member, &DOCUMENT)
}

/// `tagListType`; empty if absent.
pub(crate) fn tags(input: &mut Input) -> Result<Vec<(String, String)>, AwsError> {
    let read = |tag: &mut Input| {
        let key = tag_text(tag, "Key", 1, 128)?;
        let value = tag_text(tag, "Value", 0, 256)?;
        Ok((key, value))
    };
    Ok(input.structures("Tags", 0..=50, read)?.unwrap_or_default())
}

/// Tags that must be there.
pub(super) fn required_tags(input: &mut Input) -> Result<Vec<(String, String)>, AwsError> {
    if !input.has("Tags") {
        return input.required("Tags", None);
    }
    tags(input)
}

/// `tagKeyListType`, which must be there.
pub(super) fn tag_keys(input: &mut Input) -> Result<Vec<String>, AwsError> {
    input.required_texts("TagKeys", 0..=50, &Text::length(1, 128))
}

fn tag_text(input: &mut Input, member: &str, min: usize, max: usize) -> Result<String, AwsError> {
    const PATTERN: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]";
    let text = input.required_text(member, &Text::length(min, max))?;
    let separator = |c: char| c.is_whitespace() && !c.is_control();
    match text.chars().all(|c| c.is_alphanumeric() || separator(c) || "_.:/=+-@".contains(c)) {
        true => Ok(text),
        false => {
            let repeat = if min > 0 { '+' } else { '*' };
            let constraint = format!("Member must satisfy regular expression pattern: {PATTERN}{repeat}");
            Err(input.refuse(member, &text, constraint))
        }
    }
}
