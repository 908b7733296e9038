//! What a session may be limited to and labelled with: session policies and tags.

use std::collections::BTreeSet;

use wharf_iam::managed;
use wharf_iam::policy::PolicyKind;
use wharf_store::meta::Tx;
use wharf_store::meta::iam::managed as customer_managed;
use wharf_types::{AccountId, Timestamp};

use crate::identities::written::{check_written, size};
use crate::sessions::{Session, SessionKind};
use crate::{IamError, RegistryError};

/// Characters of session policies and their ARNs together, white space not counted.
const POLICY_CHARACTERS: usize = 2048;
/// Bytes of policies and tags together: a token travels with every request.
const PACKED: usize = 4096;
/// Managed policies of a session.
const ARNS: usize = 10;
/// Tags of a session.
const TAGS: usize = 50;

/// How a session is asked to be limited and labelled.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    pub(super) tags: Vec<(String, String)>,
}

impl Limits {
    /// Checks what can be checked without looking anything up; answers the packed size in percent of what there may
    /// be, `None` if there is nothing to pack.
    ///
    /// # Errors
    /// `MalformedPolicyDocument`, `PackedPolicyTooLarge`, `ValidationError`.
    pub(super) fn check(&self) -> Result<Option<u32>, IamError> {
        if let Some(policy) = &self.policy {
            check_written(PolicyKind::Session, policy)?;
        }
        if self.policy_arns.len() > ARNS {
            return Err(IamError::Validation(format!("A session can have up to {ARNS} managed policies.")));
        }
        check_tags(&self.tags)?;
        let policies = self.policy.as_deref().map_or(0, size);
        let policies = policies + self.policy_arns.iter().map(String::len).sum::<usize>();
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let percent =
            (policies * 100).div_ceil(POLICY_CHARACTERS).max(((policies + tags) * 100).div_ceil(PACKED));
        match u32::try_from(percent) {
            Ok(0) => Ok(None),
            Ok(percent @ 1..=100) => Ok(Some(percent)),
            _ => Err(IamError::PackedPolicyTooLarge(format!(
                "Packed size of session policies and tags consumes {percent}% of allotted space."
            ))),
        }
    }

    /// Checks that the managed policies exist in the account.
    pub(super) fn require_policies(&self, tx: &mut Tx<'_>, account: AccountId) -> Result<(), RegistryError> {
        for arn in &self.policy_arns {
            let known = managed::find(arn).is_some()
                || customer_managed::find(tx, arn)?.is_some_and(|policy| policy.account == account);
            if !known {
                let text = format!("Policy {arn} does not exist or is not attachable.");
                return Err(IamError::MalformedPolicyDocument(text).into());
            }
        }
        Ok(())
    }

    /// A session with these limits.
    pub(super) fn session(
        self,
        kind: SessionKind,
        principal_id: String,
        account: AccountId,
        (issued_at, expires_at): (Timestamp, Timestamp),
    ) -> Session {
        Session {
            principal_id,
            kind,
            name: String::new(),
            account,
            policies: self.policy.into_iter().collect(),
            policy_arns: self.policy_arns,
            tags: self.tags,
            transitive_keys: Vec::new(),
            source_identity: None,
            provider: None,
            chained: false,
            issued_at,
            expires_at,
        }
    }
}

/// # Errors
/// `ValidationError` for a reserved key, one given twice, or too many.
fn check_tags(tags: &[(String, String)]) -> Result<(), IamError> {
    let mut keys = BTreeSet::new();
    for (key, _) in tags {
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(IamError::Validation(format!(
                "'{key}' is not a valid tag key: the prefix aws: is reserved"
            )));
        }
        if !keys.insert(key.to_lowercase()) {
            return Err(IamError::Validation(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.".into(),
            ));
        }
    }
    match tags.len() {
        0..=TAGS => Ok(()),
        _ => Err(IamError::Validation(format!("A session can have up to {TAGS} tags."))),
    }
}

/// The condition keys of tags that a request gives.
pub(super) fn request_tags(tags: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    if tags.is_empty() {
        return Vec::new();
    }
    let keys = tags.iter().map(|(key, _)| key.clone()).collect();
    let each = tags.iter().map(|(key, value)| (format!("aws:RequestTag/{key}"), vec![value.clone()]));
    each.chain([("aws:TagKeys".to_owned(), keys)]).collect()
}
