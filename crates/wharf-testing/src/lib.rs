//! What tests need from outside the program. Nothing here is part of it.

pub mod postgres;
pub mod proxy;
