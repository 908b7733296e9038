//! One registry, small enough to be looked at whole after every step: two repositories, two blobs, two manifests.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use wharf_registry::{Authorized, Clock, Options, Registry};
use wharf_store::meta::{Meta, MetaError, SqliteOptions, Tx, scrub};
use wharf_store::object::{MemoryObjects, ObjectId, ObjectStore, WriterState};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::{Digest, Manifest, Reference, RepositoryRef, Timestamp};

use crate::depot::{self, ACCOUNT, body, content};

/// The grace of what no manifest names; the window of the trash is two of them.
pub const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const START: i64 = 1_700_000_000_000_000;
const REPOSITORIES: [&str; 2] = ["one", "two"];

/// The blobs and the manifests; the same in every world.
pub struct Universe {
    /// One in the object store, one small enough for its row.
    pub blobs: [(Digest, Vec<u8>); 2],
    /// One names both blobs, one the first only.
    pub manifests: [(Digest, Manifest); 2],
}

impl Universe {
    fn new() -> Self {
        let blobs = [content(1, 66_000), content(2, 40)].map(|content| (Digest::sha256(&content), content));
        let both = depot::manifest_of(blobs[1].0, &[blobs[0].0]);
        let manifests = [both, depot::manifest_of(blobs[0].0, &[])];
        Self { blobs, manifests: manifests.map(|manifest| (Digest::sha256(manifest.bytes()), manifest)) }
    }

    /// Which blobs a manifest names.
    pub fn named(manifest: usize) -> &'static [usize] {
        [&[0, 1][..], &[0]][manifest]
    }
}

/// How every world begins: kept as files and objects, so that a new one costs little.
pub struct Beginning {
    directory: tempfile::TempDir,
    objects: Vec<(ObjectId, Vec<u8>)>,
    marker: String,
    root: DataKey,
    options: Options,
    pub universe: Arc<Universe>,
}

/// Where transactions of other threads begin.
#[derive(Default)]
pub struct Gate {
    /// While it is held, none begins.
    pub closed: Mutex<()>,
    /// How many have begun.
    pub passed: AtomicU64,
}

/// A registry in a state of its own.
pub struct World {
    pub registry: Registry,
    pub meta: Meta,
    pub clock: Clock,
    pub objects: MemoryObjects,
    pub universe: Arc<Universe>,
    pub gate: Arc<Gate>,
    _directory: tempfile::TempDir,
}

/// A row of an object. An upload that was given up may never have had bytes.
struct Object {
    id: String,
    state: String,
    inline: bool,
    complete: bool,
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Beginning {
    /// Two repositories; the first has the first image, tagged.
    pub async fn new() -> Self {
        let mut options = Options::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap());
        options.unreferenced_grace = DAY;
        options.trash_window = 2 * DAY;
        options.upload_lifetime = DAY;
        let (directory, root) = (scratch(), DataKey::generate().unwrap());
        let objects = MemoryObjects::new();
        let clock = Clock::manual(Timestamp::from_micros(START));
        let universe = Arc::new(Universe::new());
        let path = directory.path().join("meta.db");
        let (registry, _) = open(path, &options, &clock, &objects, &root, Arc::default()).await;
        registry.ensure_default_account().await.unwrap();
        for name in REPOSITORIES {
            depot::create_repository(&registry, name).await;
        }
        let at = depot::place(&registry, REPOSITORIES[0]);
        for (digest, content) in &universe.blobs {
            registry.put_blob(&at, *digest, body(content)).await.unwrap();
        }
        registry.put_image(&at, depot::put(&universe.manifests[0].1, "tag")).await.unwrap();
        registry.close().await;
        let mut kept = Vec::new();
        for (id, size) in objects.list(None, 100).await.unwrap() {
            let bytes = objects.open(id).await.unwrap().read_at(0, size as usize).await.unwrap();
            kept.push((id, bytes.to_vec()));
        }
        let marker = objects.deployment_marker().await.unwrap().unwrap();
        Self { directory, objects: kept, marker, root, options, universe }
    }

