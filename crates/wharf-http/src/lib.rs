//! The faces: OCI Distribution and the AWS APIs. Wire formats, routing and error mapping; no rules.

pub mod audit;
pub mod aws;
pub mod body;
pub mod config;
mod download;
mod ecr;
pub mod faces;
pub mod failures;
pub mod host;
mod iam;
mod kms;
pub mod metrics;
pub mod oci;
pub mod proxy;
pub mod server;
mod sts;
pub mod throttle;
mod wharf_api;

pub use body::Body;
pub use config::HttpConfig;
pub use faces::Faces;
