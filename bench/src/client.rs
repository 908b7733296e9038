//! What a container client does, request by request.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::content::{Blob, Image, MANIFEST};
use crate::http::{Answer, Connection, Keep};
use crate::server::Server;

/// Largest piece of a chunked upload.
const CHUNK: usize = 8 << 20;

/// One client with one connection, which times each of its requests.
pub struct Client<'a> {
    /// Whose client it is.
    pub server: &'a Server,
    /// What each request took, in microseconds, since this was last emptied.
    pub request_times: Vec<u32>,
    connection: Connection,
}

impl<'a> Client<'a> {
    /// Connects.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn connect(server: &'a Server) -> anyhow::Result<Self> {
        Ok(Self { server, request_times: Vec::new(), connection: Connection::open(server.address)? })
    }

    /// Sends a request that was made before, and expects `status`.
    ///
    /// # Errors
    /// If the connection fails or another status comes.
    pub fn repeat(&mut self, head: &[u8], status: u16) -> anyhow::Result<Answer> {
        self.expect(status, head, &[], Keep::Nothing)
    }

    /// Sends `GET`, expects 200 and keeps the body.
    ///
    /// # Errors
    /// As [`Self::repeat`].
    pub fn read(&mut self, target: &str, more: &str) -> anyhow::Result<Answer> {
        let head = self.server.head("GET", target, more);
        self.expect(200, &head, &[], Keep::Body)
    }

    fn expect(&mut self, status: u16, head: &[u8], body: &[&[u8]], keep: Keep) -> anyhow::Result<Answer> {
        let head_only = head.starts_with(b"HEAD ");
        let begun = Instant::now();
        let answer = self.connection.exchange(head, body, head_only, keep)?;
        self.timed(begun);
        check(head, &answer, status)?;
        Ok(answer)
    }

    fn timed(&mut self, begun: Instant) {
        self.request_times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    fn send(&mut self, method: &str, target: &str, body: &[&[u8]], status: u16) -> anyhow::Result<Answer> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let more = format!("Content-Length: {length}\r\nContent-Type: application/octet-stream\r\n");
        let head = self.server.head(method, target, &more);
        self.expect(status, &head, body, Keep::Nothing)
    }

    /// Sends `DELETE`, and expects one of `statuses`.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn delete(&mut self, target: &str, statuses: &[u16]) -> anyhow::Result<()> {
        let head = self.server.head("DELETE", target, "");
        let begun = Instant::now();
        let answer = self.connection.exchange(&head, &[], false, Keep::Nothing)?;
        self.timed(begun);
        let expected = statuses.iter().find(|status| **status == answer.status).or(statuses.first());
        check(&head, &answer, expected.copied().unwrap_or(202))
    }

    fn begin_upload(&mut self, repository: &str) -> anyhow::Result<String> {
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], 202)?;
        answer.location.context("an upload without a Location")
    }

    /// Pushes a blob: `POST`, then all of it with `PUT`.
    ///
    /// # Errors
    /// As [`Self::repeat`], as for all that follow.
    pub fn push_put(&mut self, repository: &str, body: &[&[u8]], digest: &str) -> anyhow::Result<()> {
        let location = self.begin_upload(repository)?;
        self.send("PUT", &with_digest(&location, digest), body, 201)?;
        Ok(())
    }

    /// Pushes a blob: `POST`, one `PATCH` of unknown length, then an empty `PUT`.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn push_stream(&mut self, repository: &str, blob: &Blob<'_>) -> anyhow::Result<()> {
        let location = self.begin_upload(repository)?;
        let more = "Transfer-Encoding: chunked\r\nContent-Type: application/octet-stream\r\n";
        let head = self.server.head("PATCH", &location, more);
        let begun = Instant::now();
        let answer = self.connection.exchange_chunked(&head, &blob.parts())?;
        self.timed(begun);
        check(&head, &answer, 202)?;
        let location = answer.location.context("an upload without a Location")?;
        self.send("PUT", &with_digest(&location, &blob.digest), &[], 201)?;
        Ok(())
    }

    /// Pushes a blob: `POST`, a `PATCH` for each 8 MiB, then an empty `PUT`.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn push_chunks(&mut self, repository: &str, blob: &Blob<'_>) -> anyhow::Result<()> {
        let mut location = self.begin_upload(repository)?;
        let [stem, tail] = blob.parts();
        let mut sent = 0;
        while sent < blob.len() {
            let end = (sent + CHUNK).min(blob.len());
            // The tail goes with the last chunk.
            let parts = [
                &stem[sent.min(stem.len())..end.min(stem.len())],
                if end == blob.len() { tail } else { &[] },
            ];
            let more = format!(
                "Content-Length: {}\r\nContent-Range: {sent}-{}\r\nContent-Type: application/octet-stream\r\n",
                end - sent,
                end - 1
            );
            let head = self.server.head("PATCH", &location, &more);
            let answer = self.expect(202, &head, &parts, Keep::Nothing)?;
            location = answer.location.context("an upload without a Location")?;
            sent = end;
        }
        self.send("PUT", &with_digest(&location, &blob.digest), &[], 201)?;
        Ok(())
    }

    /// Puts an image manifest.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn put_manifest(&mut self, repository: &str, reference: &str, manifest: &[u8]) -> anyhow::Result<()> {
        let more = format!("Content-Length: {}\r\nContent-Type: {MANIFEST}\r\n", manifest.len());
        let head = self.server.head("PUT", &format!("/v2/{repository}/manifests/{reference}"), &more);
        self.expect(201, &head, &[manifest], Keep::Nothing)?;
        Ok(())
    }

    /// Pushes an image that is known to be new: its blobs, then its manifest.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn push_image(&mut self, repository: &str, tag: &str, image: &Image<'_>) -> anyhow::Result<()> {
        self.push_put(repository, &[&image.config], &image.config_digest)?;
        for layer in &image.layers {
            self.push_put(repository, &layer.parts(), &layer.digest)?;
        }
        self.put_manifest(repository, tag, &image.manifest)
    }

    /// Pushes an image that is there: looks for each blob, then puts the manifest.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn push_again(&mut self, repository: &str, tag: &str, image: &Image<'_>) -> anyhow::Result<()> {
        for digest in digests(image) {
            let head = self.server.head("HEAD", &format!("/v2/{repository}/blobs/{digest}"), "");
            self.repeat(&head, 200)?;
        }
        self.put_manifest(repository, tag, &image.manifest)
    }

    /// Pushes an image whose blobs another repository has.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn mount_image(&mut self, from: &str, to: &str, tag: &str, image: &Image<'_>) -> anyhow::Result<()> {
        for digest in digests(image) {
            self.send("POST", &format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}"), &[], 201)?;
        }
        self.put_manifest(to, tag, &image.manifest)
    }

    /// Pulls an image: its manifest by tag, then its blobs.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn pull_image(&mut self, repository: &str, tag: &str, image: &Image<'_>) -> anyhow::Result<u64> {
        let accept = format!("Accept: {MANIFEST}\r\n");
        let head = self.server.head("GET", &format!("/v2/{repository}/manifests/{tag}"), &accept);
        let mut bytes = self.repeat(&head, 200)?.received;
        for digest in digests(image) {
            let head = self.server.head("GET", &format!("/v2/{repository}/blobs/{digest}"), "");
            bytes += self.repeat(&head, 200)?.received;
        }
        ensure!(bytes == image.bytes(), "the image has {} bytes, {bytes} came", image.bytes());
        Ok(bytes)
    }

    /// Follows a listing to its end and returns the bytes of all its pages.
    ///
    /// # Errors
    /// See [`Self::repeat`].
    pub fn walk(&mut self, first: &[u8]) -> anyhow::Result<u64> {
        let answer = self.repeat(first, 200)?;
        let (mut bytes, mut next) = (answer.received, answer.next);
        while let Some(target) = next {
            let head = self.server.head("GET", &target, "");
            let answer = self.repeat(&head, 200)?;
            bytes += answer.received;
            next = answer.next;
        }
        Ok(bytes)
    }

    /// As [`Self::walk`], and counts the members of the list called `name`.
    ///
    /// # Errors
    /// See [`Self::repeat`]; if a page has no such list.
    pub fn count(&mut self, first: &str, name: &str) -> anyhow::Result<usize> {
        let (mut count, mut next) = (0, Some(first.to_owned()));
        while let Some(target) = next {
            let answer = self.read(&target, "")?;
            let page: serde_json::Value = serde_json::from_slice(&answer.body)?;
            count += page[name].as_array().with_context(|| format!("no `{name}` in {target}"))?.len();
            next = answer.next;
        }
        Ok(count)
    }
}

fn digests<'a>(image: &'a Image<'_>) -> impl Iterator<Item = &'a str> {
    std::iter::once(image.config_digest.as_str())
        .chain(image.layers.iter().map(|layer| layer.digest.as_str()))
}

fn with_digest(location: &str, digest: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

fn check(head: &[u8], answer: &Answer, status: u16) -> anyhow::Result<()> {
    if answer.status == status {
        return Ok(());
    }
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next().unwrap_or_default();
    anyhow::bail!("{line} is answered with {}, expected {status}", answer.status)
}
