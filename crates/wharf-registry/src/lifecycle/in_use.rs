//! Images that are reported to be running. A report counts until it expires; a later one of the same holder renews it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use wharf_store::meta::{MetaError, Tx, in_use, lifecycle, manifests};
use wharf_types::{AccountId, Digest, RegistryRef, Timestamp};

use crate::{Authorized, Page, PageRequest, Registry, RegistryError, Repository};

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
        check_holder(&report.holder)?;
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

    /// Takes reports of a holder back before they run out: those of some digests, or all of them. Answers how many there
    /// were.
    ///
    /// # Errors
    /// [`RegistryError::Validation`] for a holder's name that is not legal.
    pub async fn release_in_use(
        &self,
        of: &Authorized<RegistryRef>,
        holder: &str,
        digests: Option<&[Digest]>,
    ) -> Result<u64, RegistryError> {
        self.release_in_use_as_operator(of.account, holder, digests).await
    }

    /// [`Registry::release_in_use`] for the operator of the machine.
    ///
    /// # Errors
    /// The same.
    pub async fn release_in_use_as_operator(
        &self,
        account: AccountId,
        holder: &str,
        digests: Option<&[Digest]>,
    ) -> Result<u64, RegistryError> {
        check_holder(holder)?;
        let mut released = 0;
        if let Some(digests) = digests {
            for batch in digests.chunks(BATCH) {
                released +=
                    self.release(account, holder, batch.iter().map(Digest::to_string).collect()).await?;
            }
            return Ok(released);
        }
        let mut after = String::new();
        loop {
            let (place, name, from) = (account.to_string(), holder.to_owned(), after);
            let read = move |tx: &mut Tx<'_>| in_use::held(tx, &place, &name, &from, BATCH);
            let page = self.inner.meta.read(read).await;
            let page = page.map_err(|error: MetaError| RegistryError::from(error))?;
            let Some(last) = page.last().cloned() else { return Ok(released) };
            after = last;
            released += self.release(account, holder, page).await?;
        }
    }

    async fn release(
        &self,
        account: AccountId,
        holder: &str,
        digests: Vec<String>,
    ) -> Result<u64, RegistryError> {
        let (account, holder) = (account.to_string(), holder.to_owned());
        let write = move |tx: &mut Tx<'_>| {
            let mut released = 0;
            for digest in &digests {
                released += u64::from(in_use::release(tx, &account, digest, &holder)?);
            }
            Ok(released)
        };
        self.inner.meta.write(write).await.map_err(|error: MetaError| RegistryError::from(error))
    }

    /// What is reported to be running now, in order of digest, page by page.
    ///
    /// # Errors
    /// `InvalidParameterException` for a token that is not of this list.
    pub async fn images_in_use(
        &self,
        of: &Authorized<RegistryRef>,
        page: PageRequest,
    ) -> Result<Page<ImageInUse>, RegistryError> {
        self.images_in_use_as_operator(of.account, page).await
    }

    /// [`Registry::images_in_use`] for the operator of the machine.
    ///
    /// # Errors
    /// The same.
    pub async fn images_in_use_as_operator(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<ImageInUse>, RegistryError> {
        let query = ["images-in-use", account.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let (place, now, limit) = (account.to_string(), self.inner.clock.now().as_micros(), page.limit);
        let read = move |tx: &mut Tx<'_>| {
            let mut digests = in_use::page(tx, &place, now, &after, limit + 1)?;
            let more = digests.len() > limit;
            digests.truncate(limit);
            let with_holders = |digest: String| {
                let holders = in_use::holders(tx, &place, &digest, now)?;
                Ok(ImageInUse { digest, holders })
            };
            Ok((digests.into_iter().map(with_holders).collect::<Result<Vec<_>, MetaError>>()?, more))
        };
        let found = self.inner.meta.read(read).await;
        let (items, more) = found.map_err(|error: MetaError| RegistryError::from(error))?;
        let next = match items.last() {
            Some(last) if more => Some(self.seal_page(&query, vec![last.digest.clone()])?),
            _ => None,
        };
        Ok(Page { items, next })
    }
}

fn check_holder(holder: &str) -> Result<(), RegistryError> {
    match holder.chars().count() {
        1..=HOLDER => Ok(()),
        _ => Err(RegistryError::Validation(format!("the name of a holder has 1 to {HOLDER} characters"))),
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
