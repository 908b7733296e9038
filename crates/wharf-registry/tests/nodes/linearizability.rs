//! Tags written and read through several nodes at once: what was answered, in an order that a single register allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_registry::{ImageId, PutImage, RegistryError};
use wharf_types::{Digest, Manifest, Mutability};

use crate::cluster::{At, Cluster, Node};
use crate::history::{Event, Operation, is_linearizable};

const IMAGES: u64 = 24;
const TAGS: [&str; 2] = ["latest", "stable"];

/// Operations of all clients on all tags, with instants of one counter.
#[derive(Clone, Default)]
struct Recorder {
    clock: Arc<AtomicU64>,
    histories: Arc<[Mutex<Vec<Operation>>; 2]>,
}

impl Recorder {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, tag: usize, called: u64, event: Event) {
        let operation = Operation { event, called, answered: self.now() };
        self.histories[tag].lock().unwrap().push(operation);
    }

    /// The answer was lost.
    fn lost(&self, tag: usize, called: u64, event: Event) {
        let operation = Operation { event, called, answered: u64::MAX };
        self.histories[tag].lock().unwrap().push(operation);
    }
}

/// What an operation on a server that may be away answers: nothing, where that is not known.
fn answered<T>(outcome: Result<T, RegistryError>) -> Option<Result<T, RegistryError>> {
    match outcome {
        Err(RegistryError::Meta(_) | RegistryError::Internal(_)) => None,
        outcome => Some(outcome),
    }
}

/// Points the tag at one image after the other, each once, and reads in between, whatever happens to the server.
async fn stubborn_client(
    node: Node,
    at: At,
    recorder: Recorder,
    images: Vec<(u64, Manifest)>,
    all: Vec<Digest>,
    done: Arc<AtomicU64>,
) {
    for (value, manifest) in images {
        let called = recorder.now();
        let put = PutImage { manifest, digest: None, tags: vec![TAGS[0].parse().unwrap()] };
        match answered(node.put_image(&at, put).await) {
            Some(outcome) => {
                outcome.unwrap();
                recorder.note(0, called, Event::Write(Some(value)));
            }
            // It may have happened, or may yet.
            None => recorder.lost(0, called, Event::Write(Some(value))),
        }
        for _ in 0..2 {
            let called = recorder.now();
            let Some(read) = answered(node.pull(&at, TAGS[0]).await) else { continue };
            let read = match read {
                Ok(digest) => Some(all.iter().position(|known| *known == digest).unwrap() as u64),
                Err(RegistryError::ManifestUnknown) => None,
                Err(error) => panic!("{error}"),
            };
            recorder.note(0, called, Event::Read(read));
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tags_stay_registers_while_the_database_crashes() {
    let Some(cluster) = Cluster::on_a_server().await else { return };
    let nodes: [Node; 3] = cluster.nodes().await;
    let at = nodes[0].create("team/app", Mutability::Mutable).await;
    let (mut all, mut manifests) = (Vec::new(), Vec::new());
    for value in 0..IMAGES {
        let manifest = nodes[0].image(&at, &value.to_string()).await;
        manifests.push(manifest.clone());
        all.push(nodes[0].put(&at, manifest, Some(&format!("keep{value}"))).await.unwrap().digest);
    }
    let (recorder, done) = (Recorder::default(), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let images: Vec<_> = (0..IMAGES)
            .filter(|value| value % 3 == number as u64)
            .map(|value| (value, manifests[value as usize].clone()))
            .collect();
        let client =
            stubborn_client(node.clone(), at.clone(), recorder.clone(), images, all.clone(), done.clone());
        clients.push(tokio::spawn(client));
    }
    let cluster = Arc::new(cluster);
    for after in [IMAGES / 4, IMAGES / 2] {
        while done.load(Ordering::SeqCst) < after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let crashing = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || crashing.restart_server()).await.unwrap();
    }
    for client in clients {
        client.await.unwrap();
    }
    let history = recorder.histories[0].lock().unwrap();
    assert!(is_linearizable(&history), "{history:#?}");
    let acknowledged = history.iter().filter(|operation| operation.answered != u64::MAX).count();
    assert!(acknowledged > IMAGES as usize, "{acknowledged} of {}", history.len());
}

/// Writes each of its images once, and reads in between, through one node.
async fn client(node: Node, at: At, recorder: Recorder, images: Vec<(u64, Digest)>, all: Vec<Digest>) {
    for (value, digest) in images {
        let tag = (value / 2 % 2) as usize;
        let called = recorder.now();
        let manifest = node.manifest(&at, &digest.to_string()).await.unwrap();
        let manifest = wharf_types::Manifest::parse(manifest.bytes.clone(), None).unwrap();
        node.put(&at, manifest, Some(TAGS[tag])).await.unwrap();
        recorder.note(tag, called, Event::Write(Some(value)));
        if value % 8 == 5 {
            let called = recorder.now();
            let id = ImageId { digest: None, tag: Some(TAGS[tag].to_owned()) };
            // Where somebody else took it away first, that it is gone was true then.
            let (deleted, _) = node.delete_images(&at, &[id]).await.unwrap();
            match deleted.is_empty() {
                true => recorder.note(tag, called, Event::Read(None)),
                false => recorder.note(tag, called, Event::Write(None)),
            }
        }
        for tag in [tag, 1 - tag] {
            let called = recorder.now();
            let read = match node.pull(&at, TAGS[tag]).await {
                Ok(digest) => Some(all.iter().position(|known| *known == digest).unwrap() as u64),
                Err(RegistryError::ManifestUnknown) => None,
                Err(error) => panic!("{error}"),
            };
            recorder.note(tag, called, Event::Read(read));
        }
    }
}

async fn tags_are_registers_across_nodes(cluster: Cluster) {
    let nodes: [Node; 3] = cluster.nodes().await;
    let at = nodes[0].create("team/app", Mutability::Mutable).await;
    let mut all = Vec::new();
    for value in 0..IMAGES {
        // Kept by a tag of its own: an image goes with its last tag.
        all.push(nodes[0].push(&at, &value.to_string(), Some(&format!("keep{value}"))).await);
    }
    let recorder = Recorder::default();
    let mut clients = Vec::new();
    for (number, node) in nodes.iter().cycle().take(6).enumerate() {
        let images: Vec<_> = (0..IMAGES).filter(|value| value % 6 == number as u64).collect();
        let images = images.into_iter().map(|value| (value, all[value as usize])).collect();
        let client = client(node.clone(), at.clone(), recorder.clone(), images, all.clone());
        clients.push(tokio::spawn(client));
    }
    for client in clients {
        client.await.unwrap();
    }
    for (tag, history) in TAGS.iter().zip(&*recorder.histories) {
        let history = history.lock().unwrap();
        assert!(history.len() > IMAGES as usize, "{tag}: {}", history.len());
        assert!(is_linearizable(&history), "{tag}: {history:#?}");
    }
}

crate::on_every_engine!(tags_are_registers_across_nodes,);
