//! The OCI face over loopback, against a registry with everything behind it.

mod access;
mod blobs;
mod dialect;
mod early;
mod listing;
mod manifests;
mod uploads;
mod wharf;
