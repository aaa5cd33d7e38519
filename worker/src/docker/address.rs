//! Where a Docker engine is: from a watcher's settings (`DD_WATCHER_<name>_SOCKET`, `_HOST`,
//! `_PORT`, `_PROTOCOL`, `_CAFILE`, `_CERTFILE`, `_KEYFILE`; reference/drydock.md 3) or from
//! `DOCKER_HOST`.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

/// Docker's own socket.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Drydock's default for `PORT`, which is also Docker's for plain HTTP.
const DEFAULT_PORT: u16 = 2375;
/// Docker's port for TLS in a `DOCKER_HOST` without one.
const DEFAULT_TLS_PORT: u16 = 2376;

/// A parsed engine address. Its `Display` is safe to show and names the engine in messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EngineAddress {
    Unix {
        socket: PathBuf,
    },
    /// Plain HTTP. Whoever reaches that port owns the host; it is for socket proxies on private
    /// networks.
    Http {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
        files: TlsFiles,
    },
}

/// PEM files. Without `ca` the system's roots are trusted; without a client certificate the
/// engine decides whether to talk to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    pub ca: Option<PathBuf>,
    pub client: Option<ClientFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A watcher's connection settings as configured, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings<'a> {
    pub socket: Option<&'a str>,
    pub host: Option<&'a str>,
    pub port: Option<u16>,
    /// `http` or `https`. Absent: `https` when a TLS file is given, else `http`.
    pub protocol: Option<&'a str>,
    pub ca_file: Option<&'a Path>,
    pub cert_file: Option<&'a Path>,
    pub key_file: Option<&'a Path>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("both a socket ({socket}) and a host ({host}) are set; set one of them")]
    SocketAndHost { socket: String, host: String },
    #[error("the protocol {0:?} is not supported; use http or https")]
    Protocol(String),
    #[error("a client certificate needs both its certificate file and its key file")]
    HalfClientCertificate,
    #[error("TLS files are set, but the protocol is http; set the protocol to https")]
    TlsFilesWithoutTls,
    #[error(
        "DOCKER_HOST {0:?} cannot be used; give unix:///path/to/socket, tcp://host:port or https://host:port"
    )]
    DockerHost(String),
    #[error("the host {0:?} is not a host name or an address")]
    Host(String),
}

impl EngineAddress {
    /// The engine on this machine, at Docker's own socket.
    pub fn local() -> Self {
        EngineAddress::Unix {
            socket: PathBuf::from(DEFAULT_SOCKET),
        }
    }

    pub fn from_settings(settings: &EngineSettings<'_>) -> Result<Self, AddressError> {
        let Some(host) = settings.host.filter(|host| !host.is_empty()) else {
            return Ok(EngineAddress::Unix {
                socket: PathBuf::from(settings.socket.unwrap_or(DEFAULT_SOCKET)),
            });
        };
        if let Some(socket) = settings.socket {
            return Err(AddressError::SocketAndHost {
                socket: socket.to_owned(),
                host: host.to_owned(),
            });
        }
        let files = tls_files(settings.ca_file, settings.cert_file, settings.key_file)?;
        let has_files = files != TlsFiles::default();
        let host = checked_host(host)?;
        let port = settings.port.unwrap_or(DEFAULT_PORT);
        match settings.protocol {
            Some("http") if has_files => Err(AddressError::TlsFilesWithoutTls),
            None if has_files => Ok(EngineAddress::Tls { host, port, files }),
            Some("https") => Ok(EngineAddress::Tls { host, port, files }),
            None | Some("http") => Ok(EngineAddress::Http { host, port }),
            Some(other) => Err(AddressError::Protocol(other.to_owned())),
        }
    }

