//! The accept loop.
//!
//! `poem::Server` sets no limit on the time a client may take to send a request's head, so a
//! thousand half-sent requests would stay for ever (reliability.md S-24). This loop is hyper's own
//! connection handling with that limit, a cap on connections, and a drain that ends.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use plimsoll_app::App;
use plimsoll_runtime::settings::Settings;
use poem::{
    Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    ApiSettings, ApiState,
    edge::{self, Root},
    heads::{self, Heads},
};

/// Head bytes that are read before a request is refused with 431.
const HEAD_BYTES: usize = 16 * 1024;
/// How long requests that are under way may take after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// Where the API is served.
pub struct Listeners {
    /// Drydock's paths at the root, and every other dialect at its prefix.
    pub main: TcpListener,
    /// Docksmith's paths at the root.
    pub docksmith: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        let docksmith = None;
        Self { main, docksmith }
    }
}

impl Listeners {
    /// Opens those that are configured.
    ///
    /// # Errors
    /// An address that cannot be listened on, and which one.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let main = settings.listen_address();
        let main = TcpListener::bind(main).await.with_context(|| {
            format!("cannot listen on {main}; choose another address with --listen")
        })?;
        let docksmith = match settings.listen_docksmith {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| {
                    format!(
                        "cannot listen on {address} for Docksmith's API; choose another \
                         address with PLIMSOLL_LISTEN_DOCKSMITH"
                    )
                })?;
                Some(listener)
            }
        };
        Ok(Self { main, docksmith })
    }
}

/// Serves the API on `listeners` until `shutdown` is cancelled, then finishes the requests that are
/// under way; event streams end at once. Makes no round trip before it accepts, so that a replica
/// answers within milliseconds of its start and while Postgres is away.
pub async fn serve(
    app: App,
    settings: ApiSettings,
    listeners: impl Into<Listeners>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let Listeners { main, docksmith } = listeners.into();
    let state = ApiState::new(app, settings, shutdown);
    let slots = Arc::new(Semaphore::new(state.settings.max_connections));
    let listen = |root, listener| {
        let endpoint = edge::root(state.clone(), root);
        serve_endpoint(endpoint, state.clone(), listener, slots.clone())
    };
    let main = listen(Root::Main, main);
    let Some(docksmith) = docksmith else {
        return main.await;
    };
    let address = docksmith.local_addr()?;
    let docksmith = listen(Root::Docksmith(address), docksmith);
    tokio::try_join!(main, docksmith).map(|((), ())| ())
}

async fn serve_endpoint<E>(
    root: E,
    state: ApiState,
    listener: TcpListener,
    slots: Arc<Semaphore>,
) -> std::io::Result<()>
where
    E: Endpoint<Output = Response> + 'static,
{
    let root = Arc::new(root);
    let shutdown = state.shutdown.clone();
    let connections = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(heads::FIRST)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(100);

    loop {
        // Past the cap, connections wait in the kernel's queue instead of taking memory here.
        let slot = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot.map_err(std::io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the client is gone already.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let watcher = connections.watcher();
        let root = root.clone();
        let mut builder = builder.clone();
        builder.http1().timer(Heads::default());
        let state = state.clone();
        tokio::spawn(async move {
            state.metrics.connections.inc();
            let tls = state.settings.tls.clone();
            if let Err(error) = serve_one(tls, &builder, root, socket, remote, watcher).await {
                tracing::debug!(%remote, error, "connection ended");
            }
            state.metrics.connections.dec();
            drop(slot);
        });
    }

    drop(listener);
    if tokio::time::timeout(DRAIN, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(after = ?DRAIN, "closed connections with requests under way");
    }
    Ok(())
}

async fn serve_one<E>(
    tls: Option<Arc<ServerConfig>>,
    builder: &auto::Builder<TokioExecutor>,
    root: Arc<E>,
    socket: TcpStream,
    remote: std::net::SocketAddr,
    watcher: Watcher,
) -> Result<(), String>
where
    E: Endpoint<Output = Response> + 'static,
{
    // A failing option is no reason to refuse the client.
    let _ = socket.set_nodelay(true);
    let local = LocalAddr(socket.local_addr().map(Into::into).unwrap_or_default());
    let Some(tls) = tls else {
        return connection(
            builder,
            root,
            socket,
            (local, Scheme::HTTP),
            remote,
            watcher,
        )
        .await;
    };
    // A handshake is part of the head: who is slow with it waits alone, and not for long.
    let handshake = TlsAcceptor::from(tls).accept(socket);
    let stream = tokio::time::timeout(heads::FIRST, handshake)
        .await
        .map_err(|_| "the handshake took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    connection(
        builder,
        root,
        stream,
        (local, Scheme::HTTPS),
        remote,
        watcher,
    )
    .await
}

fn connection<E>(
    builder: &auto::Builder<TokioExecutor>,
    root: Arc<E>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (local, scheme): (LocalAddr, Scheme),
    remote: std::net::SocketAddr,
    watcher: Watcher,
) -> impl Future<Output = Result<(), String>> + Send
where
    E: Endpoint<Output = Response> + 'static,
{
    let remote = RemoteAddr(remote.into());
    let service = hyper::service::service_fn(move |request| {
        let request = Request::from((request, local.clone(), remote.clone(), scheme.clone()));
        let root = root.clone();
        async move {
            let response = root.get_response(request).await;
            Ok::<_, std::convert::Infallible>(http::Response::from(response))
        }
    });
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned();
    async move { watcher.watch(connection).await.map_err(|e| e.to_string()) }
}
