//! Rows that only read.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;

use super::{Contents, Plan};
use crate::client::Client;
use crate::content::{self, Image, MANIFEST};
use crate::load::{self, Load};
use crate::server::Server;

const REPOSITORY: &str = "bench/pull";

/// One image of 8 small layers under the tag `v1`.
fn one_image<'a>(server: &Server, contents: &'a Contents) -> anyhow::Result<Image<'a>> {
    server.create_repository(REPOSITORY)?;
    let image = Image::new(contents.small(), 8);
    Client::connect(server)?.push_image(REPOSITORY, "v1", &image)?;
    Ok(image)
}

/// The same request again and again, its answer's length checked.
fn repeated<'a>(server: &'a Server, method: &str, target: &str, length: usize) -> anyhow::Result<Load<'a>> {
    let head = server.head(method, target, &format!("Accept: {MANIFEST}\r\n"));
    Ok(Load::timed(move |client, _| {
        let received = client.repeat(&head, 200)?.received;
        ensure!(received == length as u64, "{received} bytes came, not {length}");
        Ok(received)
    }))
}

pub fn manifest_by_tag<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    let image = one_image(server, contents)?;
    let target = format!("/v2/{REPOSITORY}/manifests/v1");
    let read = Client::connect(server)?.read(&target, &format!("Accept: {MANIFEST}\r\n"))?;
    ensure!(read.body == image.manifest, "the manifest is not the one that was put");
    repeated(server, "GET", &target, image.manifest.len())
}

pub fn manifest_by_digest<'a>(
    server: &'a Server,
    contents: &'a Contents,
    _: &Plan,
) -> anyhow::Result<Load<'a>> {
    let image = one_image(server, contents)?;
    repeated(server, "GET", &format!("/v2/{REPOSITORY}/manifests/{}", image.digest), image.manifest.len())
}

pub fn manifest_head<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    one_image(server, contents)?;
    repeated(server, "HEAD", &format!("/v2/{REPOSITORY}/manifests/v1"), 0)
}

pub fn blob_head<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    let image = one_image(server, contents)?;
    repeated(server, "HEAD", &format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest), 0)
}

/// Images in a repository, each under the tag of its place.
pub fn images<'a>(
    server: &Server,
    contents: &'a Contents,
    repository: &str,
    count: usize,
) -> anyhow::Result<Vec<Image<'a>>> {
    server.create_repository(repository)?;
    let images: Vec<_> = (0..count).map(|_| Image::new(contents.small(), 8)).collect();
    load::all(server, count as u64, |client, number| {
        client.push_image(repository, &format!("v{number}"), &images[number as usize])?;
        Ok(0)
    })?;
    Ok(images)
}

pub fn small<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    let images = images(server, contents, REPOSITORY, plan.either(32, 100))?;
    Ok(Load::timed(move |client, number| {
        let place = number as usize % images.len();
        client.pull_image(REPOSITORY, &format!("v{place}"), &images[place])
    }))
}

/// Pushes a blob of 128 MiB, reads it back whole, compares, and returns its address.
fn huge_blob(server: &Server, contents: &Contents, verify: bool) -> anyhow::Result<String> {
    let blob = contents.huge().blob();
    let mut client = Client::connect(server)?;
    client.push_put(REPOSITORY, &blob.parts(), &blob.digest)?;
    let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    if verify {
        let body = client.read(&target, "")?.body;
        ensure!(content::digest(&body) == blob.digest, "the blob is not the one that was pushed");
    }
    Ok(target)
}

pub fn ranges<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    const LENGTH: u64 = 64 << 10;
    server.create_repository(REPOSITORY)?;
    let target = huge_blob(server, contents, true)?;
    let places = (128_u64 << 20) - LENGTH;
    let state = AtomicU64::new(1);
    Ok(Load::timed(move |client, _| {
        // splitmix64: any place, on the boundary of nothing.
        let mut place = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        place = (place ^ (place >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let first = (place ^ (place >> 27)) % places;
        let more = format!("Range: bytes={first}-{}\r\n", first + LENGTH - 1);
        let head = client.server.head("GET", &target, &more);
        let received = client.repeat(&head, 206)?.received;
        ensure!(received == LENGTH, "{received} bytes came");
        Ok(received)
    }))
}

pub fn large<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    server.create_repository(REPOSITORY)?;
    let mut heads = Vec::new();
    for number in 0..4 {
        let target = huge_blob(server, contents, number == 0)?;
        heads.push(server.head("GET", &target, ""));
    }
    Ok(Load::timed(move |client, number| {
        let received = client.repeat(&heads[number as usize % heads.len()], 200)?.received;
        ensure!(received == 128 << 20, "{received} bytes came");
        Ok(received)
    }))
}
