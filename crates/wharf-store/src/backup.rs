//! A backup of an embedded deployment: a directory laid out like the one it was taken from, without the root key.
//!
//! The metadata is copied first, as of one instant, then every object that it names; objects are never rewritten, so
//! what is copied later is still what the metadata means. The new metadata takes the place of the earlier backup's only
//! when all of that is durable: a backup that breaks off leaves the earlier one whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::meta::objects::{Place, StoredObject};
use crate::meta::{Meta, MetaError, SqliteOptions};
use crate::object::{DiskObjects, ObjectError, ObjectId, ObjectReader, ObjectStore};

/// Says that a directory is a backup, and nothing else.
const MARK: &str = "backup";
/// Is there while a backup is being made.
const INCOMPLETE: &str = "incomplete";
const METADATA: &str = "metadata.sqlite";
const NEW_METADATA: &str = "new-metadata.sqlite";
/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Why a backup cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory holds something else.
    #[error("{} is neither empty nor a backup of this deployment", .0.display())]
    Occupied(PathBuf),
    /// A file of it cannot be read or written.
    #[error("cannot write the backup: {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The metadata cannot be copied, or its copy not be read.
    #[error("cannot copy the metadata")]
    Meta(#[from] MetaError),
    /// An object cannot be copied.
    #[error("cannot copy the objects")]
    Object(#[from] ObjectError),
}

/// A backup that is being made.
pub struct Backup {
    path: PathBuf,
    /// The copy of the metadata. What it names is to be copied.
    pub meta: Meta,
    main: DiskObjects,
    archive: DiskObjects,
    /// An earlier backup broke off here: sizes say nothing about what is on the disk.
    suspect: bool,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was there already.
    Kept,
    /// It was copied: bytes as stored.
    New(u64),
}

impl Backup {
    /// Begins a backup in `path`: an empty or absent directory whose parent is there, or an earlier backup of the same
    /// deployment, which is renewed. Copies the metadata.
    ///
    /// # Errors
    /// [`BackupError::Occupied`] when something else is there.
    pub async fn begin(path: &Path, deployment: &str, meta: &Meta) -> Result<Self, BackupError> {
        let (path, mark) = (path.to_owned(), deployment.to_owned());
        let lay_out = move || -> Result<(PathBuf, bool), BackupError> {
            let suspect = take(&path, &mark)?;
            for name in [NEW_METADATA, "new-metadata.sqlite-wal", "new-metadata.sqlite-shm"] {
                remove(&path.join(name))?;
            }
            Ok((path, suspect))
        };
        let (path, suspect) = blocking(lay_out).await?;
        let copy = path.join(NEW_METADATA);
        meta.copy_to(&copy).await?;
        let root = path.clone();
        let open = move || -> Result<_, BackupError> {
            let main = DiskObjects::open_dir(root.join("objects"))?;
            let archive = DiskObjects::open_dir(root.join("archive"))?;
            Ok((Meta::open_sqlite(&copy, SqliteOptions::default())?, main, archive))
        };
        let (meta, main, archive) = blocking(open).await?;
        for store in [&main, &archive] {
            store.write_deployment_marker(deployment).await?;
        }
        Ok(Self { path, meta, main, archive, suspect })
    }

    fn store(&self, place: Place) -> &DiskObjects {
        match place {
            Place::Main => &self.main,
            Place::Archive => &self.archive,
        }
    }

    /// Copies one object as it is stored, durably.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`] when `from` does not have it.
    pub async fn copy(&self, object: StoredObject, from: &dyn ObjectStore) -> Result<Copied, BackupError> {
        let source = from.open(object.id).await?;
        let target = self.store(object.place);
        if self.has(object, &*source).await? {
            return Ok(Copied::Kept);
        }
        target.delete(object.id).await?;
        let mut writer = target.create(object.id).await?;
        let mut at = 0;
        while at < source.size() {
            let chunk = source.read_at(at, CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            at += chunk.len() as u64;
            writer.append(chunk).await?;
        }
        writer.finish().await?;
        Ok(Copied::New(at))
    }

    /// Whether an earlier backup has the object. Its size tells, unless that backup broke off.
    async fn has(&self, object: StoredObject, source: &dyn ObjectReader) -> Result<bool, BackupError> {
        let there = match self.store(object.place).open(object.id).await {
            Err(ObjectError::NotFound(_)) => return Ok(false),
            there => there?,
        };
        if there.size() != source.size() {
            return Ok(false);
        }
        let mut at = 0;
        while self.suspect && at < source.size() {
            let (old, new) = (there.read_at(at, CHUNK).await?, source.read_at(at, CHUNK).await?);
            if old != new || new.is_empty() {
                return Ok(false);
            }
            at += new.len() as u64;
        }
        Ok(true)
    }

    /// A page of the objects that are in the backup's directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(
        &self,
        place: Place,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<ObjectId>, BackupError> {
        let page = self.store(place).list(after, limit).await?;
        Ok(page.into_iter().map(|(id, _)| id).collect())
    }

    /// Makes what was copied the backup, after which the objects of the earlier one may go.
    ///
    /// # Errors
    /// When it cannot be made durable; the earlier backup is then still the one.
    pub async fn finish(&self) -> Result<(), BackupError> {
        self.meta.close().await;
        let path = self.path.clone();
        blocking(move || {
            let (new, old) = (path.join(NEW_METADATA), path.join(METADATA));
            sync(&new)?;
            // Nobody serves from here, so no log belongs to the database that goes.
            fs::rename(&new, &old).map_err(|source| BackupError::Io { path: old, source })?;
            sync(&path)?;
            remove(&path.join(INCOMPLETE))?;
            sync(&path)
        })
        .await
    }

    /// Removes an object that only an earlier backup named; after [`finish`](Self::finish).
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, place: Place, id: ObjectId) -> Result<(), BackupError> {
        Ok(self.store(place).delete(id).await?)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(MetaError::other("the backup panicked").into()))
}

/// Takes a directory for a backup and marks it. True if an earlier backup broke off in it.
fn take(path: &Path, deployment: &str) -> Result<bool, BackupError> {
    let failed = |source| BackupError::Io { path: path.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let (mark, incomplete) = (path.join(MARK), path.join(INCOMPLETE));
    // A lock means that somebody has served from it since: it is a data directory now.
    let served = path.join("lock").exists();
    match fs::read_to_string(&mark) {
        Ok(text) if text.trim_end() == deployment && !served => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(path).map_err(failed)?.next().is_some() {
                return Err(BackupError::Occupied(path.to_owned()));
            }
            write(&mark, deployment)?;
        }
        Ok(_) => return Err(BackupError::Occupied(path.to_owned())),
        Err(error) => return Err(failed(error)),
    }
    let suspect = incomplete.exists();
    write(&incomplete, "")?;
    sync(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
    Ok(suspect)
}

fn write(path: &Path, text: &str) -> Result<(), BackupError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| BackupError::Io { path: path.to_owned(), source })
}

fn sync(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| BackupError::Io { path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
