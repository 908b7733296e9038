//! What the faces are told: repositories, images, pages.

use std::collections::BTreeMap;

use wharf_types::{Digest, MediaType, Mutability, RegistryRef, RepositoryRef, Tag, Timestamp};

use crate::ImageFailureCode;

/// How a repository's contents are encrypted at rest. Fixed when the repository is created.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// The registry's own key.
    Aes256,
    /// One layer under a KMS key, named by its ARN.
    Kms(String),
    /// Two independent layers: the registry's own key and a KMS key, named by its ARN.
    KmsDsse(String),
}

impl Encryption {
    /// The API's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms(_) => "KMS",
            Self::KmsDsse(_) => "KMS_DSSE",
        }
    }

    /// The key's ARN, absent for AES256.
    pub fn kms_key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms(arn) | Self::KmsDsse(arn) => Some(arn),
        }
    }
}

/// Account, region, encryption type and key: within one domain, equal content is kept once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyDomain {
    /// Row id.
    pub id: i64,
    /// Whose, and where.
    pub registry: RegistryRef,
    /// How it is encrypted.
    pub encryption: Encryption,
}

/// A repository as it stands.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Row id; never used twice.
    pub id: i64,
    /// Its full name.
    pub name: RepositoryRef,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether its tags may move.
    pub mutability: Mutability,
    /// The deprecated per-repository switch.
    pub scan_on_push: bool,
    /// The key domain of its contents.
    pub domain: KeyDomain,
}

/// What a new repository shall be.
#[derive(Clone, Debug)]
pub struct NewRepository {
    /// Tag mutability.
    pub mutability: Mutability,
    /// The deprecated per-repository switch.
    pub scan_on_push: bool,
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub encryption_type: EncryptionType,
    /// Key id, ARN, alias name or alias ARN; `None` with KMS means the account's `aws/ecr` key.
    pub kms_key: Option<String>,
    /// Resource tags, in the order given; duplicates are refused.
    pub tags: Vec<(String, String)>,
}

/// The encryption types of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionType {
    /// The registry's own key.
    Aes256,
    /// A KMS key.
    Kms,
    /// Two layers.
    KmsDsse,
}

/// How the API names an image: by digest, by tag, by both, or (a failure) by neither.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageId {
    /// As the client wrote it; checked where it is used, because a malformed one is a failure, not an exception.
    pub digest: Option<String>,
    /// As the client wrote it.
    pub tag: Option<String>,
}

/// An image id of an image that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    /// The manifest's digest.
    pub digest: Digest,
    /// One of its tags, or none.
    pub tag: Option<Tag>,
}

/// Why one image of a batch could not be served.
#[derive(Clone, Debug)]
pub struct ImageFailure {
    /// As it was asked for.
    pub id: ImageId,
    /// The API's code.
    pub code: ImageFailureCode,
    /// The API's text.
    pub reason: String,
}

/// An image with its manifest.
#[derive(Clone, Debug)]
pub struct Image {
    /// As it was asked for: with the tag, if by tag.
    pub id: ImageRef,
    /// The manifest, byte for byte (or converted, where `acceptedMediaTypes` asked for it).
    pub manifest: bytes::Bytes,
    /// Its media type.
    pub media_type: MediaType,
}

/// Whether an image may be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStatus {
    /// It may.
    Active,
    /// It lies in the archive.
    Archived,
    /// It is on its way back.
    Activating,
}

impl ImageStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Archived => "ARCHIVED",
            Self::Activating => "ACTIVATING",
        }
    }

    /// From the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Archived, Self::Activating].into_iter().find(|status| status.as_str() == text)
    }
}

/// Everything `DescribeImages` tells.
#[derive(Clone, Debug)]
pub struct ImageDetail {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its tags in order of name; may be empty.
    pub tags: Vec<Tag>,
    /// Configuration and layers, compressed, in bytes; for an index the largest child.
    pub size: u64,
    /// When this digest was first put.
    pub pushed_at: Timestamp,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// `artifactType`, or else the configuration's media type.
    pub artifact_type: Option<String>,
    /// When a pull was last recorded (within 24 h).
    pub pulled_at: Option<Timestamp>,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// Whether it may be pulled.
    pub status: ImageStatus,
    /// When it was last archived.
    pub archived_at: Option<Timestamp>,
    /// When it last came back.
    pub activated_at: Option<Timestamp>,
}

/// Which images a listing shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Tagged, untagged, or any.
    pub tags: TagStatus,
    /// `None` = any; the API's default is `Some(Active)`.
    pub status: Option<ImageStatus>,
}

/// The API's `tagStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagStatus {
    /// With at least one tag.
    Tagged,
    /// Without.
    Untagged,
    /// Both.
    #[default]
    Any,
}

/// A manifest that refers to another (distribution-spec, "Listing Referrers").
#[derive(Clone, Debug)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// Size of the manifest in bytes.
    pub size: u64,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether it may be pulled.
    pub status: ImageStatus,
}

/// A page that was asked for. The token is checked against the query it came from.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most this many; the face has checked the bounds.
    pub limit: usize,
    /// `nextToken` of the page before, opaque and sealed.
    pub token: Option<String>,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The entries, in a stable order.
    pub items: Vec<T>,
    /// Sealed token of the next page; `None` at the end.
    pub next: Option<String>,
}
