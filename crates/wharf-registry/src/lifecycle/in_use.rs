//! Images that are reported to be running. A report counts until it expires; a later one of the same holder renews it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use wharf_store::meta::{MetaError, Tx, in_use, lifecycle, manifests};
use wharf_types::{AccountId, Digest, RegistryRef, Timestamp};

use crate::{Authorized, Registry, RegistryError, Repository};

/// Reports that one transaction writes.
const BATCH: usize = 500;
/// Most characters of a holder's name.
const HOLDER: usize = 256;

/// What somebody runs.
#[derive(Clone, Debug)]
pub struct InUseReport {
    /// Who: a cluster, a node.
    pub holder: String,
    /// What.
    pub digests: Vec<Digest>,
    /// For how long the report counts (at most 30 days).
    pub lifetime: Duration,
}

impl InUseReport {
    /// Longest time that a report counts.
    pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
}

/// An image that is reported to be running.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ImageInUse {
    /// Which.
    pub digest: String,
    /// Who runs it.
    pub holders: Vec<String>,
}

impl Registry {
    /// Notes what somebody runs; answers until when that counts.
    ///
    /// # Errors
    /// [`RegistryError::Validation`] for a lifetime or a holder's name that is not legal.
    pub async fn report_in_use(
        &self,
        of: &Authorized<RegistryRef>,
        report: InUseReport,
    ) -> Result<Timestamp, RegistryError> {
        self.report_in_use_as_operator(of.account, report).await
    }

    /// [`Registry::report_in_use`] for the operator of the machine, whom no policy concerns.
    ///
    /// # Errors
    /// The same.
    pub async fn report_in_use_as_operator(
        &self,
        account: AccountId,
        report: InUseReport,
    ) -> Result<Timestamp, RegistryError> {
        if report.lifetime.is_zero() || report.lifetime > InUseReport::LONGEST {
            let text = format!(
                "a report of images in use counts for 1 second to {} days",
                InUseReport::LONGEST.as_secs() / 86_400
            );
            return Err(RegistryError::Validation(text));
        }
        if report.holder.is_empty() || report.holder.chars().count() > HOLDER {
            return Err(RegistryError::Validation(format!(
                "the name of a holder has 1 to {HOLDER} characters"
            )));
        }
        let expires_at = self.inner.clock.now().plus(report.lifetime);
        for batch in report.digests.chunks(BATCH) {
            let (account, holder) = (account.to_string(), report.holder.clone());
            let digests: Vec<String> = batch.iter().map(Digest::to_string).collect();
            let write = move |tx: &mut Tx<'_>| {
                let put =
                    |digest: &String| in_use::put(tx, &account, digest, &holder, expires_at.as_micros());
                digests.iter().try_for_each(put)
            };
            self.inner.meta.write(write).await.map_err(|error: MetaError| RegistryError::from(error))?;
        }
        Ok(expires_at)
    }

    /// What is reported to be running now, in order of digest.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn images_in_use(
        &self,
        of: &Authorized<RegistryRef>,
    ) -> Result<Vec<ImageInUse>, RegistryError> {
        self.images_in_use_as_operator(of.account).await
    }

    /// [`Registry::images_in_use`] for the operator of the machine.
    ///
    /// # Errors
    /// The same.
    pub async fn images_in_use_as_operator(
        &self,
        account: AccountId,
    ) -> Result<Vec<ImageInUse>, RegistryError> {
        let (account, now) = (account.to_string(), self.inner.clock.now().as_micros());
        let read = move |tx: &mut Tx<'_>| {
            let mut digests = in_use::digests(tx, &account, now)?;
            digests.sort_unstable();
            digests
                .into_iter()
                .map(|digest| {
                    let holders = in_use::holders(tx, &account, &digest, now)?;
                    Ok(ImageInUse { digest, holders })
                })
                .collect::<Result<Vec<_>, MetaError>>()
        };
        self.inner.meta.read(read).await.map_err(|error: MetaError| RegistryError::from(error))
    }
}

/// Who runs an image or what it belongs to, in order of name: itself, the indexes that name it, its subject, and what
/// those indexes name. The same relatives as in a plan (`plan::in_use_with_relatives`), found from the other end.
pub(crate) fn holders_with_relatives(
    tx: &mut Tx<'_>,
    repository: &Repository,
    digest: &str,
) -> Result<BTreeSet<String>, RegistryError> {
    let (account, now) = (repository.name.registry.account, tx.now_micros());
    let mut holders = BTreeSet::new();
    if !in_use::any(tx, account.as_str(), now)? {
        return Ok(holders);
    }
    let mut above = HashSet::from([digest.to_owned()]);
    let mut left = vec![digest.to_owned()];
    while let Some(digest) = left.pop() {
        let mut next = manifests::parents(tx, repository.id, &digest)?;
        next.extend(lifecycle::find_image(tx, repository.id, &digest)?.and_then(|row| row.subject));
        left.extend(next.into_iter().filter(|relative| above.insert(relative.clone())));
    }
    let mut left: Vec<String> = above.iter().cloned().collect();
    let mut reached = above;
    while let Some(digest) = left.pop() {
        holders.extend(in_use::holders(tx, account.as_str(), &digest, now)?);
        let children = manifests::children(tx, repository.id, &digest)?;
        left.extend(children.into_iter().filter(|child| reached.insert(child.clone())));
    }
    Ok(holders)
}
