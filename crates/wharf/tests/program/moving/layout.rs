//! Images made here, and image layouts of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wharf_types::Digest;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A directory in OCI's image layout.
pub struct Layout {
    pub directory: PathBuf,
    entries: Vec<Value>,
}

/// A manifest that was written.
#[derive(Clone)]
pub struct Written {
    pub digest: String,
    descriptor: Value,
}

impl Layout {
    pub fn new(directory: PathBuf) -> Self {
        std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let layout = Self { directory, entries: Vec::new() };
        std::fs::write(layout.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        layout.write_index();
        layout
    }

    /// The source as the command is told it.
    pub fn source(&self) -> String {
        format!("layout:{}", self.directory.display())
    }

    pub fn path_of(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "/"))
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::sha256(bytes).to_string();
        std::fs::write(self.path_of(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn manifest(&self, media_type: &str, manifest: &Value) -> Written {
        // As nobody else would write it: the bytes have to stay.
        let descriptor = self.blob(media_type, format!("{manifest:#}\n").as_bytes());
        Written { digest: descriptor["digest"].as_str().unwrap().to_owned(), descriptor }
    }

    /// An image of these layers; the configuration is its own.
    pub fn image(&self, name: &str, layers: &[&[u8]], subject: Option<&Written>) -> Written {
        let config = self.blob("application/vnd.oci.image.config.v1+json", name.as_bytes());
        let layer = |bytes: &&[u8]| self.blob("application/vnd.oci.image.layer.v1.tar", bytes);
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers});
        if let Some(subject) = subject {
            manifest["subject"] = subject.descriptor.clone();
            manifest["artifactType"] = json!("application/x.signature");
        }
        self.manifest(IMAGE, &manifest)
    }

    pub fn index(&self, children: &[&Written]) -> Written {
        let children: Vec<&Value> = children.iter().map(|child| &child.descriptor).collect();
        self.manifest(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}))
    }

    /// Lists a manifest, under a tag or without.
    pub fn list(&mut self, tag: Option<&str>, manifest: &Written) {
        let mut entry = manifest.descriptor.clone();
        if let Some(tag) = tag {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        }
        self.entries.push(entry);
        self.write_index();
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        std::fs::write(self.directory.join("index.json"), index.to_string()).unwrap();
    }
}

/// Bytes that are found out if they end up elsewhere.
pub fn bytes(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 4096 + at) as u8 ^ seed).collect()
}

/// A layout with what there is: two tags on one image, an index of two images, a signature of the index, an image
/// without a tag, and layers that images share.
pub fn assorted(directory: &Path) -> (Layout, Vec<(&'static str, String)>) {
    let mut layout = Layout::new(directory.to_owned());
    let (base, large) = (bytes(1, 100_000), bytes(2, 3_000_000));
    let one = layout.image("one", &[&base, b"one"], None);
    let two = layout.image("two", &[&base, &large], None);
    let list = layout.index(&[&one, &two]);
    let signature = layout.image("signature", &[b"signed"], Some(&list));
    let other = layout.image("other", &[&large], None);
    layout.list(Some("v1"), &one);
    layout.list(Some("latest"), &one);
    layout.list(Some("all"), &list);
    layout.list(None, &signature);
    layout.list(None, &other);
    let all = [("one", one), ("two", two), ("list", list), ("signature", signature), ("other", other)];
    (layout, all.into_iter().map(|(name, written)| (name, written.digest)).collect())
}
