//! The AWS faces by HTTP: signatures, tables, shapes, and what a call does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../aws_harness/mod.rs"]
mod aws_harness;

mod companions;
mod images;
mod protocol;
mod repositories;
