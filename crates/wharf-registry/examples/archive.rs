//! How fast content moves between the two stores: 16 images with a layer of 32 MiB each, sealed, to the archive and back,
//! everything copied, synced, read back and authenticated. Both stores are directories of the system's temporary directory.
//!
//! `cargo run --release -p wharf-registry --example archive`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use wharf_iam::decision::Need;
use wharf_registry::{
    Authorized, Clock, EncryptionType, ImageId, NewRepository, Options, PutImage, Registry, StorageClass,
};
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::{DiskObjects, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::{AccountId, Digest, Manifest, Mutability, Region, RepositoryRef};

const IMAGES: usize = 16;
const MIB: usize = 32;
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let (account, region): (AccountId, Region) =
        ("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
    let meta = Meta::open_sqlite(&dir.path().join("meta.db"), SqliteOptions::default()).unwrap();
    let store =
        |name: &str| Arc::new(DiskObjects::open_dir(dir.path().join(name)).unwrap()) as Arc<dyn ObjectStore>;
    let (options, root) =
        (Options::new(account, region.clone()), RootKey::from_key(&DataKey::generate().unwrap()));
    let (main, archive) = (store("objects"), Some(store("archive")));
    let registry =
        Registry::open_with_archive(options, Clock::System, meta, main, archive, root).await.unwrap();
    registry.ensure_default_account().await.unwrap();
    let at = repository(&registry, account, region).await;
    for number in 0..IMAGES {
        push(&registry, &at, number).await;
    }
    for _ in 0..ROUNDS {
        for class in [StorageClass::Archive, StorageClass::Standard] {
            for number in 0..IMAGES {
                let id = ImageId { digest: None, tag: Some(format!("v{number}")) };
                registry.update_image_storage_class(&at, &id, class).await.unwrap();
            }
            let (began, cpu) = (Instant::now(), processor_seconds());
            registry.run_due_jobs().await.unwrap();
            let (took, cpu) = (began.elapsed().as_secs_f64(), processor_seconds() - cpu);
            let moved = (IMAGES * MIB) as f64;
            println!(
                "to {}: {:.0} MiB/s, {:.2} ms of CPU a MiB",
                class.as_str(),
                moved / took,
                cpu * 1000.0 / moved
            );
            registry.collect(&()).await.unwrap();
        }
    }
    registry.close().await;
}

async fn repository(registry: &Registry, account: AccountId, region: Region) -> Authorized<RepositoryRef> {
    let root = registry.root_caller(account).await.unwrap();
    let repository = RepositoryRef::private(account, region, "team/api".parse().unwrap());
    let needs = [Need::new("ecr:CreateRepository", repository.arn(), account)];
    let at = registry.authorize(&root, repository, &needs).await.unwrap();
    let new = NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::Aes256,
        kms_key: None,
        tags: Vec::new(),
    };
    registry.create_repository(&at, new).await.unwrap();
    at
}

async fn push(registry: &Registry, at: &Authorized<RepositoryRef>, number: usize) {
    let mut content = vec![0_u8; MIB << 20];
    content[..8].copy_from_slice(&number.to_be_bytes());
    let layer = put(registry, at, Bytes::from(content)).await;
    let config = put(registry, at, Bytes::from(format!("{{\"of\":{number}}}"))).await;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":10}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{}}}]}}"#,
        MIB << 20
    );
    let manifest = Manifest::parse(Bytes::from(text), None).unwrap();
    let tags = vec![format!("v{number}").parse().unwrap()];
    registry.put_image(at, PutImage { manifest, digest: None, tags }).await.unwrap();
}

async fn put(registry: &Registry, at: &Authorized<RepositoryRef>, content: Bytes) -> Digest {
    let digest = Digest::sha256(&content);
    let pieces: Vec<_> = (0..content.len())
        .step_by(1 << 18)
        .map(|from| Ok(content.slice(from..content.len().min(from + (1 << 18)))))
        .collect();
    registry.put_blob(at, digest, stream::iter(pieces).boxed()).await.unwrap();
    digest
}

/// Processor time of this process until now, from `/proc/self/stat` (hundredths of seconds).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |place: usize| fields.split_whitespace().nth(place).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
