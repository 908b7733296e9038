//! Many tasks push, mount, delete and push again the same few blobs, while collection runs all the time with no grace
//! and no trash window: the hardest weather for the rule that what a manifest names is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use wharf_registry::{Authorized, MountOutcome, PutImage, Registry, RegistryError};
use wharf_types::{Digest, Manifest, MediaType, Reference, RepositoryRef};

use super::house::{House, body};
use super::random::Random;

const REPOSITORIES: [&str; 3] = ["one", "two", "three"];
/// In the metadata, and in files.
const SIZES: [usize; 8] = [10, 11, 12, 5_000, 65_536, 65_537, 65_538, 150_000];
/// Images that one task keeps: few, so that most blobs are named by none, and the collector has work.
const KEPT: usize = 2;

#[derive(Default)]
pub struct Counts {
    pub images: AtomicU64,
    pub deleted: AtomicU64,
    pub mounted: AtomicU64,
    pub uploaded: AtomicU64,
    /// Puts that came after the collector had taken what they name.
    pub refused: AtomicU64,
    pub looked_at: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One task and the images that it alone puts and deletes, so that it knows which exist.
struct Worker {
    number: usize,
    registry: Registry,
    places: Vec<Authorized<RepositoryRef>>,
    blobs: Arc<Vec<(Digest, Bytes)>>,
    random: Random,
    counts: Arc<Counts>,
    /// Repository, manifest, its blobs.
    mine: Vec<(usize, Manifest, Vec<usize>)>,
}

impl Worker {
    async fn work(mut self, steps: usize) -> Vec<(usize, Manifest, Vec<usize>)> {
        for step in 0..steps {
            match self.random.below(10) {
                0..6 if self.mine.len() < KEPT => self.push(step).await,
                0..7 => self.delete().await,
                7 => self.delete_a_blob().await,
                _ => self.look().await,
            }
        }
        self.look().await;
        self.mine
    }

    async fn bring(&mut self, place: usize, blob: usize) {
        let (digest, content) = self.blobs[blob].clone();
        let at = &self.places[place];
        match self.random.below(4) {
            0 => {
                let source = &self.places[self.random.below(self.places.len())];
                if let MountOutcome::Mounted(_) =
                    self.registry.mount_blob(at, &digest, Some(source)).await.unwrap()
                {
                    return count(&self.counts.mounted);
                }
            }
            1 => {
                let upload = self.registry.start_upload(at).await.unwrap();
                let (head, tail) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
                self.registry.append_upload(at, upload.id, None, body(&head)).await.unwrap();
                self.registry.finish_upload(at, upload.id, &[digest], None, Some(body(&tail))).await.unwrap();
                return count(&self.counts.uploaded);
            }
            // As clients do: only what is not there is pushed.
            2 if self.registry.stat_blob(at, &digest).await.is_ok() => return,
            _ => {}
        }
        self.registry.put_blob(at, digest, body(&content)).await.unwrap();
        count(&self.counts.uploaded);
    }

