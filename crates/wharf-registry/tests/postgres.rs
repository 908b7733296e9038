//! The registry's tests on metadata in PostgreSQL: the same ones, included once more. The place they are run in tells by
//! the name of this crate. Where there is no PostgreSQL they say so.
#![allow(clippy::duplicate_mod, clippy::unwrap_used)]

#[path = "collect.rs"]
mod collect;
#[path = "images.rs"]
mod images;
#[path = "lists.rs"]
mod lists;
#[path = "uploads.rs"]
mod uploads;
