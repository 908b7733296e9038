//! Files of the user's that are changed as a whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source }
    }
}

/// The text of a file; `None` if there is no such file.
///
/// # Errors
/// If it cannot be read, or is no UTF-8.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path, error)),
    }
}

/// Puts `text` in the place of a file, which nobody sees half-written and nobody but its owner can read (0600).
/// Missing directories are made (0700). A link is followed, so that it goes on being one.
///
/// # Errors
/// If it cannot be written; the file is then what it was.
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |error| FileError::new("write", path, error);
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{}.new", std::process::id()));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &target)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_for_its_owner_only_and_links_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("a/b/real"), directory.path().join("link"));
        replace(&real, "one").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, "two").unwrap();
        assert_eq!(read(&real).unwrap().as_deref(), Some("two"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(real.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(read(&directory.path().join("none")).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        replace(&file, "kept").unwrap();
        let error = replace(&file.join("below"), "x").unwrap_err();
        assert!(error.to_string().starts_with("cannot write ") && error.to_string().ends_with("file/below"));
        assert_eq!(read(&file).unwrap().as_deref(), Some("kept"));
    }
}
