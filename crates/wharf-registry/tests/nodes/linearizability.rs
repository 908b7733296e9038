//! Tags written and read through several nodes at once: what was answered, in an order that a single register allows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wharf_registry::{ImageId, RegistryError};
use wharf_types::{Digest, Mutability};

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

crate::on_every_engine!(
    tags_are_registers_across_nodes,
);
