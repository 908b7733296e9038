//! Listing and describing images. Every page is one bounded read.

use std::collections::BTreeMap;

use wharf_store::meta::manifests::{self, ManifestRow};
use wharf_store::meta::{MetaError, tags};
use wharf_types::{MediaType, RepositoryRef, Timestamp};

use super::{Asked, asked};
use crate::repositories::stored;
use crate::{
    Authorized, ImageDetail, ImageFailureCode, ImageFilter, ImageId, ImageRef, ImageStatus, NamePage, Page,
    PageRequest, Registry, RegistryError, TagStatus,
};

impl ImageFilter {
    /// Whether images with a tag are wanted; `None` = both.
    fn tagged(&self) -> Option<bool> {
        match self.tags {
            TagStatus::Tagged => Some(true),
            TagStatus::Untagged => Some(false),
            TagStatus::Any => None,
        }
    }

    fn status_word(&self) -> Option<&'static str> {
        self.status.map(ImageStatus::as_str)
    }

    /// What makes a page token of one filter useless with another.
    fn key(&self) -> String {
        format!("{:?}/{:?}", self.tags, self.status)
    }
}

impl Registry {
    /// `ListImages`: one entry per tag, and one per image without a tag, in order of digest and tag.
    pub async fn list_images(
        &self,
        at: &Authorized<RepositoryRef>,
        filter: ImageFilter,
        page: PageRequest,
    ) -> Result<Page<ImageRef>, RegistryError> {
        let repository = self.repository(at).await?;
        let (id, key) = (repository.id.to_string(), filter.key());
        let query = ["ListImages", id.as_str(), key.as_str()];
        let [digest, tag] = self.open_page(&query, page.token.as_deref())?;
        let (repository_id, limit) = (repository.id, page.limit);
        let (tagged, status) = (filter.tagged(), filter.status_word());
        let mut rows = self
            .inner
            .meta
            .read(move |tx| tags::page_images(tx, repository_id, (&digest, &tag), tagged, status, limit + 1))
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| more) {
            Some((digest, tag)) => Some(self.seal_page(&query, vec![digest.clone(), tag.clone()])?),
            None => None,
        };
        let items = rows
            .iter()
            .map(|(digest, tag)| {
                let tag = if tag.is_empty() { None } else { Some(stored("tag", tag)?) };
                Ok(ImageRef { digest: stored("digest", digest)?, tag })
            })
            .collect::<Result<_, RegistryError>>()?;
        Ok(Page { items, next })
    }

    /// `DescribeImages` without ids: in order of digest.
    pub async fn describe_images(
        &self,
        at: &Authorized<RepositoryRef>,
        filter: ImageFilter,
        page: PageRequest,
    ) -> Result<Page<ImageDetail>, RegistryError> {
        let repository = self.repository(at).await?;
        let (id, key) = (repository.id.to_string(), filter.key());
        let query = ["DescribeImages", id.as_str(), key.as_str()];
        let [after] = self.open_page(&query, page.token.as_deref())?;
        let (repository_id, limit) = (repository.id, page.limit);
        let (tagged, status) = (filter.tagged(), filter.status_word());
        let (mut rows, names) = self
            .inner
            .meta
            .read(move |tx| {
                let rows = manifests::page(tx, repository_id, &after, tagged, status, limit + 1)?;
                let shown: Vec<&str> = rows.iter().take(limit).map(|row| row.digest.as_str()).collect();
                let names = match tagged {
                    Some(false) => Vec::new(),
                    _ => tags::of_all(tx, repository_id, &shown)?,
                };
                Ok::<_, RegistryError>((rows, names))
            })
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| more) {
            Some(last) => Some(self.seal_page(&query, vec![last.digest.clone()])?),
            None => None,
        };
        let mut by_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (digest, name) in names {
            by_digest.entry(digest).or_default().push(name);
        }
        let items = rows
            .into_iter()
            .map(|row| {
                let names = by_digest.remove(&row.digest).unwrap_or_default();
                detail(row, &names)
            })
            .collect::<Result<_, _>>()?;
        Ok(Page { items, next })
    }

    /// `DescribeImages` with ids, in the order asked for, whatever their status.
    ///
    /// # Errors
    /// `ImageNotFound` for the first that is missing; `InvalidParameter` for one that names nothing.
    pub async fn describe_images_by_id(
        &self,
        at: &Authorized<RepositoryRef>,
        ids: &[ImageId],
    ) -> Result<Vec<ImageDetail>, RegistryError> {
        let repository = self.repository(at).await?;
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            match asked(id) {
                Ok(asked) => wanted.push((id.clone(), asked)),
                Err(failed) if failed.code == ImageFailureCode::ImageNotFound => {
                    return Err(RegistryError::ImageNotFound(repository.name.clone(), id.clone()));
                }
                Err(failed) => return Err(RegistryError::invalid("imageIds", failed.reason)),
            }
        }
        self.inner
            .meta
            .read(move |tx| {
                let mut details = Vec::with_capacity(wanted.len());
                for (id, asked) in &wanted {
                    let missing = || RegistryError::ImageNotFound(repository.name.clone(), id.clone());
                    let digest = match asked {
                        Asked::Digest(digest) => digest.to_string(),
                        Asked::Tag(tag) => {
                            tags::find(tx, repository.id, tag.as_str())?.ok_or_else(missing)?
                        }
                        Asked::Both(digest, tag) => tags::find(tx, repository.id, tag.as_str())?
                            .filter(|current| *current == digest.to_string())
                            .ok_or_else(missing)?,
                    };
                    let row = manifests::find(tx, repository.id, &digest)?.ok_or_else(missing)?;
                    details.push(detail(row, &tags::of(tx, repository.id, &digest)?)?);
                }
                Ok(details)
            })
            .await
    }

    /// Tags of active images after `after`, at most `limit`, in byte order, and whether there are more.
    pub async fn list_tags(
        &self,
        at: &Authorized<RepositoryRef>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<NamePage, RegistryError> {
        let repository = self.repository(at).await?;
        let after = after.unwrap_or_default().to_owned();
        self.inner
            .meta
            .read(move |tx| {
                NamePage::read(limit, |limit, visit| tags::page(tx, repository.id, &after, limit, visit))
            })
            .await
            .map_err(|error: MetaError| RegistryError::from(error))
    }
}

fn detail(row: ManifestRow, names: &[String]) -> Result<ImageDetail, RegistryError> {
    let damaged = |what: &str| RegistryError::Internal(format!("stored {what} does not parse"));
    Ok(ImageDetail {
        digest: stored("digest", &row.digest)?,
        tags: names.iter().map(|name| stored("tag", name)).collect::<Result<_, _>>()?,
        size: u64::try_from(row.content_size).unwrap_or_default(),
        pushed_at: Timestamp::from_micros(row.pushed_at),
        media_type: MediaType::parse(&row.media_type).ok_or_else(|| damaged("media type"))?,
        artifact_type: row.artifact_type,
        pulled_at: row.pulled_at.map(Timestamp::from_micros),
        subject: row.subject.map(|text| stored("digest", &text)).transpose()?,
        status: ImageStatus::parse(&row.status).ok_or_else(|| damaged("image status"))?,
        archived_at: row.archived_at.map(Timestamp::from_micros),
        activated_at: row.activated_at.map(Timestamp::from_micros),
    })
}
