//! The one place that builds HTTP clients: timeouts, TLS, no automatic redirects, and the guard on
//! addresses.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Request, Response, redirect};
use tracing::Instrument;

use crate::{
    reach::{Guarded, Reach},
    tls::{Roots, Tls, Verify},
};

const CONNECT: Duration = Duration::from_secs(5);
/// Until the response headers are there.
pub const HEADERS: Duration = Duration::from_secs(10);
/// Between two pieces of a body.
const IDLE: Duration = Duration::from_secs(15);
/// One request from start to end, at most.
pub const TOTAL: Duration = Duration::from_secs(60);
/// Connections to one service, and requests under way.
pub const CONNECTIONS: usize = 10;

/// Proxies of the environment apply, as they do for Docker, but never to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    FromEnvironment,
    Never,
}

/// How requests to one service travel.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub proxy: Proxy,
    /// One request from start to end.
    pub timeout: Duration,
}

/// A client that follows no redirect and reaches `reach` only, where names are resolved: check an
/// address that is written in the URL itself with [`crate::check_literal`].
pub fn client(reach: Reach, tls: &Tls, line: Line) -> reqwest::Result<Client> {
    builder(reach, tls, line).build()
}

pub(crate) fn builder(reach: Reach, tls: &Tls, line: Line) -> ClientBuilder {
    let mut builder = Client::builder()
        .user_agent(concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(IDLE)
        .timeout(line.timeout)
        .pool_max_idle_per_host(CONNECTIONS)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .gzip(true)
        .dns_resolver(Guarded(reach));
    builder = match tls.roots {
        Roots::Machine => builder.tls_certs_merge(tls.ca.iter().cloned()),
        Roots::None => builder.tls_certs_only([]),
    };
    if tls.verify == Verify::Nothing {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(identity) = &tls.identity {
        builder = builder.identity(identity.clone());
    }
    if line.proxy == Proxy::Never {
        builder = builder.no_proxy();
    }
    builder
}

/// Sends `request` as a span of its own, with method, host and status, in the trace that we are in.
/// That trace stays here: whom we ask belongs to somebody else, and what would tell it which of its
/// requests belong together is not its business. Collectors see no path: some services keep their
/// secrets in it.
pub async fn execute(client: &Client, request: Request) -> reqwest::Result<Response> {
    let host = request.url().host_str().unwrap_or_default();
    let span = plimsoll_trace::http_client(request.method(), || None, host);
    let outcome = client.execute(request).instrument(span.clone()).await;
    match &outcome {
        Ok(response) => plimsoll_trace::answered(&span, response.status()),
        Err(error) if error.is_timeout() => plimsoll_trace::failed(&span, "timeout"),
        Err(error) if error.is_connect() => plimsoll_trace::failed(&span, "connect"),
        Err(_) => plimsoll_trace::failed(&span, "exchange"),
    }
    outcome
}

/// Why a body was not read.
pub enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body up to `limit` bytes, counted after decompression.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    // An announcement costs the sender nothing, so it reserves little.
    let mut body = Vec::with_capacity(announced.min(256 * 1024) as usize);
    while let Some(piece) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + piece.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
