//! Rows that list.

use std::fs;

use anyhow::{Context as _, ensure};

use super::{Contents, Plan};
use crate::client::Client;
use crate::content::{self, Image};
use crate::load::{self, Load};
use crate::server::{Kind, Server};

const REPOSITORY: &str = "bench/list";

pub fn tags_10k<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    tags(server, contents, 10_000)
}

pub fn tags_100k<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    tags(server, contents, 100_000)
}

fn tags<'a>(server: &'a Server, contents: &Contents, count: u64) -> anyhow::Result<Load<'a>> {
    fill(server, contents, count)?;
    walked(server, &format!("/v2/{REPOSITORY}/tags/list?n=1000"), "tags", count)
}

/// The whole listing again and again, after it was counted once.
fn walked<'a>(server: &'a Server, first: &str, name: &str, count: u64) -> anyhow::Result<Load<'a>> {
    let mut client = Client::connect(server)?;
    let listed = client.count(first, name)?;
    ensure!(listed as u64 == count, "{first} lists {listed} of {count}");
    let head = server.head("GET", first, "");
    let length = client.walk(&head)?;
    Ok(Load::timed(move |client, _| {
        let bytes = client.walk(&head)?;
        ensure!(bytes == length, "{bytes} bytes came, not {length}");
        Ok(bytes)
    }))
}

/// A repository of `count` images with one tag each. docker-registry takes minutes to accept so many, and lists the
/// directories of tags: they are made directly.
pub fn fill(server: &Server, contents: &Contents, count: u64) -> anyhow::Result<()> {
    server.create_repository(REPOSITORY)?;
    let image = Image::new(contents.small(), 1);
    Client::connect(server)?.push_image(REPOSITORY, "tag-000000", &image)?;
    if server.kind == Kind::DockerRegistry {
        let tags = server
            .directory
            .join(format!("data/docker/registry/v2/repositories/{REPOSITORY}/_manifests/tags"));
        ensure!(tags.join("tag-000000/current/link").exists(), "docker-registry keeps tags elsewhere");
        for number in 1..count {
            let current = tags.join(format!("tag-{number:06}/current"));
            fs::create_dir_all(&current)?;
            fs::write(current.join("link"), &image.digest)?;
        }
        return Ok(());
    }
    let layer = &image.layers[0];
    load::all(server, count - 1, |client, number| {
        let manifest = content::manifest(
            (&image.config_digest, image.config.len()),
            &[(&layer.digest, layer.len())],
            &format!(r#","annotations":{{"number":"{number}"}}"#),
        );
        client.put_manifest(REPOSITORY, &format!("tag-{:06}", number + 1), &manifest)?;
        Ok(0)
    })
    .with_context(|| format!("cannot push {count} images"))
}

pub fn catalog<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    const COUNT: u64 = 1000;
    let name = |number: u64| format!("bench/catalog-{number:04}");
    server.create_repositories((0..COUNT).map(name))?;
    load::all(server, COUNT, |client, number| {
        client.push_image(&name(number), "v1", &Image::new(contents.small(), 1))?;
        Ok(0)
    })?;
    walked(server, "/v2/_catalog?n=1000", "repositories", COUNT)
}

pub fn referrers<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    const COUNT: u64 = 100;
    server.create_repository(REPOSITORY)?;
    let image = Image::new(contents.small(), 1);
    let mut client = Client::connect(server)?;
    client.push_image(REPOSITORY, "v1", &image)?;
    let layer = &image.layers[0];
    for number in 0..COUNT {
        let manifest = content::manifest(
            (&image.config_digest, image.config.len()),
            &[(&layer.digest, layer.len())],
            &format!(
                r#","artifactType":"application/vnd.example.sbom","annotations":{{"number":"{number}"}},"subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                content::MANIFEST,
                image.digest,
                image.manifest.len()
            ),
        );
        client.put_manifest(REPOSITORY, &content::digest(&manifest), &manifest)?;
    }
    walked(server, &format!("/v2/{REPOSITORY}/referrers/{}", image.digest), "manifests", COUNT)
}
