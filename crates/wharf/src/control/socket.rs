//! Where the socket is. Its address has room for some hundred bytes, a data directory's path may be longer: then the
//! directory is opened and named through `/proc/self/fd`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "control.sock";
/// `sun_path` has 108 bytes on Linux and 104 elsewhere, a zero at the end included.
const LONGEST: usize = 103;

/// Binds the socket of a data directory that this process owns. A socket left behind by a killed process is replaced.
pub(super) fn bind(directory: &Path) -> io::Result<UnixListener> {
    let full = directory.join(NAME);
    match std::fs::remove_file(&full) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(directory, |path| UnixListener::bind(path))?;
    std::fs::set_permissions(&full, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the owner of a data directory.
pub(super) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::of(directory)?;
    UnixStream::connect(&short.path).await
}

fn with_short_path<T>(directory: &Path, run: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let short = ShortPath::of(directory)?;
    run(&short.path)
}

/// A path that fits, and the open directory that it goes through, if any.
struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl ShortPath {
    fn of(directory: &Path) -> io::Result<Self> {
        let full = directory.join(NAME);
        if full.as_os_str().len() <= LONGEST {
            return Ok(Self { path: full, _directory: None });
        }
        let opened = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()));
        Ok(Self { path, _directory: Some(opened) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn directories_with_short_and_long_paths_have_sockets_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        for depth in [1, 150] {
            let directory = parent.path().join("d".repeat(depth));
            std::fs::create_dir(&directory).unwrap();
            drop(bind(&directory).unwrap());
            let listener = bind(&directory).unwrap();
            let mode = std::fs::metadata(directory.join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let (connected, accepted) = tokio::join!(connect(&directory), listener.accept());
            connected.unwrap();
            accepted.unwrap();
        }
    }
}
