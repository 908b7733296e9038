//! The program from outside: what an operator and other tools rely on.
#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do, the test reports")]

mod certificates;
mod client;
mod commands;
mod in_use;
mod kubernetes;
mod migrating;
mod moving;
mod server;
mod serving;
mod settings;
#[path = "../wire/mod.rs"]
mod wire;
