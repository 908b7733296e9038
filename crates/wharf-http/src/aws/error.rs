//! The one place where errors of the AWS faces become codes, statuses and bytes.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use wharf_iam::sigv4::{Protocol, SignatureError};
use wharf_registry::RegistryError;

use super::query::xml_escape;

/// Why a call of an AWS API failed.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The signature is refused.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Too many calls; the time after which another may pass.
    #[error("Rate exceeded")]
    Throttled(Duration),
    /// The body is not what the protocol wants: no JSON, too deep, a member of the wrong type.
    #[error("{0}")]
    Serialization(String),
    /// The body is longer than the operation allows.
    #[error("the request body exceeds the limit of {0} bytes")]
    BodyTooLarge(usize),
    /// The body broke off or stood still for too long.
    #[error("the request body broke off")]
    BodyBroken,
    /// Too many unverified bodies are in memory.
    #[error("too many requests at once, please try again")]
    Overloaded,
    /// The server is being stopped.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// No model knows the operation.
    #[error("")]
    UnknownOperation,
    /// The query protocol's form of it.
    #[error("Could not find operation {operation} for version {version}")]
    InvalidAction {
        /// `Action`.
        operation: String,
        /// `Version`.
        version: String,
    },
    /// The model knows the operation, this server does not have it yet.
    #[error("The operation {operation} of {service} is not implemented yet")]
    NotImplemented {
        /// E.g. `ecr`.
        service: &'static str,
        /// E.g. `StartImageScan`.
        operation: String,
    },
    /// A constraint of the model is not met (ECR's older operations).
    #[error("Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'")]
    InvalidParameter {
        /// The member's path.
        member: String,
        /// What it had to satisfy.
        constraint: String,
    },
    /// A constraint of the model is not met (newer operations, and the other services).
    #[error(
        "1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {constraint}"
    )]
    Validation {
        /// The member's path.
        member: String,
        /// The value in quotes, or `null`.
        value: String,
        /// What it had to satisfy.
        constraint: String,
    },
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The service whose names the error is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// ECR, and every JSON service that has no names of its own here.
    Ecr,
    /// KMS.
    Kms,
    /// IAM and STS: XML.
    Query {
        /// The namespace of the answer.
        namespace: &'static str,
    },
}

/// An error as the client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct WireError {
    /// HTTP status.
    pub status: StatusCode,
    /// `__type` or `Code`.
    pub code: &'static str,
    /// The text.
    pub message: String,
    /// Further modelled members.
    pub members: Map<String, Value>,
}

impl AwsError {
    /// Puts the error into a service's words. What only the log may know stays out of them.
    pub fn to_wire(&self, vocabulary: Vocabulary) -> WireError {
        match vocabulary {
            Vocabulary::Query { .. } => self.to_query(),
            Vocabulary::Kms => self.to_json(true),
            Vocabulary::Ecr => self.to_json(false),
        }
    }

    /// Whether the fault is this server's, so that the whole chain belongs in the log.
    pub fn is_internal(&self) -> bool {
        use RegistryError::{Damaged, Internal, Meta, Object, StorageFull, StorageReadOnly};
        matches!(
            self,
            Self::Registry(Damaged(_) | Internal(_) | Meta(_) | Object(_) | StorageFull | StorageReadOnly)
        )
    }

    fn to_json(&self, kms: bool) -> WireError {
        let code = match self {
            Self::Signature(error) => {
                return WireError::new(error.json_status(), error.json_code(), error.message(Protocol::Json));
            }
            Self::Throttled(_) => "ThrottlingException",
            Self::Serialization(_) | Self::BodyBroken => "SerializationException",
            Self::BodyTooLarge(_) => {
                return WireError::new(413, "RequestEntityTooLargeException", self.to_string());
            }
            Self::Overloaded | Self::ShuttingDown => {
                return WireError::new(503, "ServiceUnavailableException", self.to_string());
            }
            Self::UnknownOperation | Self::InvalidAction { .. } => "UnknownOperationException",
            Self::NotImplemented { .. } => "NotImplementedException",
            Self::InvalidParameter { .. } => "InvalidParameterException",
            Self::Validation { .. } => "ValidationException",
            Self::Registry(error) if kms => return kms_error(error),
            Self::Registry(error) => return ecr_error(error),
        };
        WireError::new(400, code, self.to_string())
    }

