//! IAM's query API over HTTP, signed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../aws_harness/mod.rs"]
mod aws_harness;

mod calls;
mod identities;
mod refusals;
