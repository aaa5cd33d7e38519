//! An HTTP server that answers exactly what a test tells it to, down to the bytes.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What comes back.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    delay: Duration,
}

enum Body {
    Whole(Vec<u8>),
    /// Announced with a length and sent in pieces of 64 KiB until nobody reads any more.
    Endless(u64),
    /// Announced and never sent.
    Missing,
    /// The connection is cut before the first byte of the answer.
    Cut,
    /// Nothing at all, for ever.
    Silence,
}

impl Answer {
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body).with("content-type", "application/json")
    }

    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Whole(body.into()),
            delay: Duration::ZERO,
        }
    }

    pub fn endless(length: u64) -> Self {
        Self {
            body: Body::Endless(length),
            ..Self::new(200, "")
        }
    }

    pub fn missing_body() -> Self {
        Self {
            body: Body::Missing,
            ..Self::new(200, "")
        }
    }

    pub fn cut() -> Self {
        Self {
            body: Body::Cut,
            ..Self::new(200, "")
        }
    }

    pub fn silence() -> Self {
        Self {
            body: Body::Silence,
            ..Self::new(200, "")
        }
    }

    /// Comes only after that time.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Received) -> Answer + Send + Sync;

pub struct Hostile {
    port: u16,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    received: Mutex<Vec<Received>>,
    sent: AtomicUsize,
    /// Requests that came in and have no answer yet.
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hostile {
    pub async fn start(handler: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let seen = Arc::new(Seen::default());
        let handler: Arc<Handler> = Arc::new(handler);
        let noted = seen.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (handler, seen) = (handler.clone(), noted.clone());
                // A client that goes away in the middle is part of the game.
                tokio::spawn(async move { serve(stream, &handler, &seen).await.ok() });
            }
        });
        Self { port, seen, server }
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn received(&self) -> Vec<Received> {
        let received = self.seen.received.lock();
        received.expect("no test panicked").clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.received().into_iter().map(|r| r.path).collect()
    }

    /// The most requests that waited for their answers at the same time.
    pub fn most_at_once(&self) -> usize {
        self.seen.most_open.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that went out.
    pub fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, handler: &Arc<Handler>, seen: &Seen) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_owned();
        let mut request = Received {
            method: word(),
            path: word(),
            headers: Vec::new(),
            body: String::new(),
            bytes: Vec::new(),
        };
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            if name == "content-length" {
                length = value.parse().unwrap_or(0);
            }
            request.headers.push((name, value));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        request.bytes = body;
        let answer = handler(&request);
        let head_only = request.method == "HEAD";
        let received = seen.received.lock();
        received.expect("no test panicked").push(request);
        let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_open.fetch_max(open, Ordering::SeqCst);
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        // Before the answer, so that a quick client's next request does not meet this one.
        seen.open.fetch_sub(1, Ordering::SeqCst);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        for (name, value) in &answer.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match &answer.body {
            Body::Whole(body) => body.len() as u64,
            Body::Endless(length) => *length,
            Body::Missing => 1000,
            Body::Cut => return Ok(()),
            Body::Silence => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                return Ok(());
            }
        };
        let _ = write!(head, "content-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        match answer.body {
            Body::Whole(body) if !head_only => {
                stream.write_all(&body).await?;
                seen.sent.fetch_add(body.len(), Ordering::SeqCst);
            }
            Body::Endless(length) => {
                let piece = vec![b' '; 64 * 1024];
                for _ in 0..length / piece.len() as u64 {
                    stream.write_all(&piece).await?;
                    seen.sent.fetch_add(piece.len(), Ordering::SeqCst);
                }
            }
            Body::Missing => tokio::time::sleep(Duration::from_secs(3600)).await,
            _ => {}
        }
        stream.flush().await?;
    }
}

/// `{"name":…,"tags":[…]}`.
pub fn tag_page<'t>(tags: impl IntoIterator<Item = &'t str>) -> Answer {
    let tags: Vec<&str> = tags.into_iter().collect();
    Answer::json(serde_json::json!({"name": "x", "tags": tags}).to_string())
}
