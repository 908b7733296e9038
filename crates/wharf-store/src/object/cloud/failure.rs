//! Sorts what the library reports into what a caller can react to.

use std::io;

use object_store::Error;

use crate::object::{ObjectError, ObjectId};

/// What a failed request of `id` means. 404 means that the object is not there.
pub(super) fn of_object(id: ObjectId, doing: &'static str, error: Error) -> ObjectError {
    match error {
        Error::NotFound { .. } => ObjectError::NotFound(id),
        other => of_store(doing, other),
    }
}

/// What a failed request of the store means.
pub(super) fn of_store(doing: &'static str, error: Error) -> ObjectError {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        // Stores that have quotas say so in the body of an error, each with other words.
        other if is_full(&other.to_string()) => io::ErrorKind::QuotaExceeded,
        _ => io::ErrorKind::Other,
    };
    ObjectError::from_io(doing, io::Error::new(kind, error))
}

fn is_full(text: &str) -> bool {
    // AWS and others; MinIO; Ceph; HTTP itself.
    ["QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "507 Insufficient Storage"]
        .iter()
        .any(|word| text.contains(word))
}

/// Bytes that do not fit what was agreed.
pub(super) fn invalid(doing: &'static str, what: impl Into<String>) -> ObjectError {
    ObjectError::from_io(doing, io::Error::new(io::ErrorKind::InvalidData, what.into()))
}
