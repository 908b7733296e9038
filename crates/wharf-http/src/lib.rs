//! The faces: OCI Distribution and the AWS APIs. Wire formats, routing and error mapping; no rules.

pub mod server;
