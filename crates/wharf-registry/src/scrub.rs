//! Scrubbing: every stored byte is read and hashed again, and the rows are held against each other.

use std::collections::HashMap;
use std::sync::Arc;

use wharf_store::meta::objects::{self, LiveObject, ObjectState};
use wharf_store::meta::scrub::{self, StoredManifest};
use wharf_store::meta::{MetaError, keys};
use wharf_store::object::ObjectError;
use wharf_store::object::sealed::{ReadError, SealedReader, rehash_sha256, rehash_sha512};
use wharf_store::seal::open_small;
use wharf_types::Digest;

use crate::repositories::stored;
use crate::{Encryption, KeyDomain, Progress, Registry, RegistryError};

/// Rows read at once; small contents come with them.
const PAGE: usize = 50;
/// Contradictions of each kind that are listed.
const LISTED: usize = 100;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScrubReport {
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests read.
    pub manifests: u64,
    /// Objects and manifests that could not be read because their KMS key may not be used now.
    pub locked: u64,
    /// Contents that are not what was stored: objects are quarantined now.
    pub damaged: Vec<String>,
    /// Contents that are gone: their objects are quarantined now.
    pub missing: Vec<String>,
    /// Rows that contradict each other.
    pub contradictions: Vec<String>,
}

impl ScrubReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty() && self.contradictions.is_empty()
    }
}

/// What one content turned out to be.
pub(crate) enum Verdict {
    Sound,
    Damaged,
    Missing,
    Locked,
}

impl Registry {
    /// Reads everything, reports what is damaged, missing or contradictory, and quarantines damaged and missing
    /// contents, so that pushing them again repairs them. Everything else goes on meanwhile.
    ///
    /// # Errors
    /// A failure of a store; nothing is concluded from it.
    pub async fn scrub(&self, progress: &dyn Progress) -> Result<ScrubReport, RegistryError> {
        let mut report = ScrubReport::default();
        let domains = self.all_domains().await?;
        self.scrub_objects(&domains, progress, &mut report).await?;
        self.scrub_manifests(&domains, progress, &mut report).await?;
        let found = self.inner.meta.read_background(|tx| scrub::contradictions(tx, LISTED)).await;
        report.contradictions = found.map_err(RegistryError::from)?;
        Ok(report)
    }

    pub(crate) async fn all_domains(&self) -> Result<HashMap<i64, KeyDomain>, RegistryError> {
        let rows = self.inner.meta.read(keys::domains).await.map_err(RegistryError::from)?;
        rows.into_iter()
            .map(|row| {
                let encryption = match row.encryption_type.as_str() {
                    "AES256" => Encryption::Aes256,
                    "KMS" => Encryption::Kms(row.kms_key),
                    "KMS_DSSE" => Encryption::KmsDsse(row.kms_key),
                    other => {
                        return Err(RegistryError::Internal(format!("stored encryption type {other:?}")));
                    }
                };
                Ok((row.id, KeyDomain { id: row.id, registry: row.registry, encryption }))
            })
            .collect()
    }

    async fn scrub_objects(
        &self,
        domains: &HashMap<i64, KeyDomain>,
        progress: &dyn Progress,
        report: &mut ScrubReport,
    ) -> Result<(), RegistryError> {
        let mut after = String::new();
        while !self.inner.stop.is_cancelled() {
            let from = after.clone();
            let page = self.inner.meta.read_background(move |tx| objects::page_live(tx, &from, PAGE)).await;
            let page = page.map_err(RegistryError::from)?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            for object in page {
                let name = format!("{} (object {})", object.digest, object.id);
                let (id, size) = (object.id, object.size);
                report.objects += 1;
                report.bytes += size;
                let verdict = self.verify_object(domain(domains, object.domain_id)?, object).await?;
                let list = match verdict {
                    Verdict::Sound => continue,
                    Verdict::Locked => {
                        report.locked += 1;
                        continue;
                    }
                    Verdict::Damaged => &mut report.damaged,
                    Verdict::Missing => &mut report.missing,
                };
                // Collected since the page was read? Then nothing is wrong with it.
                let state = self.inner.meta.read_quick(move |tx| objects::state(tx, id)).await;
                let state = state.map_err(RegistryError::from)?;
                if state == Some(ObjectState::Live) {
                    list.push(name);
                    self.quarantine(id).await;
                }
            }
            progress.report("objects", report.objects, 0);
        }
        Ok(())
    }

