//! A load generator that costs little: raw HTTP/1.1 over keep-alive connections, so that on two
//! cores the server is measured and not the client.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What one run of requests came to.
#[derive(Clone, Debug, Default)]
pub struct Load {
    pub requests: usize,
    pub seconds: f64,
    pub statuses: std::collections::BTreeMap<u16, usize>,
    latencies: Vec<u32>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Milliseconds.
    pub fn p99(&self) -> f64 {
        self.percentile(0.99)
    }

    pub fn p50(&self) -> f64 {
        self.percentile(0.5)
    }

    fn percentile(&self, share: f64) -> f64 {
        let index = ((self.latencies.len() as f64 * share) as usize)
            .min(self.latencies.len().saturating_sub(1));
        self.latencies
            .get(index)
            .map_or(0.0, |us| f64::from(*us) / 1000.0)
    }

    fn merge(&mut self, other: Load) {
        self.requests += other.requests;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.latencies.extend(other.latencies);
    }
}

/// Sends `request(n)` over `connections` connections until `duration` has passed or `limit`
/// requests are out.
pub async fn run(
    port: u16,
    connections: usize,
    duration: Duration,
    limit: usize,
    request: impl Fn(usize) -> Vec<u8> + Clone + Send + 'static,
) -> anyhow::Result<Load> {
    let started = Instant::now();
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (request, next) = (request.clone(), next.clone());
        tasks.spawn(async move {
            let mut load = Load::default();
            let mut connection = Connection::open(port).await?;
            while started.elapsed() < duration {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if n >= limit {
                    break;
                }
                let bytes = request(n);
                let before = Instant::now();
                let status = connection.exchange(&bytes).await?;
                load.latencies.push(before.elapsed().as_micros() as u32);
                load.requests += 1;
                *load.statuses.entry(status).or_default() += 1;
            }
            anyhow::Ok(load)
        });
    }
    let mut total = Load::default();
    while let Some(load) = tasks.join_next().await {
        total.merge(load??);
    }
    total.seconds = started.elapsed().as_secs_f64();
    total.latencies.sort_unstable();
    Ok(total)
}

/// A request without a body.
pub fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    with_method("GET", path, headers)
}

/// A request that posts nothing.
pub fn post(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    with_method(
        "POST",
        path,
        &[headers, &[("content-length", "0")]].concat(),
    )
}

fn with_method(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Sends one request and reads its answer to the end; returns the status.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let (status, length, head) = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(end) = find(&self.buffer[..filled], b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.buffer[..end])?;
                let status: u16 = text.get(9..12).unwrap_or_default().parse()?;
                let length = text.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().ok())?
                });
                let length = match status {
                    204 | 304 => 0,
                    _ => length.ok_or_else(|| anyhow::anyhow!("no content-length: {text}"))?,
                };
                break (status, length, end + 4);
            }
        };
        let mut left = (head + length).saturating_sub(filled);
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            left = left.saturating_sub(read);
        }
        Ok(status)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
