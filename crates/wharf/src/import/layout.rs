//! A directory in OCI's image layout (image-spec 1.1, "Image Layout").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use wharf_types::{Digest, Manifest, MediaType};

use super::registry::{RegistryError, verified};

/// The annotation that has a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Bytes of `index.json` and of a manifest.
const LIMIT: u64 = 16 << 20;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// An image layout.
pub struct Layout {
    directory: PathBuf,
    index: Vec<Entry>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

/// A manifest that `index.json` lists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: JsonDigest,
    media_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A digest in JSON.
struct JsonDigest(Digest);

impl<'de> Deserialize<'de> for JsonDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Layout {
    /// Reads `oci-layout` and `index.json`.
    ///
    /// # Errors
    /// If it is no layout.
    pub async fn open(directory: &Path) -> Result<Self, RegistryError> {
        let layout = Self { directory: directory.to_owned(), index: Vec::new() };
        layout.read("oci-layout").await?;
        let index = layout.read("index.json").await?;
        let index: Index = serde_json::from_slice(&index).map_err(|error| RegistryError::File {
            path: directory.join("index.json").display().to_string(),
            source: error.into(),
        })?;
        Ok(Self { index: index.manifests, ..layout })
    }

    /// The manifests listed, each with its tag if it has one. Tools write `v1` or `name:v1`.
    pub fn roots(&self) -> impl Iterator<Item = (Digest, Option<&str>)> {
        self.index.iter().map(|entry| {
            let name = entry.annotations.get(REF_NAME);
            let tag = name.map(|name| name.rsplit_once(':').map_or(&**name, |(_, tag)| tag));
            (entry.digest.0, tag)
        })
    }

    /// A manifest, verified; `None` if there is no such.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, RegistryError> {
        let bytes = match self.read(&place(digest)).await {
            Ok(bytes) => bytes,
            Err(RegistryError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let listed = self.index.iter().find(|entry| entry.digest.0 == *digest);
        let media_type = listed.and_then(|entry| MediaType::parse(entry.media_type.as_deref()?));
        let media_type = media_type.or_else(|| MediaType::parse(guess(&bytes)));
        verified(digest, bytes, media_type.as_ref()).map(Some)
    }

    /// A blob from a position on.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn blob(&self, digest: &Digest, from: u64) -> Result<FileBody, RegistryError> {
        let path = self.directory.join(place(digest));
        let opening = async {
            let mut file = File::open(&path).await?;
            file.seek(std::io::SeekFrom::Start(from)).await?;
            Ok(file)
        };
        match opening.await {
            Ok(file) => Ok(FileBody { path, file }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    async fn read(&self, name: &str) -> Result<Bytes, RegistryError> {
        let path = self.directory.join(name);
        let reading = async {
            let mut bytes = Vec::new();
            File::open(&path).await?.take(LIMIT).read_to_end(&mut bytes).await?;
            Ok(bytes.into())
        };
        reading.await.map_err(|source| failed(&path, source))
    }
}

/// The type of a child that says none inside: its parent knows, and its members tell it as well.
fn guess(bytes: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    struct Members {
        manifests: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_slice(bytes) {
        Ok(Members { manifests: Some(_) }) => MediaType::OCI_INDEX,
        _ => MediaType::OCI_MANIFEST,
    }
}

/// The rest of a file.
pub struct FileBody {
    path: PathBuf,
    file: File,
}

impl FileBody {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let mut piece = vec![0; PIECE];
        match self.file.read(&mut piece).await {
            Ok(0) => Ok(None),
            Ok(read) => Ok(Some(Bytes::from(piece).slice(..read))),
            Err(source) => Err(failed(&self.path, source)),
        }
    }
}

/// Where a digest's bytes are.
fn place(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

fn failed(path: &Path, source: std::io::Error) -> RegistryError {
    RegistryError::File { path: path.display().to_string(), source }
}
