//! Backups of an embedded deployment, taken while it serves.

use std::collections::HashSet;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _};
use wharf_store::backup::{Backup, BackupError, Copied};
use wharf_store::meta::objects::{self, ObjectState, Place, StoredObject};
use wharf_store::meta::{MetaError, accounts};
use wharf_store::object::{ObjectError, ObjectId};

use crate::{Progress, Registry, RegistryError};

/// Rows or names read at once.
const PAGE: usize = 500;
/// Objects copied at once: each waits for syncs.
const AT_ONCE: usize = 8;

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BackupReport {
    /// Objects in it that are files.
    pub objects: u64,
    /// Of these, copied now; the others were there.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Objects of the earlier backup that nothing names any more.
    pub removed: u64,
    /// Objects that the metadata names and the store does not have: `scrub` tells more.
    pub missing: Vec<String>,
}

impl Registry {
    /// Makes `to` a backup of everything as of one instant: the metadata, and all objects that it names, the trash and
    /// unfinished uploads included. Requests are served meanwhile; collection waits, so that nothing is removed which is
    /// still to be copied. The root key is not in it.
    ///
    /// # Errors
    /// When `to` is something else than an empty directory or an earlier backup of this deployment, or a store fails.
    pub async fn back_up(&self, to: &Path, progress: &dyn Progress) -> Result<BackupReport, RegistryError> {
        let _collection = self.inner.collector.pause().await;
        let deployment = self.inner.meta.read(accounts::deployment).await.map_err(RegistryError::from)?;
        let deployment = deployment.ok_or_else(|| RegistryError::Internal("no deployment id".to_owned()))?;
        let backup = Backup::begin(to, &deployment, &self.inner.meta).await.map_err(failure)?;
        let copied = self.copy_objects(&backup, progress).await;
        let (mut report, named) = match copied {
            Ok(copied) => copied,
            Err(error) => {
                backup.meta.close().await;
                return Err(error);
            }
        };
        let mut stale = Vec::new();
        for place in [Place::Main, Place::Archive] {
            let mut after = None;
            loop {
                let page = backup.list(place, after, PAGE).await.map_err(failure)?;
                stale.extend(page.iter().filter(|id| !named.contains(id)).map(|id| (place, *id)));
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(*last),
                    _ => break,
                }
            }
        }
        backup.finish().await.map_err(failure)?;
        for (place, id) in stale {
            backup.remove(place, id).await.map_err(failure)?;
            report.removed += 1;
        }
        Ok(report)
    }

    async fn copy_objects(
        &self,
        backup: &Backup,
        progress: &dyn Progress,
    ) -> Result<(BackupReport, HashSet<ObjectId>), RegistryError> {
        let (mut report, mut named) = (BackupReport::default(), HashSet::new());
        let mut after = String::new();
        loop {
            let from = after.clone();
            let page = backup.meta.read(move |tx| objects::page_stored(tx, &from, PAGE)).await;
            let page = page.map_err(|error: MetaError| RegistryError::from(error))?;
            let Some((last, _)) = page.last() else { return Ok((report, named)) };
            after = last.id.to_string();
            named.extend(page.iter().map(|(object, _)| object.id));
            let mut copies = futures_util::stream::iter(page)
                .map(|(object, state)| self.copy_object(backup, object, state))
                .buffer_unordered(AT_ONCE);
            while let Some(fate) = copies.try_next().await? {
                match fate {
                    Fate::Kept => report.objects += 1,
                    Fate::Copied(bytes) => {
                        report.objects += 1;
                        report.copied += 1;
                        report.copied_bytes += bytes;
                    }
                    Fate::Empty => {}
                    Fate::Missing(id) => report.missing.push(id.to_string()),
                }
                progress.report("objects", report.objects, 0);
            }
        }
    }

    async fn copy_object(
        &self,
        backup: &Backup,
        object: StoredObject,
        state: ObjectState,
    ) -> Result<Fate, RegistryError> {
        if self.inner.stop.is_cancelled() {
            return Err(RegistryError::Internal("wharf stopped before the backup was complete".to_owned()));
        }
        match backup.copy(object, &**self.store(object.place)?).await {
            Ok(Copied::Kept) => Ok(Fate::Kept),
            Ok(Copied::New(bytes)) => Ok(Fate::Copied(bytes)),
            Err(BackupError::Object(ObjectError::NotFound(id))) => match state {
                ObjectState::Live => Ok(Fate::Missing(id)),
                _ => Ok(Fate::Empty),
            },
            Err(error) => Err(failure(error)),
        }
    }
}

/// What became of an object.
enum Fate {
    /// The backup has it from earlier.
    Kept,
    /// Copied, so many bytes.
    Copied(u64),
    /// An upload that nobody finished, without bytes yet; or what a failed one left.
    Empty,
    /// It ought to be there.
    Missing(ObjectId),
}

fn failure(error: BackupError) -> RegistryError {
    match error {
        BackupError::Meta(error) => error.into(),
        BackupError::Object(error) => error.into(),
        BackupError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            RegistryError::StorageFull
        }
        BackupError::Occupied(_) => RegistryError::Unsupported(error.to_string()),
        BackupError::Io { ref source, .. } => RegistryError::Internal(format!("{error}: {source}")),
    }
}