    async fn push(&mut self, step: usize) {
        let place = self.random.below(self.places.len());
        let all: Vec<usize> = (0..self.blobs.len()).collect();
        let named = self.random.some(&all, 1, 3);
        let manifest = self.manifest(&named, step);
        // The collector may take a blob before the manifest is there: then a client pushes again.
        for _ in 0..40 {
            for blob in &named {
                self.bring(place, *blob).await;
            }
            let put = PutImage { manifest: manifest.clone(), digest: None, tags: Vec::new() };
            match self.registry.put_image(&self.places[place], put).await {
                Ok(outcome) => {
                    assert!(outcome.changed);
                    count(&self.counts.images);
                    self.mine.push((place, manifest, named));
                    return;
                }
                Err(RegistryError::LayersNotFound(..)) => count(&self.counts.refused),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn manifest(&self, named: &[usize], step: usize) -> Manifest {
        let descriptors: Vec<_> = named
            .iter()
            .map(|blob| {
                let (digest, content) = &self.blobs[*blob];
                json!({"mediaType": MediaType::OCI_CONFIG, "digest": digest.to_string(), "size": content.len()})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": descriptors[0],
            "layers": descriptors[1..],
            "annotations": {"worker": self.number.to_string(), "step": step.to_string()},
        });
        Manifest::parse(Bytes::from(serde_json::to_vec(&manifest).unwrap()), None).unwrap()
    }

    async fn delete(&mut self) {
        if self.mine.is_empty() {
            return;
        }
        let (place, manifest, _) = self.mine.swap_remove(self.random.below(self.mine.len()));
        let digest = Reference::Digest(Digest::sha256(manifest.bytes()));
        self.registry.delete_reference(&self.places[place], &digest).await.unwrap();
        count(&self.counts.deleted);
    }

    async fn delete_a_blob(&mut self) {
        let digest = self.random.pick(&self.blobs).0;
        let at = self.random.pick(&self.places);
        match self.registry.delete_blob(at, &digest).await {
            Ok(()) | Err(RegistryError::Unsupported(_) | RegistryError::BlobUnknown(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn look(&self) {
        for (place, manifest, named) in &self.mine {
            look_at(&self.registry, &self.places[*place], manifest, named, &self.blobs).await;
            count(&self.counts.looked_at);
        }
    }
}

/// An image that exists is there with every byte it names.
async fn look_at(
    registry: &Registry,
    at: &Authorized<RepositoryRef>,
    manifest: &Manifest,
    named: &[usize],
    blobs: &[(Digest, Bytes)],
) {
    let reference = Reference::Digest(Digest::sha256(manifest.bytes()));
    let pulled = registry.get_manifest(at, &reference, &[]).await.expect("a manifest that was put is there");
    assert_eq!(pulled.bytes, manifest.bytes());
    for blob in named {
        let (digest, content) = &blobs[*blob];
        let head = registry.stat_blob(at, digest).await;
        head.unwrap_or_else(|error| panic!("HEAD of {digest}, which a manifest names: {error:?}"));
        let read = match registry.open_blob(at, digest).await {
            Ok(open) => open.read_all(1 << 20).await,
            Err(error) => Err(error),
        };
        let read = read.unwrap_or_else(|error| panic!("{digest}, which a manifest names: {error:?}"));
        assert_eq!(read, content);
    }
}

/// Lets `workers` tasks take `steps` steps each.
pub async fn run(seed: u64, workers: usize, steps: usize) -> Arc<Counts> {
    let mut house = House::with(|options| {
        options.unreferenced_grace = Duration::ZERO;
        options.trash_window = Duration::ZERO;
    })
    .await;
    let mut places = Vec::new();
    for name in REPOSITORIES {
        places.push(house.create(name, wharf_types::Mutability::Mutable).await);
    }
    let blobs: Vec<(Digest, Bytes)> = SIZES
        .iter()
        .map(|size| Bytes::from_iter((0..*size).map(|at| (at * 13 + size) as u8)))
        .map(|content| (Digest::sha256(&content), content))
        .collect();
    let (blobs, counts, stop) =
        (Arc::new(blobs), Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let collector = tokio::spawn({
        let (registry, clock, stop) = (house.registry.clone(), house.clock.clone(), Arc::clone(&stop));
        async move {
            let (mut links, mut objects) = (0, 0);
            while !stop.load(Ordering::SeqCst) {
                clock.advance(Duration::from_secs(1));
                let report = registry.collect(&()).await.unwrap();
                (links, objects) = (links + report.links_dropped, objects + report.objects_deleted);
                tokio::task::yield_now().await;
            }
            (links, objects)
        }
    });
    let tasks: Vec<_> = (0..workers)
        .map(|number| {
            let worker = Worker {
                number,
                registry: house.registry.clone(),
                places: places.clone(),
                blobs: Arc::clone(&blobs),
                random: Random::new(seed.wrapping_add(number as u64 * 7919)),
                counts: Arc::clone(&counts),
                mine: Vec::new(),
            };
            tokio::spawn(worker.work(steps))
        })
        .collect();
    let mut mine = Vec::new();
    for task in tasks {
        mine.extend(task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    stop.store(true, Ordering::SeqCst);
    let (links, objects) = collector.await.unwrap();
    assert!(links > 0 && objects > 0, "the collector took {links} links and {objects} objects");
    house.restart().await;
    let scrubbed = house.registry.scrub(&()).await.unwrap();
    assert!(scrubbed.is_clean(), "{scrubbed:?}");
    assert_eq!(scrubbed.manifests, mine.len() as u64);
    for (place, manifest, named) in &mine {
        look_at(&house.registry, &places[*place], manifest, named, &blobs).await;
    }
    counts
}
