//! Images that are reported to be running. A report counts until it expires; a later one of the same holder renews it.

use std::time::Duration;

use wharf_store::meta::{MetaError, Tx, in_use};
use wharf_types::{Digest, RegistryRef, Timestamp};

use crate::{Authorized, Registry, RegistryError};

/// Reports that one transaction writes.
const BATCH: usize = 500;
/// Longest time that a report counts.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
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
        if report.lifetime.is_zero() || report.lifetime > LONGEST {
            let text = format!(
                "a report of images in use counts for 1 second to {} days",
                LONGEST.as_secs() / 86_400
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
            let (account, holder) = (of.account.to_string(), report.holder.clone());
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
        let (account, now) = (of.account.to_string(), self.inner.clock.now().as_micros());
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
