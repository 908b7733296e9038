//! A container client that pushes, moves tags and deletes until the server is gone.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::content::{Blob, Image, Pool};
use crate::ledger::{Change, Claims, FIXED, Ledger, Upload, remember};
use crate::wire::random::Random;
use crate::wire::{Answer, Client};

/// Images a client keeps.
const IMAGES: usize = 7;
/// Tags a client moves about.
const TAGS: u64 = 5;

pub struct Worker<'a> {
    pub client: Client,
    pub ledger: &'a mut Ledger,
    pub pool: &'a Pool,
    pub claims: &'a Claims,
    pub random: Random,
}

impl Worker<'_> {
    /// Works until the connection breaks, and says how; tells of each step.
    pub fn work(mut self, steps: &Sender<()>) -> io::Error {
        loop {
            if let Err(error) = self.step() {
                return error;
            }
            // Nobody counts any more when the kill is near.
            let _ = steps.send(());
        }
    }

    fn step(&mut self) -> io::Result<()> {
        let some = self.random.choice(&self.images()).cloned();
        match (some, self.random.below(100)) {
            (Some(image), _) if self.ledger.state.images.len() > IMAGES => self.delete_image(&image),
            (Some(image), 0..15) => {
                let tag = self.tag();
                self.put(image, Some(tag))
            }
            (Some(_), 15..23) => self.delete_tag(),
            (Some(image), 23..31) => self.delete_image(&image),
            (Some(image), 31..40) => self.push_index(image),
            (_, 40..52) => self.claim(),
            (_, 52..57) => self.cancel_an_upload(),
            (_, 57..62) => self.delete_a_blob(),
            _ => self.push(),
        }
    }

    fn images(&self) -> Vec<Arc<Image>> {
        self.ledger.state.images.values().cloned().collect()
    }

    fn tag(&mut self) -> String {
        format!("w{}-{}", self.ledger.number, self.random.below(TAGS))
    }

    fn push(&mut self) -> io::Result<()> {
        let mut blobs = vec![Blob::random(&mut self.random)];
        for _ in 0..self.random.below(4) {
            let fresh = self.random.percent(30);
            let blob = if fresh { Blob::random(&mut self.random) } else { self.pool_blob() };
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        for blob in &blobs {
            self.push_blob(self.ledger.repository(), blob)?;
        }
        let image = Image::of(blobs, self.random.next());
        let tag = self.random.percent(75).then(|| self.tag());
        self.put(image, tag)
    }

    fn pool_blob(&mut self) -> Blob {
        self.random.choice(&self.pool.blobs).unwrap().clone()
    }

    fn push_index(&mut self, child: Arc<Image>) -> io::Result<()> {
        let mut children = vec![child];
        let other = self.random.choice(&self.images()).cloned();
        children.extend(other.filter(|other| other.digest != children[0].digest));
        let tag = self.random.percent(50).then(|| self.tag());
        let index = Image::index(&children, self.random.next());
        self.put(index, tag)
    }

    fn put(&mut self, image: Arc<Image>, tag: Option<String>) -> io::Result<()> {
        let reference = tag.clone().unwrap_or_else(|| image.digest.clone());
        self.ledger.under_way = Some(Change::Put { image: image.clone(), tag });
        let answer = self.put_manifest(self.ledger.repository(), &reference, &image)?;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest.as_str()));
        self.ledger.tally.puts += 1;
        self.ledger.happened();
        Ok(())
    }

    fn put_manifest(&mut self, repository: &str, reference: &str, image: &Image) -> io::Result<Answer> {
        let target = format!("/v2/{repository}/manifests/{reference}");
        self.client.send("PUT", &target, &[("content-type", image.media_type)], &image.manifest)
    }

    fn delete_tag(&mut self) -> io::Result<()> {
        let tags: Vec<String> = self.ledger.state.tags.keys().cloned().collect();
        let Some(tag) = self.random.choice(&tags).cloned() else { return Ok(()) };
        let target = format!("/v2/{}/manifests/{tag}", self.ledger.repository());
        self.delete(&target, Change::DeleteTag(tag))
    }

    fn delete_image(&mut self, image: &Image) -> io::Result<()> {
        let target = format!("/v2/{}/manifests/{}", self.ledger.repository(), image.digest);
        if self.ledger.state.is_child(&image.digest) {
            let answer = self.client.send("DELETE", &target, &[], b"")?;
            assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{}", answer.text());
            return Ok(());
        }
        self.delete(&target, Change::DeleteImage(image.digest.clone()))
    }

    fn delete(&mut self, target: &str, change: Change) -> io::Result<()> {
        self.ledger.under_way = Some(change);
        let answer = self.client.send("DELETE", target, &[], b"")?;
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.ledger.tally.deletes += 1;
        self.ledger.happened();
        Ok(())
    }

    /// Takes the next immutable tag, about which the other clients contend.
    fn claim(&mut self) -> io::Result<()> {
        self.push_blob(FIXED, &self.pool.config)?;
        let image = Image::of(vec![self.pool.config.clone()], self.random.next());
        let name = {
            let mut claims = self.claims.0.lock().unwrap();
            // The newest is tried by several clients before the next one is begun.
            let open =
                claims.iter().rev().find(|(_, claim)| claim.tried.len() < 3).map(|(name, _)| name.clone());
            let name = open.unwrap_or_else(|| format!("c{:06}", claims.len()));
            claims.entry(name.clone()).or_default().tried.push(image.clone());
            name
        };
        let answer = self.put_manifest(FIXED, &name, &image)?;
        let mut claims = self.claims.0.lock().unwrap();
        let claim = claims.get_mut(&name).unwrap();
        match (answer.status, answer.code().as_str()) {
            (201, _) => {
                let before = claim.acknowledged.replace(image);
                assert!(before.is_none(), "{name} was taken twice");
            }
            (400, "TAG_INVALID") => claim.refused = true,
            _ => panic!("{name}: {} {}", answer.status, answer.text()),
        }
        Ok(())
    }

    fn push_blob(&mut self, repository: &'static str, blob: &Blob) -> io::Result<()> {
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        let asks_first = self.ledger.trusts_head && self.random.percent(50);
        if asks_first && self.client.send("HEAD", &target, &[], b"")?.status == 200 {
            return Ok(());
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        match self.random.below(10) {
            0..2 => {
                let answer = self.client.send(
                    "POST",
                    &format!("{uploads}?digest={}", blob.digest),
                    &[],
                    &blob.content,
                )?;
                assert_eq!(answer.status, 201, "{}", answer.text());
                return Ok(());
            }
            2..6 if repository != FIXED => {
                let from = self.ledger.other_repository();
                let answer = self.client.send(
                    "POST",
                    &format!("{uploads}?mount={}&from={from}", blob.digest),
                    &[],
                    b"",
                )?;
                if answer.status == 201 {
                    self.ledger.tally.mounts += 1;
                    return Ok(());
                }
                self.begun(answer, blob);
            }
            _ => {
                let answer = self.client.send("POST", &uploads, &[], b"")?;
                self.begun(answer, blob);
            }
        }
        // Not for a few bytes: `0-0` is the range of one byte as well as that of none.
        if blob.content.len() >= 64 && self.random.percent(70) {
            let step = blob.content.len() / self.random.between(1, 4) + 1;
            while self.upload().acknowledged < blob.content.len() {
                self.append(step)?;
            }
        }
        self.finish()
    }

    fn begun(&mut self, answer: Answer, blob: &Blob) {
        assert_eq!(answer.status, 202, "{}", answer.text());
        let location = answer.header("location").unwrap().to_owned();
        self.ledger.upload =
            Some(Upload { location, blob: blob.clone(), acknowledged: 0, sent: 0, ending: false });
    }

    fn upload(&mut self) -> &mut Upload {
        self.ledger.upload.as_mut().unwrap()
    }

    /// Sends the next bytes, as a chunk or as a stream.
    fn append(&mut self, length: usize) -> io::Result<()> {
        let ranged = self.random.percent(60);
        let upload = self.upload();
        let (from, to) = (upload.acknowledged, (upload.acknowledged + length).min(upload.blob.content.len()));
        upload.sent = to;
        let upload = upload.clone();
        let range = format!("{from}-{}", to - 1);
        let headers: &[(&str, &str)] = if ranged { &[("content-range", &range)] } else { &[] };
        let answer = self.client.send("PATCH", &upload.location, headers, &upload.blob.content[from..to])?;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(answer.header("range"), Some(format!("0-{}", to - 1).as_str()));
        self.upload().acknowledged = to;
        self.ledger.tally.chunks += 1;
        Ok(())
    }

    /// Closes the upload with what was not sent yet.
    fn finish(&mut self) -> io::Result<()> {
        let upload = self.upload();
        upload.sent = upload.blob.content.len();
        upload.ending = true;
        let upload = upload.clone();
        let target = format!("{}?digest={}", upload.location, upload.blob.digest);
        let answer = self.client.send("PUT", &target, &[], &upload.blob.content[upload.acknowledged..])?;
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.upload_is_gone(upload);
        Ok(())
    }

    fn upload_is_gone(&mut self, upload: Upload) {
        self.ledger.upload = None;
        remember(&mut self.ledger.gone_uploads, upload.location);
    }

    fn cancel_an_upload(&mut self) -> io::Result<()> {
        let blob = Blob::sized(&mut self.random, 90_000);
        let uploads = format!("/v2/{}/blobs/uploads/", self.ledger.repository());
        let answer = self.client.send("POST", &uploads, &[], b"")?;
        self.begun(answer, &blob);
        self.append(70_000)?;
        self.upload().ending = true;
        let upload = self.upload().clone();
        let answer = self.client.send("DELETE", &upload.location, &[], b"")?;
        assert_eq!(answer.status, 204, "{}", answer.text());
        self.upload_is_gone(upload);
        Ok(())
    }

    /// Pushes a blob that nobody names and deletes it.
    fn delete_a_blob(&mut self) -> io::Result<()> {
        let blob = Blob::random(&mut self.random);
        let repository = self.ledger.repository();
        self.push_blob(repository, &blob)?;
        let answer =
            self.client.send("DELETE", &format!("/v2/{repository}/blobs/{}", blob.digest), &[], b"")?;
        assert_eq!(answer.status, 202, "{}", answer.text());
        remember(&mut self.ledger.gone_blobs, blob.digest);
        self.ledger.tally.deletes += 1;
        Ok(())
    }
}
