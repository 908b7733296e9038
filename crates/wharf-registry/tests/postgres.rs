//! The registry's tests on metadata in PostgreSQL: the same ones, included once more. The place they are run in tells by
//! the name of this crate. Where there is no PostgreSQL they say so. The long ones (collection, uploads) run there with
//! `WHARF_TEST_METADATA=postgres` only.
#![allow(clippy::duplicate_mod, clippy::unwrap_used)]

#[path = "images.rs"]
mod images;
#[path = "lists.rs"]
mod lists;
