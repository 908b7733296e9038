//! What can go wrong, as callers can react to it. Each variant is one exception of the ECR API and one error of OCI
//! Distribution; the faces turn it into bytes. `Display` is the text the client reads (ECR's own where it is known).

use wharf_iam::decision::AccessDenied;
use wharf_store::meta::MetaError;
use wharf_store::object::ObjectError;
use wharf_types::{AccountId, Digest, ManifestError, RepositoryRef, Tag, UploadId};

use crate::{IamError, ImageId};

/// An error of the registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// `RepositoryNotFoundException` / `NAME_UNKNOWN`.
    #[error("The repository with name '{}' does not exist in the registry with id '{}'", .0.name, .0.registry.account)]
    RepositoryNotFound(RepositoryRef),
    /// `RepositoryAlreadyExistsException`.
    #[error("The repository with name '{}' already exists in the registry with id '{}'", .0.name, .0.registry.account)]
    RepositoryAlreadyExists(RepositoryRef),
    /// `RepositoryNotEmptyException`.
    #[error(
        "The repository with name '{}' in registry with id '{}' cannot be deleted because it still contains images",
        .0.name, .0.registry.account
    )]
    RepositoryNotEmpty(RepositoryRef),
    /// `RepositoryPolicyNotFoundException`.
    #[error(
        "Repository policy does not exist for the repository with name '{}' in the registry with id '{}'",
        .0.name, .0.registry.account
    )]
    RepositoryPolicyNotFound(RepositoryRef),
    /// `RegistryPolicyNotFoundException`.
    #[error("Registry policy does not exist in the registry with id '{0}'")]
    RegistryPolicyNotFound(AccountId),
    /// `ImageNotFoundException`.
    #[error(
        "The image with imageId {} does not exist within the repository with name '{}' in the registry with id '{}'",
        image_id_text(.1), .0.name, .0.registry.account
    )]
    ImageNotFound(RepositoryRef, ImageId),
    /// `MANIFEST_UNKNOWN`: a pull of something that is not there.
    #[error("Requested image not found")]
    ManifestUnknown,
    /// `ImageTagAlreadyExistsException` / `TAG_INVALID`.
    #[error(
        "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because the tag is immutable.",
        repository.name
    )]
    ImageTagAlreadyExists {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        tag: Tag,
    },
    /// `ImageAlreadyExistsException`: the JSON API's answer to a put that changes nothing.
    #[error(
        "Image with digest '{digest}' and tag '{}' already exists in the repository with name '{}' in registry with id '{}'",
        tag.as_ref().map_or("null", |tag| tag.as_str()), repository.name, repository.registry.account
    )]
    ImageAlreadyExists {
        /// Where.
        repository: RepositoryRef,
        /// What.
        digest: Digest,
        /// Under which tag.
        tag: Option<Tag>,
    },
    /// `ImageDigestDoesNotMatchException` / `DIGEST_INVALID`.
    #[error("The digest of the image manifest is '{actual}', not '{given}'")]
    ImageDigestDoesNotMatch {
        /// What the client promised.
        given: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// `LayersNotFoundException` / `MANIFEST_BLOB_UNKNOWN`.
    #[error(
        "Layers with digests '[{}]' required for pushing image into repository with name '{}' in the registry with id '{}' do not exist",
        joined(.1), .0.name, .0.registry.account
    )]
    LayersNotFound(RepositoryRef, Vec<Digest>),
    /// `ReferencedImagesNotFoundException` / `MANIFEST_BLOB_UNKNOWN`.
    #[error(
        "Images with digests '[{}]' required for pushing image into repository with name '{}' in the registry with id '{}' do not exist",
        joined(.1), .0.name, .0.registry.account
    )]
    ReferencedImagesNotFound(RepositoryRef, Vec<Digest>),
    /// `405 UNSUPPORTED` of the OCI face; the JSON API reports the failure `ImageReferencedByManifestList` instead.
    #[error("Requested image referenced by manifest list: [{}]", joined(.0))]
    ReferencedByManifestList(Vec<Digest>),
    /// `403 DENIED` of the OCI face; the JSON API reports the failure `ImageInaccessible` instead, the nearest word it
    /// has.
    #[error("The image is in use and stays, by in_use.protect: it or a relative is run by {}", .0.join(", "))]
    ImageInUse(Vec<String>),
    /// A manifest's bytes are refused: `MANIFEST_INVALID` / `InvalidParameterException`.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// `BLOB_UNKNOWN`.
    #[error("blob {0} is not known to the repository")]
    BlobUnknown(Digest),
    /// `LayersNotFoundException` of GetDownloadUrlForLayer.
    #[error(
        "Layer with digest '{}' does not exist in the repository with name '{}' in the registry with id '{}'",
        .1, .0.name, .0.registry.account
    )]
    LayerNotFound(RepositoryRef, Digest),
    /// `LayerInaccessibleException`: no image references the layer.
    #[error("The layer with digest '{0}' is not available because no image references it")]
    LayerInaccessible(Digest),
    /// `LayerInaccessibleException` / `BLOB_UNKNOWN`: only archived images name the layer.
    #[error("The layer with digest '{0}' is not available because only archived images reference it")]
    LayerArchived(Digest),
    /// `429 TOOMANYREQUESTS`: an archived image that a pull has had restored, where that is configured.
    #[error("The image with digest '{0}' was archived and is being restored; try again soon")]
    ImageActivating(Digest),
    /// `ImageStorageClassUpdateNotSupportedException`.
    #[error(
        "The storage class of the image with imageId {} in the repository with name '{}' in the registry with id '{}' \
         cannot be updated to {class}: {reason}",
        image_id_text(.id), .repository.name, .repository.registry.account
    )]
    StorageClassUpdateNotSupported {
        /// Where.
        repository: RepositoryRef,
        /// Which.
        id: ImageId,
        /// The class that was wanted.
        class: &'static str,
        /// Why not.
        reason: String,
    },
    /// `LayerAlreadyExistsException`: the JSON API's answer to a second upload; OCI answers 201.
    #[error("The layer with digest '{0}' already exists")]
    LayerAlreadyExists(Digest),
    /// `LayerPartTooSmallException`.
    #[error("All layer parts except the last part should be at least 5MB")]
    LayerPartTooSmall,
    /// `InvalidLayerException` / `DIGEST_INVALID`: content is not what its digest says.
    #[error("The content has digest '{actual}', not '{expected}'")]
    InvalidLayer {
        /// What the client promised.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// `InvalidLayerPartException` / `416 BLOB_UPLOAD_INVALID`: a chunk that does not begin where the last one ended,
    /// or whose length is not what it says.
    #[error("The layer part is not valid: the upload continues at byte {received}")]
    InvalidLayerPart {
        /// Where.
        repository: RepositoryRef,
        /// Which upload.
        upload: UploadId,
        /// Bytes received so far; the next part begins here.
        received: u64,
    },
    /// `EmptyUploadException`.
    #[error("The upload has no parts")]
    EmptyUpload,
    /// `UploadNotFoundException` / `BLOB_UPLOAD_UNKNOWN`.
    #[error("The upload '{0}' does not exist")]
    UploadNotFound(String),
    /// Another request is writing to the same upload.
    #[error("The upload is in use by another request")]
    UploadBusy,
    /// The request's body ended early or broke off: the client is told nothing it could use.
    #[error("the request body broke off: {0}")]
    BodyBroken(String),
    /// A blob, manifest or part exceeds its limit: `SIZE_INVALID` / `LimitExceededException`.
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// `InvalidParameterException`, in ECR's own form.
    #[error("Invalid parameter at '{member}' failed to satisfy constraint: '{constraint}'")]
    InvalidParameter {
        /// The member's name.
        member: &'static str,
        /// What it had to satisfy.
        constraint: String,
    },
    /// `InvalidTagParameterException`.
    #[error("{0}")]
    InvalidTagParameter(String),
    /// `TooManyTagsException`.
    #[error("A repository can have at most 50 tags")]
    TooManyTags,
    /// `LimitExceededException` / `TOOMANYREQUESTS`-free 403 `DENIED`: a quota is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// `ValidationException`.
    #[error("{0}")]
    Validation(String),
    /// `ExclusionAlreadyExistsException`.
    #[error("A pull time update exclusion for the principal '{0}' already exists")]
    ExclusionAlreadyExists(String),
    /// `ExclusionNotFoundException`.
    #[error("No pull time update exclusion exists for the principal '{0}'")]
    ExclusionNotFound(String),
    /// `LifecyclePolicyNotFoundException`.
    #[error(
        "Lifecycle policy does not exist for the repository with name '{}' in the registry with id '{}'",
        .0.name, .0.registry.account
    )]
    LifecyclePolicyNotFound(RepositoryRef),
    /// `LifecyclePolicyPreviewNotFoundException`.
    #[error(
        "Lifecycle policy preview does not exist for the repository with name '{}' in the registry with id '{}'",
        .0.name, .0.registry.account
    )]
    LifecyclePreviewNotFound(RepositoryRef),
    /// `LifecyclePolicyPreviewInProgressException`.
    #[error(
        "A lifecycle policy preview is in progress for the repository with name '{}' in the registry with id '{}'",
        .0.name, .0.registry.account
    )]
    LifecyclePreviewInProgress(RepositoryRef),
    /// `KmsException` with its `kmsError`; KMS's own code on the KMS face.
    #[error("{message}")]
    Kms {
        /// KMS's code, e.g. `DisabledException`, `NotFoundException`.
        code: &'static str,
        /// KMS's text.
        message: String,
    },
    /// What IAM and STS refuse, in their own codes.
    #[error(transparent)]
    Iam(#[from] IamError),
    /// `AccessDeniedException` / `403 DENIED`.
    #[error("{0}")]
    AccessDenied(#[from] AccessDenied),
    /// Credentials that a service does not take, whatever policies say: `InvalidClientTokenId`.
    #[error("The security token included in the request is invalid")]
    UnusableCredentials,
    /// Not done in the `ecr` dialect, or not at all: `405 UNSUPPORTED`.
    #[error("{0}")]
    Unsupported(String),
    /// The store is full or below its watermark: pushes wait, pulls go on. `507` / `ServerException`.
    #[error("the registry's storage is full; nothing was stored")]
    StorageFull,
    /// The store is read-only: pushes are refused, pulls go on. `503` / `ServerException`.
    #[error("the registry's storage is read-only; nothing was stored")]
    StorageReadOnly,
    /// The content of an object does not authenticate; it has been quarantined and is not served.
    #[error("stored content of {0} is damaged; it is quarantined and will not be served")]
    Damaged(Digest),
    /// An account, key or alias that commands and companion services name does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// The metadata store failed.
    #[error("the metadata store failed")]
    Meta(#[source] MetaError),
    /// The object store failed.
    #[error("the object store failed")]
    Object(#[source] ObjectError),
    /// Something that cannot be; the text is for the log only.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RegistryError {
    /// ECR's `Invalid parameter at …`.
    pub fn invalid(member: &'static str, constraint: impl Into<String>) -> Self {
        Self::InvalidParameter { member, constraint: constraint.into() }
    }
}

impl From<MetaError> for RegistryError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Full => Self::StorageFull,
            MetaError::ReadOnly => Self::StorageReadOnly,
            other => Self::Meta(other),
        }
    }
}

