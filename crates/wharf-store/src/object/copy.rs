//! Copying objects from one store to another as they are: nothing is decrypted.

use sha2::{Digest as _, Sha256};

use super::{ObjectError, ObjectId, ObjectStore};

/// Bytes held for each object.
const PIECE: usize = 1 << 20;

/// Copies an object of `size` stored bytes, unless the destination has one of that size under its name. Answers whether
/// bytes were copied. Whether they are the same tells [`digest`].
///
/// # Errors
/// If one of the stores fails, or the object is not there in its full size.
pub async fn copy(
    from: &dyn ObjectStore,
    to: &dyn ObjectStore,
    id: ObjectId,
    size: u64,
) -> Result<bool, ObjectError> {
    match to.open(id).await {
        Ok(there) if there.size() == size => return Ok(false),
        // What an interrupted copy left.
        Ok(_) => to.delete(id).await?,
        Err(ObjectError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let reader = from.open(id).await?;
    if reader.size() != size {
        return Err(ObjectError::Short { id, expected: size, found: reader.size() });
    }
    let mut writer = match to.create(id).await {
        // One that was not finished need not be visible.
        Err(ObjectError::AlreadyExists(_)) => {
            to.delete(id).await?;
            to.create(id).await?
        }
        created => created?,
    };
    let mut at = 0;
    while at < size {
        let bytes = reader.read_at(at, PIECE).await?;
        if bytes.is_empty() {
            writer.abort().await?;
            return Err(ObjectError::Short { id, expected: size, found: at });
        }
        at += bytes.len() as u64;
        writer.append(bytes).await?;
    }
    writer.finish().await?;
    Ok(true)
}

/// The SHA-256 of an object's stored bytes.
///
/// # Errors
/// If the store fails.
pub async fn digest(store: &dyn ObjectStore, id: ObjectId) -> Result<[u8; 32], ObjectError> {
    let reader = store.open(id).await?;
    let (mut at, mut hasher) = (0, Sha256::new());
    while at < reader.size() {
        let bytes = reader.read_at(at, PIECE).await?;
        if bytes.is_empty() {
            return Err(ObjectError::Short { id, expected: reader.size(), found: at });
        }
        at += bytes.len() as u64;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::MemoryObjects;
    use super::*;

    async fn put(store: &MemoryObjects, id: ObjectId, bytes: Vec<u8>) {
        let mut writer = store.create(id).await.unwrap();
        writer.append(Bytes::from(bytes)).await.unwrap();
        writer.finish().await.unwrap();
    }

    #[tokio::test]
    async fn objects_are_copied_once_and_half_ones_again() {
        let (from, to) = (MemoryObjects::default(), MemoryObjects::default());
        let id = ObjectId::random();
        let bytes: Vec<u8> = (0..PIECE * 2 + 5).map(|at| (at / 251) as u8).collect();
        put(&from, id, bytes.clone()).await;
        put(&to, id, bytes[..PIECE].to_vec()).await;
        let size = bytes.len() as u64;
        assert!(copy(&from, &to, id, size).await.unwrap(), "half of it was there");
        assert!(!copy(&from, &to, id, size).await.unwrap());
        assert_eq!(digest(&from, id).await.unwrap(), digest(&to, id).await.unwrap());
        assert_eq!(digest(&to, id).await.unwrap()[..], Sha256::digest(&bytes)[..]);

        let error = copy(&from, &to, ObjectId::random(), 1).await.unwrap_err();
        assert!(matches!(error, ObjectError::NotFound(_)), "{error}");
        let error = copy(&from, &MemoryObjects::default(), id, size + 1).await.unwrap_err();
        assert!(matches!(error, ObjectError::Short { .. }), "{error}");
    }
}
