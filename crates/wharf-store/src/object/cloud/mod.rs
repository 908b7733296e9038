//! Objects in a bucket: Amazon S3 and what speaks like it (MinIO, Garage, Ceph, R2), Google Cloud Storage, Azure Blob
//! Storage.
//!
//! Below the prefix of the address lie
//! - `objects/<32 hex>`: finished objects, each made whole by one PUT or by completing one multipart upload;
//! - `writing/<32 hex>/…`: what belongs to an unfinished one: `tail-…`, the bytes of a checkpoint that are less than a
//!   part, and `upload-…`, empty, whose name holds the id of a multipart upload, so that deleting the object aborts it;
//! - `layout` and `deployment`: the form of all this, and whose it is.
//!
//! **Several nodes** write to one bucket, and buckets have no locks; some ignore conditional requests. What keeps a
//! late writer from doing harm is: a key belongs to one upload forever; who resumes an upload has moved its row first
//! ([`ObjectStore::is_shared`]), so nothing that an earlier writer finishes can become a blob; and what was resumed is
//! completed only through the multipart upload that the row names, which can happen once, with the parts that its
//! completer names by their ETags. Where that has happened and nobody recorded it (the node died), the acknowledged
//! parts are copied into a new multipart upload, and the row is moved to name that one, before anybody goes on.

mod failure;
mod location;
mod profile;
mod reader;
mod rights;
mod state;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStoreExt as _, PutPayload};

use super::{ObjectError, ObjectId, ObjectReader, ObjectStore, ObjectWriter, WriterState};
pub use location::{CloudUrl, CloudUrlError};
use reader::CloudReader;
use rights::Rights;
use state::State;
use writer::CloudWriter;

/// Bytes of every part of a multipart upload but the last: alike, as some stores want. One is filled while another is
/// sent, so an upload holds at most two.
pub const PART_SIZE: usize = 8 << 20;
/// Parts that a multipart upload may have. So an object has at most 83 GB.
const MAX_PARTS: usize = 10_000;
/// The text of the object `layout`; another text there means a prefix that this program must not touch.
const LAYOUT: &str = "wharf objects 1\n";
/// Objects whose leftovers are looked for at once when many are deleted.
const DELETED_AT_ONCE: usize = 8;
/// What the library does not repeat is repeated if no more time than this has gone by.
const REPEATED: Duration = Duration::from_secs(2);
/// First part of the name of a marker for a multipart upload.
const UPLOAD: &str = "upload-";

/// What is needed of a bucket.
trait Bucket: object_store::ObjectStore + MultipartStore {}

impl<T: object_store::ObjectStore + MultipartStore> Bucket for T {}

/// Keeps objects in a bucket. Cheap to clone. Any number of processes may use a bucket at once.
#[derive(Clone)]
pub struct CloudObjects(Arc<Cloud>);

impl std::fmt::Debug for CloudObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudObjects").field("prefix", &self.0.prefix.as_ref()).finish_non_exhaustive()
    }
}

struct Cloud {
    bucket: Arc<dyn Bucket>,
    prefix: Path,
    rights: Rights,
}

impl CloudObjects {
    /// Opens the store at an address, laying it out on first use: so it is known at once whether the bucket can be
    /// reached, read and written. Fails with [`ObjectError::Layout`] when the prefix belongs to something else.
    pub async fn open(url: &CloudUrl) -> Result<Self, ObjectError> {
        Self::over(url.bucket()?, url.prefix().clone()).await
    }

    async fn over(bucket: Arc<dyn Bucket>, prefix: Path) -> Result<Self, ObjectError> {
        let cloud = Cloud { bucket, prefix, rights: Rights::default() };
        let layout = cloud.path(["layout"]);
        match cloud.read_text(&layout, "reading the layout of the bucket").await? {
            Some(text) if text == LAYOUT => {}
            Some(text) => return Err(ObjectError::Layout(text)),
            None => cloud.put(&layout, LAYOUT.into(), "laying out the bucket").await?,
        }
        Ok(Self(Arc::new(cloud)))
    }
}

