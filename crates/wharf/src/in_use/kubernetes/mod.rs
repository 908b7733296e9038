//! What Kubernetes runs: the digests of the images of its pods, page by page from the API server.

mod config;
mod pods;
mod server;
mod yaml;

use std::path::Path;

pub use self::config::SERVICE_ACCOUNT;
use self::config::{Cluster, ConfigError};
use self::pods::Page;
use self::server::{ServerError, Session};
use super::arguments::Kubernetes;
use super::references::Found;
use crate::client::Environment;

/// Pods asked for at a time.
const PODS: u32 = 250;
/// How often a list is begun anew that changed too much while it was read.
const TRIES: u32 = 3;

/// Why it is not known what a cluster runs.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Where the cluster is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server does not answer as it should.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The list changed too fast.
    #[error("the list of pods has changed too much to be read, {TRIES} times")]
    Restless,
}

/// Adds the images of every pod that has not ended.
///
/// # Errors
/// If the cluster is not known or does not answer; what was found until then has been added.
pub async fn running_images(asked: &Kubernetes, found: &mut Found) -> Result<(), KubernetesError> {
    // At every round: tokens and certificates are replaced while an agent runs.
    let cluster = cluster(asked, &Environment::of_process())?;
    let mut session = Session::open(cluster).await?;
    for _ in 0..TRIES {
        if list(&mut session, asked.pods_in.as_deref(), found).await? {
            return Ok(());
        }
    }
    Err(KubernetesError::Restless)
}

/// Reads the whole list; `false` if the server has forgotten the one that was begun.
async fn list(
    session: &mut Session,
    namespace: Option<&str>,
    found: &mut Found,
) -> Result<bool, KubernetesError> {
    let (mut token, mut limit) = (None, PODS);
    loop {
        match session.get(&pods::path(namespace, limit, token.as_deref())).await {
            Ok(body) => {
                let page = Page::parse(&body).map_err(ServerError::Form)?;
                page.images().for_each(|image| found.add(image));
                token = page.next();
                if token.is_none() {
                    return Ok(true);
                }
            }
            Err(ServerError::Gone) if token.is_some() => return Ok(false),
            // Pods differ in size by far.
            Err(ServerError::TooLong) if limit > 1 => {
                limit = (limit / 8).max(1);
                session.reopen().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the user names, else what kubectl would use, else the cluster that this pod runs in.
fn cluster(asked: &Kubernetes, environment: &Environment) -> Result<Cluster, ConfigError> {
    let context = asked.context.as_deref();
    if let Some(path) = &asked.kubeconfig {
        return Cluster::of_kubeconfig(path, context);
    }
    if let Some(paths) = environment.get("KUBECONFIG") {
        if paths.contains(':') {
            return Err(ConfigError::Unsupported("several files (KUBECONFIG)"));
        }
        return Cluster::of_kubeconfig(Path::new(paths), context);
    }
    let (host, port) =
        (environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT"));
    if let (Some(host), Some(port), None) = (host, port, context) {
        return Cluster::of_service_account(host, port, &asked.service_account);
    }
    let usual = environment.kubeconfig().filter(|path| path.exists());
    Cluster::of_kubeconfig(&usual.ok_or(ConfigError::Nowhere)?, context)
}
