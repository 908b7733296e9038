//! The few file operations that [`super::DiskObjects`] needs, as a seam: the real ones, and in
//! [`super::testing::PowerLossFs`] a disk that forgets what was not synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Each place where something is made durable. Tests leave out one at a time to show that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncPoint {
    /// The bytes of an object.
    ObjectData,
    /// The entry of a new object in its directory.
    ObjectEntry,
    /// The removal of an object from its directory.
    RemovedEntry,
    /// The 256 directories of the fan-out.
    FanOut,
    /// The entries `objects` and `layout` in the store's directory.
    Root,
    /// The bytes of the layout file.
    Layout,
    /// The bytes of the deployment marker.
    Marker,
    /// The entry of the deployment marker.
    MarkerEntry,
}

/// File operations of a disk. All block.
pub trait Fs: Send + Sync + 'static {
    /// Creates a file that must not exist (`O_EXCL`), private to the user (0600), for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// Opens an existing file for reading, and for writing too if `write`.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn FsFile>>;
    /// Opens an existing file for writing past the page cache (`O_DIRECT`): places and lengths of writes, in the file and
    /// in memory, are then multiples of 4096. Nothing is durable before a sync all the same. Fails where the file
    /// system cannot do it.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates one directory, private to the user (0700).
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path, point: SyncPoint) -> io::Result<()>;
    /// Calls `each` with the name of every file in a directory, in no order.
    fn for_each_name(&self, path: &Path, each: &mut dyn FnMut(&str)) -> io::Result<()>;
    /// Size of a file.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// Bytes that an unprivileged user may still write.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All operations block.
pub trait FsFile: Send + Sync {
    /// Fills as much of `buffer` as there are bytes from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and size durable.
    fn sync(&self, point: SyncPoint) -> io::Result<()>;
    /// The file's size.
    fn size(&self) -> io::Result<u64>;
    /// The operating system's file, if there is one.
    fn file(&self) -> Option<&File>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn FsFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(write).open(path)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        Ok(Arc::new(OpenOptions::new().write(true).custom_flags(direct).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn sync_dir(&self, path: &Path, _: SyncPoint) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn for_each_name(&self, path: &Path, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            if let Some(name) = entry?.file_name().to_str() {
                each(name);
            }
        }
        Ok(())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl FsFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self, _: SyncPoint) -> io::Result<()> {
        // Size changes are part of `fdatasync`; times are not, and nobody reads them.
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn file(&self) -> Option<&File> {
        Some(self)
    }
}

/// Reads until the buffer is full or the file ends; returns the bytes read.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match FileExt::read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Fills the buffer only if all of it is in memory already; never waits for the disk. `false` says that the
/// caller must read in a place where waiting is allowed (also at the end of the file, and where the file system
/// cannot tell).
pub fn read_cached_at(file: &File, buffer: &mut [u8], offset: u64) -> bool {
    let expected = buffer.len();
    let mut slices = [io::IoSliceMut::new(buffer)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    matches!(rustix::io::preadv2(file, &mut slices, offset, flags), Ok(read) if read == expected)
}
