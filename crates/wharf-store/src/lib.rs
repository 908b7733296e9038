//! Keeps what the registry knows: metadata in SQL, blobs as files, encryption at rest.

pub mod backup;
pub mod meta;
pub mod object;
pub mod seal;
