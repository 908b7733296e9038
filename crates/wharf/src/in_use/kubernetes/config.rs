//! Where a cluster's API is, and who calls it: from a kubeconfig, or from the service account of a pod.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::http::uri::Scheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;

use super::yaml::{self, YamlError};
use crate::client::is_loopback;

/// Where pods find their service account.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Bytes of a file that is read.
const LIMIT: u64 = 4 << 20;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no YAML, or has what is not supported.
    #[error(
        "the kubeconfig cannot be read; `kubectl config view --raw --minify -o json` prints it in a form that can"
    )]
    Yaml(#[from] YamlError),
    /// It is no kubeconfig.
    #[error("the kubeconfig has not the form that was expected")]
    Form(#[from] serde_json::Error),
    /// Something is missing.
    #[error("the kubeconfig has no {kind} `{name}`")]
    Absent {
        /// Of what.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Something is there that we cannot do.
    #[error("the kubeconfig asks for {0}, which is not supported")]
    Unsupported(&'static str),
    /// The server's URL.
    #[error("`{0}` is no https:// URL of an API server")]
    Server(String),
    /// Certificates or keys.
    #[error("the {0} is not in PEM form")]
    Pem(&'static str),
    /// There is neither.
    #[error("there is no kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config), and this is no pod")]
    Nowhere,
}

/// A cluster's API, as somebody who may call it.
pub struct Cluster {
    /// Whether TLS is spoken. Without it only on this machine (`kubectl proxy`).
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the URL has them.
    pub authority: String,
    /// What the server's paths begin with.
    pub prefix: String,
    /// Whom its certificate must name.
    pub server_name: ServerName<'static>,
    /// Who may have signed that; `None`: whom this machine trusts.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// A bearer token.
    pub token: Option<String>,
    /// A client certificate and its key.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    clusters: Option<Vec<NamedCluster>>,
    contexts: Option<Vec<NamedContext>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<UserEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
    username: Option<String>,
}

impl Cluster {
    /// The cluster of a kubeconfig's context, or of its current one.
    ///
    /// # Errors
    /// If the file, or what it names, is not there or cannot be used.
    pub fn of_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConfigError> {
        let file: File = serde_json::from_value(yaml::parse(&read_text(path)?)?)?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let name = context.map(str::to_owned).or(file.current_context).unwrap_or_default();
        let context = file.contexts.into_iter().flatten().find(|context| context.name == name);
        let context = context.ok_or(ConfigError::Absent { kind: "context", name })?.context;
        let cluster = file.clusters.into_iter().flatten().find(|cluster| cluster.name == context.cluster);
        let absent = || ConfigError::Absent { kind: "cluster", name: context.cluster.clone() };
        let cluster = cluster.ok_or_else(absent)?.cluster;
        let user = match context.user.filter(|name| !name.is_empty()) {
            None => UserEntry::default(),
            Some(name) => {
                let user = file.users.into_iter().flatten().find(|user| user.name == name);
                user.ok_or(ConfigError::Absent { kind: "user", name })?.user.unwrap_or_default()
            }
        };
        Self::of_entries(&cluster, &user, beside)
    }

    fn of_entries(cluster: &ClusterEntry, user: &UserEntry, beside: &Path) -> Result<Self, ConfigError> {
        for (asked, what) in [
            (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify"),
            (cluster.proxy_url.is_some(), "a proxy"),
            (user.exec.is_some(), "an exec plugin"),
            (user.auth_provider.is_some(), "an auth provider"),
            (user.username.is_some(), "a user name and password"),
        ] {
            if asked {
                return Err(ConfigError::Unsupported(what));
            }
        }
        let mut found = Self::at(&cluster.server)?;
        if let Some(name) = &cluster.tls_server_name {
            found.server_name = server_name(name)?;
        }
        let ca = &cluster.certificate_authority_data;
        found.authorities = pem(ca.as_deref(), cluster.certificate_authority.as_deref(), beside)?
            .map(|text| certificates(&text, "certificate authority"))
            .transpose()?;
        found.token = match (&user.token, &user.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read_text(&beside.join(path))?.trim().to_owned()),
            (None, None) => None,
        };
        let certificate = &user.client_certificate_data;
        let chain = pem(certificate.as_deref(), user.client_certificate.as_deref(), beside)?;
        let key = pem(user.client_key_data.as_deref(), user.client_key.as_deref(), beside)?;
        found.identity = match (chain, key) {
            (Some(chain), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| ConfigError::Pem("client key"))?;
                Some((certificates(&chain, "client certificate")?, key))
            }
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::Pem("client key")),
            (None, Some(_)) => return Err(ConfigError::Pem("client certificate")),
        };
        Ok(found)
    }

    /// The cluster that a pod runs in, as its service account. The token is read anew each time: it is replaced while the
    /// pod runs.
    ///
    /// # Errors
    /// If the service account's files cannot be read.
    pub fn of_service_account(host: &str, port: &str, directory: &Path) -> Result<Self, ConfigError> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut found = Self::at(&format!("https://{host}:{port}"))?;
        let authorities = read_text(&directory.join("ca.crt"))?;
        found.authorities = Some(certificates(authorities.as_bytes(), "certificate authority")?);
        found.token = Some(read_text(&directory.join("token"))?.trim().to_owned());
        Ok(found)
    }

    /// A server's API as nobody.
    fn at(url: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Server(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']);
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let plain = uri.scheme() == Some(&Scheme::HTTP) && is_loopback(host);
        if !(tls || plain) || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            server_name: server_name(host).map_err(|_| wrong())?,
            authorities: None,
            token: None,
            identity: None,
        })
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(name.to_owned()).map_err(|_| ConfigError::Server(name.to_owned()))
}

/// What is given in base64, else in a file.
fn pem(data: Option<&str>, path: Option<&Path>, beside: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    match (data.filter(|data| !data.is_empty()), path) {
        (Some(data), _) => {
            STANDARD.decode(data).map(Some).map_err(|_| ConfigError::Pem("base64 data of the kubeconfig"))
        }
        (None, Some(path)) => Ok(Some(read_text(&beside.join(path))?.into_bytes())),
        (None, None) => Ok(None),
    }
}

fn certificates(text: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or(ConfigError::Pem(what))
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::File { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
