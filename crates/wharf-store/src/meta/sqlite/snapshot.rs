//! A copy of the whole embedded database as of one instant, made beside the writer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{SqliteOptions, open_copier};
use crate::meta::error::MetaError;

/// Copies the database at `from` into the new file `to` (0600), durably but for its name in the directory. One read
/// transaction: what commits meanwhile is not in the copy, and the log cannot start over before it ends. Blocks.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), MetaError> {
    let failed = |error: io::Error| MetaError::Io(format!("{}: {error}", to.display()).into());
    // Made here for its mode; SQLite takes an empty file.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let name = to.to_str().ok_or_else(|| MetaError::other(format!("{} is not UTF-8", to.display())))?;
    let conn = open_copier(from, &SqliteOptions::default())?;
    conn.execute("VACUUM INTO $1", [name])?;
    File::open(to).and_then(|file| file.sync_all()).map_err(failed)
}