    fn to_query(&self) -> WireError {
        let (status, code) = match self {
            Self::Signature(error) => {
                return WireError::new(
                    error.query_status(),
                    error.query_code(),
                    error.message(Protocol::Query),
                );
            }
            Self::Throttled(_) => (400, "Throttling"),
            Self::Serialization(_) | Self::BodyBroken => (400, "MalformedInput"),
            Self::BodyTooLarge(_) => (413, "RequestEntityTooLarge"),
            Self::Overloaded | Self::ShuttingDown => (503, "ServiceUnavailable"),
            // IAM and STS have no word for an operation of the model that a server does not have.
            Self::UnknownOperation | Self::InvalidAction { .. } | Self::NotImplemented { .. } => {
                (400, "InvalidAction")
            }
            Self::InvalidParameter { .. } | Self::Validation { .. } => (400, "ValidationError"),
            Self::Registry(RegistryError::AccessDenied(_)) => (403, "AccessDenied"),
            Self::Registry(RegistryError::UnusableCredentials) => (403, "InvalidClientTokenId"),
            Self::Registry(RegistryError::Iam(error)) => (error.status(), error.code()),
            Self::Registry(error) => {
                let mut wire = ecr_error(error);
                if wire.status.is_server_error() {
                    (wire.status, wire.code) = (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure");
                }
                return wire;
            }
        };
        WireError::new(status, code, self.to_string())
    }
}

impl WireError {
    fn new(status: u16, code: &'static str, message: String) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, code, message, members: Map::new() }
    }

    /// The body of a JSON service's answer.
    pub fn json_body(&self) -> Vec<u8> {
        let mut body = self.members.clone();
        body.insert("__type".into(), self.code.into());
        body.insert("message".into(), self.message.as_str().into());
        Value::Object(body).to_string().into_bytes()
    }

    /// The body of a query service's answer.
    pub fn xml_body(&self, namespace: &str, request_id: &str) -> Vec<u8> {
        let kind = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        format!(
            "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
             <RequestId>{request_id}</RequestId></ErrorResponse>",
            self.code,
            xml_escape(&self.message),
        )
        .into_bytes()
    }
}

/// ECR's names (API reference §6).
fn ecr_error(error: &RegistryError) -> WireError {
    use RegistryError as E;
    let code = match error {
        E::RepositoryNotFound(_) => "RepositoryNotFoundException",
        E::RepositoryAlreadyExists(_) => "RepositoryAlreadyExistsException",
        E::RepositoryNotEmpty(_) => "RepositoryNotEmptyException",
        E::RepositoryPolicyNotFound(_) => "RepositoryPolicyNotFoundException",
        E::RegistryPolicyNotFound(_) => "RegistryPolicyNotFoundException",
        E::ImageNotFound(..) | E::ManifestUnknown => "ImageNotFoundException",
        E::ImageTagAlreadyExists { .. } => "ImageTagAlreadyExistsException",
        E::ImageAlreadyExists { .. } => "ImageAlreadyExistsException",
        E::ImageDigestDoesNotMatch { .. } => "ImageDigestDoesNotMatchException",
        E::LayersNotFound(..) | E::LayerNotFound(..) | E::BlobUnknown(_) => "LayersNotFoundException",
        E::ReferencedImagesNotFound(..) => "ReferencedImagesNotFoundException",
        E::LayerInaccessible(_) | E::LayerArchived(_) => "LayerInaccessibleException",
        E::LayerAlreadyExists(_) => "LayerAlreadyExistsException",
        E::ImageActivating(_) => "ImageArchivedException",
        E::StorageClassUpdateNotSupported { .. } => "ImageStorageClassUpdateNotSupportedException",
        E::LayerPartTooSmall => "LayerPartTooSmallException",
        E::InvalidLayer { .. } => "InvalidLayerException",
        E::InvalidLayerPart { .. } => "InvalidLayerPartException",
        E::EmptyUpload => "EmptyUploadException",
        E::UploadNotFound(_) => "UploadNotFoundException",
        E::UploadBusy => "ThrottlingException",
        E::BodyBroken(_) => "SerializationException",
        E::TooLarge { .. } | E::LimitExceeded(_) => "LimitExceededException",
        E::Manifest(cause) => {
            let constraint = cause.to_string();
            let parameter = AwsError::InvalidParameter { member: "imageManifest".into(), constraint };
            return WireError::new(400, "InvalidParameterException", parameter.to_string());
        }
        E::InvalidParameter { .. }
        | E::Unsupported(_)
        | E::ReferencedByManifestList(_)
        | E::ImageInUse(_)
        | E::NotFound(_)
        | E::AlreadyExists(_) => "InvalidParameterException",
        E::InvalidTagParameter(_) => "InvalidTagParameterException",
        E::TooManyTags => "TooManyTagsException",
        E::Validation(_) => "ValidationException",
        E::ExclusionAlreadyExists(_) => "ExclusionAlreadyExistsException",
        E::ExclusionNotFound(_) => "ExclusionNotFoundException",
        E::LifecyclePolicyNotFound(_) => "LifecyclePolicyNotFoundException",
        E::LifecyclePreviewNotFound(_) => "LifecyclePolicyPreviewNotFoundException",
        E::LifecyclePreviewInProgress(_) => "LifecyclePolicyPreviewInProgressException",
        E::Kms { .. } => "KmsException",
        E::AccessDenied(_) => "AccessDeniedException",
        E::UnusableCredentials => "UnrecognizedClientException",
        E::Iam(error) => error.code(),
        E::StorageFull | E::StorageReadOnly | E::Damaged(_) => {
            return WireError::new(500, "ServerException", error.to_string());
        }
        E::Meta(_) | E::Object(_) | E::Internal(_) => {
            return WireError::new(
                500,
                "ServerException",
                "The request failed because of an internal error".into(),
            );
        }
    };
    let mut wire = WireError::new(400, code, error.to_string());
    match error {
        E::Kms { code, .. } => {
            wire.members.insert("kmsError".into(), json!(code));
        }
        E::InvalidLayerPart { repository, upload, received } => {
            wire.members.insert("registryId".into(), json!(repository.registry.account.as_str()));
            wire.members.insert("repositoryName".into(), json!(repository.name.as_str()));
            wire.members.insert("uploadId".into(), json!(upload.to_string()));
            // Nothing received yet has no last byte: the member is left out, as it cannot be negative.
            if let Some(last) = received.checked_sub(1) {
                wire.members.insert("lastValidByteReceived".into(), json!(last));
            }
        }
        _ => {}
    }
    wire
}

/// KMS's names.
fn kms_error(error: &RegistryError) -> WireError {
    use RegistryError as E;
    let code = match error {
        E::Kms { code, .. } => code,
        E::NotFound(_) => "NotFoundException",
        E::AlreadyExists(_) => "AlreadyExistsException",
        E::InvalidParameter { .. } | E::Validation(_) | E::Unsupported(_) => "ValidationException",
        E::InvalidTagParameter(_) | E::TooManyTags => "TagException",
        E::LimitExceeded(_) | E::TooLarge { .. } => "LimitExceededException",
        E::AccessDenied(_) => "AccessDeniedException",
        _ => {
            return WireError::new(
                500,
                "KMSInternalException",
                "The request failed because of an internal error".into(),
            );
        }
    };
    WireError::new(400, code, error.to_string())
}

#[cfg(test)]
mod tests {
    use wharf_types::{Digest, RepositoryRef, UploadId};

