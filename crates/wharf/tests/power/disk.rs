//! What a disk may hold after the power went: a file system made of the traced calls, in which only what was synced is
//! sure to be there. An entry of a directory is durable after a sync of the directory, content after one of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::trace::{Call, Event};
use crate::wire::random::Random;

type Node = usize;

/// A change of one file or directory; it survives as a whole or not at all, but for the tail of a write.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
    Enter { name: String, child: Node },
    Leave { name: String },
    Rename { from: String, to: String, child: Node },
}

#[derive(Debug)]
enum What {
    Change {
        node: Node,
        change: Change,
    },
    /// Makes durable what had ended when it began.
    Sync {
        node: Node,
        began: usize,
        site: String,
    },
    /// Bytes that somebody outside may see.
    Said(Vec<u8>),
}

/// Something that happened, and the line of the trace.
#[derive(Debug)]
struct Step {
    line: usize,
    what: What,
}

/// A file or a directory.
#[derive(Clone, Debug)]
enum Kept {
    File(Vec<u8>),
    Directory(BTreeMap<String, Node>),
}

fn empty(directory: bool) -> Kept {
    match directory {
        true => Kept::Directory(BTreeMap::new()),
        false => Kept::File(Vec::new()),
    }
}

/// What becomes of changes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    /// All of them are lost.
    Lost,
    /// Of each file and directory, a first part of them survives.
    Prefix(u64),
    /// Any of them survive, in any combination; writes may be torn at sectors.
    Any(u64),
    /// All of them survive, but for those that a skipped sync was to make durable.
    Kept,
    /// All of them survive, but for one of those that a skipped sync was to make durable: the disk wrote the others first.
    KeptBut(usize),
}

/// The history of a directory and what is below it.
pub struct Disk {
    root: String,
    directories: Vec<bool>,
    steps: Vec<Step>,
}

/// Says of which places the syncs are left out.
pub type Skipped<'a> = &'a dyn Fn(&str) -> bool;

/// Files by path, directories by path with `None`.
pub type Image = BTreeMap<String, Option<Vec<u8>>>;

const SECTOR: usize = 512;

impl Disk {
    /// Replays traces of programs that ran one after the other. `root` existed before the first.
    pub fn replay(root: &Path, traces: &[Vec<(usize, Event)>]) -> Self {
        let mut disk =
            Self { root: root.to_str().unwrap().to_owned(), directories: vec![true], steps: Vec::new() };
        let mut tree = Tree { kept: vec![Kept::Directory(BTreeMap::new())] };
        let mut before = 0;
        for trace in traces {
            for (line, event) in trace {
                disk.add(&mut tree, before, before + line, event);
            }
            before += trace.last().map_or(0, |(line, _)| line + 1);
        }
        disk
    }