impl Cloud {
    fn path<const N: usize>(&self, names: [&str; N]) -> Path {
        self.prefix.parts().chain(names.map(PathPart::from)).collect()
    }

    fn object_path(&self, id: ObjectId) -> Path {
        self.path(["objects", &id.to_string()])
    }

    /// Where something that belongs to an unfinished object is.
    fn aside_path(&self, id: ObjectId, name: &str) -> Path {
        self.path(["writing", &id.to_string(), name])
    }

    async fn put(&self, path: &Path, payload: PutPayload, doing: &'static str) -> Result<(), ObjectError> {
        self.bucket.put(path, payload).await.map(drop).map_err(|error| failure::of_store(doing, error))
    }

    /// Size and ETag of an object, if it is there.
    async fn head(&self, id: ObjectId) -> Result<Option<(u64, Option<String>)>, ObjectError> {
        match self.bucket.head(&self.object_path(id)).await {
            Ok(found) => Ok(Some((found.size, found.e_tag))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure::of_store("looking for an object", error)),
        }
    }

    /// Reads a small text.
    async fn read_text(&self, path: &Path, doing: &'static str) -> Result<Option<String>, ObjectError> {
        let failed = |error| failure::of_store(doing, error);
        match self.bucket.get(path).await {
            Ok(found) if found.meta.size > 1024 => Err(failure::invalid(doing, "it is not a short text")),
            Ok(found) => {
                let bytes = found.bytes().await.map_err(failed)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Begins a multipart upload for an object and notes its id where [`leftovers`](Self::leftovers) finds it.
    async fn begin_upload(&self, id: ObjectId) -> Result<String, ObjectError> {
        let failed = |error| failure::of_store("beginning a multipart upload", error);
        let path = self.object_path(id);
        let upload = self.repeat(|| self.bucket.create_multipart(&path)).await.map_err(failed)?;
        if let Some(name) = upload_marker(&upload) {
            let path = self.aside_path(id, &name);
            self.put(&path, PutPayload::new(), "noting a multipart upload").await?;
        }
        Ok(upload)
    }

    /// Repeats what the library does not: requests to delete, and answers that break off in the middle.
    async fn repeat<T, F>(&self, act: impl Fn() -> F) -> Result<T, object_store::Error>
    where
        F: Future<Output = Result<T, object_store::Error>>,
    {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(50));
        loop {
            match act().await {
                Err(object_store::Error::Generic { .. }) if began.elapsed() < REPEATED => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
    }

    /// Aborts the multipart uploads of an object and returns the keys of all that belongs to it unfinished.
    async fn leftovers(&self, id: ObjectId) -> Result<Vec<Path>, ObjectError> {
        let failed = |error| failure::of_store("looking for what an upload left", error);
        let prefix = self.path(["writing", &id.to_string()]);
        let list = || self.bucket.list(Some(&prefix)).map_ok(|entry| entry.location).try_collect::<Vec<_>>();
        let found = self.repeat(list).await.map_err(failed)?;
        let path = self.object_path(id);
        for upload in found.iter().filter_map(Path::filename).filter_map(upload_of_marker) {
            match self.repeat(|| self.bucket.abort_multipart(&path, &upload)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failure::of_store("aborting a multipart upload", error)),
            }
        }
        Ok(found)
    }

    /// Removes keys, many with one request where the store can. Missing ones are fine.
    async fn remove(&self, paths: Vec<Path>) -> Result<(), ObjectError> {
        let remove = || async {
            let mut removed = self.bucket.delete_stream(stream::iter(paths.clone()).map(Ok).boxed());
            let mut outcome = Ok(());
            while let Some(path) = removed.next().await {
                match path {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            outcome
        };
        self.repeat(remove).await.map_err(|error| failure::of_store("deleting objects", error))
    }

    /// Removes what belongs to an unfinished object and is not needed any more, without anybody waiting for it. What
    /// fails here goes with the object.
    fn forget(self: &Arc<Self>, id: ObjectId, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let cloud = Arc::clone(self);
        tokio::spawn(async move {
            let paths = names.iter().map(|name| cloud.aside_path(id, name)).collect();
            if let Err(error) = cloud.remove(paths).await {
                tracing::debug!(%error, object.id = %id, "what an upload left in the bucket stays for now");
            }
        });
    }

    /// Begins another multipart upload where somebody has completed the one of `state`, with the acknowledged parts
    /// taken from the object that was made. Each must get the ETag it had: these are the bytes that were acknowledged.
    async fn reopen(
        self: Arc<Self>,
        id: ObjectId,
        state: WriterState,
    ) -> Result<Option<WriterState>, ObjectError> {
        let doing = "copying an upload that was completed before";
        let Some(mut state) = State::decode(&state) else { return Ok(None) };
        let _right = self.rights.take(id).await;
        let Some((size, etag)) = self.head(id).await? else { return Ok(None) };
        if etag.is_some() && etag == state.replaces {
            return Ok(None);
        }
        let expected = state.part_size.saturating_mul(state.parts.len() as u64);
        if size < expected || etag.is_none() {
            return Err(ObjectError::Short { id, expected, found: size });
        }
        let (path, upload) = (self.object_path(id), self.begin_upload(id).await?);
        for (number, known) in state.parts.iter().enumerate() {
            let start = number as u64 * state.part_size;
            let failed = |error| failure::of_object(id, doing, error);
            let bytes = self.bucket.get_range(&path, start..start + state.part_size).await.map_err(failed)?;
            let copied =
                writer::put_part(Arc::clone(&self), path.clone(), upload.clone(), number, bytes.into()).await;
            if copied.map_err(failed)?.content_id != *known || writer::md5_of(known).is_none() {
                return Err(failure::invalid(doing, "it has other content"));
            }
        }
        state.outdated.extend(upload_marker(&state.upload));
        (state.upload, state.replaces) = (upload, etag);
        Ok(Some(state.encode()))
    }

    async fn delete(&self, ids: &[ObjectId]) -> Result<(), ObjectError> {
        // First, so that no writer of this process adds anything.
        let mut rights = Vec::with_capacity(ids.len());
        for id in ids {
            rights.push(self.rights.take(*id).await);
        }
        let mut paths: Vec<Path> = ids.iter().map(|id| self.object_path(*id)).collect();
        let found: Vec<_> = ids.iter().map(|id| self.leftovers(*id)).collect();
        let mut found = stream::iter(found).buffer_unordered(DELETED_AT_ONCE);
        while let Some(leftovers) = found.try_next().await? {
            paths.extend(leftovers);
        }
        self.remove(paths).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<(ObjectId, u64)>, ObjectError> {
        let page = || self.list_once(after, limit);
        let page = self.repeat(page).await.map_err(|error| failure::of_store("listing objects", error))?;
        let ids = after.into_iter().chain(page.iter().map(|(id, _)| *id));
        match ids.is_sorted_by(|one, next| one < next) {
            true => Ok(page),
            false => Err(failure::invalid("listing objects", "the store does not list keys in order")),
        }
    }

    async fn list_once(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, u64)>, object_store::Error> {
        let prefix = self.path(["objects"]);
        let mut listed = match after {
            Some(after) => self.bucket.list_with_offset(Some(&prefix), &self.object_path(after)),
            None => self.bucket.list(Some(&prefix)),
        };
        let mut page = Vec::new();
        while page.len() < limit {
            let Some(entry) = listed.try_next().await? else { break };
            if let Some(id) = entry.location.filename().and_then(|name| name.parse().ok()) {
                page.push((id, entry.size));
            }
        }
        Ok(page)
    }

    /// Begins an object anew whose earlier bytes nobody acknowledged.
    async fn start_over(self: Arc<Self>, id: ObjectId) -> Result<CloudWriter, ObjectError> {
        let right = self.rights.take(id).await;
        let mut left = self.leftovers(id).await?;
        let was_there = self.head(id).await?.is_some();
        if left.is_empty() && !was_there {
            return Err(ObjectError::NotFound(id));
        }
        left.push(self.object_path(id));
        self.remove(left).await?;
        Ok(CloudWriter::new(self, id, right))
    }

    async fn resume(
        self: Arc<Self>,
        id: ObjectId,
        state: WriterState,
        stored_len: u64,
    ) -> Result<CloudWriter, ObjectError> {
        if state.0.is_empty() && stored_len == 0 {
            return self.start_over(id).await;
        }
        let doing = "resuming an object";
        let state =
            State::decode(&state).ok_or_else(|| failure::invalid(doing, "the writer's state is not one"))?;
        let found = state.len();
        if found < stored_len {
            return Err(ObjectError::Short { id, expected: stored_len, found });
        }
        if found > stored_len || state.part_size != PART_SIZE as u64 {
            return Err(failure::invalid(doing, "the writer's state is of another length"));
        }
        let right = self.rights.take(id).await;
        Ok(CloudWriter::resumed(self, id, right, state))
    }
}

/// The name of the object that notes a multipart upload, where uploads have ids.
fn upload_marker(upload: &str) -> Option<String> {
    (!upload.is_empty()).then(|| format!("{UPLOAD}{}", hex::encode(upload)))
}

fn upload_of_marker(name: &str) -> Option<String> {
    String::from_utf8(hex::decode(name.strip_prefix(UPLOAD)?).ok()?).ok()
}

impl ObjectStore for CloudObjects {
    fn create(&self, id: ObjectId) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let cloud = Arc::clone(&self.0);
        async move {
            if cloud.head(id).await?.is_some() {
                return Err(ObjectError::AlreadyExists(id));
            }
            let right = cloud.rights.take(id).await;
            Ok(Box::new(CloudWriter::new(cloud, id, right)) as Box<dyn ObjectWriter>)
        }
        .boxed()
    }

    fn resume(
        &self,
        id: ObjectId,
        state: WriterState,
        stored_len: u64,
    ) -> BoxFuture<'_, Result<Box<dyn ObjectWriter>, ObjectError>> {
        let resumed = Arc::clone(&self.0).resume(id, state, stored_len);
        async move { Ok(Box::new(resumed.await?) as Box<dyn ObjectWriter>) }.boxed()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn reopen(
        &self,
        id: ObjectId,
        state: WriterState,
    ) -> BoxFuture<'_, Result<Option<WriterState>, ObjectError>> {
        Arc::clone(&self.0).reopen(id, state).boxed()
    }

    fn settled(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move {
            let left = self.0.leftovers(id).await?;
            self.0.remove(left).await
        }
        .boxed()
    }

    fn open(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<dyn ObjectReader>, ObjectError>> {
        let cloud = Arc::clone(&self.0);
        async move { Ok(Arc::new(CloudReader::open(cloud, id).await?) as Arc<dyn ObjectReader>) }.boxed()
    }

    fn delete(&self, id: ObjectId) -> BoxFuture<'_, Result<(), ObjectError>> {
        async move { self.0.delete(&[id]).await }.boxed()
    }

    fn delete_many<'a>(&'a self, ids: &'a [ObjectId]) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.0.delete(ids).boxed()
    }

    fn list(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(ObjectId, u64)>, ObjectError>> {
        self.0.list(after, limit).boxed()
    }

    fn deployment_marker(&self) -> BoxFuture<'_, Result<Option<String>, ObjectError>> {
        async move { self.0.read_text(&self.0.path(["deployment"]), "reading the deployment marker").await }
            .boxed()
    }

    fn write_deployment_marker<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        let payload = Bytes::copy_from_slice(deployment.as_bytes()).into();
        async move {
            self.0.put(&self.0.path(["deployment"]), payload, "writing the deployment marker").await
        }
        .boxed()
    }

    fn free_space(&self) -> BoxFuture<'_, Result<Option<u64>, ObjectError>> {
        std::future::ready(Ok(None)).boxed()
    }
}

#[cfg(test)]
mod tests;
