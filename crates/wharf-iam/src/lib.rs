//! Who may do what: SigV4 verification, sealed tokens, and the decision whether a principal may act.
//!
//! Nothing here does I/O: clocks, keys and records come in as arguments.

pub mod actions;
mod condition;
pub mod context;
pub mod decision;
pub mod evaluate;
pub mod managed;
mod pattern;
pub mod policy;
pub mod sigv4;
pub mod token;
pub mod web_identity;
