//! What STS refuses, in its own codes.

/// An error of STS; `Display` is the text the client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// `AccessDenied`.
    #[error("{0}")]
    AccessDenied(String),
    /// `MalformedPolicyDocument`: a session policy is refused.
    #[error("{0}")]
    MalformedPolicy(String),
    /// `PackedPolicyTooLarge`: session policies and tags are, together.
    #[error("{0}")]
    PackedPolicyTooLarge(String),
    /// `ExpiredTokenException`: an identity token is over.
    #[error("{0}")]
    ExpiredToken(String),
    /// `InvalidIdentityToken`: an identity token is refused.
    #[error("{0}")]
    InvalidIdentityToken(String),
    /// `IDPCommunicationError`: the issuer's keys cannot be had at the moment.
    #[error("{0}")]
    IdpCommunication(String),
    /// `ValidationError`.
    #[error("{0}")]
    Validation(String),
}

impl StsError {
    /// The code on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccessDenied(_) => "AccessDenied",
            Self::MalformedPolicy(_) => "MalformedPolicyDocument",
            Self::PackedPolicyTooLarge(_) => "PackedPolicyTooLarge",
            Self::ExpiredToken(_) => "ExpiredTokenException",
            Self::InvalidIdentityToken(_) => "InvalidIdentityToken",
            Self::IdpCommunication(_) => "IDPCommunicationError",
            Self::Validation(_) => "ValidationError",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::AccessDenied(_) => 403,
            _ => 400,
        }
    }
}
