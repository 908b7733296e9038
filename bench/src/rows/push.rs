//! Rows that write.

use super::pull::images;
use super::{Contents, Plan};
use crate::client::Client;
use crate::content::Image;
use crate::load::Load;
use crate::server::Server;

const REPOSITORY: &str = "bench/push";

/// Pushes new blobs of 64 MiB.
fn large<'a>(
    server: &Server,
    contents: &'a Contents,
    steps: u64,
    push: impl Fn(&mut Client<'_>, &crate::content::Blob<'_>) -> anyhow::Result<()> + Sync + 'a,
) -> anyhow::Result<Load<'a>> {
    server.create_repository(REPOSITORY)?;
    let stem = contents.large();
    Ok(Load::counted(steps, move |client, _| {
        let blob = stem.blob();
        push(client, &blob)?;
        Ok(blob.len() as u64)
    }))
}

pub fn large_put<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    large(server, contents, plan.either(8, 24), |client, blob| {
        client.push_put(REPOSITORY, &blob.parts(), &blob.digest)
    })
}

pub fn large_stream<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    large(server, contents, plan.either(8, 24), |client, blob| client.push_stream(REPOSITORY, blob))
}

pub fn large_chunks<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    large(server, contents, plan.either(8, 24), |client, blob| client.push_chunks(REPOSITORY, blob))
}

pub fn concurrent<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    large(server, contents, 64, |client, blob| client.push_put(REPOSITORY, &blob.parts(), &blob.digest))
}

pub fn small<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    server.create_repository(REPOSITORY)?;
    let stem = contents.small();
    Ok(Load::timed(move |client, number| {
        let image = Image::new(stem, 8);
        client.push_image(REPOSITORY, &format!("v{number}"), &image)?;
        Ok(image.bytes())
    }))
}

pub fn existing<'a>(server: &'a Server, contents: &'a Contents, _: &Plan) -> anyhow::Result<Load<'a>> {
    let images = images(server, contents, REPOSITORY, 16)?;
    Ok(Load::timed(move |client, number| {
        let place = number as usize % images.len();
        client.push_again(REPOSITORY, &format!("v{place}"), &images[place])?;
        Ok(0)
    }))
}

/// Each step goes to a repository that has nothing yet, made before the clock starts.
pub fn mount<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    let images = images(server, contents, REPOSITORY, 16)?;
    let steps = plan.either(400, 2000);
    let name = |number: u64| format!("bench/mounted-{number}");
    server.create_repositories((0..steps * plan.samples()).map(name))?;
    Ok(Load::counted(steps, move |client, number| {
        client.mount_image(REPOSITORY, &name(number), "v1", &images[number as usize % images.len()])?;
        Ok(0)
    }))
}