    pub(crate) async fn verify_object(
        &self,
        domain: &KeyDomain,
        object: LiveObject,
    ) -> Result<Verdict, RegistryError> {
        let keys =
            match self.inner.keys.open_content_keys(&self.inner.meta, domain, object.keys.as_deref()).await {
                Err(RegistryError::Kms { .. }) => return Ok(Verdict::Locked),
                Err(RegistryError::Internal(_)) => return Ok(Verdict::Damaged),
                keys => keys?,
            };
        let digest: Digest = stored("digest", &object.digest)?;
        if let Some(content) = object.inline {
            let content = match &keys {
                None => content.into(),
                Some(keys) => match open_small(keys, object.id, content.into()) {
                    Ok(content) => content,
                    Err(_) => return Ok(Verdict::Damaged),
                },
            };
            let sound =
                content.len() as u64 == object.size && Digest::of(digest.algorithm(), &content) == digest;
            return Ok(if sound { Verdict::Sound } else { Verdict::Damaged });
        }
        let store = self.store(object.place)?;
        let read = async {
            let keys = keys.map(Arc::new);
            let reader =
                SealedReader::open_copy(&**store, object.id, object.sealed_as, keys, object.size).await?;
            Ok(match digest {
                Digest::Sha256(_) => Digest::Sha256(rehash_sha256(&reader).await?),
                Digest::Sha512(_) => Digest::Sha512(rehash_sha512(&reader).await?),
            })
        };
        match read.await {
            Ok(actual) if actual == digest => Ok(Verdict::Sound),
            Ok(_) | Err(ReadError::Corrupt { .. }) => Ok(Verdict::Damaged),
            Err(ReadError::Object(ObjectError::NotFound(_))) => Ok(Verdict::Missing),
            Err(error) => Err(self.read_error(error)),
        }
    }

    async fn scrub_manifests(
        &self,
        domains: &HashMap<i64, KeyDomain>,
        progress: &dyn Progress,
        report: &mut ScrubReport,
    ) -> Result<(), RegistryError> {
        let mut after = (0, String::new());
        while !self.inner.stop.is_cancelled() {
            let from = after.clone();
            let page = self
                .inner
                .meta
                .read_background(move |tx| scrub::page_manifests(tx, (from.0, &from.1), PAGE))
                .await
                .map_err(|error: MetaError| RegistryError::from(error))?;
            let Some(last) = page.last() else { break };
            after = (last.repository_id, last.digest.clone());
            for manifest in page {
                report.manifests += 1;
                let name = format!("{} (manifest of repository {})", manifest.digest, manifest.repository_id);
                match self.verify_manifest(domain(domains, manifest.domain_id)?, manifest).await? {
                    Verdict::Sound => {}
                    Verdict::Locked => report.locked += 1,
                    Verdict::Damaged | Verdict::Missing => report.damaged.push(name),
                }
            }
            progress.report("manifests", report.manifests, 0);
        }
        Ok(())
    }

    async fn verify_manifest(
        &self,
        domain: &KeyDomain,
        manifest: StoredManifest,
    ) -> Result<Verdict, RegistryError> {
        let sealed = manifest.sealed;
        let keys =
            match self.inner.keys.open_content_keys(&self.inner.meta, domain, sealed.keys.as_deref()).await {
                Err(RegistryError::Kms { .. }) => return Ok(Verdict::Locked),
                Err(RegistryError::Internal(_)) => return Ok(Verdict::Damaged),
                keys => keys?,
            };
        let digest: Digest = stored("digest", &manifest.digest)?;
        let content = match keys {
            None => sealed.content,
            Some(keys) => match open_small(&keys, stored("object id", &sealed.seal_id)?, sealed.content) {
                Ok(content) => content,
                Err(_) => return Ok(Verdict::Damaged),
            },
        };
        let sound = Digest::of(digest.algorithm(), &content) == digest;
        Ok(if sound { Verdict::Sound } else { Verdict::Damaged })
    }
}

pub(crate) fn domain(domains: &HashMap<i64, KeyDomain>, id: i64) -> Result<&KeyDomain, RegistryError> {
    // A domain made since the scrub began: the next scrub reads it.
    domains
        .get(&id)
        .ok_or_else(|| RegistryError::Internal(format!("key domain {id} appeared during the scrub")))
}
