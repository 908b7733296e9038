//! Clients that mean harm, against the real program: whatever they send is refused as it should be, by both faces,
//! with no failure of the server, no hang and no partial effect.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

mod accounts;
mod digests;
mod faces;
mod json;
mod oversize;
mod paths;
#[allow(dead_code, reason = "the program's tests use the rest")]
#[path = "../program/server.rs"]
mod server;
mod slow;
mod smuggling;
mod target;
#[path = "../wire/mod.rs"]
mod wire;