impl From<ObjectError> for RegistryError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Full { .. } => Self::StorageFull,
            ObjectError::ReadOnly { .. } => Self::StorageReadOnly,
            other => Self::Object(other),
        }
    }
}

fn joined(digests: &[Digest]) -> String {
    digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")
}

/// `{imageDigest:'D', imageTag:'T'}`, an absent half printed as `null` with the quotes kept.
fn image_id_text(id: &ImageId) -> String {
    let half = |text: &Option<String>| text.as_deref().unwrap_or("null").to_owned();
    format!("{{imageDigest:'{}', imageTag:'{}'}}", half(&id.digest), half(&id.tag))
}

/// `failureCode` of an image in a batch (ECR model, `ImageFailureCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFailureCode {
    /// Not a digest.
    InvalidImageDigest,
    /// Not a tag.
    InvalidImageTag,
    /// Both given, naming different images.
    ImageTagDoesNotMatchDigest,
    /// Not there.
    ImageNotFound,
    /// Neither given.
    MissingDigestAndTag,
    /// A child of an index that exists.
    ImageReferencedByManifestList,
    /// The key does not answer.
    KmsError,
    /// Archived; on deletion: in use.
    ImageInaccessible,
}

impl ImageFailureCode {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImageDigest => "InvalidImageDigest",
            Self::InvalidImageTag => "InvalidImageTag",
            Self::ImageTagDoesNotMatchDigest => "ImageTagDoesNotMatchDigest",
            Self::ImageNotFound => "ImageNotFound",
            Self::MissingDigestAndTag => "MissingDigestAndTag",
            Self::ImageReferencedByManifestList => "ImageReferencedByManifestList",
            Self::KmsError => "KmsError",
            Self::ImageInaccessible => "ImageInaccessible",
        }
    }
}
