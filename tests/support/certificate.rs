//! A certificate for `localhost` and 127.0.0.1 that nobody but itself vouches for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

pub struct Certificate {
    directory: TempDir,
}

impl Certificate {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let made = Self { directory };
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=CA:FALSE"])
            .arg("-keyout")
            .arg(made.key())
            .arg("-out")
            .arg(made.path())
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        made
    }

    /// PEM.
    pub fn path(&self) -> PathBuf {
        self.at("certificate.pem")
    }

    /// PEM.
    pub fn key(&self) -> PathBuf {
        self.at("key.pem")
    }

    fn at(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    /// A server that shows it.
    pub fn acceptor(&self) -> TlsAcceptor {
        crate::init();
        let certificate = CertificateDer::from_pem_file(self.path()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.key()).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the certificate fits its key");
        TlsAcceptor::from(Arc::new(config))
    }
}
