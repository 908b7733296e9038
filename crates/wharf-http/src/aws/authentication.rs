//! Who signed a request. The headers are judged, and the key is looked up, before a body is taken into memory; and all
//! bodies together have one budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wharf_iam::sigv4::{
    AcceptedRegions, Endpoint, KeyRecord, KeyStatus, Presented, Secret, SignatureError, SignedRequest,
    VerifyOptions, body_sha256,
};
use wharf_registry::Caller;
use wharf_types::Region;

use super::AwsError;
use crate::Faces;

/// Bodies longer than this are hashed away from the reactor.
pub(super) const LARGE: usize = 256 << 10;

/// The slowest a body may come, bytes per second, once the idle limit's worth of patience is used up.
const SLOWEST: u64 = 32 << 10;

/// How long a refused client may go on sending.
const DISCARD_TIME: Duration = Duration::from_secs(3);

/// How long a request waits for memory.
const MEMORY_WAIT: Duration = Duration::from_secs(10);

/// A request whose signature is genuine.
pub(super) struct Verified {
    pub(super) caller: Caller,
    pub(super) region: Region,
    pub(super) body: Buffered,
}

/// A body in memory; its share of the budget is given back when it is dropped.
pub(super) struct Buffered {
    pub(super) bytes: Bytes,
    _budget: Option<OwnedSemaphorePermit>,
}

/// Verifies a request for `service` whose body is still to be read.
pub(super) async fn verify<B>(
    faces: &Faces,
    parts: &Parts,
    body: B,
    service: &str,
    body_limit: usize,
) -> Result<Verified, AwsError>
where
    B: Body<Data = Bytes> + Unpin,
{
    match present(faces, parts, service).await {
        Ok((presented, key)) => {
            let body = read_body(faces, parts, body, body_limit).await?;
            check(faces, presented, key, body).await
        }
        Err(error) => {
            discard(body, body_limit).await;
            Err(error)
        }
    }
}

/// Verifies a request whose (small) body had to be read to know what it is for.
pub(super) async fn verify_buffered(
    faces: &Faces,
    parts: &Parts,
    body: Buffered,
    service: &str,
) -> Result<Verified, AwsError> {
    let (presented, key) = present(faces, parts, service).await?;
    check(faces, presented, key, body).await
}

/// Takes a request that need not be signed. Nobody in particular calls: whatever it shows besides is looked at by the
/// operation.
pub(super) fn unsigned(faces: &Faces, body: Buffered) -> Verified {
    let options = faces.registry().options();
    let caller = Caller::anonymous(options.default_account);
    Verified { caller, region: options.default_region.clone(), body }
}

/// The key's record, and whom it belongs to.
struct Key {
    record: KeyRecord,
    caller: Caller,
}

/// The first phase: headers, clock, key look-up. An unknown key needs no body to be refused.
async fn present(faces: &Faces, parts: &Parts, service: &str) -> Result<(Presented, Key), AwsError> {
    let presented = {
        let mut headers: Vec<(&str, &[u8])> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        if let (None, Some(authority)) = (parts.headers.get(http::header::HOST), parts.uri.authority()) {
            headers.push(("host", authority.as_str().as_bytes()));
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let request = SignedRequest { method: parts.method.as_str(), target, headers: &headers };
        let now = faces.registry().clock().now();
        Presented::parse(&request, &Endpoint { service, regions: AcceptedRegions::Any, now })?
    };
    if let Some(token) = presented.session_token()
        && let Some(found) = faces.registry().authenticate_session(presented.access_key_id(), token).await?
    {
        let record = KeyRecord {
            secret: Secret::new(found.secret.as_str()),
            status: KeyStatus::Active,
            session_token: Some(Secret::new(token)),
            expires: Some(found.expires_at),
        };
        return Ok((presented, Key { record, caller: found.caller }));
    }
    let Some(found) = faces.registry().authenticate_access_key(presented.access_key_id()).await? else {
        return Err(SignatureError::UnknownKey.into());
    };
    let status = if found.active { KeyStatus::Active } else { KeyStatus::Inactive };
    let record =
        KeyRecord { secret: Secret::new(found.secret.as_str()), status, session_token: None, expires: None };
    Ok((presented, Key { record, caller: found.caller }))
}

/// The second phase: the signature, over the body's hash.
async fn check(faces: &Faces, presented: Presented, key: Key, body: Buffered) -> Result<Verified, AwsError> {
    let hash = if body.bytes.len() <= LARGE {
        body_sha256(&body.bytes)
    } else {
        let bytes = body.bytes.clone();
        // A hash is lost only when the runtime is being stopped.
        tokio::task::spawn_blocking(move || body_sha256(&bytes)).await.map_err(|_| AwsError::ShuttingDown)?
    };
    let options = VerifyOptions { explain: false, cache: Some(faces.signing_keys()) };
    presented.verify(Some(&key.record), &hash, &options)?;
    let region: Region =
        presented.scope().region.parse().map_err(|_| SignatureError::Region(String::new()))?;
    Ok(Verified { caller: key.caller, region, body })
}

/// Reads a body within its limit and the budget of all bodies.
pub(super) async fn read_body<B>(
    faces: &Faces,
    parts: &Parts,
    mut body: B,
    limit: usize,
) -> Result<Buffered, AwsError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let promised =
        parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if promised.is_some_and(|length: usize| length > limit) {
        return Err(AwsError::BodyTooLarge(limit));
    }
    let idle = faces.config().limits.body_idle;
    let started = Instant::now();
    let mut bytes = BytesMut::with_capacity(promised.unwrap_or(0).min(LARGE));
    let mut share = None;
    loop {
        let patience = idle + Duration::from_secs(bytes.len() as u64 / SLOWEST);
        let frame = match tokio::time::timeout_at(started + patience, body.frame()).await {
            Err(_) | Ok(Some(Err(_))) => return Err(AwsError::BodyBroken),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(AwsError::BodyTooLarge(limit));
        }
        extend_share(faces.body_budget(), &mut share, bytes.len() + data.len()).await?;
        bytes.extend_from_slice(&data);
    }
    Ok(Buffered { bytes: bytes.freeze(), _budget: share })
}

/// Reads what a refused client is still sending, without keeping it: a client that writes on into a closed connection
/// would never see why it was refused.
async fn discard<B>(mut body: B, limit: usize)
where
    B: Body<Data = Bytes> + Unpin,
{
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > limit {
                break;
            }
        }
    };
    // A slow client has had its chance.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// Makes a request's share of the budget (in KiB) large enough for `bytes`.
async fn extend_share(
    budget: &Arc<Semaphore>,
    share: &mut Option<OwnedSemaphorePermit>,
    bytes: usize,
) -> Result<(), AwsError> {
    let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let Some(missing) = bytes.div_ceil(1024).checked_sub(held).filter(|missing| *missing > 0) else {
        return Ok(());
    };
    let missing = u32::try_from(missing).map_err(|_| AwsError::Overloaded)?;
    let more = tokio::time::timeout(MEMORY_WAIT, budget.clone().acquire_many_owned(missing)).await;
    let more = more.map_err(|_| AwsError::Overloaded)?.map_err(|_| AwsError::ShuttingDown)?;
    match share {
        Some(share) => share.merge(more),
        None => *share = Some(more),
    }
    Ok(())
}