    /// `DOCKER_HOST`, with `DOCKER_CERT_PATH` when `DOCKER_TLS_VERIFY` is set: a directory that
    /// holds `ca.pem`, `cert.pem` and `key.pem`, as Docker's own client reads it.
    pub fn from_docker_host(value: &str, cert_path: Option<&Path>) -> Result<Self, AddressError> {
        let bad = || AddressError::DockerHost(value.to_owned());
        if let Some(path) = value.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(bad());
            }
            return Ok(EngineAddress::Unix {
                socket: PathBuf::from(path),
            });
        }
        let url = Url::parse(value).map_err(|_| bad())?;
        let host = url.host_str().ok_or_else(bad)?.to_owned();
        if !url.username().is_empty() || !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(bad());
        }
        match (url.scheme(), cert_path) {
            ("tcp" | "https", Some(directory)) => Ok(EngineAddress::Tls {
                host,
                port: url.port().unwrap_or(DEFAULT_TLS_PORT),
                files: TlsFiles {
                    ca: Some(directory.join("ca.pem")),
                    client: Some(ClientFiles {
                        certificate: directory.join("cert.pem"),
                        key: directory.join("key.pem"),
                    }),
                },
            }),
            ("https", None) => Ok(EngineAddress::Tls {
                host,
                port: url.port().unwrap_or(DEFAULT_TLS_PORT),
                files: TlsFiles::default(),
            }),
            ("tcp" | "http", None) => Ok(EngineAddress::Http {
                host,
                port: url.port().unwrap_or(DEFAULT_PORT),
            }),
            _ => Err(bad()),
        }
    }
}

fn tls_files(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<TlsFiles, AddressError> {
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        (None, None) => None,
        _ => return Err(AddressError::HalfClientCertificate),
    };
    Ok(TlsFiles {
        ca: ca.map(Path::to_owned),
        client,
    })
}

fn checked_host(host: &str) -> Result<String, AddressError> {
    // IPv6 literals are written bare in settings and bracketed in URLs.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let written = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare.to_owned()
    };
    match url::Host::parse(&written) {
        Ok(_) => Ok(written),
        Err(_) => Err(AddressError::Host(host.to_owned())),
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineAddress::Unix { socket } => write!(f, "unix://{}", socket.display()),
            EngineAddress::Http { host, port } => write!(f, "http://{host}:{port}"),
            EngineAddress::Tls { host, port, .. } => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_host_the_local_socket_is_meant() {
        let address = EngineAddress::from_settings(&EngineSettings::default());
        assert_eq!(address, Ok(EngineAddress::local()));
    }

    #[test]
    fn a_host_with_tls_files_is_reached_by_tls() {
        let settings = EngineSettings {
            host: Some("nas.lan"),
            port: Some(2376),
            cert_file: Some(Path::new("/c.pem")),
            key_file: Some(Path::new("/k.pem")),
            ..EngineSettings::default()
        };
        let address = EngineAddress::from_settings(&settings).unwrap();
        assert_eq!(address.to_string(), "https://nas.lan:2376");
    }

    #[test]
    fn contradictions_are_refused() {
        let both = EngineSettings {
            socket: Some("/s"),
            host: Some("h"),
            ..EngineSettings::default()
        };
        let half = EngineSettings {
            host: Some("h"),
            key_file: Some(Path::new("/k.pem")),
            ..EngineSettings::default()
        };
        let plain = EngineSettings {
            host: Some("h"),
            protocol: Some("http"),
            ca_file: Some(Path::new("/ca.pem")),
            ..EngineSettings::default()
        };
        for (settings, part) in [
            (both, "both a socket"),
            (half, "both its certificate"),
            (plain, "protocol is http"),
        ] {
            let error = EngineAddress::from_settings(&settings).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn docker_host_is_read_as_dockers_client_reads_it() {
        for (value, shown) in [
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://10.0.0.7", "http://10.0.0.7:2375"),
            ("tcp://[::1]:2399", "http://[::1]:2399"),
            ("https://host", "https://host:2376"),
        ] {
            let address = EngineAddress::from_docker_host(value, None).unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for bad in [
            "",
            "ssh://host",
            "unix://relative",
            "tcp://h/path",
            "npipe:////./pipe",
        ] {
            assert!(EngineAddress::from_docker_host(bad, None).is_err(), "{bad}");
        }
    }
}
