//! A proxy that misbehaves on command: between our processes and Postgres, Redis, Docker or a
//! registry.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::services::shared;

/// Where the proxy leads.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What the proxy does to new and to open connections from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every chunk, in each direction, waits this long.
    Delay(Duration),
    /// Connections are accepted, bytes vanish.
    Blackhole,
    /// New connections are closed at once; open ones end.
    Refuse,
    /// A connection ends after this many bytes from the upstream.
    ResetAfter(u64),
}

pub struct Proxy {
    fault: watch::Sender<Fault>,
    cut: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
    port: Option<u16>,
    path: Option<PathBuf>,
    task: JoinHandle<()>,
    _directory: Option<TempDir>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub async fn tcp(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port can be bound");
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let mut proxy = Self::run(upstream, Listener::Tcp(listener));
        proxy.port = Some(port);
        proxy
    }

    /// Listens on a Unix socket, for the Docker engine.
    pub async fn unix(upstream: Upstream) -> Self {
        let directory = shared().scratch();
        let path = directory.path().join("proxy.sock");
        let listener = UnixListener::bind(&path).expect("a Unix socket can be bound");
        let mut proxy = Self::run(upstream, Listener::Unix(listener));
        proxy.path = Some(path);
        proxy._directory = Some(directory);
        proxy
    }

    fn run(upstream: Upstream, listener: Listener) -> Self {
        let (fault, faults) = watch::channel(Fault::None);
        let (cut, cuts) = watch::channel(0);
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    stream = listener.accept() => {
                        let Ok(stream) = stream else { continue };
                        count.fetch_add(1, Ordering::Relaxed);
                        let (upstream, faults, mut cuts) = (upstream.clone(), faults.clone(), cuts.clone());
                        cuts.mark_unchanged();
                        connections.spawn(async move {
                            tokio::select! {
                                _ = carry(stream, upstream, faults) => {}
                                _ = cuts.changed() => {}
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self {
            fault,
            cut,
            accepted,
            port: None,
            path: None,
            task,
            _directory: None,
        }
    }

    /// # Panics
    /// For a proxy that listens on a Unix socket.
    pub fn port(&self) -> u16 {
        self.port.expect("a TCP proxy")
    }

    /// # Panics
    /// For a proxy that listens on TCP.
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("a Unix proxy")
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// Ends every open connection; new ones are served.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// How many connections have been accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn carry(
    client: Box<dyn Stream>,
    upstream: Upstream,
    mut faults: watch::Receiver<Fault>,
) -> io::Result<()> {
    if *faults.borrow() == Fault::Refuse {
        return Ok(());
    }
    // A black hole does not even reach the upstream.
    faults
        .wait_for(|fault| *fault != Fault::Blackhole)
        .await
        .map_err(io::Error::other)?;
    let server: Box<dyn Stream> = match upstream {
        Upstream::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Upstream::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let up = pump(client_read, server_write, faults.clone(), Direction::Up);
    let down = pump(server_read, client_write, faults, Direction::Down);
    // A half-closed connection lives on until the other half ends, as Docker's attach needs; a
    // fault on either half ends both.
    tokio::try_join!(up, down).map(|_| ())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Fault>,
    direction: Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0u64;
    loop {
        let mut read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let fault = *faults.borrow_and_update();
        let mut last = false;
        match fault {
            Fault::None => {}
            Fault::Delay(pause) => tokio::time::sleep(pause).await,
            // Held back rather than lost: TCP loses nothing either, it only takes longer.
            Fault::Blackhole => {
                faults
                    .wait_for(|fault| *fault != Fault::Blackhole)
                    .await
                    .map_err(io::Error::other)?;
            }
            Fault::Refuse => return Err(io::ErrorKind::ConnectionReset.into()),
            Fault::ResetAfter(limit) if direction == Direction::Down => {
                let left = limit.saturating_sub(total);
                last = left <= read as u64;
                read = read.min(left as usize);
            }
            Fault::ResetAfter(_) => {}
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        total += read as u64;
        if last {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}
