//! Reads one object by ranged GETs.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt as _};

use super::{Cloud, failure};
use crate::object::{ObjectError, ObjectId, ObjectReader};

/// Bytes fetched when an object is opened. They come with its size, so a small object costs one request, and the first
/// byte of a large one no second round trip.
const FIRST: u64 = 260 * 1024;
/// Most bytes that a sequential reader should ask for at once.
const WINDOW: usize = 2 << 20;

pub(super) struct CloudReader {
    cloud: Arc<Cloud>,
    id: ObjectId,
    path: Path,
    size: u64,
    first: Bytes,
}

impl CloudReader {
    pub(super) async fn open(cloud: Arc<Cloud>, id: ObjectId) -> Result<Self, ObjectError> {
        let path = cloud.object_path(id);
        let failed = |error| failure::of_object(id, "opening an object", error);
        let options = GetOptions { range: Some(GetRange::Bounded(0..FIRST)), ..GetOptions::default() };
        let (size, first) = match cloud.bucket.get_opts(&path, options).await {
            Ok(found) => (found.meta.size, found.bytes().await.map_err(failed)?),
            Err(error @ object_store::Error::NotFound { .. }) => return Err(failed(error)),
            // An empty object has no range that could be fetched.
            Err(error) => match cloud.bucket.head(&path).await.map_err(failed)?.size {
                0 => (0, Bytes::new()),
                _ => return Err(failed(error)),
            },
        };
        Ok(Self { cloud, id, path, size, first })
    }
}

impl ObjectReader for CloudReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn window(&self) -> usize {
        WINDOW
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, ObjectError>> {
        async move {
            let end = offset.saturating_add(len as u64).min(self.size);
            if offset >= end {
                return Ok(Bytes::new());
            }
            if end <= self.first.len() as u64 {
                return Ok(self.first.slice(offset as usize..end as usize));
            }
            let failed = |error| failure::of_object(self.id, "reading an object", error);
            let read = self.cloud.bucket.get_range(&self.path, offset..end).await.map_err(failed)?;
            match read.len() as u64 == end - offset {
                true => Ok(read),
                false => Err(failure::invalid("reading an object", "the store sent fewer bytes than it has")),
            }
        }
        .boxed()
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
