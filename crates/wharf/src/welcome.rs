//! What the first start tells a newcomer, and where the root credentials are kept.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::admin::RootCredentials;
use crate::settings::Settings;

/// Name of the file in the data directory.
const FILE: &str = "root-credentials.json";

/// Where the root credentials of a data directory are.
pub fn credentials_path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Keeps the first root key where only the owner of the data directory reads it. Durable before it is named to
/// anybody: its secret is told only once.
///
/// # Errors
/// If the file cannot be written.
pub fn write_credentials(data_dir: &Path, credentials: &RootCredentials) -> io::Result<()> {
    let path = credentials_path(data_dir);
    let beside = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{}", serde_json::to_string_pretty(credentials)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    std::fs::File::open(data_dir)?.sync_all()
}

/// What clients need to know about this server.
#[derive(Clone, Debug)]
pub struct Address {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Where it listens.
    pub listening: SocketAddr,
}

impl Address {
    /// The line that says that it serves.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.listening)
    }

    /// Host and port for a client on this machine.
    pub fn host(&self) -> String {
        if self.listening.ip().is_unspecified() {
            return format!("127.0.0.1:{}", self.listening.port());
        }
        self.listening.to_string()
    }
}

/// How to use a new registry. Without `secret` (standard output is a file or a pipe, perhaps a log) the credentials
/// are read from their file.
pub fn first_steps(
    settings: &Settings,
    data_dir: &Path,
    address: &Address,
    credentials: &RootCredentials,
    secret: bool,
) -> String {
    let host = address.host();
    let url = format!("{}://{host}", address.scheme);
    let file = credentials_path(data_dir);
    let region = &settings.default_region;
    let mut text = format!(
        "\nThe root credentials of account {} are kept in {}\n",
        credentials.account_id.0,
        file.display()
    );
    if secret {
        let (id, key) = (&credentials.access_key_id, &credentials.secret_access_key);
        let _ = write!(
            text,
            "\nUse them with the AWS clients:\n  export AWS_ENDPOINT_URL={url} AWS_ACCESS_KEY_ID={id} \
             AWS_SECRET_ACCESS_KEY={key} AWS_DEFAULT_REGION={region} AWS_REGION={region}\n  \
             aws ecr create-repository --repository-name team/app\n"
        );
    } else {
        let _ = write!(
            text,
            "\nUse them with the AWS clients:\n  export AWS_ENDPOINT_URL={url} AWS_DEFAULT_REGION={region} \
             AWS_REGION={region}\n  and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY from that file\n"
        );
    }
    let plain = if address.scheme == "http" { " --tls-verify=false" } else { "" };
    let _ = write!(
        text,
        "\nand with container clients:\n  \
         aws ecr get-login-password | docker login -u AWS --password-stdin {host}\n  \
         wharf token issue --account {account} --data-dir {directory} | skopeo login{plain} -u AWS --password-stdin {host}\n",
        account = credentials.account_id.0,
        directory = data_dir.display(),
    );
    text
}

/// How clients come to trust the development authority.
pub fn trust(certificate: &Path, address: &Address) -> String {
    let (host, path) = (address.host(), certificate.display());
    format!(
        "\nThis server's certificate is signed by a development authority. To trust it:\n  \
         AWS CLI and SDKs:    export AWS_CA_BUNDLE={path}\n  \
         skopeo and podman:   sudo install -D -m 644 {path} /etc/containers/certs.d/{host}/ca.crt\n  \
         docker:              sudo install -D -m 644 {path} /etc/docker/certs.d/{host}/ca.crt\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::admin::Text;
    use crate::settings::Layers;

    fn credentials() -> RootCredentials {
        RootCredentials {
            account_id: Text("123456789012".parse().unwrap()),
            access_key_id: "AKIATEST".to_owned(),
            secret_access_key: "very-secret".to_owned(),
        }
    }

    #[test]
    fn credentials_are_kept_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        write_credentials(directory.path(), &credentials()).unwrap();
        let path = credentials_path(directory.path());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let expected = serde_json::json!({
            "account_id": "123456789012", "access_key_id": "AKIATEST", "secret_access_key": "very-secret"
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn secrets_are_told_to_terminals_only() {
        let settings = Settings::from_layers(&Layers::defaults()).unwrap();
        let address = Address { scheme: "http", listening: "0.0.0.0:5050".parse().unwrap() };
        let told = |secret| first_steps(&settings, Path::new("/data"), &address, &credentials(), secret);
        assert!(told(true).contains("AWS_SECRET_ACCESS_KEY=very-secret"));
        assert!(told(true).contains("AWS_ENDPOINT_URL=http://127.0.0.1:5050"));
        assert!(!told(false).contains("very-secret") && told(false).contains("/data/root-credentials.json"));
    }
}
