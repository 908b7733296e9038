//! Mounting: a link to content that another repository of the same key domain holds. No byte is copied.

use wharf_store::meta::{Tx, blobs};
use wharf_types::{Digest, RepositoryRef};

use crate::repositories::{hold_repository, stored};
use crate::{Authorized, BlobInfo, Registry, RegistryError};

/// Repositories that an automatic mount considers.
const CANDIDATES: usize = 16;

/// What became of a mount.
#[derive(Clone, Debug)]
pub enum MountOutcome {
    /// The blob is the target's now.
    Mounted(BlobInfo),
    /// It has to be uploaded.
    NotMounted,
}

impl Registry {
    /// Links the target to a blob of `source`, which the face has checked the caller may read. Mounts only within
    /// one key domain, only where the account's `BLOB_MOUNTING` is enabled, and in the `ecr` dialect only what a
    /// manifest of the source names.
    ///
    /// # Errors
    /// `RepositoryNotFound` for the target; `Kms` when its key may not be used. Whatever is the matter with the source
    /// is [`MountOutcome::NotMounted`].
    pub async fn mount_blob(
        &self,
        target: &Authorized<RepositoryRef>,
        digest: &Digest,
        source: Option<&Authorized<RepositoryRef>>,
    ) -> Result<MountOutcome, RegistryError> {
        let repository = self.repository(target).await?;
        let Some(source) = source else { return Ok(MountOutcome::NotMounted) };
        if !self.blob_mounting_enabled(&repository.name.registry).await? {
            return Ok(MountOutcome::NotMounted);
        }
        let Some(source) = self.find_repository(source.target()).await? else {
            return Ok(MountOutcome::NotMounted);
        };
        if source.domain.id != repository.domain.id {
            return Ok(MountOutcome::NotMounted);
        }
        self.inner.keys.check_domain(&repository.domain)?;
        let needs_manifest = self.inner.options.dialect.mount_needs_manifest();
        let (text, now) = (digest.to_string(), self.inner.clock.now().as_micros());
        let mounted = self
            .inner
            .meta
            .write(move |tx| {
                hold_repository(tx, &repository)?;
                // Locked first, so that what the source's link says next stays true until the commit.
                let Some((_, size)) = blobs::hold(tx, repository.domain.id, &text)? else { return Ok(None) };
                // A mount that is refused leaves everything as it was, the grace of the source's link too.
                if needs_manifest && !blobs::is_referenced(tx, source.id, &text)? {
                    return Ok(None);
                }
                if !blobs::refresh(tx, source.id, &text, now)? {
                    return Ok(None);
                }
                let already = blobs::link(tx, repository.id, repository.domain.id, &text, now)?;
                Ok::<_, RegistryError>(Some((size, already)))
            })
            .await?;
        Ok(match mounted {
            Some((size, already_existed)) => {
                MountOutcome::Mounted(BlobInfo { digest: *digest, size, already_existed })
            }
            None => MountOutcome::NotMounted,
        })
    }

    /// Repositories of the target's key domain that hold a blob, for a mount without a source: at most 16, in order
    /// of name. The face mounts from the first that the caller may read. None where such mounts are off.
    ///
    /// # Errors
    /// `RepositoryNotFound` for the target.
    pub async fn mount_candidates(
        &self,
        target: &Authorized<RepositoryRef>,
        digest: &Digest,
    ) -> Result<Vec<RepositoryRef>, RegistryError> {
        let repository = self.repository(target).await?;
        let registry = repository.name.registry.clone();
        if !self.inner.options.dialect.automatic_mount() || !self.blob_mounting_enabled(&registry).await? {
            return Ok(Vec::new());
        }
        let (id, domain_id, text) = (repository.id, repository.domain.id, digest.to_string());
        let read = move |tx: &mut Tx<'_>| blobs::holders(tx, domain_id, &text, id, CANDIDATES);
        let names = self.inner.meta.read_quick(read).await;
        let names = names.map_err(RegistryError::from)?;
        names.iter().map(|name| Ok(registry.repository(stored("repository name", name)?))).collect()
    }
}
