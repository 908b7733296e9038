//! The nouns every other crate speaks. Parsing is the only way to make one, so a value that exists is a value
//! that passed the registry's rules.

mod account;
mod arn;
mod digest;
mod image;
mod manifest;
mod media_type;
mod mutability;
mod name;
mod range;
mod tag;
mod time;
mod upload;

pub use account::{AccountId, AccountIdError, Region, RegionError};
pub use arn::{Arn, ArnError};
pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use image::{RegistryRef, RepositoryKind, RepositoryRef};
pub use manifest::{Descriptor, Manifest, ManifestError, ManifestKind};
pub use media_type::MediaType;
pub use mutability::{Mutability, MutabilityError, TagFilter};
pub use name::{NameError, RepositoryName};
pub use range::{ByteRange, RangeError};
pub use tag::{Reference, ReferenceError, Tag, TagError};
pub use time::Timestamp;
pub use upload::{UploadId, UploadIdError};
