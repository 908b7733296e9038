//! What a registry does. Every rule lives here, once, below both faces: the AWS JSON API and OCI Distribution call
//! the same functions, so neither can bypass the other's rule.
//!
//! One file per family of operations; the same word names the file in `wharf-http` (shape) and in `wharf-store`
//! (SQL). A function that acts on a repository takes [`Authorized<RepositoryRef>`](Authorized): only
//! [`Registry::authorize`] can make one.

mod access;
mod accounts;
mod archive;
mod backup;
mod blobs;
mod cache;
mod clock;
mod collect;
mod convert;
mod dialect;
mod download;
mod error;
mod fetch;
mod freshness;
mod gathered;
mod identities;
mod images;
mod jobs;
mod key_ring;
mod kms;
mod lifecycle;
mod lists;
mod model;
mod options;
mod page;
mod policies;
mod pull_time;
mod referrers;
mod registry;
mod repositories;
mod scrub;
mod service_events;
mod sessions;
mod settings;
mod storage_class;
mod tags;
mod undelete;
mod uninterrupted;
mod uploads;

pub use access::{Ask, Authorized, Caller, Decided, DecidingStatement, ExplainError, Explanation, Origin};
pub use access::{ContextEntry, PolicyExclusion, SimulatedDecision, SimulatedStatement, SimulationAsk};
pub use accounts::{AccessKeyInfo, AccessKeyRecord, NewAccessKey, PasswordError};
pub use backup::BackupReport;
pub use blobs::{BlobInfo, BlobReader, LayerCheck, LayerState};
pub use clock::Clock;
pub use collect::CollectReport;
pub use dialect::{DIFFERENCES, Dialect, Difference};
pub use error::{ImageFailureCode, RegistryError};
pub use identities::{
    AttachedPolicy, EntityFilter, IamError, KeyLastUsed, KeyOwner, KeyRef, KeyUse, ManagedPolicy, NewPolicy,
    NewRole, OidcChange, OidcProvider, OidcProviderRef, PolicyFilter, PolicyRef, PolicyUsage, PolicyVersion,
    Principal, PrincipalKind, PrincipalRef, Role, UserKey,
};
pub use images::{Deleted, DeletedReference, ForcedDeletion, PutImage, PutOutcome, StoredManifest};
pub use key_ring::RotateReport;
pub use kms::{KeyAlias, KmsKey, NewKey};
pub use lifecycle::{
    ImageInUse, InUseReport, LifecycleExplanation, LifecycleFailure, LifecyclePreview, LifecycleReport,
    PlannedAction, PlannedImage, PreviewFilter, PreviewImage, PreviewStatus, StoredLifecyclePolicy,
};
pub use lists::{ListStamp, NamePage, Names, WrittenList};
pub use model::*;
pub use options::{JwksSource, Limits, Nodes, Options, Quotas};
pub use registry::{Progress, Registry, RegistryStats};
pub use scrub::ScrubReport;
pub use service_events::ServiceRecords;
pub use sessions::{
    AssumeRole, AssumedRole, FederatedUser, GetFederationToken, Session, SessionCredentials, SessionKey,
    SessionKind, WebIdentity, WebIdentityRole,
};
pub use storage_class::StorageClass;
pub use undelete::UndeleteReport;
pub use uploads::{BodyError, BodyStream, MountOutcome, Upload, UploadProgress};
pub use wharf_lifecycle::Grammar as LifecycleGrammar;
