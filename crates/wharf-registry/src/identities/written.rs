//! What a policy must be to be written, and how large it may be.

use wharf_iam::policy::{PolicyKind, validate_for_write};

use super::IamError;

/// Checks the text of a policy that is to be stored (`iam-evaluation` §6).
///
/// # Errors
/// `MalformedPolicyDocument`; `ValidationError` for its length or characters.
pub(crate) fn check_written(kind: PolicyKind, text: &str) -> Result<(), IamError> {
    match validate_for_write(kind, text) {
        Ok(_) => Ok(()),
        Err(fault) if fault.code() == "ValidationError" => Err(IamError::Validation(fault.message())),
        Err(fault) => Err(IamError::MalformedPolicyDocument(fault.message())),
    }
}

/// The size of a policy as IAM's quotas count it: characters without white space.
pub(crate) fn size(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_count() {
        assert_eq!(size("{ \"a\":\n\t\"b c\" }"), 10);
    }

    #[test]
    fn what_is_no_policy_is_malformed() {
        let sound =
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*"}}"#;
        assert_eq!(check_written(PolicyKind::Identity, sound), Ok(()));
        for bad in
            ["{", "[]", "{}", &sound.replace("Allow", "Perhaps"), &sound.replace("2012-10-17", "2008-10-17")]
        {
            let refused = check_written(PolicyKind::Identity, bad).unwrap_err();
            assert_eq!(refused.code(), "MalformedPolicyDocument", "{bad}");
        }
        let snowman = sound.replace("ecr:*", "ecr:☃");
        assert_eq!(check_written(PolicyKind::Identity, &snowman).unwrap_err().code(), "ValidationError");
    }
}
