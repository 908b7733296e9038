//! What is wrong with a policy, in AWS's words.

use super::PolicyKind;

/// The most characters of a policy that IAM looks at.
pub const MAX_IAM_CHARACTERS: usize = 131_072;
/// The most characters of a repository or registry policy.
pub const MAX_ECR_CHARACTERS: usize = 10_240;

/// A policy that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct PolicyError {
    pub(super) kind: PolicyKind,
    pub(super) fault: Fault,
}

impl PolicyError {
    /// AWS's error code.
    pub fn code(&self) -> &'static str {
        match (self.kind, &self.fault) {
            (PolicyKind::Repository | PolicyKind::Registry { .. }, _) => "InvalidParameterException",
            (_, Fault::Length | Fault::Characters) => "ValidationError",
            _ => "MalformedPolicyDocument",
        }
    }

    /// AWS's message.
    pub fn message(&self) -> String {
        match (self.kind, &self.fault) {
            (PolicyKind::Repository, Fault::Length) | (PolicyKind::Registry { .. }, Fault::Length) => {
                format!(
                    "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'must have length less than or equal \
                 to {MAX_ECR_CHARACTERS}'"
                )
            }
            (PolicyKind::Repository, _) => constraint("Invalid repository policy provided"),
            (PolicyKind::Registry { .. }, _) => constraint("Invalid registry policy provided"),
            _ => self.fault.to_string(),
        }
    }

    /// What exactly is wrong, for logs and `wharf policy test`; AWS's message may say less.
    pub fn detail(&self) -> String {
        match &self.fault {
            Fault::Syntax(detail) => detail.clone(),
            other => other.to_string(),
        }
    }
}

/// The message of a policy text that ECR refuses.
pub(crate) fn constraint(text: &str) -> String {
    format!("Invalid parameter at 'PolicyText' failed to satisfy constraint: '{text}'")
}

/// One fault. IAM reports the first in the order of [`Fault::rank`], whatever the order in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("The policy document must have between 1 and {MAX_IAM_CHARACTERS} characters")]
    Length,
    #[error(
        "The specified value for policyDocument is invalid. It must contain only printable ASCII characters ranging \
         from the space character (U+0020) through U+00FF, tabs and line ends"
    )]
    Characters,
    #[error("Syntax errors in policy.")]
    Syntax(String),
    #[error("Invalid Condition type : {0}.")]
    Operator(String),
    #[error("Policy document must be version 2012-10-17 or greater.")]
    Version,
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    SidRepeated,
    #[error(
        "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
    )]
    SidCharacters,
    #[error("Policy document should not specify a principal.")]
    PrincipalForbidden,
    #[error("Missing required field Principal")]
    PrincipalMissing,
    #[error("Has prohibited field {0}")]
    Prohibited(&'static str),
    #[error("Invalid principal in policy: {0}")]
    Principal(String),
    #[error("Policy statement must contain actions.")]
    NoActions,
    #[error("Policy statement must contain resources.")]
    NoResources,
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    NoVendor,
    #[error("Actions/Condition can contain only one colon.")]
    Colons,
    #[error("Vendor {0} is not valid")]
    Vendor(String),
    #[error("AssumeRole policy may only specify STS AssumeRole actions.")]
    TrustAction,
    #[error("action {0} cannot be granted by this kind of policy")]
    ForeignAction(String),
    #[error("Resource {0} must be in ARN format or \"*\".")]
    Resource(String),
    #[error("Resource vendor must be fully qualified and cannot contain regexes.")]
    ResourceVendor,
}

impl Fault {
    /// Where the check stands in IAM's order.
    fn rank(&self) -> u8 {
        match self {
            Self::Length | Self::Characters => 1,
            Self::Syntax(_) | Self::Operator(_) => 2,
            Self::Version => 3,
            Self::SidRepeated | Self::SidCharacters => 4,
            Self::PrincipalForbidden | Self::PrincipalMissing | Self::Prohibited(_) | Self::Principal(_) => 5,
            Self::NoActions | Self::NoResources => 6,
            Self::NoVendor | Self::Colons | Self::Vendor(_) | Self::TrustAction | Self::ForeignAction(_) => 7,
            Self::Resource(_) | Self::ResourceVendor => 8,
        }
    }
}

/// Keeps the fault that is reported.
#[derive(Debug, Default)]
pub(super) struct Faults(Option<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        if self.0.as_ref().is_none_or(|first| fault.rank() < first.rank()) {
            self.0 = Some(fault);
        }
    }

    pub(super) fn syntax(&mut self, detail: impl Into<String>) {
        self.add(Fault::Syntax(detail.into()));
    }

    pub(super) fn into_first(self) -> Option<Fault> {
        self.0
    }
}
