//! The two stores of a deployment, wherever they are.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::task::spawn_blocking;
use wharf_store::meta::{Meta, PostgresOptions, PostgresUrl, SqliteOptions};
use wharf_store::object::{CloudObjects, CloudUrl, DiskObjects, ObjectStore};

use super::arguments::Place;
use crate::control::DataDir;

/// Metadata and blobs, and the directories that this process owns meanwhile.
pub struct Stores {
    /// The metadata.
    pub meta: Meta,
    /// The blobs.
    pub objects: Arc<dyn ObjectStore>,
    /// The data directory, where both are in one: it has keys too.
    pub directory: Option<PathBuf>,
    _owned: Vec<DataDir>,
}

impl Stores {
    /// Opens what `places` say: one directory, or metadata and blobs. `create`: it may be empty yet.
    ///
    /// # Errors
    /// If a place cannot be opened, is being served, or (unless `create`) holds nothing.
    pub async fn open(places: &[Place], create: bool) -> anyhow::Result<Self> {
        let mut owned: Vec<DataDir> = Vec::new();
        let mut own = |directory: &Path| {
            if !create && !directory.join("metadata.sqlite").exists() && !directory.join("objects").exists() {
                bail!("{} holds no data of wharf's", directory.display());
            }
            let known = std::fs::canonicalize(directory).ok();
            if let Some(data) = owned.iter().find(|data| Some(data.path()) == known.as_deref()) {
                return Ok(data.path().to_owned());
            }
            let data = DataDir::take(directory, create).context("stop the server first")?;
            let path = data.path().to_owned();
            owned.push(data);
            Ok(path)
        };
        let (metadata, blobs) = match places {
            [one] => (one, one),
            [metadata, blobs] => (metadata, blobs),
            _ => bail!("expected one place, or two"),
        };
        let meta_directory = match metadata {
            Place::Directory(directory) => Some(own(directory)?),
            Place::Url(_) => None,
        };
        let blob_directory = match blobs {
            Place::Directory(directory) => Some(own(directory)?),
            Place::Url(_) => None,
        };
        let meta = match (&meta_directory, metadata) {
            (None, Place::Url(url)) => open_postgres(url).await?,
            (directory, _) => {
                open_sqlite(directory.clone().unwrap_or_default().join("metadata.sqlite")).await?
            }
        };
        let objects: Arc<dyn ObjectStore> = match (&blob_directory, blobs) {
            (None, Place::Url(url)) => {
                let url: CloudUrl =
                    url.parse().with_context(|| format!("no place for blobs: {}", scheme(url)))?;
                let opened = CloudObjects::open(&url).await;
                Arc::new(opened.with_context(|| format!("cannot use the bucket {url}"))?)
            }
            (directory, _) => {
                let root = directory.clone().unwrap_or_default().join("objects");
                let opened = spawn_blocking(move || DiskObjects::open_dir(root)).await?;
                Arc::new(opened.context("cannot open the blobs")?)
            }
        };
        let directory = meta_directory.filter(|directory| Some(directory) == blob_directory.as_ref());
        Ok(Self { meta, objects, directory, _owned: owned })
    }

    /// Closes the metadata.
    pub async fn close(self) {
        self.meta.close().await;
    }
}

/// Of a URL, what may be shown: the rest may have a password.
fn scheme(url: &str) -> &str {
    url.split("://").next().unwrap_or_default()
}

async fn open_postgres(url: &str) -> anyhow::Result<Meta> {
    let url: PostgresUrl = url.parse().with_context(|| format!("no place for metadata: {}", scheme(url)))?;
    let shown = url.to_string();
    spawn_blocking(move || Meta::open_postgres(PostgresOptions::new(url)))
        .await?
        .with_context(|| format!("cannot open the metadata at {shown}"))
}

async fn open_sqlite(path: PathBuf) -> anyhow::Result<Meta> {
    spawn_blocking(move || {
        // For its mode, as the server makes it.
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        anyhow::Ok(Meta::open_sqlite(&path, SqliteOptions::default())?)
    })
    .await?
    .context("cannot open the metadata")
}
