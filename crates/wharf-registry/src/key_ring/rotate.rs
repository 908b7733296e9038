//! Rotation: every key gets a new version, every wrapped data key is wrapped again, no content is rewritten.
//!
//! Works in small transactions beside everything else. Broken off at any point, it leaves a mixture of versions that
//! all open; the next rotation wraps whatever is not under the newest one.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use wharf_store::meta::iam::epochs;
use wharf_store::meta::keys::{self, HEAD, WRAPPED, WrappedRow};
use wharf_store::meta::{Meta, MetaError, Tx};
use wharf_store::seal::key_ring::wrapped_version;

use super::sealing::UPLOAD_STATES;
use super::{KeyRing, bound_to, internal, scopes};
use crate::{Encryption, KeyDomain, Progress, Registry, RegistryError};

/// Rows per transaction.
const BATCH: usize = 500;
/// How long an older version stays at least: sealed text is still out there, and a request may be about to store
/// what it wrapped.
const OVERLAP: Duration = Duration::from_secs(12 * 3600);
/// Likewise of the key that temporary credentials are sealed with: the longest live for 36 hours.
const SESSION_OVERLAP: Duration = Duration::from_secs(36 * 3600);
const SESSIONS: &str = "seal/session-credentials";

/// What a rotation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotateReport {
    /// Wrapping keys of registries and KMS keys that got a new version.
    pub domains: u64,
    /// Objects whose data keys were wrapped again.
    pub objects: u64,
    /// Manifests likewise.
    pub manifests: u64,
    /// Deleted images that may still be restored, likewise.
    pub tombstones: u64,
    /// Sealing keys that got a new version.
    pub sealing_keys: u64,
    /// Secret access keys that were sealed again; none as long as the root key stays the same.
    pub secrets: u64,
    /// Older versions that nothing names any more and that were destroyed.
    pub versions_dropped: u64,
}

impl Registry {
    /// Gives every wrapping key (registries, KMS keys) and sealing key a new version and wraps every data key again,
    /// those of deleted images included. Content is neither read nor written. Older sealing keys open for 12 more
    /// hours; older versions that nothing names are destroyed by a rotation at least 12 hours later.
    ///
    /// # Errors
    /// When the metadata fails; the rotation can be repeated.
    pub async fn rotate_key_ring(&self, progress: &dyn Progress) -> Result<RotateReport, RegistryError> {
        self.destroy_due_keys().await?;
        self.inner.keys.rotate(&self.inner.meta, progress).await
    }
}

impl KeyRing {
    pub(super) async fn rotate(
        &self,
        meta: &Meta,
        progress: &dyn Progress,
    ) -> Result<RotateReport, RegistryError> {
        let _one_at_a_time = self.ring.rotation.lock().await;
        let mut report = RotateReport::default();
        for scope in self.add_versions(meta, progress).await? {
            match scope.starts_with("seal/") {
                true => report.sealing_keys += 1,
                false => report.domains += 1,
            }
        }
        // The memory must know the new versions before anything is wrapped again, or new content would go on under
        // the old ones behind our back.
        self.refresh_all(meta).await?;
        let domains = domains(meta).await?;
        let mut pass = Pass { ring: self, meta, domains: &domains, progress };
        report.objects = pass.objects().await?;
        report.manifests = pass.manifests().await?;
        report.tombstones = pass.tombstones().await?;
        // What was restored meanwhile went from the tombstones, not yet visited, behind us to the manifests.
        report.manifests += pass.manifests().await?;
        report.versions_dropped = self.drop_versions(meta, domains).await?;
        if report.versions_dropped > 0 {
            self.refresh_all(meta).await?;
        }
        Ok(report)
    }

    /// Adds a version to every key; answers their scopes.
    async fn add_versions(&self, meta: &Meta, progress: &dyn Progress) -> Result<Vec<String>, RegistryError> {
        let scopes = meta.read(keys::scopes).await?;
        let mut rotated = Vec::with_capacity(scopes.len());
        for chunk in scopes.chunks(BATCH) {
            let (ring, chunk) = (self.clone(), chunk.to_vec());
            let added = meta
                .write(move |tx| {
                    epochs::move_on(tx, epochs::KEY_RING)?;
                    let mut added = Vec::with_capacity(chunk.len());
                    for scope in &chunk {
                        // A KMS key may have been destroyed since the scopes were read.
                        let Some(newest) = keys::versions(tx, scope)?.pop() else { continue };
                        let version = newest.version + 1;
                        keys::insert(tx, scope, version, &ring.new_material(scope, version)?)?;
                        added.push(scope.clone());
                    }
                    Ok::<_, RegistryError>(added)
                })
                .await?;
            rotated.extend(added);
            progress.report("keys", rotated.len() as u64, scopes.len() as u64);
        }
        Ok(rotated)
    }

