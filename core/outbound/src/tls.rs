//! TLS of one client: what is trusted, and what we show.

use std::path::Path;

use reqwest::{Certificate, Identity};

/// How the other side's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    #[default]
    Certificate,
    /// `insecure=true`: anyone between here and there can read and change everything.
    Nothing,
}

/// TLS as configured for one service.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub verify: Verify,
    pub ca: Vec<Certificate>,
    pub identity: Option<Identity>,
    pub roots: Roots,
}

/// Which authorities count besides the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    #[default]
    Machine,
    None,
}

impl Tls {
    /// For a client that never speaks TLS: nothing is read.
    pub fn none() -> Self {
        Self {
            roots: Roots::None,
            ..Self::default()
        }
    }

    /// The part that holds for other hosts, too.
    pub fn for_strangers(&self) -> Self {
        Self {
            ca: self.ca.clone(),
            ..Self::default()
        }
    }

    /// Reads the files once, at start. The error names the file.
    pub fn read(
        verify: Verify,
        ca: Option<&Path>,
        client: Option<(&Path, &Path)>,
    ) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
        };
        let ca = match ca {
            Some(path) => Certificate::from_pem_bundle(&read(path)?)
                .map_err(|_| format!("{} holds no PEM certificates", path.display()))?,
            None => Vec::new(),
        };
        let identity = match client {
            Some((certificate, key)) => {
                let mut pem = read(certificate)?;
                pem.push(b'\n');
                pem.extend_from_slice(&read(key)?);
                let identity = Identity::from_pem(&pem).map_err(|_| {
                    format!(
                        "{} and {} are no PEM certificate and key",
                        certificate.display(),
                        key.display()
                    )
                })?;
                Some(identity)
            }
            None => None,
        };
        Ok(Self {
            verify,
            ca,
            identity,
            roots: Roots::Machine,
        })
    }
}
