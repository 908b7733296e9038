//! What a client knows of the registry: what was acknowledged to it, and the one request it has under way.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Add;
use std::sync::{Arc, Mutex};

use crate::content::{Blob, Image};

/// The repositories of the clients; even ones use the first and mount from the second, odd ones the other way.
pub const REPOSITORIES: [&str; 2] = ["kill/one", "kill/two"];
/// The repository with immutable tags, about which all clients contend.
pub const FIXED: &str = "kill/fixed";
/// How much of what is gone is looked for again.
const REMEMBERED: usize = 12;

/// A client's images and tags. No other client touches them, but all share blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub images: BTreeMap<String, Arc<Image>>,
    pub tags: BTreeMap<String, String>,
}

/// A change of a client's state that happens wholly or not at all.
#[derive(Clone, Debug)]
pub enum Change {
    Put { image: Arc<Image>, tag: Option<String> },
    DeleteImage(String),
    DeleteTag(String),
}

impl State {
    pub fn after(&self, change: &Change) -> Self {
        let mut state = self.clone();
        match change {
            Change::Put { image, tag } => {
                state.images.insert(image.digest.clone(), image.clone());
                if let Some(tag) = tag {
                    state.tags.insert(tag.clone(), image.digest.clone());
                }
            }
            Change::DeleteImage(digest) => {
                state.images.remove(digest);
                state.tags.retain(|_, tagged| tagged != digest);
            }
            Change::DeleteTag(tag) => {
                state.tags.remove(tag);
            }
        }
        state
    }

    /// Whether an index of this client names the image.
    pub fn is_child(&self, digest: &str) -> bool {
        self.images.values().any(|image| image.children.iter().any(|child| child == digest))
    }
}

/// An upload that was begun.
#[derive(Clone, Debug)]
pub struct Upload {
    pub location: String,
    pub blob: Blob,
    /// Bytes that were acknowledged.
    pub acknowledged: usize,
    /// Bytes that were sent, acknowledged or not.
    pub sent: usize,
    /// Whether its end was asked for: finished or cancelled, it may be gone.
    pub ending: bool,
}

/// Everything of one client.
pub struct Ledger {
    pub number: usize,
    /// Whether blobs that are there may be taken for granted, as clients do; not if the collector is this quick.
    pub trusts_head: bool,
    pub state: State,
    pub under_way: Option<Change>,
    pub upload: Option<Upload>,
    /// Images that are gone.
    pub gone: VecDeque<String>,
    /// Blobs that were deleted.
    pub gone_blobs: VecDeque<String>,
    /// Uploads that were cancelled or finished.
    pub gone_uploads: VecDeque<String>,
    pub tally: Tally,
}

impl Ledger {
    pub fn new(number: usize, trusts_head: bool) -> Self {
        Self {
            number,
            trusts_head,
            state: State::default(),
            under_way: None,
            upload: None,
            gone: VecDeque::new(),
            gone_blobs: VecDeque::new(),
            gone_uploads: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    pub fn repository(&self) -> &'static str {
        REPOSITORIES[self.number % 2]
    }

    pub fn other_repository(&self) -> &'static str {
        REPOSITORIES[(self.number + 1) % 2]
    }

    /// The change under way has happened.
    pub fn happened(&mut self) {
        let change = self.under_way.take().unwrap();
        self.state = self.state.after(&change);
        match change {
            Change::DeleteImage(digest) => remember(&mut self.gone, digest),
            Change::Put { image, .. } => self.gone.retain(|gone| *gone != image.digest),
            Change::DeleteTag(_) => {}
        }
    }
}

/// Keeps the newest.
pub fn remember(list: &mut VecDeque<String>, item: String) {
    list.push_back(item);
    if list.len() > REMEMBERED {
        list.pop_front();
    }
}

/// What clients know of the immutable tags they contend about.
#[derive(Default)]
pub struct Claims(pub Mutex<BTreeMap<String, Claim>>);

/// One immutable tag.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub acknowledged: Option<Arc<Image>>,
    pub tried: Vec<Arc<Image>>,
    /// Whether somebody was told that the tag exists.
    pub refused: bool,
}

impl Claims {
    pub fn acknowledged(&self) -> usize {
        self.0.lock().unwrap().values().filter(|claim| claim.acknowledged.is_some()).count()
    }
}

/// What was done and seen, so that a run that tests nothing fails.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub puts: u64,
    pub deletes: u64,
    pub mounts: u64,
    pub chunks: u64,
    pub under_way: u64,
    pub happened: u64,
    pub resumed: u64,
    pub resumed_with_bytes: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            puts: self.puts + other.puts,
            deletes: self.deletes + other.deletes,
            mounts: self.mounts + other.mounts,
            chunks: self.chunks + other.chunks,
            under_way: self.under_way + other.under_way,
            happened: self.happened + other.happened,
            resumed: self.resumed + other.resumed,
            resumed_with_bytes: self.resumed_with_bytes + other.resumed_with_bytes,
        }
    }
}

impl Tally {
    /// Kills must have hit work of every kind.
    pub fn assert_not_vacuous(&self, kills: u64, claims: usize) {
        if kills < 50 {
            return;
        }
        let many = [self.puts, self.deletes, self.chunks, self.resumed_with_bytes]
            .into_iter()
            .all(|count| count >= kills / 3);
        let some = [self.under_way, self.happened, self.mounts, claims as u64]
            .into_iter()
            .all(|count| count >= kills / 25);
        assert!(many && some, "too little was tested: {self:?}, {claims} claims");
    }
}