    /// A world as all of them begin.
    pub async fn world(&self) -> World {
        let directory = scratch();
        std::fs::copy(self.directory.path().join("meta.db"), directory.path().join("meta.db")).unwrap();
        let objects = MemoryObjects::new();
        for (id, bytes) in &self.objects {
            objects.create(*id).await.unwrap();
            let mut writer = objects.resume(*id, WriterState::default(), 0).await.unwrap();
            writer.append(bytes.clone().into()).await.unwrap();
            writer.finish().await.unwrap();
        }
        objects.write_deployment_marker(&self.marker).await.unwrap();
        let clock = Clock::manual(Timestamp::from_micros(START));
        let path = directory.path().join("meta.db");
        let gate = Arc::new(Gate::default());
        let (registry, meta) =
            open(path, &self.options, &clock, &objects, &self.root, Arc::clone(&gate)).await;
        World {
            registry,
            meta,
            clock,
            objects,
            universe: Arc::clone(&self.universe),
            gate,
            _directory: directory,
        }
    }
}

async fn open(
    path: PathBuf,
    options: &Options,
    clock: &Clock,
    objects: &MemoryObjects,
    root: &DataKey,
    gate: Arc<Gate>,
) -> (Registry, Meta) {
    let Clock::Manual(now) = clock.clone() else { panic!("tests set the time") };
    let home = std::thread::current().id();
    let clock_of_transactions = move || {
        if std::thread::current().id() != home {
            drop(gate.closed.lock().unwrap());
            gate.passed.fetch_add(1, Ordering::SeqCst);
        }
        now.load(Ordering::SeqCst)
    };
    let sqlite = SqliteOptions {
        clock: Arc::new(clock_of_transactions),
        readers: 2,
        immediate_readers: 1,
        ..SqliteOptions::default()
    };
    let meta = Meta::open_sqlite(&path, sqlite).unwrap();
    let objects = Arc::new(objects.clone());
    let registry =
        Registry::open(options.clone(), clock.clone(), meta.clone(), objects, RootKey::from_key(root))
            .await
            .unwrap();
    (registry, meta)
}

/// The tables as lines that do not depend on chance: objects are told apart by what they hold, not by their keys.
const TABLES: [&str; 9] = [
    "SELECT repository_id || ' ' || digest || ' ' || COALESCE(unreferenced_since, '-') FROM repository_blobs",
    "SELECT state || inline || ' ' || COALESCE(digest, '-') || ' ' || COALESCE(trashed_at, '-') FROM objects",
    "SELECT b.digest || ' ' || o.state FROM blobs b JOIN objects o ON o.id = b.object_id",
    "SELECT repository_id || ' ' || digest FROM manifests",
    "SELECT repository_id || ' ' || manifest || ' ' || blob FROM manifest_blobs",
    "SELECT repository_id || ' ' || name || ' ' || digest FROM tags",
    "SELECT repository_id || ' ' || digest || ' ' || tags || ' ' || deleted_at FROM deleted_manifests",
    "SELECT repository_id || ' ' || received || ' ' || generation || ' ' || expires_at FROM uploads",
    "SELECT name || ' ' || images FROM repositories",
];

fn lines(tx: &mut Tx<'_>, sql: &'static str) -> Result<Vec<String>, MetaError> {
    let mut lines = tx.query_all(sql, &[], |row| row.get::<String>(0))?;
    lines.sort();
    Ok(lines)
}

impl World {
    pub fn at(&self, repository: usize) -> Authorized<RepositoryRef> {
        depot::place(&self.registry, REPOSITORIES[repository])
    }

