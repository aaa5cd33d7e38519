//! One HTTP exchange per connection, over a Unix socket, TCP or TLS.
//!
//! Connections are not reused: an engine is usually a local socket away, and a connection kept
//! across an engine's restart fails on its next use in a way that cannot be told from a request
//! that was carried out. A fresh one makes "could not connect" mean "nothing happened"
//! (reliability.md D1, D4).

use std::io;
use std::sync::Arc;

use bollard::BollardRequest;
use http::header::HOST;
use http::{HeaderValue, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tracing::Instrument;

use super::address::{EngineAddress, TlsFiles};

pub(super) enum Transport {
    Unix(std::path::PathBuf),
    Tcp(String),
    Tls {
        authority: String,
        name: ServerName<'static>,
        connector: TlsConnector,
    },
}

#[derive(Debug)]
pub(super) enum TransportError {
    /// Nothing was sent.
    Connect(io::Error),
    /// Something was sent.
    Exchange(hyper::Error),
}

impl Transport {
    /// Reads the TLS files, so that a wrong path is an error at start and not at the first call.
    pub(super) fn new(address: &EngineAddress) -> io::Result<Self> {
        Ok(match address {
            EngineAddress::Unix { socket } => Transport::Unix(socket.clone()),
            EngineAddress::Http { host, port } => Transport::Tcp(format!("{host}:{port}")),
            EngineAddress::Tls { host, port, files } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
                Transport::Tls {
                    authority: format!("{host}:{port}"),
                    name,
                    connector: TlsConnector::from(Arc::new(tls_config(files)?)),
                }
            }
        })
    }

    fn authority(&self) -> &str {
        match self {
            Transport::Unix(_) => "docker",
            Transport::Tcp(authority) | Transport::Tls { authority, .. } => authority,
        }
    }

    /// In a span of its own, up to the answer's head. The engine is told the trace: it is ours, and
    /// Docker's own spans go on with it.
    pub(super) async fn send(
        &self,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, TransportError> {
        let path = || Some(template(request.uri().path()));
        let span = plimsoll_trace::http_client(request.method(), path, self.authority());
        let sent = async {
            if let Some(context) = plimsoll_trace::current() {
                context.insert_into(request.headers_mut());
            }
            self.carry(request).await
        };
        let outcome = sent.instrument(span.clone()).await;
        match &outcome {
            Ok(response) => plimsoll_trace::answered(&span, response.status()),
            Err(TransportError::Connect(_)) => plimsoll_trace::failed(&span, "connect"),
            Err(TransportError::Exchange(_)) => plimsoll_trace::failed(&span, "exchange"),
        }
        outcome
    }

    async fn carry(
        &self,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, TransportError> {
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = path;
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|e| connect_error(io::Error::other(e)))?;
        let host = HeaderValue::from_str(self.authority())
            .map_err(|e| connect_error(io::Error::other(e)))?;
        request.headers_mut().insert(HOST, host);
        match self {
            Transport::Unix(path) => {
                exchange(
                    UnixStream::connect(path).await.map_err(connect_error)?,
                    request,
                )
                .await
            }
            Transport::Tcp(authority) => exchange(tcp(authority).await?, request).await,
            Transport::Tls {
                authority,
                name,
                connector,
            } => {
                let stream = connector
                    .connect(name.clone(), tcp(authority).await?)
                    .await
                    .map_err(connect_error)?;
                exchange(stream, request).await
            }
        }
    }
}

/// A path of Docker's API without its version and what it names, so that there are few of them:
/// `/v1.48/images/library/nginx:1/json` is `/images/{name}/json`.
fn template(path: &str) -> String {
    let versioned = path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.split_once('/'));
    let bare = versioned.map_or(path.trim_start_matches('/'), |(_, rest)| rest);
    let parts: Vec<&str> = bare.split('/').collect();
    let (kind, rest) = match &parts[..] {
        [
            kind @ ("containers" | "networks" | "images" | "volumes" | "exec"),
            rest @ ..,
        ] => (kind, rest),
        _ => return format!("/{bare}"),
    };
    let named = if *kind == "images" { "{name}" } else { "{id}" };
    let own = ["json", "create", "prune", "search", "get", "load"];
    match rest {
        [] => format!("/{kind}"),
        [one] if own.contains(one) => format!("/{kind}/{one}"),
        [_] => format!("/{kind}/{named}"),
        // The names of images have slashes.
        [.., last] => format!("/{kind}/{named}/{last}"),
    }
}

fn connect_error(error: io::Error) -> TransportError {
    TransportError::Connect(error)
}

async fn tcp(authority: &str) -> Result<TcpStream, TransportError> {
    let stream = TcpStream::connect(authority).await.map_err(connect_error)?;
    stream.set_nodelay(true).map_err(connect_error)?;
    Ok(stream)
}

async fn exchange<S>(
    stream: S,
    request: BollardRequest,
) -> Result<Response<Incoming>, TransportError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(TransportError::Exchange)?;
    // Ends by itself when the response's body is read or dropped. Its error reaches the reader of
    // the body, so there is nothing to do with it here.
    tokio::spawn(async move {
        let _ended = connection.with_upgrades().await;
    });
    sender
        .send_request(request)
        .await
        .map_err(TransportError::Exchange)
}

fn tls_config(files: &TlsFiles) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    Ok(match &files.client {
        Some(client) => {
            let key = PrivateKeyDer::from_pem_file(&client.key)
                .map_err(|e| unreadable(&client.key, &e))?;
            builder
                .with_client_auth_cert(certificates(&client.certificate)?, key)
                .map_err(io::Error::other)?
        }
        None => builder.with_no_client_auth(),
    })
}

fn certificates(path: &std::path::Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &std::path::Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::template;

    #[test]
    fn a_template_names_nothing() {
        for (path, expected) in [
            ("/v1.48/containers/json", "/containers/json"),
            ("/v1.48/containers/0123abc/json", "/containers/{id}/json"),
            ("/v1.48/containers/0123abc", "/containers/{id}"),
            ("/v1.48/containers/create", "/containers/create"),
            (
                "/v1.48/images/127.0.0.1:5000/a/b:1/json",
                "/images/{name}/json",
            ),
            ("/v1.48/images/nginx", "/images/{name}"),
            ("/v1.48/networks/n/connect", "/networks/{id}/connect"),
            ("/v1.48/info", "/info"),
            ("/_ping", "/_ping"),
            ("/version", "/version"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }
}
