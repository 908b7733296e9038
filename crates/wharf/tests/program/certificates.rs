//! TLS: the development authority, and certificates that change under a running server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::server::{Server, eventually};

/// Asks for `/healthz` by HTTP/1.1 and trusts one certificate. `None` if the server's is another.
fn health(server: &Server, trusted: CertificateDer<'static>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(server.host()).unwrap());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    Some(answer)
}

/// Writes a self-signed certificate and its key; returns the certificate.
fn write_pair(certificate: &Path, key: &Path) -> CertificateDer<'static> {
    let pair = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
    std::fs::write(key, pair.serialize_pem()).unwrap();
    std::fs::write(certificate, made.pem()).unwrap();
    made.der().clone()
}

#[test]
fn a_development_authority_is_made_once_and_explained() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &["--tls", "self-signed"]);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let authority = CertificateDer::from_pem_file(data.join("tls/ca.pem")).unwrap();
    assert!(health(&server, authority.clone()).unwrap().starts_with("HTTP/1.1 200 "));
    let told = server.stop();
    for word in ["AWS_CA_BUNDLE=", "/etc/containers/certs.d/", "/etc/docker/certs.d/"] {
        assert!(told.contains(word), "{word} is not in: {told}");
    }
    let server = Server::start(&data, &["--tls", "self-signed"]);
    assert!(health(&server, authority).unwrap().starts_with("HTTP/1.1 200 "), "clients trust it once");
    server.stop();
}

#[test]
fn changed_certificates_are_served_and_broken_ones_are_not() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (certificate, key) = (parent.path().join("cert.pem"), parent.path().join("key.pem"));
    let first = write_pair(&certificate, &key);
    let files = ["--tls", "files", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let server = Server::start(&data, &files);
    assert!(health(&server, first.clone()).unwrap().starts_with("HTTP/1.1 200 "));

    let second = write_pair(&certificate, &key);
    let answer = eventually("the second certificate", || health(&server, second.clone()));
    assert!(answer.starts_with("HTTP/1.1 200 "));
    assert_eq!(health(&server, first), None);

    std::fs::write(&certificate, "broken").unwrap();
    let third_key = parent.path().join("third.pem");
    let third = write_pair(&parent.path().join("third-cert.pem"), &third_key);
    assert!(health(&server, second).is_some(), "the last good certificate is kept");
    std::fs::copy(&third_key, &key).unwrap();
    std::fs::copy(parent.path().join("third-cert.pem"), &certificate).unwrap();
    eventually("the third certificate", || health(&server, third.clone()));
    server.stop();
}
