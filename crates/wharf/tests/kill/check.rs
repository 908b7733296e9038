//! What a restarted server has, held against what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::{Blob, Image};
use crate::ledger::{Claims, FIXED, Ledger, State, Upload, remember};
use crate::wire::{Answer, Client};

/// A look at the server after some kills.
pub struct Found {
    pub client: Client,
    pub kills: u64,
}

impl Found {
    fn send(&mut self, method: &str, target: &str) -> Answer {
        self.client.send(method, target, &[], b"").unwrap()
    }

    /// Checks one client's things, and settles what it had under way.
    pub fn check(&mut self, ledger: &mut Ledger) {
        self.check_state(ledger);
        self.check_upload(ledger);
        let repository = ledger.repository();
        for digest in &ledger.gone_blobs {
            let answer = self.send("GET", &format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!(answer.status, 404, "after {} kills the deleted blob {digest} is back", self.kills);
        }
        for location in &ledger.gone_uploads {
            let answer = self.send("GET", location);
            assert_eq!(answer.status, 404, "after {} kills the upload {location} is back", self.kills);
        }
    }

    /// The state is the acknowledged one, or that with the change under way.
    fn check_state(&mut self, ledger: &mut Ledger) {
        let before = &ledger.state;
        let after = ledger.under_way.as_ref().map_or_else(|| before.clone(), |change| before.after(change));
        let mut known: BTreeMap<String, Option<Arc<Image>>> =
            ledger.gone.iter().map(|digest| (digest.clone(), None)).collect();
        let both = before.images.iter().chain(&after.images);
        known.extend(both.map(|(digest, image)| (digest.clone(), Some(image.clone()))));
        let found = State {
            images: self.images(ledger.repository(), &known),
            tags: self.tags(ledger.repository(), &format!("w{}-", ledger.number), ""),
        };
        if ledger.under_way.is_some() {
            ledger.tally.under_way += 1;
        }
        if found == *before {
            ledger.under_way = None;
        } else {
            assert_eq!(
                summary(&found),
                summary(&after),
                "after {} kills client {} finds neither what was acknowledged ({:?}) nor that and {:?}",
                self.kills,
                ledger.number,
                summary(before),
                ledger.under_way,
            );
            ledger.tally.happened += 1;
            ledger.happened();
        }
        let images: Vec<Arc<Image>> = ledger.state.images.values().cloned().collect();
        let blobs = images.iter().flat_map(|image| &image.blobs);
        let blobs: BTreeMap<&str, &Blob> = blobs.map(|blob| (blob.digest.as_str(), blob)).collect();
        for blob in blobs.into_values() {
            self.check_blob(ledger.repository(), blob);
        }
    }

    /// Which of the known images are there, every byte of their manifests as it was.
    fn images(
        &mut self,
        repository: &str,
        known: &BTreeMap<String, Option<Arc<Image>>>,
    ) -> BTreeMap<String, Arc<Image>> {
        let mut found = BTreeMap::new();
        for (digest, image) in known {
            let answer = self.send("GET", &format!("/v2/{repository}/manifests/{digest}"));
            if answer.status == 404 {
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            let Some(image) = image else {
                panic!("after {} kills the deleted image {digest} is back", self.kills)
            };
            assert!(answer.body == image.manifest, "{digest} is not what was pushed: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some(image.media_type));
            found.insert(digest.clone(), image.clone());
        }
        found
    }

    /// The listed tags after `after` that begin so, each with the digest it pulls.
    fn tags(&mut self, repository: &str, prefix: &str, after: &str) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::new();
        let mut last = after.to_owned();
        loop {
            let list = self.send("GET", &format!("/v2/{repository}/tags/list?n=200&last={last}"));
            assert_eq!(list.status, 200, "{}", list.text());
            let list = list.json();
            let names: Vec<&str> =
                list["tags"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            for name in names.iter().filter(|name| name.starts_with(prefix)) {
                let answer = self.send("GET", &format!("/v2/{repository}/manifests/{name}"));
                assert_eq!(answer.status, 200, "the listed tag {name} cannot be pulled: {}", answer.text());
                tags.insert((*name).to_owned(), answer.header("docker-content-digest").unwrap().to_owned());
            }
            match names.last() {
                Some(name) if names.len() == 200 => last = (*name).to_owned(),
                _ => return tags,
            }
        }
    }

    fn check_blob(&mut self, repository: &str, blob: &Blob) {
        let answer = self.send("GET", &format!("/v2/{repository}/blobs/{}", blob.digest));
        assert_eq!(
            answer.status,
            200,
            "after {} kills {} is gone: {}",
            self.kills,
            blob.digest,
            answer.text()
        );
        assert!(answer.body[..] == blob.content[..], "after {} kills {} is changed", self.kills, blob.digest);
    }

    /// An interrupted upload goes on from what was acknowledged, or from later bytes that were sent.
    fn check_upload(&mut self, ledger: &mut Ledger) {
        let Some(upload) = ledger.upload.take() else { return };
        let answer = self.send("GET", &upload.location);
        if answer.status == 404 && upload.ending {
            remember(&mut ledger.gone_uploads, upload.location);
            return;
        }
        assert_eq!(answer.status, 204, "after {} kills an upload is lost: {upload:?}", self.kills);
        let range = answer.header("range").unwrap();
        let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        let received = if last == 0 { 0 } else { last + 1 };
        assert!(
            (upload.acknowledged..=upload.sent).contains(&received),
            "an upload stands at {received}, {} were acknowledged and {} sent",
            upload.acknowledged,
            upload.sent
        );
        ledger.tally.resumed += 1;
        ledger.tally.resumed_with_bytes += u64::from(received > 0);
        self.resume(ledger, upload, received);
    }

    fn resume(&mut self, ledger: &mut Ledger, upload: Upload, received: usize) {
        let Upload { location, blob, .. } = upload;
        let repository = location.strip_prefix("/v2/").and_then(|rest| rest.split_once("/blobs/")).unwrap().0;
        let target = format!("{location}?digest={}", blob.digest);
        let answer = self.client.send("PUT", &target, &[], &blob.content[received..]).unwrap();
        assert_eq!(answer.status, 201, "a resumed upload: {}", answer.text());
        self.check_blob(repository, &blob);
        remember(&mut ledger.gone_uploads, location);
    }

    /// An immutable tag is what its winner was told; a loser was told the truth. Looks at the newest, sometimes at all.
    pub fn check_claims(&mut self, claims: &Claims) {
        let mut claims = claims.0.lock().unwrap();
        let after = claims
            .keys()
            .rev()
            .nth(40)
            .filter(|_| !self.kills.is_multiple_of(20))
            .cloned()
            .unwrap_or_default();
        let found = self.tags(FIXED, "c", &after);
        for (name, claim) in claims.iter_mut().filter(|(name, _)| **name > after) {
            let digest = found.get(name);
            if let Some(winner) = &claim.acknowledged {
                assert_eq!(digest, Some(&winner.digest), "{name} was given away, {} kills", self.kills);
                continue;
            }
            let winner = digest.map(|digest| claim.tried.iter().find(|image| image.digest == *digest));
            match winner {
                None => assert!(!claim.refused, "{name} was refused as taken and is not there"),
                Some(None) => panic!("{name} is {digest:?}, which nobody pushed there"),
                Some(Some(image)) => claim.acknowledged = Some(image.clone()),
            }
        }
        for name in found.keys() {
            assert!(claims.contains_key(name), "nobody pushed {name}");
        }
    }
}

fn summary(state: &State) -> (Vec<&String>, &BTreeMap<String, String>) {
    (state.images.keys().collect(), &state.tags)
}
