//! What `wharf migrate` is told.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::cli::Output;

/// `wharf migrate`
#[derive(Clone, Debug, Args)]
pub struct Migrate {
    /// Data directory to move, or two places: of metadata and of blobs
    #[arg(long, value_name = "PLACE", num_args = 1..=2, required = true)]
    pub from: Vec<Place>,
    /// Where to: a data directory, or two places: of metadata and of blobs
    #[arg(long, value_name = "PLACE", num_args = 1..=2, required = true)]
    pub to: Vec<Place>,
    /// Objects copied at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Empty what an earlier attempt has put into the destination's metadata: the source was used since
    #[arg(long)]
    pub restart: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Where metadata or blobs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A data directory.
    Directory(PathBuf),
    /// A server, by its URL.
    Url(String),
}

/// Not a place.
#[derive(Debug, thiserror::Error)]
#[error("expected a directory or a URL")]
pub struct PlaceError;

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text {
            "" => Err(PlaceError),
            url if url.contains("://") => Ok(Self::Url(url.to_owned())),
            directory => Ok(Self::Directory(directory.into())),
        }
    }
}