    /// How many things happened.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// What was said outside, and after how many steps.
    pub fn said(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match &step.what {
            What::Said(bytes) => Some((at + 1, bytes.as_slice())),
            _ => None,
        })
    }

    /// Where something was synced that had changed, and after how many steps.
    pub fn syncs(&self) -> impl Iterator<Item = (usize, &str)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match &step.what {
            What::Sync { site, .. } if !site.ends_with(IDLE) => Some((at + 1, site.as_str())),
            _ => None,
        })
    }

    /// Names that left their directory in the first `until` steps.
    pub fn left(&self, until: usize) -> BTreeSet<&str> {
        let changes = self.steps[..until].iter().filter_map(|step| match &step.what {
            What::Change { change: Change::Leave { name }, .. } => Some(name.as_str()),
            _ => None,
        });
        changes.collect()
    }

    /// What is on the disk when the power goes after `until` steps and the syncs at places that are `skipped` were never made.
    pub fn image(&self, until: usize, skipped: Skipped<'_>, unsynced: Unsynced) -> Image {
        let (mut synced, mut missed) = (vec![0; self.directories.len()], vec![0; self.directories.len()]);
        for step in &self.steps[..until] {
            if let What::Sync { node, began, site } = &step.what {
                let durable = if skipped(site) { &mut missed } else { &mut synced };
                durable[*node] = durable[*node].max(*began);
            }
        }
        let mut tree = Tree { kept: self.directories.iter().map(|directory| empty(*directory)).collect() };
        let mut chance = Chance::new(unsynced, self.directories.len());
        for step in &self.steps[..until] {
            let What::Change { node, change } = &step.what else { continue };
            let change = match step.line < synced[*node] {
                true => Some(change.clone()),
                false => chance.survivor(*node, change, step.line < missed[*node]),
            };
            if let Some(change) = change {
                tree.apply(*node, change);
            }
        }
        let mut image = Image::new();
        tree.collect(0, String::new(), &mut image);
        image
    }

    fn add(&mut self, tree: &mut Tree, offset: usize, line: usize, event: &Event) {
        let what = match event {
            Event::Begun(call) => self.said_by(call),
            Event::Ended(call) => self.done_by(tree, offset, call),
        };
        let Some(what) = what else { return };
        if let What::Change { node, change } = &what {
            tree.apply(*node, change.clone());
        }
        self.steps.push(Step { line, what });
    }

    fn said_by(&self, call: &Call) -> Option<What> {
        let writes = matches!(call.name.as_str(), "write" | "writev" | "sendto" | "sendmsg");
        let heard =
            |path: &str| ["socket:", "pipe:", "UNIX", "TCP"].iter().any(|kind| path.starts_with(kind));
        let elsewhere = call.file.as_deref().is_some_and(heard);
        (writes && elsewhere).then(|| What::Said(call.texts.concat()))
    }

    fn done_by(&mut self, tree: &mut Tree, offset: usize, call: &Call) -> Option<What> {
        let named = |at: usize| {
            let text = String::from_utf8(call.texts.get(at)?.clone()).ok()?;
            text.strip_prefix(&self.root).map(str::to_owned)
        };
        let open = call.file.as_deref().and_then(|path| path.strip_prefix(&self.root)).map(str::to_owned);
        match call.name.as_str() {
            "openat" => self.opened(tree, &named(0)?, &call.rest),
            "mkdir" | "mkdirat" => Some(self.entered(tree, &named(0)?, true)),
            "write" => {
                // Whoever writes without saying where has just made the file.
                let node = tree.find(&open?)?;
                let Kept::File(bytes) = &tree.kept[node] else { return None };
                Some(What::Change {
                    node,
                    change: Change::Write { at: bytes.len(), bytes: call.texts.concat() },
                })
            }
            "pwrite64" => {
                let (node, at) = (tree.find(&open?)?, last_number(&call.rest));
                Some(What::Change { node, change: Change::Write { at, bytes: call.texts.concat() } })
            }
            "ftruncate" => {
                let node = tree.find(&open?)?;
                Some(What::Change { node, change: Change::Resize(last_number(&call.rest)) })
            }
            "fsync" | "fdatasync" => {
                let path = open?;
                let node = tree.find(&path)?;
                let site = self.site(node, &path);
                Some(What::Sync { node, began: offset + call.began, site })
            }
            "rename" | "renameat" | "renameat2" => {
                let ((parent, from), (_, to)) = (tree.parent(&named(0)?), tree.parent(&named(1)?));
                let child = tree.find(&named(0)?)?;
                Some(What::Change { node: parent, change: Change::Rename { from, to, child } })
            }
            "link" | "linkat" => {
                let child = tree.find(&named(0)?)?;
                let (node, name) = tree.parent(&named(1)?);
                Some(What::Change { node, change: Change::Enter { name, child } })
            }
            "unlink" | "unlinkat" => {
                let path = named(0)?;
                tree.find(&path)?;
                let (node, name) = tree.parent(&path);
                Some(What::Change { node, change: Change::Leave { name } })
            }
            "sendto" | "sendmsg" => None,
            "writev" if open.is_none() => None,
            other => {
                let here = open.or_else(|| named(0));
                assert!(here.is_none(), "the simulated disk does not know {other} ({here:?})");
                None
            }
        }
    }

    fn opened(&mut self, tree: &mut Tree, path: &str, flags: &str) -> Option<What> {
        match tree.find(path) {
            // What is opened is what will be written: shared memory is no part of what lasts.
            None if flags.contains("O_CREAT") && !path.ends_with("-shm") => {
                Some(self.entered(tree, path, false))
            }
            Some(node) if flags.contains("O_TRUNC") => Some(What::Change { node, change: Change::Resize(0) }),
            _ => None,
        }
    }

    fn entered(&mut self, tree: &mut Tree, path: &str, directory: bool) -> What {
        let (node, name) = tree.parent(path);
        let child = self.directories.len();
        self.directories.push(directory);
        tree.kept.push(empty(directory));
        What::Change { node, change: Change::Enter { name, child } }
    }

    /// A name for the place in the program that syncs: what it syncs, and what it does so for.
    fn site(&self, node: Node, path: &str) -> String {
        let mut pending: Vec<&Change> = Vec::new();
        for step in self.steps.iter().rev() {
            match &step.what {
                What::Sync { node: synced, .. } if *synced == node => break,
                What::Change { node: changed, change } if *changed == node => pending.push(change),
                _ => {}
            }
        }
        let name = class(path.rsplit('/').next().unwrap_or_default());
        if pending.is_empty() {
            let kind = if self.directories[node] { "entries" } else { "content" };
            return format!("{kind} of {name}{IDLE}");
        }
        if !self.directories[node] {
            let head = pending
                .iter()
                .all(|change| matches!(change, Change::Write { bytes, .. } if bytes.len() <= 32));
            let head = if head && name.starts_with("metadata") { " (head)" } else { "" };
            return format!("content of {name}{head}");
        }
        let mut entries = BTreeSet::new();
        for change in pending {
            entries.insert(match change {
                Change::Enter { name, .. } => format!("+{}", class(name)),
                Change::Leave { name } => format!("-{}", class(name)),
                Change::Rename { to, .. } => format!("+{to}"),
                Change::Write { .. } | Change::Resize(_) => continue,
            });
        }
        let entries: Vec<String> = entries.into_iter().collect();
        format!("entries of {name}: {}", entries.join(" "))
    }
}

