//! Parameters that several operations share, with the constraints of the model `sts/2011-06-15`.

use std::ops::RangeInclusive;

use crate::aws::{AwsError, Input, Pattern, Text};

const fn name_pattern(text: &'static str, matches: fn(&str) -> bool) -> Pattern {
    Pattern { text, matches }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

fn is_external_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const NAME: Pattern = name_pattern(r"[\w+=,.@-]*", is_name);
/// `roleSessionNameType`, `sourceIdentityType`.
pub(super) const SESSION_NAME: Text = Text::length(2, 64).matching(NAME);
/// `userNameType`.
pub(super) const FEDERATED_NAME: Text = Text::length(2, 32).matching(NAME);
/// `externalIdType`.
pub(super) const EXTERNAL_ID: Text =
    Text::length(2, 1224).matching(name_pattern(r"[\w+=,.@:\/-]*", is_external_id));
/// `accessKeyIdType`.
pub(super) const ACCESS_KEY_ID: Text = Text::length(16, 128).matching(name_pattern(r"[\w]*", is_word));
/// `arnType`.
pub(super) const ARN: Text = Text::length(20, 2048);
/// Seconds of a role's session.
pub(super) const ROLE_SECONDS: RangeInclusive<i64> = 900..=43_200;
/// Seconds of a user's session.
pub(super) const USER_SECONDS: RangeInclusive<i64> = 900..=129_600;

/// `DurationSeconds`.
pub(super) fn duration(input: &mut Input, range: RangeInclusive<i64>) -> Result<Option<u32>, AwsError> {
    Ok(input.integer("DurationSeconds", range)?.and_then(|seconds| u32::try_from(seconds).ok()))
}

/// `Policy`; its grammar is checked where it is used.
pub(super) fn policy(input: &mut Input, longest: usize) -> Result<Option<String>, AwsError> {
    input.text("Policy", &Text::length(1, longest))
}

/// `PolicyArns`.
pub(super) fn policy_arns(input: &mut Input) -> Result<Vec<String>, AwsError> {
    let arns = input.structures("PolicyArns", 0..=10, |policy| policy.required_text("arn", &ARN))?;
    Ok(arns.unwrap_or_default())
}

/// Whether a second factor came along.
pub(super) fn second_factor(input: &mut Input) -> Result<bool, AwsError> {
    let serial = input.text("SerialNumber", &Text::length(9, 256))?;
    let code = input.text("TokenCode", &Text::length(6, 6))?;
    Ok(serial.is_some() || code.is_some())
}
