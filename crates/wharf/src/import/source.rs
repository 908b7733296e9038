//! Where images come from: one face for registries and layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;
use wharf_types::{Digest, Manifest, Tag};

use super::ecr::{Ecr, Settings};
use super::layout::{FileBody, Layout};
use super::registry::{BlobBody, Registry, RegistryError};

/// Where images come from.
pub enum Source {
    /// A registry; with ECR's API, it has settings too.
    Registry {
        /// By OCI Distribution.
        registry: Box<Registry>,
        /// By ECR's API.
        ecr: Option<Arc<Ecr>>,
        /// The repository or path to import.
        path: Option<String>,
    },
    /// A directory, which has no repositories.
    Layout(Layout),
}

/// A repository of the source.
pub struct Found {
    /// Its name there; empty for a layout.
    pub name: String,
    /// ECR's description of it.
    described: Option<Value>,
}

/// Where the images of a repository begin.
#[derive(Default)]
pub struct Roots {
    /// What its tags point at.
    pub tags: BTreeMap<Tag, Digest>,
    /// Images without a tag, where the source tells.
    pub untagged: BTreeSet<Digest>,
    /// Whether every manifest of the repository is among these.
    pub complete: bool,
    /// Tags that no registry of ours can have.
    pub unusable: Vec<String>,
}

impl Source {
    /// The repositories to import.
    ///
    /// # Errors
    /// If they cannot be listed, or there are none.
    pub async fn repositories(&self) -> anyhow::Result<Vec<Found>> {
        let (registry, ecr, path) = match self {
            Self::Registry { registry, ecr, path } => (registry, ecr, path),
            Self::Layout(_) => return Ok(vec![Found { name: String::new(), described: None }]),
        };
        let inside = |name: &str| {
            let below = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
            path.as_deref().is_none_or(|path| name == path || below(path))
        };
        let host = registry.host();
        let mut found: Vec<Found> = match (ecr, path) {
            (Some(ecr), _) => {
                let all = ecr.repositories().await.with_context(|| format!("cannot list {host}"))?;
                let named = |(name, described)| Found { name, described: Some(described) };
                all.into_iter().filter(|(name, _)| inside(name)).map(named).collect()
            }
            (None, Some(path)) if exists(registry, path).await? => {
                return Ok(vec![Found { name: path.clone(), described: None }]);
            }
            (None, path) => {
                let Some(names) = registry.catalog().await? else {
                    match path {
                        Some(path) => {
                            bail!("{host} has no repository `{path}`, and does not list its repositories")
                        }
                        None => {
                            bail!("{host} does not list its repositories: name them, oci://{host}/REPOSITORY")
                        }
                    }
                };
                let named = |name| Found { name, described: None };
                names.into_iter().filter(|name| inside(name)).map(named).collect()
            }
        };
        if let (true, Some(path)) = (found.is_empty(), path) {
            bail!("{host} has no repository `{path}` and none below it");
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// The settings of a repository, if the source has such.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn settings(&self, found: &Found) -> anyhow::Result<Option<Settings>> {
        match (self, &found.described) {
            (Self::Registry { ecr: Some(ecr), .. }, Some(described)) => {
                Ok(Some(ecr.settings(described).await?))
            }
            _ => Ok(None),
        }
    }

    /// How many of a repository's images are archived: those cannot be copied.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn archived(&self, found: &Found) -> anyhow::Result<usize> {
        match self {
            Self::Registry { ecr: Some(ecr), .. } => Ok(ecr.archived(&found.name).await?),
            _ => Ok(0),
        }
    }

