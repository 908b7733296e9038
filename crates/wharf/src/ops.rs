//! The administrator's commands, done by the registry.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_registry::{Ask, InUseReport, NewAccessKey, PageRequest, Registry, RegistryError};
use wharf_types::{AccountId, Digest, Reference, Region, RepositoryName, RepositoryRef};

use crate::admin::{AdminError, AdminOps, Progress, RootCredentials, Text};

/// Images in use that are read in one transaction.
const PAGE: usize = 1000;

/// A registry that takes commands.
pub struct RegistryOps(pub Registry);

impl RegistryOps {
    fn account(&self, given: Option<AccountId>) -> AccountId {
        given.unwrap_or(self.0.options().default_account)
    }

    fn region(&self, given: Option<Region>) -> Region {
        given.unwrap_or_else(|| self.0.options().default_region.clone())
    }
}

impl From<RegistryError> for AdminError {
    fn from(error: RegistryError) -> Self {
        Self::new(error)
    }
}

impl From<NewAccessKey> for RootCredentials {
    fn from(key: NewAccessKey) -> Self {
        Self {
            account_id: Text(key.account_id),
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key.to_string(),
        }
    }
}

impl wharf_registry::Progress for Progress {
    fn report(&self, what: &'static str, done: u64, total: u64) {
        Progress::report(self, what, done, total);
    }
}

impl AdminOps for RegistryOps {
    async fn create_account(&self, id: Option<AccountId>) -> Result<RootCredentials, AdminError> {
        Ok(self.0.create_account(id).await?.into())
    }

    async fn list_accounts(&self) -> Result<Value, AdminError> {
        let accounts = self.0.list_accounts().await?;
        let row = |(id, created): (AccountId, wharf_types::Timestamp)| json!({ "account_id": id.as_str(), "created_at": created.to_rfc3339() });
        Ok(accounts.into_iter().map(row).collect())
    }

    async fn create_key(&self, account: Option<AccountId>) -> Result<RootCredentials, AdminError> {
        Ok(self.0.create_access_key(self.account(account)).await?.into())
    }

    async fn set_key_status(&self, access_key_id: &str, active: bool) -> Result<(), AdminError> {
        Ok(self.0.set_access_key_active(access_key_id, active).await?)
    }

    async fn delete_key(&self, access_key_id: &str) -> Result<(), AdminError> {
        Ok(self.0.delete_access_key(access_key_id).await?)
    }

    async fn list_keys(&self, account: Option<AccountId>) -> Result<Value, AdminError> {
        let keys = self.0.list_access_keys(self.account(account)).await?;
        let status = |active| if active { "Active" } else { "Inactive" };
        let rows = keys.into_iter().map(|key| {
            json!({
                "access_key_id": key.id,
                "status": status(key.active),
                "created_at": key.created_at.to_rfc3339(),
            })
        });
        Ok(rows.collect())
    }

    async fn issue_token(
        &self,
        account: AccountId,
        region: Option<Region>,
        ttl: Option<Duration>,
    ) -> Result<String, AdminError> {
        let root = self.0.root_caller(account).await?;
        Ok(self.0.issue_token(&root, &self.region(region), ttl).0)
    }

    async fn collect(&self, progress: Progress) -> Result<Value, AdminError> {
        let done = self.0.collect(&progress).await?;
        Ok(json!({
            "uploads_expired": done.uploads_expired,
            "links_dropped": done.links_dropped,
            "blobs_trashed": done.blobs_trashed,
            "bytes_trashed": done.bytes_trashed,
            "objects_deleted": done.objects_deleted,
            "bytes_deleted": done.bytes_deleted,
            "tombstones_dropped": done.tombstones_dropped,
            "unknown_objects": done.unknown_objects,
        }))
    }

    async fn scrub(&self, progress: Progress) -> Result<Value, AdminError> {
        let found = self.0.scrub(&progress).await?;
        Ok(json!({
            "clean": found.is_clean(),
            "objects": found.objects,
            "bytes": found.bytes,
            "manifests": found.manifests,
            "locked": found.locked,
            "damaged": found.damaged,
            "missing": found.missing,
            "contradictions": found.contradictions,
        }))
    }

