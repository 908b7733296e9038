//! Copying blobs: those that are there stay, those in another repository of the destination are mounted, others are
//! streamed in chunks, each of which can be sent again, and hashed on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use sha2::Digest as _;
use wharf_types::{Descriptor, Digest, DigestAlgorithm, RepositoryName};

use super::registry::{ATTEMPTS, Registry, RegistryError, Sent, Upload, is_passing, pause};
use super::source::{Body, Source};

/// Bytes held for each transfer.
const CHUNK: usize = 8 << 20;
/// How often an upload is begun anew at most.
const UPLOADS: u32 = 3;

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its bytes were transferred.
    Copied,
    /// The destination had it in another repository.
    Mounted,
    /// The destination had it.
    Present,
    /// A foreign layer, which the source does not have either.
    Elsewhere,
}

/// Where blobs are at the destination, as far as this import knows. Who copies one holds its lock, so that two
/// repositories do not transfer the same bytes.
#[derive(Default)]
pub struct Known(Mutex<HashMap<Digest, Arc<Place>>>);

type Place = tokio::sync::Mutex<Option<RepositoryName>>;

impl Known {
    fn place(&self, digest: &Digest) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(*digest).or_default())
    }
}

/// One end, the other, and the blob between them.
pub struct Transfer<'a> {
    /// Where it is.
    pub source: &'a Source,
    /// Its repository there.
    pub from: &'a str,
    /// Where it goes.
    pub destination: &'a Registry,
    /// The repository there.
    pub to: &'a RepositoryName,
    /// What.
    pub blob: &'a Descriptor,
    /// Is told of every byte that comes in.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// How many transfers there may be at a time.
    pub jobs: &'a tokio::sync::Semaphore,
}

impl Transfer<'_> {
    /// Copies the blob, unless it is there.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or cannot be written.
    pub async fn run(&self, known: &Known) -> Result<Outcome, RegistryError> {
        let place = known.place(&self.blob.digest);
        let mut place = place.lock().await;
        let _permit = self.jobs.acquire().await;
        let (to, digest) = (self.to.as_str(), &self.blob.digest);
        let outcome = if self.destination.has_blob(to, digest).await? {
            Outcome::Present
        } else if let Some(other) = place.as_ref().filter(|other| *other != self.to)
            && self.destination.mount(to, digest, other.as_str()).await?
        {
            Outcome::Mounted
        } else {
            match self.copy().await {
                Ok(()) => Outcome::Copied,
                Err(error) if self.blob.foreign && is_missing(&error) => return Ok(Outcome::Elsewhere),
                Err(error) => return Err(error),
            }
        };
        *place = Some(self.to.clone());
        Ok(outcome)
    }

    async fn copy(&self) -> Result<(), RegistryError> {
        if self.blob.size <= CHUNK as u64 {
            let mut reader = self.reader();
            let bytes = reader.chunk().await?.unwrap_or_default();
            reader.end().await?;
            return self.destination.put_blob(self.to.as_str(), &self.blob.digest, bytes).await;
        }
        for _ in 1..UPLOADS {
            if self.stream().await? == Sent::Taken {
                return Ok(());
            }
        }
        match self.stream().await? {
            Sent::Taken => Ok(()),
            Sent::Lost => Err(RegistryError::Strange {
                host: self.destination.host().to_owned(),
                doing: format!("an upload to {}", self.to),
            }),
        }
    }

    /// Sends chunk after chunk.
    async fn stream(&self) -> Result<Sent, RegistryError> {
        let mut upload = self.destination.begin(self.to.as_str()).await?;
        match self.chunks(&mut upload).await {
            Ok(sent) => Ok(sent),
            Err(error) => {
                upload.cancel().await;
                Err(error)
            }
        }
    }

    async fn chunks(&self, upload: &mut Upload<'_>) -> Result<Sent, RegistryError> {
        let mut reader = self.reader();
        while let Some(chunk) = reader.chunk().await? {
            if upload.send(&chunk).await? == Sent::Lost {
                return Ok(Sent::Lost);
            }
        }
        reader.end().await?;
        upload.finish(&self.blob.digest, Bytes::new()).await?;
        Ok(Sent::Taken)
    }

    fn reader(&self) -> Reader<'_> {
        let hasher = match self.blob.digest.algorithm() {
            DigestAlgorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            DigestAlgorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        };
        Reader { transfer: self, at: 0, body: None, hasher, rest: Bytes::new() }
    }
}

