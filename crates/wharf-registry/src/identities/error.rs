//! What IAM and STS refuse, by the codes of their models (`iam/2010-05-08`, `sts/2011-06-15`).

use super::PrincipalKind;

/// A refusal of IAM or STS: the variant is the code, the text is the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IamError {
    /// The name is taken.
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// There is no such thing, or it is another account's.
    #[error("{0}")]
    NoSuchEntity(String),
    /// A quota is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// A policy breaks the grammar.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// A parameter means nothing here.
    #[error("{0}")]
    InvalidInput(String),
    /// Something still hangs on what is to be deleted.
    #[error("{0}")]
    DeleteConflict(String),
    /// Another request changed the same thing at the same time.
    #[error("{0}")]
    ConcurrentModification(String),
    /// A service made it, and only that service changes it.
    #[error("{0}")]
    UnmodifiableEntity(String),
    /// A policy for services only.
    #[error("{0}")]
    PolicyNotAttachable(String),
    /// A constraint of the model is not met.
    #[error("{0}")]
    Validation(String),
    /// Refused for a reason that no policy states.
    #[error("{0}")]
    AccessDenied(String),
    /// Session policies and tags are too large together.
    #[error("{0}")]
    PackedPolicyTooLarge(String),
    /// A web identity token is over.
    #[error("{0}")]
    ExpiredToken(String),
    /// A web identity token is not acceptable.
    #[error("{0}")]
    InvalidIdentityToken(String),
    /// The identity provider says no.
    #[error("{0}")]
    IdpRejectedClaim(String),
    /// The identity provider does not answer.
    #[error("{0}")]
    IdpCommunicationError(String),
}

impl IamError {
    /// `Code` on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EntityAlreadyExists(_) => "EntityAlreadyExists",
            Self::NoSuchEntity(_) => "NoSuchEntity",
            Self::LimitExceeded(_) => "LimitExceeded",
            Self::MalformedPolicyDocument(_) => "MalformedPolicyDocument",
            Self::InvalidInput(_) => "InvalidInput",
            Self::DeleteConflict(_) => "DeleteConflict",
            Self::ConcurrentModification(_) => "ConcurrentModification",
            Self::UnmodifiableEntity(_) => "UnmodifiableEntity",
            Self::PolicyNotAttachable(_) => "PolicyNotAttachable",
            Self::Validation(_) => "ValidationError",
            Self::AccessDenied(_) => "AccessDenied",
            Self::PackedPolicyTooLarge(_) => "PackedPolicyTooLarge",
            Self::ExpiredToken(_) => "ExpiredTokenException",
            Self::InvalidIdentityToken(_) => "InvalidIdentityToken",
            Self::IdpRejectedClaim(_) => "IDPRejectedClaim",
            Self::IdpCommunicationError(_) => "IDPCommunicationError",
        }
    }

    /// The HTTP status the models give it.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoSuchEntity(_) => 404,
            Self::EntityAlreadyExists(_)
            | Self::LimitExceeded(_)
            | Self::DeleteConflict(_)
            | Self::ConcurrentModification(_) => 409,
            Self::AccessDenied(_) | Self::IdpRejectedClaim(_) => 403,
            _ => 400,
        }
    }

    /// A user, group or role that is not there.
    pub(crate) fn no_principal(kind: PrincipalKind, name: &str) -> Self {
        Self::NoSuchEntity(format!("The {} with name {name} cannot be found.", kind.as_str()))
    }

    /// A quota, as IAM words it.
    pub(crate) fn quota(name: &str, limit: usize) -> Self {
        Self::LimitExceeded(format!("Cannot exceed quota for {name}: {limit}"))
    }
}
