//! wharf as a client: registry passwords for docker, credential helpers and kubelets, and profiles for the AWS CLI.
//! Nothing here opens a data directory; everything goes over the network, as any other client of ECR does it.

mod api;
pub mod arguments;
mod aws_profile;
mod aws_settings;
mod credential_helper;
mod docker_config;
mod environment;
mod http;
mod ini;
mod kubelet;
mod login;
mod password_cache;
mod registry_host;
mod replace;

pub use api::{Api, ApiError, Asked, JsonService, Password};
pub use aws_profile::{aws_profile, key_environment, local_endpoint};
pub use aws_settings::{CredentialSource, Credentials};
pub use credential_helper::{HELPER_NAME, credential_helper};
pub use docker_config::DockerConfig;
pub use environment::Environment;
pub use http::HttpClient;
pub use kubelet::kubelet_credential_provider;
pub use login::login;
pub use registry_host::{RegistryHost, is_loopback};
pub use replace::{read as read_file, replace as replace_file};
