use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use wharf_store::meta::testing::{FaultPlan, Site, When};
use wharf_store::meta::{SqliteOptions, Tx};
use wharf_store::object::ObjectId;
use wharf_store::seal::{open_small, seal_small};

use super::*;

const ARN: &str = "arn:aws:kms:us-east-1:123456789012:key/1234";

struct Fixture {
    keys: KeyRing,
    meta: Meta,
    root: DataKey,
    now: Arc<AtomicI64>,
    faults: Arc<FaultPlan>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new(encrypt: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (now, faults) = (Arc::new(AtomicI64::new(1_700_000_000_000_000)), Arc::new(FaultPlan::new()));
        let clock = Arc::clone(&now);
        let options = SqliteOptions {
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
            faults: Some(Arc::clone(&faults)),
            ..SqliteOptions::default()
        };
        let meta = Meta::open_sqlite(&dir.path().join("meta.db"), options).unwrap();
        let root = DataKey::generate().unwrap();
        let keys = KeyRing::open(&meta, RootKey::from_key(&root), encrypt).await.unwrap();
        let scope = kms_scope(&registry(), "1234");
        let material = keys.new_material(&scope, 1).unwrap();
        meta.write(move |tx| keys::insert(tx, &scope, 1, &material)).await.unwrap();
        keys.set_state(ARN, Some(KeyState::Enabled));
        Self { keys, meta, root, now, faults, _dir: dir }
    }

    /// The ring as the next start finds it.
    async fn restarted(&self) -> KeyRing {
        let keys = KeyRing::open(&self.meta, RootKey::from_key(&self.root), true).await.unwrap();
        keys.set_state(ARN, Some(KeyState::Enabled));
        keys
    }

    fn advance(&self, hours: u64) {
        let micros = Duration::from_secs(hours * 3600).as_micros() as i64;
        self.now.fetch_add(micros, Ordering::SeqCst);
    }

    async fn seal(&self, domain: &KeyDomain, text: &[u8]) -> Sealed {
        let new = self.keys.content_keys(&self.meta, domain).await.unwrap();
        let id = ObjectId::random();
        let stored = new.keys.as_ref().map_or(text.to_vec(), |keys| seal_small(keys, id, text).unwrap());
        Sealed { id, stored, wrapped: new.wrapped }
    }

    async fn sql(&self, sql: &'static str) {
        self.meta.write(move |tx: &mut Tx<'_>| tx.execute(sql, &[]).map(|_| ())).await.unwrap();
    }

    /// Puts an object, a manifest and a tombstone of a domain into the metadata.
    async fn store(&self, domain: &KeyDomain, text: &[u8]) -> Stored {
        let (object, manifest, tombstone) =
            (self.seal(domain, text).await, self.seal(domain, text).await, self.seal(domain, text).await);
        let stored = Stored { domain: domain.clone(), rows: [object, manifest, tombstone] };
        let (domain, rows) = (domain.clone(), stored.rows.clone());
        self.meta
            .write(move |tx| {
                let (id, key) = (domain.id, domain.encryption.kms_key().unwrap_or(""));
                tx.execute(
                    "INSERT INTO key_domains (id, account, region, encryption_type, kms_key)
                     VALUES ($1, '123456789012', 'us-east-1', $2, $3)",
                    &[&id, &domain.encryption.type_name(), &key],
                )?;
                tx.execute(
                    "INSERT INTO repositories
                         (id, account, region, kind, name, mutability, exclusions, scan_on_push, domain_id, images, created_at)
                     VALUES ($1, '123456789012', 'us-east-1', 'private', $2, 'MUTABLE', '[]', FALSE, $1, 0, 0)",
                    &[&id, &id.to_string()],
                )?;
                tx.execute(
                    "INSERT INTO objects (id, state, inline, domain_id, size, stored_size, keys, created_at)
                     VALUES ($1, 'live', TRUE, $2, 0, 0, $3, 0)",
                    &[&rows[0].id.to_string(), &id, &rows[0].wrapped],
                )?;
                tx.execute(
                    "INSERT INTO manifests (repository_id, digest, media_type, size, content_size, status,
                         pushed_at, keys, seal_id, content)
                     VALUES ($1, 'sha256:1', '', 0, 0, 'ACTIVE', 0, $2, $3, $4)",
                    &[&id, &rows[1].wrapped, &rows[1].id.to_string(), &rows[1].stored],
                )?;
                tx.execute(
                    "INSERT INTO deleted_manifests (repository_id, account, region, kind, name, domain_id, digest,
                         media_type, size, content_size, status, pushed_at, keys, seal_id, content, tags, blobs,
                         children, missing_blobs, missing_children, deleted_at)
                     VALUES ($1, '', '', '', '', $1, '', '', 0, 0, '', 0, $2, $3, $4, '', '', '', '', '', 0)",
                    &[&id, &rows[2].wrapped, &rows[2].id.to_string(), &rows[2].stored],
                )?;
                Ok::<_, MetaError>(())
            })
            .await
            .unwrap();
        stored
    }

    /// Reads back the wrapped keys of what `store` put.
    async fn wrapped(&self, stored: &Stored) -> [Vec<u8>; 3] {
        let id = stored.domain.id;
        self.meta
            .read(move |tx| {
                let mut one = |sql| tx.query_one(sql, &[&id], |row| row.get::<Vec<u8>>(0));
                Ok::<_, MetaError>([
                    one("SELECT keys FROM objects WHERE domain_id = $1")?,
                    one("SELECT keys FROM manifests WHERE repository_id = $1")?,
                    one("SELECT keys FROM deleted_manifests WHERE domain_id = $1")?,
                ])
            })
            .await
            .unwrap()
    }

    async fn assert_opens(&self, keys: &KeyRing, stored: &Stored, text: &[u8]) {
        for (row, wrapped) in stored.rows.iter().zip(self.wrapped(stored).await) {
            let opened = keys.open_content_keys(&self.meta, &stored.domain, Some(&wrapped)).await.unwrap();
            assert_eq!(open_small(&opened.unwrap(), row.id, row.stored.clone()).unwrap(), text);
        }
    }
}