    use super::*;

    fn repository() -> RepositoryRef {
        RepositoryRef::private(
            "123456789012".parse().unwrap(),
            "us-east-1".parse().unwrap(),
            "team/api".parse().unwrap(),
        )
    }

    fn ecr(error: RegistryError) -> WireError {
        AwsError::from(error).to_wire(Vocabulary::Ecr)
    }

    #[test]
    fn errors_of_the_registry_in_ecr_s_words() {
        let digest = Digest::sha256(b"");
        let table = [
            (RegistryError::RepositoryNotFound(repository()), "RepositoryNotFoundException", 400),
            (RegistryError::LayersNotFound(repository(), vec![digest]), "LayersNotFoundException", 400),
            (RegistryError::BlobUnknown(digest), "LayersNotFoundException", 400),
            (RegistryError::TooManyTags, "TooManyTagsException", 400),
            (RegistryError::StorageFull, "ServerException", 500),
            (RegistryError::StorageReadOnly, "ServerException", 500),
            (RegistryError::Internal("secret path".into()), "ServerException", 500),
        ];
        for (error, code, status) in table {
            let wire = ecr(error);
            assert_eq!((wire.code, wire.status.as_u16()), (code, status));
            assert!(!wire.message.contains("secret"), "{}", wire.message);
        }
        assert_eq!(
            ecr(RegistryError::invalid("imageIds", "Member must not be null")).message,
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must not be null'"
        );
    }

    #[test]
    fn modelled_members_are_told() {
        let kms = || RegistryError::Kms { code: "DisabledException", message: "k is disabled.".into() };
        let body: Value = serde_json::from_slice(&ecr(kms()).json_body()).unwrap();
        assert_eq!(
            body,
            json!({"__type": "KmsException", "message": "k is disabled.", "kmsError": "DisabledException"})
        );
        assert_eq!(AwsError::from(kms()).to_wire(Vocabulary::Kms).code, "DisabledException");

        let upload = UploadId::random();
        let part =
            |received| ecr(RegistryError::InvalidLayerPart { repository: repository(), upload, received });
        assert_eq!(part(10).members["lastValidByteReceived"], 9);
        assert_eq!(part(10).members["uploadId"], upload.to_string());
        assert!(!part(0).members.contains_key("lastValidByteReceived"));
    }

    #[test]
    fn query_services_answer_xml() {
        let error = AwsError::InvalidAction { operation: "<x>".into(), version: "1".into() };
        let namespace = "https://sts.amazonaws.com/doc/2011-06-15/";
        let wire = error.to_wire(Vocabulary::Query { namespace });
        let body = String::from_utf8(wire.xml_body(namespace, "id")).unwrap();
        assert!(body.contains("<Type>Sender</Type><Code>InvalidAction</Code>"), "{body}");
        assert!(body.contains("operation &lt;x&gt; for version 1"), "{body}");
        let denied =
            AwsError::from(SignatureError::MissingAuthentication).to_wire(Vocabulary::Query { namespace });
        assert_eq!((denied.status.as_u16(), denied.code), (403, "MissingAuthenticationToken"));
    }
}
