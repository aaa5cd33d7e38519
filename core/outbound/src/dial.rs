//! Connections for protocols other than HTTP, through the same guard on addresses.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::reach::{Reach, resolve};

/// For the connection, and for TLS once more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a protocol is spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Whether what is sent can be read on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Clear,
    /// The certificate must be the host's, by an authority that this machine trusts.
    Tls,
}

/// Connects to `host`, if its address is within reach.
///
/// # Errors
/// A name that means nothing, an address out of reach, a host that does not answer within 10
/// seconds, a certificate that is not to be trusted.
pub async fn dial(host: &str, port: u16, wire: Wire, reach: Reach) -> io::Result<Box<dyn Stream>> {
    let connecting = async {
        let addresses = resolve(host, port, reach).await?;
        TcpStream::connect(&*addresses).await
    };
    let stream = within(connecting).await?;
    stream.set_nodelay(true)?;
    match wire {
        Wire::Clear => Ok(Box::new(stream)),
        Wire::Tls => within(encrypt(host, stream)).await,
    }
}

async fn within<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    timeout(PATIENCE, attempt).await.map_err(|_| late())?
}

async fn encrypt(host: &str, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, stream).await?))
}