    /// Follows a rotation on another node.
    pub(crate) async fn follow_versions(&self, meta: &Meta) -> Result<(), RegistryError> {
        self.refresh_all(meta).await
    }

    /// Brings what is in memory up to date: loads what was loaded before.
    async fn refresh_all(&self, meta: &Meta) -> Result<(), RegistryError> {
        let loaded: Vec<String> = {
            let known = self.ring.wrapping.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            known.keys().cloned().collect()
        };
        for scope in loaded {
            match self.load(meta, &scope, super::Missing::Refuse).await {
                Ok(_) => {}
                Err(RegistryError::Internal(_)) => self.forget(&scope),
                Err(error) => return Err(error),
            }
        }
        self.refresh_sealers(meta).await
    }

    /// Wraps data keys again under the newest versions; `None` if they are.
    async fn wrap_again(
        &self,
        meta: &Meta,
        domain: &KeyDomain,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let scopes = scopes(domain)?;
        let mut newest = Vec::with_capacity(2);
        for (scope, missing) in &scopes {
            newest.push(self.wrapping(meta, scope, *missing).await?);
        }
        let mut current = wrapped.len() == scopes.len() * WRAPPED;
        for (versions, wrapped) in newest.iter().zip(wrapped.chunks(WRAPPED)) {
            current &= wrapped_version(wrapped).map_err(internal)? == versions.newest()?.version();
        }
        if current {
            return Ok(None);
        }
        let data_keys = self.unwrap(meta, domain, wrapped).await?;
        let aad = bound_to(domain);
        let mut again = Vec::with_capacity(wrapped.len());
        for (versions, key) in newest.iter().zip(&data_keys) {
            again.extend_from_slice(&versions.newest()?.wrap(key, &aad).map_err(internal)?);
        }
        Ok(Some(again))
    }

    /// Destroys older versions that nothing names, in the transaction that sees that nothing does.
    async fn drop_versions(
        &self,
        meta: &Meta,
        domains: HashMap<i64, KeyDomain>,
    ) -> Result<u64, RegistryError> {
        meta.write(move |tx| {
            epochs::move_on(tx, epochs::KEY_RING)?;
            let superseded = superseded(tx)?;
            if superseded.is_empty() {
                return Ok(0);
            }
            let Some(named) = named(tx, &domains)? else { return Ok(0) };
            let mut dropped = 0;
            for (scope, version) in superseded {
                if !named.contains(&(scope.clone(), version)) {
                    keys::delete_version(tx, &scope, version)?;
                    dropped += 1;
                }
            }
            Ok::<u64, RegistryError>(dropped)
        })
        .await
    }
}

/// One walk over everything that has wrapped keys.
struct Pass<'a> {
    ring: &'a KeyRing,
    meta: &'a Meta,
    domains: &'a HashMap<i64, KeyDomain>,
    progress: &'a dyn Progress,
}

/// A row, its wrapped keys as read, and as they shall be.
type Change<K> = (K, Vec<u8>, Vec<u8>);

