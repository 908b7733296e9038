//! How commands reach the process that owns a data directory: a lock decides who that is, a socket carries the rest.

mod client;
mod lock;
mod server;
mod socket;

pub use client::Connection;
pub use lock::{DataDir, LockError};
pub use server::serve;

#[cfg(test)]
mod tests;
