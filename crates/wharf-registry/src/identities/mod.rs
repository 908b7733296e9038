//! Identities: who there is, and how what is remembered of them stays true.

pub(crate) mod binding;
mod change;
pub(crate) mod document;