fn is_missing(error: &RegistryError) -> bool {
    match error {
        RegistryError::Refused { status, .. } => *status == 404,
        RegistryError::File { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Reads a blob from its source, and goes on where it was after a lost connection.
struct Reader<'a> {
    transfer: &'a Transfer<'a>,
    at: u64,
    body: Option<Body>,
    hasher: Hasher,
    /// What came with the last chunk and belongs to the next.
    rest: Bytes,
}

enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Reader<'_> {
    /// The next bytes, as many as fit; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Descriptor { size, .. } = *self.transfer.blob;
        let mut chunk = BytesMut::new();
        loop {
            let fits = (CHUNK - chunk.len()).min(self.rest.len());
            chunk.extend_from_slice(&self.rest.split_to(fits));
            if chunk.len() == CHUNK || (self.at == size && self.rest.is_empty()) {
                return Ok((!chunk.is_empty()).then(|| chunk.freeze()));
            }
            let bytes = self.read().await?;
            match &mut self.hasher {
                Hasher::Sha256(hasher) => hasher.update(&bytes),
                Hasher::Sha512(hasher) => hasher.update(&bytes),
            }
            self.at += bytes.len() as u64;
            (self.transfer.progress)(bytes.len() as u64);
            if self.at > size {
                return Err(self.wrong_length());
            }
            self.rest = bytes;
        }
    }

    /// Some bytes, which are not at the end yet.
    async fn read(&mut self) -> Result<Bytes, RegistryError> {
        let Transfer { source, from, blob, .. } = self.transfer;
        let mut attempt = 1;
        loop {
            let mut body = match self.body.take() {
                Some(body) => Ok(body),
                None => source.blob(from, &blob.digest, self.at).await,
            };
            let next = match &mut body {
                Ok(body) => body.next().await,
                Err(_) => Ok(None),
            };
            let failure = match (body, next) {
                (Ok(body), Ok(Some(bytes))) => {
                    self.body = Some(body);
                    return Ok(bytes);
                }
                (Err(error), _) | (Ok(_), Err(error)) => error,
                // The end comes before the end: lost, or there is no more.
                (Ok(_), Ok(None)) => self.wrong_length(),
            };
            let attempts = match &failure {
                RegistryError::Unreachable { .. } => ATTEMPTS,
                // A proxy may have cut it short; a second time it is the source.
                RegistryError::Length { .. } if matches!(source, Source::Registry { .. }) => 2,
                RegistryError::Refused { status, .. } if is_passing(*status) => ATTEMPTS,
                RegistryError::Refused { status, .. } if *status == 416 => return Err(self.wrong_length()),
                _ => 1,
            };
            if attempt >= attempts {
                return Err(failure);
            }
            pause(attempt, None).await;
            attempt += 1;
        }
    }

    /// Checks that what was read is the blob.
    async fn end(mut self) -> Result<(), RegistryError> {
        if self.at == 0 && self.body.is_none() {
            // Of nothing, at least whether it is there.
            self.transfer.source.blob(self.transfer.from, &self.transfer.blob.digest, 0).await?;
        }
        let more = match &mut self.body {
            Some(body) => body.next().await.ok().flatten(),
            None => None,
        };
        if let Some(more) = more {
            self.at += more.len() as u64;
            return Err(self.wrong_length());
        }
        let actual = match self.hasher {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        };
        let expected = self.transfer.blob.digest;
        if actual == expected {
            return Ok(());
        }
        Err(RegistryError::Damaged { what: format!("blob {expected}"), actual })
    }

    fn wrong_length(&self) -> RegistryError {
        let Descriptor { digest, size, .. } = self.transfer.blob;
        RegistryError::Length { what: format!("blob {digest}"), actual: self.at, expected: *size }
    }
}
