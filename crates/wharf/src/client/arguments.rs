//! What the client's commands are told.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wharf_types::Region;

use super::api::Asked;
use super::registry_host::RegistryHost;

/// Whom to ask, and as whom.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// Profile of the AWS CLI's files [default: AWS_PROFILE]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// URL of the server [default: the registry itself, AWS_ENDPOINT_URL, or the profile's]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Region [default: the registry's, AWS_REGION, or the profile's]
    #[arg(long)]
    pub region: Option<Region>,
}

impl From<Connection> for Asked {
    fn from(given: Connection) -> Self {
        Self { profile: given.profile, endpoint_url: given.endpoint_url, region: given.region }
    }
}

/// `wharf login`
#[derive(Clone, Debug, Args)]
pub struct Login {
    /// The registry [default: the caller's own]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub registry: Option<RegistryHost>,
    /// Whom to ask.
    #[command(flatten)]
    pub connection: Connection,
    /// Directory of docker's config.json [default: DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "DIR", conflicts_with = "print")]
    pub docker_config: Option<PathBuf>,
    /// Print the password instead, for `docker login -u AWS --password-stdin`
    #[arg(long)]
    pub print: bool,
}

/// `wharf docker-credential …`
#[derive(Clone, Debug, Args)]
pub struct DockerCredential {
    /// What the client wants: get, store, erase, list or version
    pub action: String,
}

/// `wharf kubelet-credential-provider`
#[derive(Clone, Debug, Args)]
pub struct KubeletCredentialProvider {
    /// Whom to ask.
    #[command(flatten)]
    pub connection: Connection,
    /// Role that service accounts assume which have no annotation
    #[arg(long, value_name = "ARN")]
    pub role_arn: Option<String>,
    /// Annotation of service accounts that names their role
    #[arg(long, value_name = "KEY", default_value = "eks.amazonaws.com/role-arn")]
    pub role_annotation: String,
}

/// `wharf aws-profile`
#[derive(Clone, Debug, Args)]
pub struct AwsProfile {
    /// Name of the profile
    #[arg(long, default_value = "wharf")]
    pub name: String,
    /// URL of the server [default: where the settings say that it listens]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region [default: the default region]
    #[arg(long)]
    pub region: Option<Region>,
    /// File with the access key, as wharf, `aws iam create-access-key` or `aws sts` print it; - is standard input
    /// [default: the first account's in the data directory]
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// File of certificates to trust [default: the authority of --tls self-signed, if the settings have that]
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Print what would be in the two files, and write nothing
    #[arg(long)]
    pub print: bool,
}

/// How each command is explained.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientAction {
    /// Log container clients in to a registry with the AWS credentials at hand
    #[command(after_help = "\
Examples:
  wharf login --registry 127.0.0.1:5050                # with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
  wharf login --profile wharf                          # the registry of the profile's endpoint
  wharf login --registry registry.example.com --docker-config /run/ci/docker
  wharf login --profile wharf --print | skopeo login -u AWS --password-stdin registry.example.com

Asks ECR's GetAuthorizationToken and writes the password to docker's config.json as `docker login` does, or hands it to
the credential helper that is configured there. AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE logs a CI job in by its
OIDC token. AWS_CA_BUNDLE and SSL_CERT_FILE name certificates to trust.")]
    Login(Login),
    /// Answer container clients that want credentials: docker's credential-helper protocol
    #[command(after_help = "\
Install it as a link of that name in the PATH, and name it in ~/.docker/config.json:
  ln -s \"$(command -v wharf)\" /usr/local/bin/docker-credential-wharf
  {\"credHelpers\": {\"registry.example.com\": \"wharf\"}}

It asks only registries that a credHelpers entry names, or that are the configured endpoint's own: no image name makes
it sign a request for somebody else. Passwords are remembered in ~/.cache/wharf until shortly before they end.")]
    DockerCredential(DockerCredential),
    /// Answer a kubelet that wants credentials for an image: the exec plugin protocol, v1
    #[command(after_help = "\
Reads a CredentialProviderRequest from standard input and prints a CredentialProviderResponse. With a service account's
token it assumes the role that the annotation names (or --role-arn); without one it uses the node's AWS credentials.
The registry asked is the image's own: matchImages of the kubelet's configuration says which those may be.
docs/kubernetes.md has such a configuration.")]
    KubeletCredentialProvider(KubeletCredentialProvider),
    /// Write a profile for the AWS CLI and SDKs
    #[command(after_help = "\
Examples:
  wharf aws-profile                                    # then: aws --profile wharf ecr describe-repositories
  wharf aws-profile --name team --endpoint https://registry.example.com --credentials key.json
  aws iam create-access-key --user-name ci | wharf aws-profile --name ci --credentials -
  wharf aws-profile --print

Changes only that profile in ~/.aws/config and ~/.aws/credentials (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE).")]
    AwsProfile(AwsProfile),
}
