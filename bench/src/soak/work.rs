//! What a client of the soak does: one thing after another, by lot.

use anyhow::ensure;

use super::ground::{self, BASE, CONTESTED, FRESH, Ground, LARGE, REFERRERS, TAGS};
use crate::client::Client;
use crate::content::{self, Image};

/// Images of its own that a client keeps in [`FRESH`].
const KEPT: usize = 8;

/// One client's memory.
pub struct Worker {
    number: u64,
    lot: u64,
    steps: u64,
    kept: [Option<String>; KEPT],
}

impl Worker {
    /// The client of this number, which always draws the same lots.
    pub fn new(number: u64) -> Self {
        Self { number, lot: 0x9e37_79b9_7f4a_7c15 ^ (number + 1), steps: 0, kept: Default::default() }
    }

    /// A number under `bound` (xorshift64*).
    pub fn random(&mut self, bound: u64) -> u64 {
        self.lot ^= self.lot >> 12;
        self.lot ^= self.lot << 25;
        self.lot ^= self.lot >> 27;
        (self.lot.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// Does one thing and checks all that is answered.
    ///
    /// # Errors
    /// If an answer is not what it has to be.
    pub fn step(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        self.steps += 1;
        let place = self.random(ground.base.len() as u64) as usize;
        let image = &ground.base[place];
        match self.random(100) {
            0..30 => client.pull_image(BASE, &format!("v{place}"), image).map(drop),
            30..38 => self.pull_large(client, ground),
            38..50 => self.push_fresh(client, ground),
            50..53 => self.push_large(client, ground),
            53..63 => client.push_again(BASE, &format!("v{place}"), image),
            63..70 => self.mount(client, image),
            70..75 => self.contest(client, ground),
            75..85 => self.retag(client, ground),
            85..95 => list(client, ground),
            _ => self.refer(client, &ground.base[0]),
        }
    }

    fn pull_large(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        let blob = &ground.large[self.random(ground.large.len() as u64) as usize];
        let target = format!("/v2/{LARGE}/blobs/{}", blob.digest);
        // Mostly a part of it: eight whole ones at once would leave no room for anything else.
        let (range, length, status) = match self.random(8) {
            0 => (String::new(), blob.len() as u64, 200),
            _ => {
                let (from, length) = (self.random(blob.len() as u64 - (1 << 20)), 1_u64 << 20);
                (format!("Range: bytes={from}-{}\r\n", from + length - 1), length, 206)
            }
        };
        let answer = client.repeat(&client.server.head("GET", &target, &range), status)?;
        ensure!(answer.received == length, "{} of {length} bytes came", answer.received);
        Ok(())
    }

    /// A new image takes the place of an old one, which is deleted.
    fn push_fresh(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        let (image, place) = (Image::new(ground.small, 3), self.random(KEPT as u64) as usize);
        let tag = format!("w{}-{place}", self.number);
        client.push_image(FRESH, &tag, &image)?;
        client.pull_image(FRESH, &tag, &image)?;
        match self.kept[place].replace(image.digest) {
            Some(old) => client.delete(&format!("/v2/{FRESH}/manifests/{old}"), &[202]),
            None => Ok(()),
        }
    }

    fn push_large(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        let blob = ground.medium.blob();
        match self.random(3) {
            0 => client.push_put(LARGE, &blob.parts(), &blob.digest)?,
            1 => client.push_stream(LARGE, &blob)?,
            _ => client.push_chunks(LARGE, &blob)?,
        }
        // Half of them are left to the collector.
        match self.random(2) {
            0 => client.delete(&format!("/v2/{LARGE}/blobs/{}", blob.digest), &[202]),
            _ => Ok(()),
        }
    }

    fn mount(&mut self, client: &mut Client<'_>, image: &Image<'_>) -> anyhow::Result<()> {
        let to = ground::mount(self.random(ground::MOUNTS));
        client.mount_image(BASE, &to, &format!("w{}", self.number), image)?;
        // Another client may have deleted it meanwhile.
        client.delete(&format!("/v2/{to}/manifests/{}", image.digest), &[202, 404])
    }

    /// Pushes what others push and delete at the same moment.
    fn contest(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        let image = &ground.contested[self.random(ground.contested.len() as u64) as usize];
        client.push_image(CONTESTED, &format!("w{}", self.number), image)?;
        client.delete(&format!("/v2/{CONTESTED}/manifests/{}", image.digest), &[202, 404])
    }

    /// Moves a tag, and makes one, which the list must show at once, and removes it, which the list must show too.
    fn retag(&mut self, client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
        let image = &ground.base[0];
        client.put_manifest(BASE, "moving", &ground.base[self.random(24) as usize].manifest)?;
        client.delete(&format!("/v2/{BASE}/manifests/moving"), &[202, 404])?;
        let tag = format!("w{}-{}", self.number, self.steps);
        client.put_manifest(TAGS, &tag, &image.manifest)?;
        let (page, shown) =
            (format!("/v2/{TAGS}/tags/list?n=1&last=w{}-", self.number), format!("\"{tag}\""));
        ensure!(says(client, &page, &shown)?, "{page} does not list {tag}, which was just put");
        client.delete(&format!("/v2/{TAGS}/manifests/{tag}"), &[202])?;
        ensure!(!says(client, &page, &shown)?, "{page} lists {tag}, which was just deleted");
        Ok(())
    }

    /// The same with a referrer.
    fn refer(&mut self, client: &mut Client<'_>, subject: &Image<'_>) -> anyhow::Result<()> {
        let layer = &subject.layers[0];
        let manifest = content::manifest(
            (&subject.config_digest, subject.config.len()),
            &[(&layer.digest, layer.len())],
            &format!(
                r#","artifactType":"application/vnd.example.sbom","annotations":{{"number":"{}"}},"subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                content::fresh(),
                content::MANIFEST,
                subject.digest,
                subject.manifest.len()
            ),
        );
        let digest = content::digest(&manifest);
        client.put_manifest(REFERRERS, &digest, &manifest)?;
        let list = format!("/v2/{REFERRERS}/referrers/{}", subject.digest);
        ensure!(says(client, &list, &digest)?, "{list} does not list {digest}, which was just put");
        client.delete(&format!("/v2/{REFERRERS}/manifests/{digest}"), &[202])?;
        ensure!(!says(client, &list, &digest)?, "{list} lists {digest}, which was just deleted");
        Ok(())
    }
}

/// All tags of the base, which never change but for one.
fn list(client: &mut Client<'_>, ground: &Ground<'_>) -> anyhow::Result<()> {
    let bytes = client.walk(&client.server.head("GET", &ground::base_tags(), ""))?;
    let moving = "\"moving\",".len() as u64;
    ensure!(
        bytes == ground.listed || bytes == ground.listed + moving,
        "the list of tags has {bytes} bytes, not {}",
        ground.listed
    );
    Ok(())
}

fn says(client: &mut Client<'_>, target: &str, text: &str) -> anyhow::Result<bool> {
    let answer = client.read(target, "")?;
    Ok(String::from_utf8_lossy(&answer.body).contains(text))
}
