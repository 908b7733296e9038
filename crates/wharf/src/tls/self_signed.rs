//! A certificate authority for development, kept in the data directory so that clients trust it once.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;

use super::{TlsError, certified_key};
use crate::settings::Settings;

const DAY: Duration = Duration::from_secs(86_400);
/// Longest life that common TLS libraries accept of a server's certificate. A new one is made at each start.
const LEAF_LIFE: Duration = Duration::from_secs(820 * 86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);

/// The authority: a certificate that clients are told to trust, and its key.
pub struct Authority {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Takes the authority of a data directory, making it at first.
    ///
    /// # Errors
    /// If its files cannot be read or written.
    pub fn open(data_dir: &Path) -> Result<Self, TlsError> {
        let directory = data_dir.join("tls");
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca-key.pem"));
        if !certificate.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|source| file_error(&directory, source))?;
            let (certificate_pem, key_pem) = make_authority()?;
            // The key first: an authority without key would never be made anew.
            write(&key, &key_pem, 0o600)?;
            write(&certificate, &certificate_pem, 0o644)?;
        }
        let key_pem = std::fs::read_to_string(&key).map_err(|source| file_error(&key, source))?;
        let key = KeyPair::from_pem(&key_pem).map_err(TlsError::Make)?;
        // What an issuer needs of its certificate (name, key, usages) is the same in all that are made here.
        let issuer = Issuer::new(authority_params()?, key);
        Ok(Self { certificate, issuer })
    }

    /// The file to give to clients.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate
    }

    /// Makes a server certificate for these names and addresses.
    ///
    /// # Errors
    /// If a name cannot stand in a certificate.
    pub fn issue(&self, names: Vec<String>) -> Result<CertifiedKey, TlsError> {
        let mut params = CertificateParams::new(names).map_err(TlsError::Make)?;
        params.distinguished_name.push(DnType::CommonName, "wharf");
        (params.not_before, params.not_after) = validity(LEAF_LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(TlsError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(TlsError::Make)?;
        certified_key(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
    }
}

fn authority_params() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(TlsError::Make)?;
    params.distinguished_name.push(DnType::CommonName, "wharf development authority");
    (params.not_before, params.not_after) = validity(AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn make_authority() -> Result<(String, String), TlsError> {
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let certificate = authority_params()?.self_signed(&key).map_err(TlsError::Make)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// From yesterday (clients' clocks are behind) for `life`.
fn validity<T: From<SystemTime>>(life: Duration) -> (T, T) {
    let from = SystemTime::now() - DAY;
    (from.into(), (from + life).into())
}

/// The names clients may use for this server: loopback, the registries of the default region, the configured domain
/// and hosts, and the address it listens on.
pub fn names(settings: &Settings, listening: SocketAddr) -> Vec<String> {
    let (account, region) = (settings.default_account.as_str(), settings.default_region.as_str());
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for domain in ["localhost"].into_iter().chain(settings.domain.as_deref()) {
        names.push(format!("{account}.dkr.ecr.{region}.{domain}"));
        // Other accounts: one label is what a wildcard may stand for.
        names.push(format!("*.dkr.ecr.{region}.{domain}"));
    }
    names.extend(settings.domain.clone());
    names.extend(settings.hosts.keys().cloned());
    if !listening.ip().is_unspecified() {
        names.push(listening.ip().to_string());
    }
    if let Some((host, _)) = settings.listen.rsplit_once(':')
        && host.parse::<IpAddr>().is_err()
        && !host.is_empty()
        && !host.starts_with('[')
    {
        names.push(host.to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> TlsError {
    TlsError::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;
    use crate::settings::{Layers, Setting};

    #[test]
    fn certificates_verify_for_every_name_against_the_kept_authority() {
        let directory = tempfile::tempdir().unwrap();
        let flags = [
            (Setting::find("domain").unwrap(), "registry.example".to_owned()),
            (Setting::find("hosts").unwrap(), "extra.example=public".to_owned()),
        ];
        let settings = Settings::from_layers(&Layers::defaults().with_flags(&flags)).unwrap();
        Authority::open(directory.path()).unwrap();
        let authority = Authority::open(directory.path()).unwrap();
        let names = names(&settings, "10.1.2.3:5050".parse().unwrap());
        let issued = authority.issue(names).unwrap();

        let mode =
            |name| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/ca-key.pem")), (0o700, 0o600));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.certificate_path()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let verify = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier,
                &issued.cert[0],
                &[],
                &name,
                &[],
                UnixTime::now(),
            )
        };
        for name in [
            "localhost",
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "123456789012.dkr.ecr.us-east-1.localhost",
            "111122223333.dkr.ecr.us-east-1.registry.example",
            "registry.example",
            "extra.example",
        ] {
            verify(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(verify("other.example").is_err());
    }
}
