//! Lifecycle policies: what is stored, previewed, and carried out. What a policy means is `wharf-lifecycle`'s; here it is
//! asked about the images of a repository at one instant (`plan`), and acted on in small transactions, each of which
//! looks again (`run`). A preview and the run that follows use the same plan.

mod act;
mod in_use;
mod plan;
mod preview;
mod record;
mod run;

use wharf_lifecycle::{Grammar, LifecyclePolicy};
use wharf_store::meta::lifecycle::{self, PolicyRow};
use wharf_store::meta::{Tx, jobs};
use wharf_types::{RepositoryRef, Timestamp};

pub(crate) use self::in_use::holders_with_relatives;
pub use self::in_use::{ImageInUse, InUseReport};
pub use self::plan::{LifecycleExplanation, PlannedAction, PlannedImage};
pub use self::preview::{LifecyclePreview, PreviewFilter, PreviewImage, PreviewStatus};
pub use self::run::{LifecycleFailure, LifecycleReport};
use crate::repositories::hold_repository;
use crate::{Authorized, Options, Registry, RegistryError, Repository};

/// Carries out a repository's policy; the key is the repository's id.
pub(crate) const RUN: &str = "lifecycle";
/// Computes a repository's preview; the key is the repository's id.
pub(crate) const PREVIEW: &str = "lifecycle-preview";
/// Drops what a preview found that is gone; the key is the preview's id.
pub(crate) const DROP_PREVIEW: &str = "lifecycle-preview-drop";

/// Most characters of a policy (`LifecyclePolicyText`).
const LONGEST: usize = 30_720;
/// Fewest.
const SHORTEST: usize = 100;

/// A repository's policy as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLifecyclePolicy {
    /// The text, byte for byte.
    pub document: String,
    /// When it was last evaluated; `None`: not since it was put first.
    pub evaluated_at: Option<Timestamp>,
}

impl From<PolicyRow> for StoredLifecyclePolicy {
    fn from(row: PolicyRow) -> Self {
        Self { document: row.document, evaluated_at: row.evaluated_at.map(Timestamp::from_micros) }
    }
}

/// Understands a policy that a client sent.
///
/// # Errors
/// `InvalidParameterException` with ECR's text.
pub(crate) fn parse(document: &str, options: &Options) -> Result<LifecyclePolicy, RegistryError> {
    let refused = |detail: String| {
        RegistryError::invalid(
            "LifecyclePolicyText",
            format!("Lifecycle policy validation failure: {detail}"),
        )
    };
    let length = document.chars().count();
    if !(SHORTEST..=LONGEST).contains(&length) {
        return Err(refused(format!(
            "policy text must have {SHORTEST} to {LONGEST} characters, not {length}"
        )));
    }
    LifecyclePolicy::parse_with(document, options.lifecycle_grammar, options.archive_min_days)
        .map_err(|error| refused(error.to_string()))
}

/// Understands a policy that was stored, whatever grammar is allowed now.
fn parse_stored(document: &str) -> Result<LifecyclePolicy, RegistryError> {
    LifecyclePolicy::parse_with(document, Grammar::Extended, 1)
        .map_err(|error| RegistryError::Internal(format!("stored lifecycle policy: {error}")))
}

impl Registry {
    /// `PutLifecyclePolicy`. It is carried out for the first time after the interval between two runs.
    ///
    /// # Errors
    /// `InvalidParameterException` for a policy that is not valid.
    pub async fn put_lifecycle_policy(
        &self,
        at: &Authorized<RepositoryRef>,
        document: &str,
    ) -> Result<(), RegistryError> {
        parse(document, &self.inner.options)?;
        let (repository, document) = (self.repository(at).await?, document.to_owned());
        let due = self.inner.clock.now().plus(self.inner.options.lifecycle_interval).as_micros();
        self.inner
            .meta
            .write(move |tx| {
                hold_repository(tx, &repository)?;
                lifecycle::put_policy(tx, repository.id, &document)?;
                Ok::<_, RegistryError>(jobs::put(tx, RUN, &repository.id.to_string(), due)?)
            })
            .await?;
        self.inner.jobs.wake();
        Ok(())
    }

    /// `GetLifecyclePolicy`.
    ///
    /// # Errors
    /// `LifecyclePolicyNotFoundException`.
    pub async fn lifecycle_policy(
        &self,
        at: &Authorized<RepositoryRef>,
    ) -> Result<StoredLifecyclePolicy, RegistryError> {
        let repository = self.repository(at).await?;
        let found = self.inner.meta.read(move |tx| require_policy(tx, &repository)).await?;
        Ok(found.into())
    }

    /// `DeleteLifecyclePolicy`; answers what was deleted.
    ///
    /// # Errors
    /// `LifecyclePolicyNotFoundException`.
    pub async fn delete_lifecycle_policy(
        &self,
        at: &Authorized<RepositoryRef>,
    ) -> Result<StoredLifecyclePolicy, RegistryError> {
        let repository = self.repository(at).await?;
        let deleted = self
            .inner
            .meta
            .write(move |tx| {
                let found = require_policy(tx, &repository)?;
                lifecycle::delete_policy(tx, repository.id)?;
                jobs::remove(tx, RUN, &repository.id.to_string())?;
                Ok::<_, RegistryError>(found)
            })
            .await?;
        Ok(deleted.into())
    }
}

fn require_policy(tx: &mut Tx<'_>, repository: &Repository) -> Result<PolicyRow, RegistryError> {
    let found = lifecycle::find_policy(tx, repository.id)?;
    found.ok_or_else(|| RegistryError::LifecyclePolicyNotFound(repository.name.clone()))
}

/// Drops what a repository that is being removed had of policies and previews.
pub(crate) fn drop_repository(tx: &mut Tx<'_>, repository_id: i64) -> Result<(), RegistryError> {
    lifecycle::delete_policy(tx, repository_id)?;
    let key = repository_id.to_string();
    jobs::remove(tx, RUN, &key)?;
    jobs::remove(tx, PREVIEW, &key)?;
    preview::discard(tx, repository_id)
}
