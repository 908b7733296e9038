//! Several nodes on the same stores: what one acknowledges counts on all, and what one remembers hides nothing.
#![allow(clippy::unwrap_used)]

mod access;
mod cluster;
mod history;
mod images;
mod linearizability;
mod start;
mod uploads;
mod work;
