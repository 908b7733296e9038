//! What `wharf import` is told.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use wharf_types::{Region, RepositoryName, TagFilter};

use crate::cli::Output;
use crate::client::RegistryHost;

/// `wharf import`
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// oci://HOST[/REPOSITORY], ecr://HOST[/PREFIX], or layout:DIR
    #[arg(value_name = "SOURCE")]
    pub source: Place,
    /// Where from.
    #[command(flatten)]
    pub from: From,
    /// Where to.
    #[command(flatten)]
    pub to: To,
    /// Import into this one repository
    #[arg(long, value_name = "NAME", conflicts_with = "prefix")]
    pub repository: Option<RepositoryName>,
    /// Put the repositories below this name
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<RepositoryName>,
    /// Only tags of this pattern (* stands for anything), with what they need and what refers to them; repeatable
    #[arg(long = "tags", value_name = "PATTERN", value_parser = pattern)]
    pub tags: Vec<TagFilter>,
    /// Transfers at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// Leave policies, lifecycle, mutability, scanning and tags of repositories alone
    #[arg(long)]
    pub no_settings: bool,
    /// Also the policy of the registry itself (ecr:// only)
    #[arg(long, conflicts_with = "no_settings")]
    pub registry_policy: bool,
    /// Key of the destination for repositories that are encrypted with a KMS key at the source [default: aws/ecr]
    #[arg(long, value_name = "ARN")]
    pub kms_key: Option<String>,
    /// Change nothing; only tell how source and destination differ
    #[arg(long)]
    pub dry_run: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// How the source is talked to.
#[derive(Clone, Debug, Args)]
pub struct From {
    /// Talk plain HTTP to the source
    #[arg(long)]
    pub plain_http: bool,
    /// User of the source's, whose password is read from standard input [default: docker's logins]
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Profile of the AWS CLI's files for ecr:// [default: AWS_PROFILE]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// URL of ECR's API for ecr:// [default: AWS's own for an AWS host, else the host itself]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Region of ecr:// [default: the host's, AWS_REGION, or the profile's]
    #[arg(long)]
    pub region: Option<Region>,
}

/// The wharf that is filled.
#[derive(Clone, Debug, Args)]
pub struct To {
    /// URL of the wharf to import into [default: that of the data directory]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Profile with its credentials [default: the root key in the data directory]
    #[arg(long, value_name = "NAME")]
    pub to_profile: Option<String>,
    /// File with its access key, as wharf or `aws iam create-access-key` print it
    #[arg(long, value_name = "FILE", conflicts_with = "to_profile")]
    pub to_credentials: Option<PathBuf>,
    /// Region of the registry [default: the server's default region]
    #[arg(long, value_name = "REGION")]
    pub to_region: Option<Region>,
    /// File of certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    pub to_ca_bundle: Option<PathBuf>,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Any registry: one repository, those below a path, or all.
    Oci {
        /// The registry.
        host: RegistryHost,
        /// A repository or path.
        path: Option<String>,
    },
    /// A registry that speaks ECR's API too.
    Ecr {
        /// The registry.
        host: RegistryHost,
        /// A repository or path.
        path: Option<String>,
    },
    /// A directory in OCI's image layout.
    Layout(PathBuf),
}

/// Not a source.
#[derive(Debug, thiserror::Error)]
#[error("expected oci://HOST[/REPOSITORY], ecr://HOST[/PREFIX], or layout:DIR")]
pub struct PlaceError;

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let remote = |rest: &str| {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.parse::<RegistryHost>().map_err(|_| PlaceError)?;
            let path = path.trim_matches('/');
            // Letters that change the meaning of a URL are in no repository's name.
            if path.split('/').any(|part| part == "..") || path.contains(['?', '#', '%', '@', ':', ' ']) {
                return Err(PlaceError);
            }
            Ok((host, (!path.is_empty()).then(|| path.to_owned())))
        };
        if let Some(rest) = text.strip_prefix("oci://") {
            let (host, path) = remote(rest)?;
            return Ok(Self::Oci { host, path });
        }
        if let Some(rest) = text.strip_prefix("ecr://") {
            let (host, path) = remote(rest)?;
            return Ok(Self::Ecr { host, path });
        }
        match text.strip_prefix("layout:") {
            Some(directory) if !directory.is_empty() => Ok(Self::Layout(directory.into())),
            _ => Err(PlaceError),
        }
    }
}

fn pattern(text: &str) -> Result<TagFilter, String> {
    TagFilter::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let oci = |host: &str, path: Option<&str>| Place::Oci {
            host: host.parse().unwrap(),
            path: path.map(str::to_owned),
        };
        let parse = |text: &str| text.parse::<Place>().unwrap();
        assert_eq!(parse("oci://127.0.0.1:5000"), oci("127.0.0.1:5000", None));
        assert_eq!(parse("oci://registry.example/team/app/"), oci("registry.example", Some("team/app")));
        assert_eq!(parse("layout:/a:b"), Place::Layout("/a:b".into()));
        assert!(matches!(
            parse("ecr://1.dkr.ecr.eu-west-1.amazonaws.com/x"),
            Place::Ecr { path: Some(_), .. }
        ));
        for text in
            ["", "registry.example", "https://r", "oci://", "layout:", "oci://r/a/../b", "oci://r/a?b"]
        {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