    /// Everything that the stores hold, and the time.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let tables: Result<Vec<Vec<String>>, MetaError> =
            self.meta.read_now(|tx| TABLES.iter().map(|sql| lines(tx, sql)).collect());
        tables.unwrap().hash(&mut hasher);
        self.keys().len().hash(&mut hasher);
        self.clock.now().as_micros().hash(&mut hasher);
        hasher.finish()
    }

    fn keys(&self) -> BTreeSet<String> {
        let keys = self.objects.list(None, 1000).now_or_never().unwrap().unwrap();
        keys.into_iter().map(|(id, _)| id.to_string()).collect()
    }

    /// Images that can be seen: repository and manifest.
    pub fn images(&self) -> BTreeSet<(usize, usize)> {
        let rows: Result<Vec<(String, String)>, MetaError> = self.meta.read_now(|tx| {
            tx.query_all(
                "SELECT r.name, m.digest FROM manifests m JOIN repositories r ON r.id = m.repository_id",
                &[],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        });
        let place = |name: &str| REPOSITORIES.iter().position(|known| *known == name).unwrap();
        let manifest =
            |text: &str| self.universe.manifests.iter().position(|(digest, _)| digest.to_string() == text);
        rows.unwrap().into_iter().map(|(name, digest)| (place(&name), manifest(&digest).unwrap())).collect()
    }

    /// What must hold between any two steps; says what does not.
    pub fn broken(&self) -> Option<String> {
        let contradictions = self.meta.read_now(|tx| scrub::contradictions(tx, 10)).unwrap();
        if !contradictions.is_empty() {
            return Some(contradictions.join("; "));
        }
        let (keys, objects) = (self.keys(), self.named_objects());
        for Object { id, state, inline, complete } in &objects {
            if *complete && matches!(state.as_str(), "live" | "trashed") && !inline && !keys.contains(id) {
                return Some(format!("the bytes of a {state} object are gone"));
            }
        }
        for (repository, manifest) in self.images() {
            for blob in Universe::named(manifest) {
                let digest = self.universe.blobs[*blob].0.to_string();
                if !self.is_readable(REPOSITORIES[repository], &digest) {
                    return Some(format!(
                        "image {manifest} of repository {repository} names blob {blob}, which is not there"
                    ));
                }
            }
        }
        None
    }

    fn named_objects(&self) -> Vec<Object> {
        let rows: Result<_, MetaError> = self.meta.read_now(|tx| {
            tx.query_all("SELECT id, state, inline, digest FROM objects", &[], |row| {
                let complete = row.get::<Option<String>>(3)?.is_some();
                Ok(Object { id: row.get(0)?, state: row.get(1)?, inline: row.get(2)?, complete })
            })
        });
        rows.unwrap()
    }

    /// Whether a repository has an edge, a link, a blob and a live object for a digest.
    fn is_readable(&self, repository: &str, digest: &str) -> bool {
        let found: Result<Option<i64>, MetaError> = self.meta.read_now(|tx| {
            tx.query_opt(
                "SELECT 1
                 FROM repositories r
                 JOIN manifest_blobs e ON e.repository_id = r.id
                 JOIN repository_blobs l ON l.repository_id = r.id AND l.digest = e.blob
                 JOIN blobs b ON b.domain_id = l.domain_id AND b.digest = l.digest
                 JOIN objects o ON o.id = b.object_id
                 WHERE r.name = $1 AND e.blob = $2 AND o.state = 'live'
                 LIMIT 1",
                &[&repository, &digest],
                |row| row.get(0),
            )
        });
        found.unwrap().is_some()
    }

    /// Waits until nothing that requests have left behind is at work.
    pub async fn settle(&self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            // Behind everything that is queued; it changes nothing.
            let _ = self.meta.write(|_| Err::<(), MetaError>(MetaError::Busy)).await;
        }
    }

    /// Pulls everything, then lets all windows pass: what is reachable is still there, and of the rest nothing is.
    pub async fn end(&self) -> Option<String> {
        if let Some(wrong) = self.pull().await {
            return Some(wrong);
        }
        for _ in 0..3 {
            self.clock.advance(2 * DAY);
            if let Err(error) = self.registry.collect(&()).await {
                return Some(format!("the last collection: {error}"));
            }
        }
        let report = self.registry.scrub(&()).await.unwrap();
        if !report.is_clean() {
            return Some(format!("{report:?}"));
        }
        let objects = self.named_objects();
        if let Some(Object { state, .. }) = objects.iter().find(|object| object.state != "live") {
            return Some(format!("an object stays {state} for ever"));
        }
        let named: BTreeSet<usize> = self
            .images()
            .iter()
            .flat_map(|(_, manifest)| Universe::named(*manifest).iter().copied())
            .collect();
        if objects.len() != named.len() {
            return Some(format!("{} objects stay, {} are named", objects.len(), named.len()));
        }
        self.broken().or(self.pull().await)
    }

    async fn pull(&self) -> Option<String> {
        for (repository, manifest) in self.images() {
            let at = self.at(repository);
            let (digest, expected) = &self.universe.manifests[manifest];
            match self.registry.get_manifest(&at, &Reference::Digest(*digest), &[]).await {
                Ok(pulled) if pulled.bytes == *expected.bytes() => {}
                other => return Some(format!("image {manifest} of repository {repository}: {other:?}")),
            }
            for blob in Universe::named(manifest) {
                let (digest, expected) = &self.universe.blobs[*blob];
                let read = match self.registry.open_blob(&at, digest).await {
                    Ok(reader) => reader.read_all(1 << 20).await,
                    Err(error) => Err(error),
                };
                if read.as_ref().ok().is_none_or(|read| read != expected) {
                    return Some(format!("blob {blob} of repository {repository}: {read:?}"));
                }
            }
        }
        None
    }
}