#[derive(Clone)]
struct Sealed {
    id: ObjectId,
    stored: Vec<u8>,
    wrapped: Option<Vec<u8>>,
}

struct Stored {
    domain: KeyDomain,
    rows: [Sealed; 3],
}

fn registry() -> RegistryRef {
    RegistryRef::new("123456789012".parse().unwrap(), "us-east-1".parse().unwrap())
}

fn domain(id: i64, encryption: Encryption) -> KeyDomain {
    KeyDomain { id, registry: registry(), encryption }
}

fn every_domain() -> [KeyDomain; 3] {
    [
        domain(1, Encryption::Aes256),
        domain(2, Encryption::Kms(ARN.into())),
        domain(3, Encryption::KmsDsse(ARN.into())),
    ]
}

fn code(error: RegistryError) -> &'static str {
    match error {
        RegistryError::Kms { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_kind_of_content_opens_after_a_restart() {
    let fixture = Fixture::new(true).await;
    for domain in every_domain() {
        let sealed = fixture.seal(&domain, b"secret content").await;
        assert!(!sealed.stored.windows(6).any(|part| part == b"secret"));
        let layers = if matches!(domain.encryption, Encryption::KmsDsse(_)) { 2 } else { 1 };
        assert_eq!(sealed.wrapped.as_ref().unwrap().len(), layers * WRAPPED);
        let keys = fixture.restarted().await;
        let opened = keys.open_content_keys(&fixture.meta, &domain, sealed.wrapped.as_deref()).await.unwrap();
        assert_eq!(open_small(&opened.unwrap(), sealed.id, sealed.stored).unwrap(), b"secret content");
    }
}

#[tokio::test]
async fn wrapped_keys_open_in_their_own_domain_only() {
    let fixture = Fixture::new(true).await;
    let [own, kms, both] = every_domain();
    let elsewhere = KeyDomain {
        registry: RegistryRef::new("210987654321".parse().unwrap(), "us-east-1".parse().unwrap()),
        ..own.clone()
    };
    fixture.seal(&elsewhere, b"").await;
    let wrapped = fixture.seal(&own, b"").await.wrapped.unwrap();
    let double = fixture.seal(&both, b"").await.wrapped.unwrap();
    let swapped = [&double[WRAPPED..], &double[..WRAPPED]].concat();
    for (domain, wrapped) in
        [(&elsewhere, &wrapped), (&kms, &wrapped), (&both, &wrapped), (&own, &double), (&both, &swapped)]
    {
        let refused = fixture.keys.open_content_keys(&fixture.meta, domain, Some(wrapped)).await;
        assert!(matches!(refused, Err(RegistryError::Internal(_))), "{domain:?}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_be_used_stops_its_domain_at_once() {
    let fixture = Fixture::new(true).await;
    let [own, kms, both] = every_domain();
    let wrapped = fixture.seal(&kms, b"").await.wrapped.unwrap();
    for (state, expected) in [
        (Some(KeyState::Disabled), "DisabledException"),
        (Some(KeyState::PendingDeletion), "KMSInvalidStateException"),
        (None, "NotFoundException"),
    ] {
        fixture.keys.set_state(ARN, state);
        for domain in [&kms, &both] {
            assert_eq!(code(fixture.keys.check_domain(domain).unwrap_err()), expected);
            let refused = fixture.keys.content_keys(&fixture.meta, domain).await.err().unwrap();
            assert_eq!(code(refused), expected);
        }
        let refused = fixture.keys.open_content_keys(&fixture.meta, &kms, Some(&wrapped)).await.unwrap_err();
        assert_eq!(code(refused), expected);
        fixture.keys.check_domain(&own).unwrap();
    }
    fixture.keys.set_state(ARN, Some(KeyState::Enabled));
    fixture.keys.open_content_keys(&fixture.meta, &kms, Some(&wrapped)).await.unwrap();
}

#[tokio::test]
async fn without_encryption_only_the_registrys_own_content_is_plain() {
    let fixture = Fixture::new(false).await;
    let [own, kms, both] = every_domain();
    let plain = fixture.keys.content_keys(&fixture.meta, &own).await.unwrap();
    assert!(plain.keys.is_none() && plain.wrapped.is_none());
    assert!(fixture.keys.open_content_keys(&fixture.meta, &own, None).await.unwrap().is_none());
    for domain in [&kms, &both] {
        assert!(fixture.keys.content_keys(&fixture.meta, domain).await.unwrap().keys.is_some());
        let refused = fixture.keys.open_content_keys(&fixture.meta, domain, None).await;
        assert!(matches!(refused, Err(RegistryError::Internal(_))), "plain content is not taken for sealed");
    }
}

#[tokio::test]
async fn the_state_of_an_upload_opens_for_that_upload_only() {
    let fixture = Fixture::new(true).await;
    let sealed = fixture.keys.seal_state("upload-1", b"tail").unwrap();
    assert_eq!(*fixture.restarted().await.open_state("upload-1", &sealed).unwrap(), b"tail");
    assert!(fixture.keys.open_state("upload-2", &sealed).is_err());
    assert!(fixture.keys.open_state("upload-1", &sealed[..3]).is_err());
}

#[tokio::test]
async fn a_rotation_wraps_everything_again_and_rewrites_no_content() {
    let fixture = Fixture::new(true).await;
    let mut stored = Vec::new();
    for domain in every_domain() {
        stored.push(fixture.store(&domain, b"content").await);
    }
    let page = fixture.keys.sealer(&fixture.meta, "page-token").await.unwrap();
    let token = page.seal(b"page").unwrap();

    let report = fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    let expected = RotateReport {
        domains: 2,
        objects: 3,
        manifests: 3,
        tombstones: 3,
        sealing_keys: 3,
        secrets: 0,
        versions_dropped: 0,
    };
    assert_eq!(report, expected);
    let restarted = fixture.restarted().await;
    for stored in &stored {
        for wrapped in fixture.wrapped(stored).await {
            assert!(wrapped.chunks(WRAPPED).all(|wrapped| wrapped_version(wrapped) == Ok(2)));
        }
        fixture.assert_opens(&fixture.keys, stored, b"content").await;
        fixture.assert_opens(&restarted, stored, b"content").await;
    }
    assert_eq!(page.open(&token).unwrap(), b"page", "older sealing keys go on opening");
    let new = fixture.keys.content_keys(&fixture.meta, &stored[0].domain).await.unwrap();
    assert_eq!(wrapped_version(&new.wrapped.unwrap()), Ok(2), "new content is under the new version");
}

#[tokio::test]
async fn older_versions_go_after_twelve_hours_unless_something_names_them() {
    let fixture = Fixture::new(true).await;
    let [own, ..] = every_domain();
    let stored = fixture.store(&own, b"content").await;
    let page = fixture.keys.sealer(&fixture.meta, "page-token").await.unwrap();
    let token = page.seal(b"page").unwrap();
    let state = fixture.keys.seal_state("upload", b"tail").unwrap();
    fixture
        .sql(
            "INSERT INTO uploads (id, repository_id, object_id, received, generation, parts, last_part,
                     short_part, started_at, expires_at)
                 SELECT 'upload', 1, id, 0, 0, 0, 0, FALSE, 0, 0 FROM objects",
        )
        .await;
    let sealed = state.clone();
    let put = move |tx: &mut Tx<'_>| tx.execute("UPDATE uploads SET state = $1", &[&sealed]).map(|_| ());
    fixture.meta.write(put).await.unwrap();

    fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    fixture.advance(11);
    let early = fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    assert_eq!(early.versions_dropped, 0);
    assert_eq!(page.open(&token).unwrap(), b"page");

    fixture.advance(1);
    let late = fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    // The first versions of: the registry's key, the KMS key, page and registry tokens. Not that of the upload.
    assert_eq!(late.versions_dropped, 4);
    assert!(page.open(&token).is_err());
    assert_eq!(*fixture.keys.open_state("upload", &state).unwrap(), b"tail");
    fixture.assert_opens(&fixture.restarted().await, &stored, b"content").await;

    fixture.sql("DELETE FROM uploads").await;
    let last = fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    assert_eq!(last.versions_dropped, 1, "the upload's first version");
}

#[tokio::test]
async fn a_rotation_that_breaks_off_anywhere_leaves_everything_readable() {
    let fixture = Fixture::new(true).await;
    let mut stored = Vec::new();
    for domain in every_domain() {
        stored.push(fixture.store(&domain, b"content").await);
    }
    let before = fixture.faults.calls(Site::Commit);
    fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    let commits = fixture.faults.calls(Site::Commit) - before;
    assert!(commits >= 4, "a rotation is many transactions: {commits}");
    for nth in 1..=commits {
        for when in [When::Before, When::After] {
            fixture.faults.fail(Site::Commit, nth, when, MetaError::Io("pulled plug".into()));
            let broken = fixture.keys.rotate(&fixture.meta, &()).await;
            assert!(broken.is_err() || fixture.faults.pending() > 0, "commit {nth} failed unnoticed");
            fixture.faults.clear();
            let restarted = fixture.restarted().await;
            for stored in &stored {
                fixture.assert_opens(&fixture.keys, stored, b"content").await;
                fixture.assert_opens(&restarted, stored, b"content").await;
            }
        }
    }
    fixture.advance(13);
    assert!(fixture.keys.rotate(&fixture.meta, &()).await.unwrap().versions_dropped > 0);
    for stored in &stored {
        fixture.assert_opens(&fixture.restarted().await, stored, b"content").await;
    }
}

#[tokio::test]
async fn what_does_not_open_keeps_its_key_and_stops_nothing() {
    let fixture = Fixture::new(true).await;
    let [own, kms, _] = every_domain();
    let (good, lost) = (fixture.store(&own, b"content").await, fixture.store(&kms, b"content").await);
    let (id, old) = (lost.rows[0].id.to_string(), lost.rows[0].wrapped.clone().unwrap());
    let mut damaged = old.clone();
    damaged[40] ^= 1;
    let damage = move |tx: &mut Tx<'_>| keys::replace_object_keys(tx, &id, &old, &damaged);
    assert!(fixture.meta.write(damage).await.unwrap());
    let report = fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    assert_eq!((report.objects, report.manifests), (1, 2));
    fixture.advance(13);
    fixture.keys.rotate(&fixture.meta, &()).await.unwrap();
    fixture.assert_opens(&fixture.keys, &good, b"content").await;
    assert_eq!(wrapped_version(&fixture.wrapped(&lost).await[0]), Ok(1));
    let scope = kms_scope(&registry(), "1234");
    let versions = fixture.meta.read(move |tx| keys::versions(tx, &scope)).await.unwrap();
    assert_eq!(versions.first().unwrap().version, 1, "a version that is named is never destroyed");
}
