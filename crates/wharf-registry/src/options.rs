//! What the operator decides about a registry. Resolved from the settings by the program; validated there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use wharf_lifecycle::Grammar;
use wharf_types::{AccountId, Region};

use crate::Dialect;

/// How the registry behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether other processes work on the same stores.
    pub nodes: Nodes,
    /// Owner of what has no other owner; created at the first start.
    pub default_account: AccountId,
    /// Region of host names and tokens that name none.
    pub default_region: Region,
    /// Where ECR and the OCI specification differ.
    pub dialect: Dialect,
    /// Whether a manifest is taken although blobs or manifests it names are not there (yet). Not with
    /// [`Dialect::Ecr`], which refuses that.
    pub sparse_manifests: bool,
    /// Whether `AES256` repositories are sealed; KMS ones always are.
    pub encrypt: bool,
    /// Lifetime of registry tokens (12 h in ECR).
    pub token_ttl: Duration,
    /// Lifetime of signed download URLs.
    pub download_ttl: Duration,
    /// How long deleted things can be restored.
    pub trash_window: Duration,
    /// How long a blob without a manifest is kept.
    pub unreferenced_grace: Duration,
    /// How long an unfinished upload is kept after its last byte.
    pub upload_lifetime: Duration,
    /// Whether a pull of an archived image has it restored, and is told to come again.
    pub restore_on_pull: bool,
    /// Fewest days that a lifecycle policy may leave an image in the archive (ECR: 90).
    pub archive_min_days: u64,
    /// The language of lifecycle policies.
    pub lifecycle_grammar: Grammar,
    /// How often lifecycle policies are carried out (ECR promises 24 h).
    pub lifecycle_interval: Duration,
    /// Whether clients may delete no image that is reported to be in use.
    pub protect_in_use: bool,
    /// Free space in bytes below which pushes are refused; 0 = off.
    pub low_watermark: u64,
    /// Sizes.
    pub limits: Limits,
    /// Counts.
    pub quotas: Quotas,
    /// Where the keys of OIDC issuers are, by the issuer without its scheme. Those of other issuers are where their
    /// discovery document says.
    pub jwks: BTreeMap<String, JwksSource>,
}

/// How many processes work on the same stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// This one only: what it remembers is the truth, as every change goes through it.
    One,
    /// Any number: what it remembers is confirmed before it decides anything.
    Many,
}

/// Where a JSON Web Key Set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// In a file, read at every use.
    File(PathBuf),
    /// At a URL: HTTPS to any address, or HTTP on this machine.
    Url(String),
}

/// Largest sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a manifest (ECR: 4 MiB).
    pub manifest: u64,
    /// Of a blob (ECR: 52,000 MiB).
    pub blob: u64,
    /// Of one `UploadLayerPart` (API text: 20,971,520).
    pub part: u64,
    /// Parts of a layer (ECR: 4,200).
    pub parts: u64,
}

/// Account quotas (`semantics` reference §4), exact and settable.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Repositories of one registry.
    pub repositories: u64,
    /// Images of one repository, referrers included.
    pub images_per_repository: u64,
    /// Tags of one image.
    pub tags_per_image: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { manifest: 4 << 20, blob: 52_000 << 20, part: 20_971_520, parts: 4_200 }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self { repositories: 100_000, images_per_repository: 100_000, tags_per_image: 1_000 }
    }
}

impl Options {
    /// The defaults for an account and a region.
    pub fn new(default_account: AccountId, default_region: Region) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            nodes: Nodes::One,
            default_account,
            default_region,
            dialect: Dialect::Spec,
            sparse_manifests: false,
            encrypt: true,
            token_ttl: 12 * HOUR,
            download_ttl: HOUR,
            trash_window: 7 * 24 * HOUR,
            unreferenced_grace: 24 * HOUR,
            upload_lifetime: 24 * HOUR,
            restore_on_pull: false,
            archive_min_days: 90,
            lifecycle_grammar: Grammar::Ecr,
            lifecycle_interval: HOUR,
            protect_in_use: false,
            low_watermark: 0,
            limits: Limits::default(),
            quotas: Quotas::default(),
            jwks: BTreeMap::new(),
        }
    }
}
