//! Objects as files: `objects/<2 hex>/<32 hex>` below one directory.
//!
//! A file is created under its final name with `O_EXCL` and never renamed. Renaming is the usual way to replace
//! something whole; here nothing is ever replaced: an id is random, its row is committed before the file exists, no
//! row makes it readable before [`ObjectWriter::finish`] has returned, and no later object takes the same
//! name. A half-written file is therefore known to its row alone. That saves a rename and its ordering against the
//! directory sync. The 256 directories are made and synced once, when the store is first used.

mod direct;
mod handles;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::buffers::Buffer;
use super::fs::{Fs, FsFile, RealFs, SyncPoint, read_cached_at};
use super::{ObjectError, ObjectId, ObjectReader, ObjectStore, ObjectWriter, WriterState};
use handles::Handles;
use writer::DiskWriter;

/// Written into the file `layout`; another text there means a directory that this program must not touch.
const LAYOUT: &str = "wharf objects 1\n";
/// Open files kept for the next reader.
const OPEN_FILES: usize = 512;

/// Keeps objects as files in a directory. Cheap to clone. One process at a time may use a directory.
#[derive(Clone)]
pub struct DiskObjects(Arc<Disk>);

impl std::fmt::Debug for DiskObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskObjects").field("root", &self.0.root).finish_non_exhaustive()
    }
}

struct Disk {
    root: PathBuf,
    fs: Arc<dyn Fs>,
    handles: Handles,
    writers: Mutex<HashMap<ObjectId, Weak<Slot>>>,
}

/// The right to write one object. A later resume or delete takes it away.
struct Slot {
    revoked: AtomicBool,
    /// Held during each file operation, so that the one who revokes can wait for the last of them.
    busy: Mutex<()>,
}

impl DiskObjects {
    /// Opens the store in `root`, laying it out on first use; creates `root` if its parent exists. Blocks: for
    /// start-up. Fails with [`ObjectError::Layout`] when the directory belongs to something else.
    pub fn open_dir(root: impl Into<PathBuf>) -> Result<Self, ObjectError> {
        let root = root.into();
        if let Err(error) = RealFs.create_dir(&root)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(ObjectError::from_io("creating the objects' directory", error));
        }
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            RealFs
                .sync_dir(parent, SyncPoint::Root)
                .map_err(|error| ObjectError::from_io("syncing the parent directory", error))?;
        }
        Self::with_fs(root, Arc::new(RealFs))
    }

    /// The same on other file operations; `root` exists. For tests.
    pub fn with_fs(root: impl Into<PathBuf>, fs: Arc<dyn Fs>) -> Result<Self, ObjectError> {
        let disk = Disk {
            root: root.into(),
            fs,
            handles: Handles::new(OPEN_FILES),
            writers: Mutex::new(HashMap::new()),
        };
        disk.lay_out()?;
        Ok(Self(Arc::new(disk)))
    }
}

/// Runs file operations where they may block.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    act: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(ObjectError::Io { doing, source: io::Error::other(stopped) }),
    }
}

impl Disk {
    fn directory(&self, first: u8) -> PathBuf {
        self.root.join("objects").join(format!("{first:02x}"))
    }

    fn directory_of(&self, id: ObjectId) -> PathBuf {
        self.directory(id.as_bytes()[0])
    }

    fn path(&self, id: ObjectId) -> PathBuf {
        self.directory_of(id).join(id.to_string())
    }

