//! What `wharf in-use` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use wharf_types::{AccountId, Digest, Region};

use super::kubernetes::SERVICE_ACCOUNT;
use crate::cli::Output;
use crate::settings::Value;

/// `wharf in-use …`
#[derive(Debug, Subcommand)]
pub enum InUseAction {
    /// Report which images run, so that lifecycle policies keep them
    #[command(after_help = "\
Examples:
  docker ps -q | xargs docker inspect -f '{{index .Config.Image}}' | wharf in-use report --holder laptop --stdin
  wharf in-use report --holder node-1 --containerd --every 5m --endpoint https://registry.example.com
  wharf in-use report --holder prod --kubernetes --every 5m --endpoint https://registry.example.com

With --every it is an agent, which reports until SIGTERM. A report counts for its lifetime; one that is not renewed is forgotten. In-use images are kept by their digests, together
with the indexes that name them and with their signatures. See docs/in-use.md.")]
    Report(Box<Report>),
    /// Take reports back before they run out, e.g. of a node that is gone
    Release(Release),
    /// List the images that are reported to run
    List(List),
}

/// `wharf in-use report`
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).multiple(true).args(["stdin", "containerd", "kubernetes"]))]
pub struct Report {
    /// Who runs them: a node, a cluster
    #[arg(long, value_name = "NAME")]
    pub holder: String,
    /// How long the report counts
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = <Duration as Value>::parse)]
    pub lifetime: Duration,
    /// Report again and again, until SIGTERM; must be shorter than the lifetime
    #[arg(long, value_name = "TIME", conflicts_with = "stdin", value_parser = <Duration as Value>::parse)]
    pub every: Option<Duration>,
    /// Read image references from standard input, one per line: …@sha256:… or a bare digest; others are ignored
    #[arg(long)]
    pub stdin: bool,
    /// Ask containerd on its socket which images its running containers have
    #[arg(
        long,
        value_name = "SOCKET",
        num_args = 0..=1,
        default_missing_value = "/run/containerd/containerd.sock"
    )]
    pub containerd: Option<PathBuf>,
    /// Namespace of containerd
    #[arg(long, value_name = "NAME", default_value = "k8s.io", requires = "containerd")]
    pub namespace: String,
    /// Ask Kubernetes which images its pods have
    #[arg(long)]
    pub kubernetes: bool,
    /// Which Kubernetes.
    #[command(flatten)]
    pub cluster: Kubernetes,
    /// Whom to tell.
    #[command(flatten)]
    pub registry: Registry,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Which Kubernetes, and as whom.
#[derive(Clone, Debug, Args)]
pub struct Kubernetes {
    /// Kubeconfig [default: KUBECONFIG; in a pod its service account; ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub context: Option<String>,
    /// Only the pods of this namespace [default: all]
    #[arg(long, value_name = "NAMESPACE", requires = "kubernetes")]
    pub pods_in: Option<String>,
    /// Where a pod has its service account's token and ca.crt
    #[arg(long, value_name = "DIRECTORY", default_value = SERVICE_ACCOUNT, requires = "kubernetes")]
    pub service_account: PathBuf,
}

/// `wharf in-use release`
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// Whose reports
    #[arg(long, value_name = "NAME")]
    pub holder: String,
    /// Of which images [default: of all]
    #[arg(value_name = "DIGEST")]
    pub digests: Vec<Digest>,
    /// Whom to tell.
    #[command(flatten)]
    pub registry: Registry,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `wharf in-use list`
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Whom to ask.
    #[command(flatten)]
    pub registry: Registry,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Whose registry.
#[derive(Clone, Debug, Args)]
pub struct Registry {
    /// Owner of the registry [default: the default account]
    #[arg(long, value_name = "ID", conflicts_with = "endpoint")]
    pub account: Option<AccountId>,
    /// URL of a server to call with the AWS credentials of this environment [default: that of the data directory]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Profile of the AWS CLI's files [default: AWS_PROFILE]
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub profile: Option<String>,
    /// Region [default: AWS_REGION, or the profile's]
    #[arg(long, requires = "endpoint")]
    pub region: Option<Region>,
}
