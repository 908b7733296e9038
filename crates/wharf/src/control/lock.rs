//! One process owns a data directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A data directory that this process owns for as long as the value lives; the system frees it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it.
    #[error("data directory {} is in use by another wharf", .0.display())]
    Busy(PathBuf),
    /// It cannot be made or locked.
    #[error("cannot use data directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Takes a directory, making it (0700) if `create` says so.
    ///
    /// # Errors
    /// [`LockError::Busy`] if another process has it.
    pub fn take(path: &Path, create: bool) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        if create {
            make_durably(path).map_err(failed)?;
        }
        let path = fs::canonicalize(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LockError::Busy(path)),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a directory and those above it, and their names durable: what is acknowledged later is lost with any of them.
/// An earlier start may have made the directory and lost power before it was durable, so its name is synced every time.
fn make_durably(path: &Path) -> io::Result<()> {
    let absent = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // The canonical path has a parent also for `data`, `.` and links.
    let path = fs::canonicalize(path)?;
    for parent in path.ancestors().skip(1).take(absent.max(1)) {
        match File::open(parent) {
            // May be entered though not read, and was not made by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => opened?.sync_all()?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        assert!(matches!(DataDir::take(&path, false), Err(LockError::Io { .. })));
        let owned = DataDir::take(&path, true).unwrap();
        assert!(matches!(DataDir::take(&path, true), Err(LockError::Busy(_))));
        drop(owned);
        DataDir::take(&path, false).unwrap();
    }
}
