//! Pushing: blobs whole, in chunks or by mounting; manifests by digest, with their tags.

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use wharf_types::{Digest, Manifest, Tag};

use super::{ATTEMPTS, Ask, Registry, RegistryError, is_passing, pause};

/// An upload that was begun.
pub struct Upload<'a> {
    registry: &'a Registry,
    repository: &'a str,
    location: Url,
    /// Bytes that the registry has.
    at: u64,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The registry has it.
    Taken,
    /// The upload is gone, or not where it should be: begin anew.
    Lost,
}

impl Registry {
    /// Mounts a blob from another repository of the registry. `false` if that cannot be.
    ///
    /// # Errors
    /// If it fails.
    pub async fn mount(&self, repository: &str, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
        let ask = self.pushing(Method::POST, &path, repository);
        let answer = self.send(&ask).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                self.upload(repository, answer.headers(), &ask)?.cancel().await;
                Ok(false)
            }
            _ => Err(self.refusal(&ask, answer).await),
        }
    }

    /// Pushes a blob in one request.
    ///
    /// # Errors
    /// If it fails.
    pub async fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let mut ask = self.pushing(Method::POST, &path, repository);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.body = Some(bytes.clone());
        let answer = self.send(&ask).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // A registry may want it in two steps.
            StatusCode::ACCEPTED => {
                let mut upload = self.upload(repository, answer.headers(), &ask)?;
                upload.finish(digest, bytes).await
            }
            _ => Err(self.refusal(&ask, answer).await),
        }
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// If it fails.
    pub async fn begin<'a>(&'a self, repository: &'a str) -> Result<Upload<'a>, RegistryError> {
        let ask = self.pushing(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), repository);
        let answer = self.send(&ask).await?;
        match answer.status() {
            StatusCode::ACCEPTED => self.upload(repository, answer.headers(), &ask),
            _ => Err(self.refusal(&ask, answer).await),
        }
    }

    fn upload<'a>(
        &'a self,
        repository: &'a str,
        headers: &HeaderMap,
        ask: &Ask<'_>,
    ) -> Result<Upload<'a>, RegistryError> {
        let location = location(headers, &ask.url).ok_or_else(|| self.strange(&ask.doing))?;
        Ok(Upload { registry: self, repository, location, at: 0 })
    }

    /// Pushes a manifest under its digest, and gives it these tags in the same step.
    ///
    /// # Errors
    /// If it fails, or the registry keeps it under another digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        digest: &Digest,
        manifest: &Manifest,
        tags: &[Tag],
    ) -> Result<(), RegistryError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for tag in tags {
            query.append_pair("tag", tag.as_str());
        }
        let query = query.finish();
        let path = format!("/v2/{repository}/manifests/{digest}?{query}");
        let mut ask = self.pushing(Method::PUT, path.trim_end_matches('?'), repository);
        let media_type = HeaderValue::from_str(manifest.media_type().as_str());
        ask.headers.insert(CONTENT_TYPE, media_type.map_err(|_| self.strange(&ask.doing))?);
        ask.body = Some(manifest.bytes().clone());
        let answer = self.send(&ask).await?;
        if answer.status() != StatusCode::CREATED {
            return Err(self.refusal(&ask, answer).await);
        }
        let kept = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match kept {
            Some(kept) if kept != digest.to_string() => Err(self.strange(&ask.doing)),
            _ => Ok(()),
        }
    }

    fn pushing<'a>(&self, method: Method, path: &str, repository: &'a str) -> Ask<'a> {
        Ask { push: true, ..self.ask(method, path, Some(repository)) }
    }
}

impl Upload<'_> {
    /// Sends the next bytes. After a lost answer it finds out how many of them arrived, and sends the rest.
    ///
    /// # Errors
    /// If it fails for good.
    pub async fn send(&mut self, chunk: &Bytes) -> Result<Sent, RegistryError> {
        let (begin, end) = (self.at, self.at + chunk.len() as u64);
        let mut attempt = 1;
        while self.at < end {
            let Some(rest) = self.at.checked_sub(begin).and_then(|done| usize::try_from(done).ok()) else {
                return Ok(Sent::Lost);
            };
            let rest = chunk.slice(rest..);
            let mut ask = self.ask(Method::PATCH, self.location.clone());
            ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            if let Ok(range) = HeaderValue::try_from(format!("{}-{}", self.at, end - 1)) {
                ask.headers.insert(CONTENT_RANGE, range);
            }
            ask.body = Some(rest);
            let failure = match self.registry.once(&ask).await {
                Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                    self.moved(answer.headers());
                    self.at = end;
                    continue;
                }
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return Ok(Sent::Lost),
                Ok(answer) => {
                    let goes_on = is_passing(answer.status())
                        || matches!(
                            answer.status(),
                            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::CONFLICT
                        );
                    let refusal = self.registry.refusal(&ask, answer).await;
                    if !goes_on {
                        return Err(refusal);
                    }
                    refusal
                }
                Err(error @ RegistryError::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            if attempt == ATTEMPTS {
                return Err(failure);
            }
            pause(attempt, None).await;
            attempt += 1;
            match self.position().await? {
                Some(at) if (begin..=end).contains(&at) => self.at = at,
                _ => return Ok(Sent::Lost),
            }
        }
        Ok(Sent::Taken)
    }

    /// How many bytes the registry has; `None` if it does not know the upload any more.
    async fn position(&mut self) -> Result<Option<u64>, RegistryError> {
        let ask = self.ask(Method::GET, self.location.clone());
        let answer = self.registry.send(&ask).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::OK => {
                self.moved(answer.headers());
                let range = answer.headers().get("range").and_then(|value| value.to_str().ok());
                let last = range.and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
                // Nothing is told as `0-0`, which is also what one byte is told as: no chunk is that short.
                Ok(Some(last.filter(|last| *last > 0).map_or(0, |last| last + 1)))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.registry.refusal(&ask, answer).await),
        }
    }

    /// Ends the upload with its last bytes, which may be none. If the answer is lost, whether the blob is there tells.
    ///
    /// # Errors
    /// If it fails, or the content is not that of the digest.
    pub async fn finish(&mut self, digest: &Digest, rest: Bytes) -> Result<(), RegistryError> {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut ask = self.ask(Method::PUT, url);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.body = Some(rest);
        let answer = self.registry.send(&ask).await?;
        if answer.status() == StatusCode::CREATED
            || self.registry.has_blob(self.repository, digest).await.unwrap_or(false)
        {
            return Ok(());
        }
        Err(self.registry.refusal(&ask, answer).await)
    }

    /// Drops the upload. If that fails, the registry does it after a while.
    pub async fn cancel(self) {
        let ask = self.ask(Method::DELETE, self.location.clone());
        let _ = self.registry.once(&ask).await;
    }

    fn moved(&mut self, headers: &HeaderMap) {
        if let Some(location) = location(headers, &self.location) {
            self.location = location;
        }
    }

    fn ask(&self, method: Method, url: Url) -> Ask<'_> {
        let doing = format!("{method} of an upload to {}", self.repository);
        Ask {
            method,
            url,
            repository: Some(self.repository),
            push: true,
            headers: HeaderMap::new(),
            body: None,
            doing,
        }
    }
}

fn location(headers: &HeaderMap, here: &Url) -> Option<Url> {
    here.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}
