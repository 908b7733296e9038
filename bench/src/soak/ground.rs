//! What a soak begins with: images that are pulled, mounted, tagged and referred to, and never go away.

use anyhow::ensure;

use crate::client::Client;
use crate::content::{self, Blob, Image, Stem};
use crate::load;
use crate::server::Server;

/// Images that stay, with many tags.
pub const BASE: &str = "soak/base";
/// Blobs that are not small.
pub const LARGE: &str = "soak/large";
/// Images that come, are pulled and go.
pub const FRESH: &str = "soak/fresh";
/// The same few images, pushed and deleted by everybody.
pub const CONTESTED: &str = "soak/contested";
/// Tags that come and go.
pub const TAGS: &str = "soak/tags";
/// Referrers that come and go.
pub const REFERRERS: &str = "soak/referrers";
/// How many repositories are mounted into.
pub const MOUNTS: u64 = 8;

const IMAGES: usize = 24;
const BLOBS: usize = 4;
const TAG_COUNT: u64 = 1500;

/// What the blobs of a soak are made of.
pub struct Stems {
    small: Stem,
    medium: Stem,
    large: Stem,
}

impl Stems {
    /// Of 16 KiB, 4 MiB and 16 MiB.
    pub fn new() -> Self {
        Self { small: Stem::new(16 << 10), medium: Stem::new(4 << 20), large: Stem::new(16 << 20) }
    }
}

/// The ground all clients stand on.
pub struct Ground<'a> {
    /// Images of [`BASE`], tagged `v0` and so on.
    pub base: Vec<Image<'a>>,
    /// Blobs of [`LARGE`].
    pub large: Vec<Blob<'a>>,
    /// Images of [`CONTESTED`].
    pub contested: Vec<Image<'a>>,
    /// What small blobs are made of.
    pub small: &'a Stem,
    /// What larger blobs are made of.
    pub medium: &'a Stem,
    /// Bytes of the list of [`BASE`]'s tags.
    pub listed: u64,
}

/// The first page of the tags of [`BASE`].
pub fn base_tags() -> String {
    format!("/v2/{BASE}/tags/list?n=200")
}

/// A repository that is mounted into.
pub fn mount(number: u64) -> String {
    format!("soak/mount-{}", number % MOUNTS)
}

impl<'a> Ground<'a> {
    /// Makes the repositories and pushes what stays.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn prepare(server: &Server, stems: &'a Stems) -> anyhow::Result<Self> {
        let Stems { small, medium, large } = stems;
        let names = [BASE, LARGE, FRESH, CONTESTED, TAGS, REFERRERS].map(str::to_owned);
        server.create_repositories(names.into_iter().chain((0..MOUNTS).map(mount)))?;
        let mut client = Client::connect(server)?;
        let base: Vec<_> = (0..IMAGES).map(|_| Image::new(small, 4)).collect();
        for (number, image) in base.iter().enumerate() {
            client.push_image(BASE, &format!("v{number}"), image)?;
        }
        for repository in [TAGS, REFERRERS] {
            client.mount_image(BASE, repository, "v0", &base[0])?;
        }
        load::all(server, TAG_COUNT, |client, number| {
            let image = &base[number as usize % base.len()];
            client.put_manifest(BASE, &format!("t{number:05}"), &image.manifest)?;
            Ok(0)
        })?;
        let large: Vec<_> = (0..BLOBS).map(|_| large.blob()).collect();
        for blob in &large {
            client.push_put(LARGE, &blob.parts(), &blob.digest)?;
        }
        // Named by an image, or the collector would take them.
        let layers: Vec<_> = large.iter().map(|blob| (blob.digest.as_str(), blob.len())).collect();
        let config = &base[0];
        client.push_put(LARGE, &[&config.config], &config.config_digest)?;
        let image = content::manifest((&config.config_digest, config.config.len()), &layers, "");
        client.put_manifest(LARGE, "all", &image)?;
        let listed = client.count(&base_tags(), "tags")?;
        ensure!(listed as u64 == TAG_COUNT + IMAGES as u64, "{listed} tags are listed");
        let listed = client.walk(&server.head("GET", &base_tags(), ""))?;
        let contested = (0..8).map(|_| Image::new(small, 2)).collect();
        Ok(Self { base, large, contested, small, medium, listed })
    }
}
