//! A disk in memory that forgets what was not synced when its power goes, as real ones may. (Killing a process does
//! not show this: the kernel keeps its page cache.)

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::object::fs::{Fs, FsFile, SyncPoint};

/// Which of the changes that were not synced are still there after the power came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All of them: as after `kill -9`.
    Everything,
    /// Each or not, by this seed, in any combination: disks and journals reorder.
    Random(u64),
}

/// The disk. Has one directory, `/`, to begin with. Clones are the same disk.
#[derive(Clone)]
pub struct PowerLossFs(Arc<Mutex<Disk>>);

#[derive(Clone)]
struct Disk {
    nodes: Vec<Node>,
    dirs: HashMap<PathBuf, Dir>,
    skip: Option<SyncPoint>,
    /// Changing operations and syncs until the power goes.
    left: Option<u64>,
    operations: u64,
}

/// A file: what programs see, what is on the disk, and the writes between the two.
#[derive(Clone, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = *offset as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset as usize..end].copy_from_slice(data);
            }
            Self::Cut(len) => bytes.resize(*len as usize, 0),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Dir,
}

#[derive(Clone, Default)]
struct Dir {
    live: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
}

impl Default for PowerLossFs {
    fn default() -> Self {
        Self::new(None)
    }
}

impl PowerLossFs {
    /// A disk that ignores every sync at one point, if given.
    pub fn new(skip: Option<SyncPoint>) -> Self {
        let dirs = HashMap::from([(PathBuf::from("/"), Dir::default())]);
        Self(Arc::new(Mutex::new(Disk { nodes: Vec::new(), dirs, skip, left: None, operations: 0 })))
    }

    /// The power goes before the changing operation or sync after the next `n`: all fail from then on.
    pub fn lose_power_after(&self, n: u64) {
        self.lock().left = Some(n);
    }

    /// Changing operations and syncs so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The disk as it is found when the power is back. This one goes on unchanged.
    pub fn after_power_loss(&self, survival: Survival) -> Self {
        let mut disk = self.lock().clone();
        disk.left = None;
        let mut coin = Coin(survival);
        for node in &mut disk.nodes {
            for change in std::mem::take(&mut node.unsynced) {
                if coin.keeps() {
                    change.apply(&mut node.durable);
                }
            }
            node.live.clone_from(&node.durable);
        }
        let mut paths: Vec<PathBuf> = disk.dirs.keys().cloned().collect();
        paths.sort();
        for path in paths {
            // Sorted: a directory's own entry was decided before.
            let there = path.parent().is_none_or(|parent| {
                let name = name_of(&path).unwrap_or_default();
                disk.dirs.get(parent).is_some_and(|dir| dir.live.get(&name) == Some(&Entry::Dir))
            });
            if !there {
                disk.dirs.remove(&path);
                continue;
            }
            if let Some(dir) = disk.dirs.get_mut(&path) {
                dir.lose(&mut coin);
            }
        }
        Self(Arc::new(Mutex::new(disk)))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk for one change, unless there is no power.
    fn change(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.lock();
        match &mut disk.left {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        disk.operations += 1;
        Ok(disk)
    }

    fn handle(&self, node: usize) -> Arc<dyn FsFile> {
        Arc::new(PowerLossFile { disk: self.clone(), node, direct: false })
    }
}

impl Dir {
    /// Keeps or loses each entry that differs from what is on the disk.
    fn lose(&mut self, coin: &mut Coin) {
        let names: Vec<String> = self.live.keys().chain(self.durable.keys()).cloned().collect();
        for name in names {
            let (live, durable) = (self.live.get(&name).copied(), self.durable.get(&name).copied());
            if live != durable && coin.keeps() {
                match live {
                    Some(entry) => self.durable.insert(name, entry),
                    None => self.durable.remove(&name),
                };
            }
        }
        self.live.clone_from(&self.durable);
    }
}

struct Coin(Survival);

impl Coin {
    fn keeps(&mut self) -> bool {
        match &mut self.0 {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Random(seed) => {
                // splitmix64
                *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (mixed >> 40) & 1 == 1
            }
        }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn name_of(path: &Path) -> io::Result<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).ok_or_else(missing)
}

impl Disk {
    fn parent(&mut self, path: &Path) -> io::Result<(&mut Dir, String)> {
        let name = name_of(path)?;
        let dir = path.parent().and_then(|parent| self.dirs.get_mut(parent)).ok_or_else(missing)?;
        Ok((dir, name))
    }

    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let (dir, name) = self.parent(path)?;
        match dir.live.get(&name) {
            Some(Entry::File(node)) => Ok(*node),
            _ => Err(missing()),
        }
    }
}

impl Fs for PowerLossFs {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let mut disk = self.change()?;
        let node = disk.nodes.len();
        let (dir, name) = disk.parent(path)?;
        if dir.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.live.insert(name, Entry::File(node));
        disk.nodes.push(Node::default());
        Ok(self.handle(node))
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Arc<dyn FsFile>> {
        let node = self.lock().find(path)?;
        Ok(self.handle(node))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let node = self.lock().find(path)?;
        Ok(Arc::new(PowerLossFile { disk: self.clone(), node, direct: true }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        let (dir, name) = disk.parent(path)?;
        dir.live.remove(&name).map(|_| ()).ok_or_else(missing)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        let node = disk.find(from)?;
        let (dir, name) = disk.parent(from)?;
        dir.live.remove(&name);
        let (dir, name) = disk.parent(to)?;
        dir.live.insert(name, Entry::File(node));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        let (dir, name) = disk.parent(path)?;
        if dir.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        dir.live.insert(name, Entry::Dir);
        disk.dirs.insert(path.to_owned(), Dir::default());
        Ok(())
    }

    fn sync_dir(&self, path: &Path, point: SyncPoint) -> io::Result<()> {
        let mut disk = self.change()?;
        let skipped = disk.skip == Some(point);
        let dir = disk.dirs.get_mut(path).ok_or_else(missing)?;
        if !skipped {
            dir.durable.clone_from(&dir.live);
        }
        Ok(())
    }

    fn for_each_name(&self, path: &Path, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        let names: Vec<String> = {
            let disk = self.lock();
            disk.dirs.get(path).ok_or_else(missing)?.live.keys().cloned().collect()
        };
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let mut disk = self.lock();
        let node = disk.find(path)?;
        Ok(disk.nodes[node].live.len() as u64)
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct PowerLossFile {
    disk: PowerLossFs,
    node: usize,
    /// Takes whole blocks only, as disks do.
    direct: bool,
}

impl PowerLossFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut disk = self.disk.change()?;
        let node = &mut disk.nodes[self.node];
        change.apply(&mut node.live);
        node.unsynced.push(change);
        Ok(())
    }
}

impl FsFile for PowerLossFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.lock();
        let live = &disk.nodes[self.node].live;
        let start = (offset as usize).min(live.len());
        let len = buffer.len().min(live.len() - start);
        buffer[..len].copy_from_slice(&live[start..start + len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let places = [bytes.as_ptr() as u64, bytes.len() as u64, offset];
        if self.direct && places.iter().any(|place| !place.is_multiple_of(4096)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Cut(len))
    }

    fn sync(&self, point: SyncPoint) -> io::Result<()> {
        let mut disk = self.disk.change()?;
        if disk.skip == Some(point) {
            return Ok(());
        }
        let node = &mut disk.nodes[self.node];
        node.unsynced.clear();
        node.durable.clone_from(&node.live);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().nodes[self.node].live.len() as u64)
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
