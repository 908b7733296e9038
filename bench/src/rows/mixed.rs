//! Rows that read and write.

use super::{Contents, Plan, pull};
use crate::content::Image;
use crate::load::Load;
use crate::server::Server;

/// Nine pulls of images that are there, then a push of a new one.
pub fn mixed<'a>(server: &'a Server, contents: &'a Contents, plan: &Plan) -> anyhow::Result<Load<'a>> {
    const REPOSITORY: &str = "bench/mixed";
    let stem = contents.small();
    let images = pull::images(server, contents, REPOSITORY, plan.either(32, 100))?;
    Ok(Load::timed(move |client, number| {
        if number % 10 == 9 {
            let image = Image::new(stem, 8);
            client.push_image(REPOSITORY, &format!("new-{number}"), &image)?;
            return Ok(image.bytes());
        }
        let place = number as usize % images.len();
        client.pull_image(REPOSITORY, &format!("v{place}"), &images[place])
    }))
}