    /// The tags of a repository and what they point at, and untagged images where the source tells them.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn roots(&self, found: &Found, jobs: usize) -> anyhow::Result<Roots> {
        let mut roots = Roots::default();
        match self {
            Self::Registry { ecr: Some(ecr), .. } => {
                let images = ecr.images(&found.name).await?;
                for (name, digest) in images.tags {
                    roots.add(&name, digest);
                }
                let tagged: BTreeSet<Digest> = roots.tags.values().copied().collect();
                roots.untagged =
                    images.digests.into_iter().filter(|digest| !tagged.contains(digest)).collect();
                roots.complete = true;
            }
            Self::Registry { registry, .. } => {
                let names = registry.tags(&found.name).await?;
                let names = names
                    .with_context(|| format!("{} has no repository `{}`", registry.host(), found.name))?;
                let mut tags: Vec<Tag> = Vec::new();
                for name in names {
                    match name.parse() {
                        Ok(tag) => tags.push(tag),
                        Err(_) => roots.unusable.push(name),
                    }
                }
                let resolving = futures_util::stream::iter(tags.into_iter().map(|tag| async {
                    let digest = registry.resolve(&found.name, &tag).await;
                    (tag, digest)
                }));
                let mut resolved = resolving.buffer_unordered(jobs);
                while let Some((tag, digest)) = resolved.next().await {
                    // One that was deleted meanwhile is none.
                    if let Some(digest) = digest? {
                        roots.tags.insert(tag, digest);
                    }
                }
            }
            Self::Layout(layout) => {
                for (digest, tag) in layout.roots() {
                    match tag {
                        Some(tag) => roots.add(tag, digest),
                        None => drop(roots.untagged.insert(digest)),
                    }
                }
            }
        }
        Ok(roots)
    }

    /// A manifest, verified; `None` if there is no such.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub async fn manifest(&self, name: &str, digest: &Digest) -> Result<Option<Manifest>, RegistryError> {
        match self {
            Self::Registry { registry, .. } => registry.manifest(name, digest).await,
            Self::Layout(layout) => layout.manifest(digest).await,
        }
    }

    /// What refers to a manifest, by the API or, where there is none, by the tag that stands for it (distribution-spec,
    /// "Referrers Tag Schema").
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn referrers(
        &self,
        name: &str,
        digest: &Digest,
        tags: &BTreeMap<Tag, Digest>,
    ) -> Result<Vec<Digest>, RegistryError> {
        let Self::Registry { registry, .. } = self else { return Ok(Vec::new()) };
        if let Some(found) = registry.referrers(name, digest).await? {
            return Ok(found);
        }
        let tag = digest.to_string().replace(':', "-").parse::<Tag>().ok();
        let Some(index) = tag.and_then(|tag| tags.get(&tag)) else { return Ok(Vec::new()) };
        let index = registry.manifest(name, index).await?;
        Ok(index.iter().flat_map(Manifest::children).map(|child| child.digest).collect())
    }

    /// The bytes of a blob from a position on.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn blob(&self, name: &str, digest: &Digest, from: u64) -> Result<Body, RegistryError> {
        match self {
            Self::Registry { registry, .. } => Ok(Body::Remote(registry.blob(name, digest, from).await?)),
            Self::Layout(layout) => Ok(Body::File(layout.blob(digest, from).await?)),
        }
    }
}

impl Roots {
    fn add(&mut self, tag: &str, digest: Digest) {
        match tag.parse() {
            Ok(tag) => drop(self.tags.insert(tag, digest)),
            Err(_) => {
                self.unusable.push(tag.to_owned());
                self.untagged.insert(digest);
            }
        }
    }
}

async fn exists(registry: &Registry, path: &str) -> anyhow::Result<bool> {
    match registry.tags(path).await {
        Ok(tags) => Ok(tags.is_some()),
        // A path that is no repository may be one that the user may not ask for either.
        Err(RegistryError::Refused { status, .. }) if status == 400 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The rest of a blob.
pub enum Body {
    /// From a registry.
    Remote(BlobBody),
    /// From a file.
    File(FileBody),
}

impl Body {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        match self {
            Self::Remote(body) => body.next().await,
            Self::File(body) => body.next().await,
        }
    }
}