    async fn back_up(&self, to: &Path, progress: Progress) -> Result<Value, AdminError> {
        let made = self.0.back_up(to, &progress).await?;
        Ok(json!({
            "clean": made.missing.is_empty(),
            "objects": made.objects,
            "copied": made.copied,
            "copied_bytes": made.copied_bytes,
            "removed": made.removed,
            "missing": made.missing,
        }))
    }

    async fn undelete(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        image: Option<Reference>,
    ) -> Result<Value, AdminError> {
        let repository = RepositoryRef::private(self.account(account), self.region(region), repository);
        let (digest, tag) = match &image {
            None => (None, None),
            Some(Reference::Digest(digest)) => (Some(digest), None),
            Some(Reference::Tag(tag)) => (None, Some(tag)),
        };
        let done = self.0.undelete(&repository, digest, tag).await?;
        let texts = |items: &[wharf_types::Digest]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(json!({
            "restored": texts(&done.restored),
            "tags": done.tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "skipped": done.skipped.iter().map(|(digest, why)| format!("{digest}: {why}")).collect::<Vec<_>>(),
        }))
    }

    async fn run_lifecycle(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: Option<RepositoryName>,
        progress: Progress,
    ) -> Result<Value, AdminError> {
        let of = |name| RepositoryRef::private(self.account(account), self.region(region), name);
        let only = repository.map(of);
        let done = self.0.run_lifecycle(only.as_ref(), &progress).await?;
        serde_json::to_value(done).map_err(AdminError::new)
    }

    async fn explain_lifecycle(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        policy: Option<String>,
    ) -> Result<Value, AdminError> {
        let repository = RepositoryRef::private(self.account(account), self.region(region), repository);
        let plan = self.0.explain_lifecycle(&repository, policy.as_deref()).await?;
        serde_json::to_value(plan).map_err(AdminError::new)
    }

    async fn report_in_use(
        &self,
        account: Option<AccountId>,
        report: InUseReport,
    ) -> Result<Value, AdminError> {
        let expires_at = self.0.report_in_use_as_operator(self.account(account), report).await?;
        Ok(json!({ "expires_at": expires_at.to_rfc3339() }))
    }

    async fn release_in_use(
        &self,
        account: Option<AccountId>,
        holder: String,
        digests: Option<Vec<Digest>>,
    ) -> Result<Value, AdminError> {
        let account = self.account(account);
        let released = self.0.release_in_use_as_operator(account, &holder, digests.as_deref()).await?;
        Ok(json!({ "holder": holder, "released": released }))
    }

    async fn list_in_use(&self, account: Option<AccountId>) -> Result<Value, AdminError> {
        let account = self.account(account);
        let (mut images, mut token) = (Vec::new(), None);
        loop {
            let page = self.0.images_in_use_as_operator(account, PageRequest { limit: PAGE, token }).await?;
            images.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        serde_json::to_value(images).map_err(AdminError::new)
    }

    async fn delete_image(
        &self,
        account: Option<AccountId>,
        region: Option<Region>,
        repository: RepositoryName,
        image: Reference,
        force: bool,
    ) -> Result<Value, AdminError> {
        let repository = RepositoryRef::private(self.account(account), self.region(region), repository);
        let done = self.0.delete_as_operator(&repository, &image, force).await?;
        if !done.in_use_by.is_empty() {
            tracing::warn!(repository = %repository.name, %image, holders = ?done.in_use_by, "deleted an image in use");
        }
        serde_json::to_value(done).map_err(AdminError::new)
    }

    async fn rotate_key_ring(&self, progress: Progress) -> Result<Value, AdminError> {
        let done = self.0.rotate_key_ring(&progress).await?;
        Ok(json!({
            "domains": done.domains,
            "objects": done.objects,
            "manifests": done.manifests,
            "tombstones": done.tombstones,
            "sealing_keys": done.sealing_keys,
            "secrets": done.secrets,
            "versions_dropped": done.versions_dropped,
        }))
    }

    async fn explain(&self, ask: Ask) -> Result<Value, AdminError> {
        let explained = self.0.explain(ask).await.map_err(AdminError::new)?;
        Ok(crate::explain::to_json(&explained))
    }
}
