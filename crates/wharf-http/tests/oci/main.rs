//! The OCI face over loopback, against a registry with everything behind it.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

mod access;
mod blobs;
mod dialect;
mod early;
mod listing;
mod manifests;
mod uploads;
mod wharf;