/// A sync of what did not change.
const IDLE: &str = ": nothing new";

/// A file's name without what is random about it.
fn class(name: &str) -> &str {
    let hexadecimal = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.len() {
        32 if hexadecimal => "OBJECT",
        2 if hexadecimal => "XX",
        _ if name.starts_with("root-key.new-") => "root-key.new",
        _ => name,
    }
}

fn last_number(rest: &str) -> usize {
    rest.rsplit(", ").next().and_then(|number| number.trim().parse().ok()).expect("an offset")
}

/// Decides what of the unsynced changes survives.
struct Chance {
    unsynced: Unsynced,
    random: Random,
    lost: Vec<bool>,
    /// How many changes were met that a skipped sync was to make durable.
    missed: usize,
}

impl Chance {
    fn new(unsynced: Unsynced, nodes: usize) -> Self {
        let seed = match unsynced {
            Unsynced::Lost | Unsynced::Kept | Unsynced::KeptBut(_) => 0,
            Unsynced::Prefix(seed) | Unsynced::Any(seed) => seed,
        };
        Self { unsynced, random: Random::new(seed), lost: vec![false; nodes], missed: 0 }
    }

    fn survivor(&mut self, node: Node, change: &Change, missed: bool) -> Option<Change> {
        match self.unsynced {
            Unsynced::Lost => None,
            Unsynced::Kept => (!missed).then(|| change.clone()),
            Unsynced::KeptBut(which) => {
                self.missed += usize::from(missed);
                (!missed || self.missed != which + 1).then(|| change.clone())
            }
            Unsynced::Prefix(_) => {
                self.lost[node] |= self.random.percent(25);
                (!self.lost[node]).then(|| change.clone())
            }
            Unsynced::Any(_) => match (self.random.below(8), change) {
                (0..3, _) => Some(change.clone()),
                (3, Change::Write { at, bytes }) => {
                    let sectors = self.random.below(bytes.len().div_ceil(SECTOR) as u64 + 1) as usize;
                    let bytes = bytes[..bytes.len().min(sectors * SECTOR)].to_vec();
                    Some(Change::Write { at: *at, bytes })
                }
                _ => None,
            },
        }
    }
}

struct Tree {
    kept: Vec<Kept>,
}

impl Tree {
    fn find(&self, path: &str) -> Option<Node> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(0, |node, part| match &self.kept[node] {
            Kept::Directory(entries) => entries.get(part).copied(),
            Kept::File(_) => None,
        })
    }

    fn parent(&self, path: &str) -> (Node, String) {
        let (parent, name) = path.rsplit_once('/').expect("paths are absolute");
        (self.find(parent).unwrap_or_else(|| panic!("there is no {parent}")), name.to_owned())
    }

    fn apply(&mut self, node: Node, change: Change) {
        match (&mut self.kept[node], change) {
            (Kept::File(kept), Change::Write { at, bytes }) => {
                kept.resize(kept.len().max(at + bytes.len()), 0);
                kept[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            (Kept::File(kept), Change::Resize(size)) => kept.resize(size, 0),
            (Kept::Directory(entries), Change::Enter { name, child }) => {
                entries.insert(name, child);
            }
            (Kept::Directory(entries), Change::Leave { name }) => {
                entries.remove(&name);
            }
            (Kept::Directory(entries), Change::Rename { from, to, child }) => {
                entries.remove(&from);
                entries.insert(to, child);
            }
            (kept, change) => panic!("{change:?} on {kept:?}"),
        }
    }

    fn collect(&self, node: Node, path: String, image: &mut Image) {
        match &self.kept[node] {
            Kept::File(bytes) => {
                image.insert(path, Some(bytes.clone()));
            }
            Kept::Directory(entries) => {
                for (name, child) in entries {
                    self.collect(*child, format!("{path}/{name}"), image);
                }
                image.insert(path, None);
            }
        }
    }
}