    /// Makes the directories if the layout file does not say that they are there. The layout file comes last, so a
    /// crash on the way repeats everything.
    fn lay_out(&self) -> Result<(), ObjectError> {
        let failed = |error| ObjectError::from_io("laying out the objects' directory", error);
        let path = self.root.join("layout");
        match self.read_text(&path).map_err(failed)? {
            Some(text) if text == LAYOUT => return Ok(()),
            Some(text) => return Err(ObjectError::Layout(text)),
            None => {}
        }
        let objects = self.root.join("objects");
        self.make_dir(&objects).map_err(failed)?;
        for first in 0..=u8::MAX {
            self.make_dir(&self.directory(first)).map_err(failed)?;
        }
        self.fs.sync_dir(&objects, SyncPoint::FanOut).map_err(failed)?;
        self.replace_text(&path, LAYOUT, SyncPoint::Layout, SyncPoint::Root).map_err(failed)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match self.fs.create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Reads a file of at most 1 KiB; `None` if there is none.
    fn read_text(&self, path: &Path) -> io::Result<Option<String>> {
        let file = match self.fs.open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome?,
        };
        let mut text = vec![0; 1024];
        let len = file.read_at(&mut text, 0)?;
        text.truncate(len);
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Replaces a small file whole: written beside, synced, renamed, directory synced.
    fn replace_text(&self, path: &Path, text: &str, data: SyncPoint, entry: SyncPoint) -> io::Result<()> {
        let beside = path.with_extension("new");
        match self.fs.remove(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.fs.create_new(&beside)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync(data)?;
        self.fs.rename(&beside, path)?;
        self.fs.sync_dir(&self.root, entry)
    }

    fn writers(&self) -> MutexGuard<'_, HashMap<ObjectId, Weak<Slot>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to write `id` from whoever has it, waits for their last file operation, and runs `act`
    /// holding the new right.
    fn take_slot<T>(
        &self,
        id: ObjectId,
        act: impl FnOnce() -> Result<T, ObjectError>,
    ) -> Result<(Arc<Slot>, T), ObjectError> {
        let slot = Arc::new(Slot { revoked: AtomicBool::new(false), busy: Mutex::new(()) });
        let (before, busy) = {
            let mut writers = self.writers();
            let before = writers.insert(id, Arc::downgrade(&slot)).and_then(|slot| slot.upgrade());
            if let Some(before) = &before {
                before.revoked.store(true, Ordering::SeqCst);
            }
            // Locked before anybody else can find the slot: a third comer waits for us, and so for `before` too.
            (before, slot.busy.lock().unwrap_or_else(PoisonError::into_inner))
        };
        if let Some(before) = before {
            drop(before.busy.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let outcome =
            if slot.revoked.load(Ordering::SeqCst) { Err(ObjectError::Superseded(id)) } else { act() };
        drop(busy);
        match outcome {
            Ok(value) => Ok((slot, value)),
            Err(error) => {
                self.release_slot(id, &slot);
                Err(error)
            }
        }
    }

    fn release_slot(&self, id: ObjectId, slot: &Arc<Slot>) {
        let mut writers = self.writers();
        if writers.get(&id).is_some_and(|current| std::ptr::eq(current.as_ptr(), Arc::as_ptr(slot))) {
            writers.remove(&id);
        }
    }

    fn create(&self, id: ObjectId) -> Result<(Arc<Slot>, Arc<dyn FsFile>), ObjectError> {
        let file = self.fs.create_new(&self.path(id)).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ObjectError::AlreadyExists(id),
            _ => ObjectError::from_io("creating an object", error),
        })?;
        self.take_slot(id, || Ok(file))
    }

    fn resume(&self, id: ObjectId, expected: u64) -> Result<(Arc<Slot>, Arc<dyn FsFile>), ObjectError> {
        let taken = self.take_slot(id, || {
            let file = self.open_file(id, true)?;
            let failed = |error| ObjectError::from_io("resuming an object", error);
            let found = file.size().map_err(failed)?;
            if found < expected {
                return Err(ObjectError::Short { id, expected, found });
            }
            file.set_len(expected).map_err(failed)?;
            Ok(file)
        })?;
        self.handles.forget(id);
        Ok(taken)
    }

    fn open_file(&self, id: ObjectId, write: bool) -> Result<Arc<dyn FsFile>, ObjectError> {
        self.fs.open(&self.path(id), write).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ObjectError::NotFound(id),
            _ => ObjectError::from_io("opening an object", error),
        })
    }

    fn open(&self, id: ObjectId) -> Result<Arc<DiskReader>, ObjectError> {
        let epoch = self.handles.epoch();
        let file = self.open_file(id, false)?;
        let size = file.size().map_err(|error| ObjectError::from_io("opening an object", error))?;
        let reader = Arc::new(DiskReader { file, size });
        self.handles.keep(id, &reader, epoch);
        Ok(reader)
    }

    fn delete(&self, id: ObjectId) -> Result<(), ObjectError> {
        let failed = |error| ObjectError::from_io("deleting an object", error);
        let taken = self.take_slot(id, || match self.fs.remove(&self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        });
        self.handles.forget(id);
        let (slot, ()) = taken?;
        self.release_slot(id, &slot);
        // Also when the file was missing: an earlier delete may have failed between removal and sync.
        self.fs.sync_dir(&self.directory_of(id), SyncPoint::RemovedEntry).map_err(failed)
    }

    fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<(ObjectId, u64)>, ObjectError> {
        let failed = |error| ObjectError::from_io("listing objects", error);
        let mut page = Vec::new();
        for first in after.map_or(0, |id| id.as_bytes()[0])..=u8::MAX {
            if page.len() >= limit {
                break;
            }
            // The smallest ids of this directory that fit: its largest is dropped when one too many is in.
            let mut smallest = std::collections::BinaryHeap::new();
            let room = limit - page.len();
            self.fs
                .for_each_name(&self.directory(first), &mut |name| {
                    let Ok(id) = name.parse::<ObjectId>() else { return };
                    if id.as_bytes()[0] == first && after.is_none_or(|after| id > after) {
                        smallest.push(id);
                        if smallest.len() > room {
                            smallest.pop();
                        }
                    }
                })
                .map_err(failed)?;
            for id in smallest.into_sorted_vec() {
                match self.fs.size(&self.path(id)) {
                    Ok(size) => page.push((id, size)),
                    // Deleted meanwhile; the page may then be short before the end, so keep a place for it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => page.push((id, 0)),
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(page)
    }
}

impl ObjectStore for DiskObjects {
    fn create(&self, id: ObjectId) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("creating an object", move || {
            let (slot, file) = disk.create(id)?;
            Ok(Box::new(DiskWriter::new(disk, id, slot, file, 0)) as Box<dyn ObjectWriter>)
        })
        .boxed()
    }

    fn resume(
        &self,
        id: ObjectId,
        _: WriterState,
        stored_len: u64,
    ) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("resuming an object", move || {
            let (slot, file) = disk.resume(id, stored_len)?;
            Ok(Box::new(DiskWriter::new(disk, id, slot, file, stored_len)) as Box<dyn ObjectWriter>)
        })
        .boxed()
    }

    fn open(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<dyn ObjectReader>, ObjectError>> {
        if let Some(reader) = self.0.handles.get(id) {
            return ready(Ok(reader as Arc<dyn ObjectReader>)).boxed();
        }
        let disk = Arc::clone(&self.0);
        blocking("opening an object", move || Ok(disk.open(id)? as Arc<dyn ObjectReader>)).boxed()
    }

    fn delete(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("deleting an object", move || disk.delete(id)).boxed()
    }

    fn list(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(ObjectId, u64)>, ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("listing objects", move || disk.list(after, limit)).boxed()
    }

    fn deployment_marker(&self) -> BoxFuture<'_, Result<Option<String>, ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("reading the deployment marker", move || {
            disk.read_text(&disk.root.join("deployment"))
                .map_err(|error| ObjectError::from_io("reading the deployment marker", error))
        })
        .boxed()
    }

    fn write_deployment_marker<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        let (disk, text) = (Arc::clone(&self.0), deployment.to_owned());
        blocking("writing the deployment marker", move || {
            disk.replace_text(&disk.root.join("deployment"), &text, SyncPoint::Marker, SyncPoint::MarkerEntry)
                .map_err(|error| ObjectError::from_io("writing the deployment marker", error))
        })
        .boxed()
    }

    fn free_space(&self) -> BoxFuture<'_, Result<Option<u64>, ObjectError>> {
        let disk = Arc::clone(&self.0);
        blocking("asking for free space", move || {
            let free = disk.fs.free_space(&disk.root);
            free.map(Some).map_err(|error| ObjectError::from_io("asking for free space", error))
        })
        .boxed()
    }
}

/// An open file of an object. Its size is that at opening; writers make the cache forget it when they finish.
struct DiskReader {
    file: Arc<dyn FsFile>,
    size: u64,
}

impl ObjectReader for DiskReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, ObjectError>> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = Buffer::take(len.min(rest));
        if self.file.file().is_some_and(|file| read_cached_at(file, buffer.as_mut(), offset)) {
            return ready(Ok(buffer.freeze())).boxed();
        }
        let file = Arc::clone(&self.file);
        blocking("reading an object", move || {
            let read = file
                .read_at(buffer.as_mut(), offset)
                .map_err(|error| ObjectError::from_io("reading an object", error))?;
            Ok(buffer.freeze().slice(..read))
        })
        .boxed()
    }

    fn file(&self) -> Option<&File> {
        self.file.file()
    }
}

#[cfg(test)]
mod tests;
