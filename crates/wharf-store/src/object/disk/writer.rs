//! Writes one object's file.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::direct::Direct;
use super::{Disk, Slot, blocking};
use crate::object::fs::{FsFile, SyncPoint};
use crate::object::{ObjectError, ObjectId, ObjectWriter, WriterState};

/// The writer of one object's file, as long as nobody takes its slot.
pub(super) struct DiskWriter {
    file: Arc<Target>,
    position: u64,
    /// The file's name is durable; once is enough.
    entry_synced: bool,
    /// Set before each operation and cleared when it succeeded, so that a failed one, or one whose future was
    /// dropped half-way, leaves it set.
    poisoned: bool,
}

struct Target {
    disk: Arc<Disk>,
    id: ObjectId,
    slot: Arc<Slot>,
    file: Arc<dyn FsFile>,
    direct: Mutex<Direct>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.disk.release_slot(self.id, &self.slot);
    }
}

impl Target {
    /// Runs a file operation unless the right to write is gone, and keeps it from going meanwhile.
    fn act(
        &self,
        doing: &'static str,
        act: impl FnOnce(&dyn FsFile) -> std::io::Result<()>,
    ) -> Result<(), ObjectError> {
        let _busy = self.slot.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if self.slot.revoked.load(Ordering::SeqCst) {
            return Err(ObjectError::Superseded(self.id));
        }
        act(&*self.file).map_err(|error| ObjectError::from_io(doing, error))
    }

    fn direct(&self) -> MutexGuard<'_, Direct> {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes behind the first `position`.
    fn write(&self, chunk: &[u8], position: u64) -> Result<(), ObjectError> {
        let open = || self.disk.fs.open_direct(&self.disk.path(self.id));
        self.act("writing an object", |file| self.direct().write(file, open, chunk, position))
    }

    /// Syncs the bytes, of which there are `position`, and the name after them if asked. In this order a crash between
    /// leaves no name without bytes.
    fn sync(&self, position: u64, entry_too: bool) -> Result<(), ObjectError> {
        self.act("syncing an object", |file| {
            self.direct().flush(file, position)?;
            file.sync(SyncPoint::ObjectData)?;
            if entry_too {
                self.disk.fs.sync_dir(&self.disk.directory_of(self.id), SyncPoint::ObjectEntry)?;
            }
            Ok(())
        })
    }
}

impl DiskWriter {
    pub(super) fn new(
        disk: Arc<Disk>,
        id: ObjectId,
        slot: Arc<Slot>,
        file: Arc<dyn FsFile>,
        position: u64,
    ) -> Self {
        let file = Arc::new(Target { disk, id, slot, file, direct: Mutex::default() });
        // Who goes on behind bytes has them from a checkpoint, which has synced the name too.
        Self { file, position, entry_synced: position > 0, poisoned: false }
    }

    fn begin(&mut self) -> Result<(), ObjectError> {
        if self.poisoned {
            return Err(ObjectError::Poisoned(self.file.id));
        }
        self.poisoned = true;
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), ObjectError> {
        self.begin()?;
        let (file, position, entry_too) = (Arc::clone(&self.file), self.position, !self.entry_synced);
        blocking("syncing an object", move || file.sync(position, entry_too)).await?;
        self.entry_synced = true;
        self.poisoned = false;
        Ok(())
    }
}

impl ObjectWriter for DiskWriter {
    fn append(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move {
            self.begin()?;
            let (file, position, len) = (Arc::clone(&self.file), self.position, chunk.len() as u64);
            blocking("writing an object", move || file.write(&chunk, position)).await?;
            self.position += len;
            self.poisoned = false;
            Ok(())
        }
        .boxed()
    }

    fn append_blocking(&mut self, chunk: &[u8]) -> Option<Result<(), ObjectError>> {
        let written = self.begin().and_then(|()| self.file.write(chunk, self.position));
        if written.is_ok() {
            self.position += chunk.len() as u64;
            self.poisoned = false;
        }
        Some(written)
    }

    fn checkpoint(&mut self) -> BoxFuture<'_, Result<WriterState, ObjectError>> {
        async move { self.sync().await.map(|()| WriterState::default()) }.boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move {
            self.sync().await?;
            // A reader opened while the object was being written knows a smaller size.
            self.file.disk.handles.forget(self.file.id);
            Ok(())
        }
        .boxed()
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, Result<(), ObjectError>> {
        async move {
            blocking("deleting an object", move || {
                // Whoever took the object over keeps it.
                self.file.act("deleting an object", |_| Ok(()))?;
                self.file.disk.delete(self.file.id)
            })
            .await
        }
        .boxed()
    }
}