impl Pass<'_> {
    async fn objects(&mut self) -> Result<u64, RegistryError> {
        let (mut after, mut done) = (String::new(), 0);
        loop {
            let from = after.clone();
            let rows = self.meta.read_background(move |tx| keys::object_keys(tx, &from, BATCH)).await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = last.key.clone();
            let changes = self.changes(&rows).await?;
            done +=
                self.store(changes, |tx, id, old, new| keys::replace_object_keys(tx, id, old, new)).await?;
            self.progress.report("objects", done, 0);
        }
    }

    async fn manifests(&mut self) -> Result<u64, RegistryError> {
        let (mut after, mut done) = ((0, String::new()), 0);
        loop {
            let from = after.clone();
            let rows = self.meta.read_background(move |tx| keys::manifest_keys(tx, &from, BATCH)).await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = last.key.clone();
            let changes = self.changes(&rows).await?;
            done += self.store(changes, keys::replace_manifest_keys).await?;
            self.progress.report("manifests", done, 0);
        }
    }

    async fn tombstones(&mut self) -> Result<u64, RegistryError> {
        let (mut after, mut done) = (0, 0);
        loop {
            let rows = self.meta.read_background(move |tx| keys::tombstone_keys(tx, after, BATCH)).await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = last.key;
            let changes = self.changes(&rows).await?;
            done += self
                .store(changes, |tx, id, old, new| keys::replace_tombstone_keys(tx, *id, old, new))
                .await?;
            self.progress.report("tombstones", done, 0);
        }
    }

    /// What must be wrapped again. A row that does not open (its KMS key was destroyed, or it is damaged) stays.
    async fn changes<K: Clone>(&self, rows: &[WrappedRow<K>]) -> Result<Vec<Change<K>>, RegistryError> {
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            // A domain younger than this rotation has new keys already.
            let Some(domain) = self.domains.get(&row.domain_id) else { continue };
            match self.ring.wrap_again(self.meta, domain, &row.wrapped).await {
                Ok(Some(again)) => changes.push((row.key.clone(), row.wrapped.clone(), again)),
                Ok(None) => {}
                Err(RegistryError::Internal(reason)) => {
                    tracing::warn!(domain = domain.id, %reason, "a wrapped key does not open and stays as it is");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }

    async fn store<K: Send + Sync + Hash + 'static>(
        &self,
        changes: Vec<Change<K>>,
        replace: impl Fn(&mut Tx<'_>, &K, &[u8], &[u8]) -> Result<bool, MetaError> + Send + 'static,
    ) -> Result<u64, RegistryError> {
        if changes.is_empty() {
            return Ok(0);
        }
        self.meta
            .write(move |tx| {
                let mut stored = 0;
                for (key, old, new) in &changes {
                    stored += u64::from(replace(tx, key, old, new)?);
                }
                Ok::<u64, RegistryError>(stored)
            })
            .await
    }
}

async fn domains(meta: &Meta) -> Result<HashMap<i64, KeyDomain>, RegistryError> {
    let rows = meta.read(keys::domains).await?;
    let mut domains = HashMap::with_capacity(rows.len());
    for row in rows {
        let encryption = match row.encryption_type.as_str() {
            "AES256" => Encryption::Aes256,
            "KMS" => Encryption::Kms(row.kms_key),
            "KMS_DSSE" => Encryption::KmsDsse(row.kms_key),
            other => {
                return Err(internal(format!("key domain {} has the encryption type {other:?}", row.id)));
            }
        };
        domains.insert(row.id, KeyDomain { id: row.id, registry: row.registry, encryption });
    }
    Ok(domains)
}

/// Versions whose successor has been there for [`OVERLAP`], or [`SESSION_OVERLAP`].
fn superseded(tx: &mut Tx<'_>) -> Result<Vec<(String, u32)>, MetaError> {
    let mut superseded = Vec::new();
    for scope in keys::scopes(tx)? {
        let overlap = if scope == SESSIONS { SESSION_OVERLAP } else { OVERLAP };
        let overlap = i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX);
        let before = tx.now_micros().saturating_sub(overlap);
        for pair in keys::versions(tx, &scope)?.windows(2) {
            if pair[1].created_at.as_micros() <= before {
                superseded.push((scope.clone(), pair[0].version));
            }
        }
    }
    Ok(superseded)
}

/// The versions in use; `None` when something is stored that cannot be read, so that nothing may be destroyed.
fn named(
    tx: &mut Tx<'_>,
    domains: &HashMap<i64, KeyDomain>,
) -> Result<Option<HashSet<(String, u32)>>, RegistryError> {
    let mut named = HashSet::new();
    for (domain, first, second) in keys::named_heads(tx)? {
        // A domain made meanwhile names new versions only.
        let Some(domain) = domains.get(&domain) else { continue };
        for ((scope, _), head) in scopes(domain)?.into_iter().zip([first, second]) {
            let Ok(version) = wrapped_version(&head) else { return Ok(None) };
            named.insert((scope, version));
        }
    }
    let newest = keys::versions(tx, UPLOAD_STATES)?.pop().map_or(0, |row| row.version);
    for head in keys::upload_state_heads(tx, HEAD - 1, &newest.to_be_bytes(), BATCH)? {
        let Ok(version) = <[u8; 4]>::try_from(head.as_slice()) else { return Ok(None) };
        named.insert((UPLOAD_STATES.to_owned(), u32::from_be_bytes(version)));
    }
    Ok(Some(named))
}
