//! The operator's certificate files, read again when their content changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{CurrentCertificate, TlsError, certified_key};

/// How often the files are looked at. They are small, and reading them sees what times and sizes may not show
/// (exchanged links, coarse clocks).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Two files and what was last read from them.
#[derive(Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    read: (Vec<u8>, Vec<u8>),
    current: Arc<CurrentCertificate>,
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// If they cannot be read or do not belong together.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let read = (read(&certificate)?, read(&key)?);
        let current = CurrentCertificate::new(certified_key(&read.0, &read.1)?);
        Ok(Self { certificate, key, read, current })
    }

    /// What to serve with.
    pub fn current(&self) -> Arc<CurrentCertificate> {
        self.current.clone()
    }

    /// Looks at the files until `shutdown`.
    pub async fn watch(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.look().await {
                Ok(true) => {
                    info!(certificate = %self.certificate.display(), "loaded the changed TLS certificate")
                }
                Ok(false) => {}
                Err(error) => error!(
                    error = &error as &dyn std::error::Error,
                    "cannot use the changed TLS certificate or key, keeping the old one"
                ),
            }
        }
    }

    /// Loads the files if they changed. What does not fit is reported once and tried again at the next change:
    /// certificate and key are seldom written in the same instant.
    async fn look(&mut self) -> Result<bool, TlsError> {
        let (Ok(certificate), Ok(key)) =
            (tokio::fs::read(&self.certificate).await, tokio::fs::read(&self.key).await)
        else {
            // Being exchanged; a file that stays away changes nothing for the server.
            return Ok(false);
        };
        let read = (certificate, key);
        if read == self.read {
            return Ok(false);
        }
        let loaded = certified_key(&read.0, &read.1);
        self.read = read;
        self.current.replace(loaded?);
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::server::ResolvesServerCert;

    use super::*;

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn served(files: &CertificateFiles) -> Vec<u8> {
        files.current.0.read().unwrap().cert[0].to_vec()
    }

    #[tokio::test]
    async fn a_change_is_loaded_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let write = |pair: (&str, &str)| {
            std::fs::write(&certificate, pair.0).unwrap();
            std::fs::write(&key, pair.1).unwrap();
        };
        let (first, second) = (pair(), pair());
        write((&first.0, &first.1));
        let mut files = CertificateFiles::open(certificate.clone(), key.clone()).unwrap();
        let before = served(&files);
        assert!(!files.look().await.unwrap(), "nothing changed");

        write((&second.0, &first.1));
        assert!(matches!(files.look().await, Err(TlsError::Unusable(_))), "certificate and key do not fit");
        assert_eq!(served(&files), before);
        assert!(!files.look().await.unwrap(), "the same fault is reported once");
        write((&second.0, "nonsense"));
        assert!(matches!(files.look().await, Err(TlsError::Pem { .. })));
        write(("", &second.1));
        assert!(matches!(files.look().await, Err(TlsError::NoCertificate)));
        std::fs::remove_file(&key).unwrap();
        assert!(!files.look().await.unwrap());
        assert_eq!(served(&files), before);

        write((&second.0, &second.1));
        assert!(files.look().await.unwrap());
        assert_ne!(served(&files), before);
        let _: Arc<dyn ResolvesServerCert> = files.current();
    }
}
