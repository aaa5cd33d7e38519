//! A mail server that keeps what it is given: in the clear, with STARTTLS, or with TLS from the
//! start.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;

/// One mail as it came in.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body as sent, with the stuffed dots taken out.
    pub data: String,
    pub encrypted: bool,
    /// User name and password.
    pub login: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Never,
    Offered,
    FromTheStart,
}

pub struct Sink {
    port: u16,
    kept: Arc<Kept>,
    server: JoinHandle<()>,
}

struct Kept {
    tls: Tls,
    acceptor: TlsAcceptor,
    /// What AUTH is answered with instead of success.
    refusal: Option<&'static str>,
    mails: Mutex<Vec<Mail>>,
    heard: Mutex<String>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sink {
    pub async fn plain() -> Self {
        Self::start(Tls::Never, None).await
    }

    /// Its certificate is its own word only.
    pub async fn starttls() -> Self {
        Self::start(Tls::Offered, None).await
    }

    /// Its certificate is its own word only.
    pub async fn tls() -> Self {
        Self::start(Tls::FromTheStart, None).await
    }

    /// In the clear; logins are answered with this line.
    pub async fn refusing(answer: &'static str) -> Self {
        Self::start(Tls::Never, Some(answer)).await
    }

    async fn start(tls: Tls, refusal: Option<&'static str>) -> Self {
        crate::init();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let kept = Arc::new(Kept {
            tls,
            acceptor: Certificate::new().acceptor(),
            refusal,
            mails: Mutex::default(),
            heard: Mutex::default(),
        });
        let keeper = kept.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keeper = keeper.clone();
                // A client that goes away in the middle is part of the game.
                tokio::spawn(async move { serve(stream, &keeper).await.ok() });
            }
        });
        Self { port, kept, server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.kept.mails.lock().expect("no test panicked").clone()
    }

    /// Every line that came in, mails excepted.
    pub fn heard(&self) -> String {
        self.kept.heard.lock().expect("no test panicked").clone()
    }
}

async fn serve(stream: TcpStream, kept: &Kept) -> std::io::Result<()> {
    if kept.tls == Tls::FromTheStart {
        let stream = kept.acceptor.accept(stream).await?;
        let mut stream = BufReader::new(stream);
        say(&mut stream, "220 sink").await?;
        talk(&mut stream, kept, true).await?;
        return Ok(());
    }
    let mut stream = BufReader::new(stream);
    say(&mut stream, "220 sink").await?;
    if talk(&mut stream, kept, false).await? == After::StartTls {
        let stream = kept.acceptor.accept(stream.into_inner()).await?;
        talk(&mut BufReader::new(stream), kept, true).await?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum After {
    Goodbye,
    StartTls,
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    kept: &Kept,
    encrypted: bool,
) -> std::io::Result<After> {
    let mut login = None;
    let (mut from, mut to) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(After::Goodbye);
        }
        let line = line.trim_end();
        kept.heard
            .lock()
            .expect("no test panicked")
            .push_str(&format!("{line}\n"));
        let upper = line.to_ascii_uppercase();
        let address = || {
            let inner = line
                .split_once('<')
                .and_then(|(_, rest)| rest.split_once('>'));
            inner.map_or_else(String::new, |(address, _)| address.to_owned())
        };
        if upper.starts_with("EHLO") {
            say(stream, "250-sink").await?;
            if kept.tls == Tls::Offered && !encrypted {
                say(stream, "250-STARTTLS").await?;
            }
            say(stream, "250 AUTH PLAIN").await?;
        } else if upper == "STARTTLS" {
            say(stream, "220 go on").await?;
            return Ok(After::StartTls);
        } else if let Some(words) = line.strip_prefix("AUTH PLAIN ") {
            if let Some(refusal) = kept.refusal {
                say(stream, refusal).await?;
                continue;
            }
            login = plain_login(words);
            say(stream, "235 welcome").await?;
        } else if upper.starts_with("MAIL FROM") {
            from = address();
            say(stream, "250 ok").await?;
        } else if upper.starts_with("RCPT TO") {
            to.push(address());
            say(stream, "250 ok").await?;
        } else if upper == "DATA" {
            say(stream, "354 go on").await?;
            let mail = Mail {
                from: std::mem::take(&mut from),
                to: std::mem::take(&mut to),
                data: data(stream).await?,
                encrypted,
                login: login.clone(),
            };
            kept.mails.lock().expect("no test panicked").push(mail);
            say(stream, "250 kept").await?;
        } else if upper == "QUIT" {
            say(stream, "221 bye").await?;
            return Ok(After::Goodbye);
        } else {
            say(stream, "250 ok").await?;
        }
    }
}

async fn data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(data);
        }
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    line: &str,
) -> std::io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// `\0user\0password` in base64.
fn plain_login(words: &str) -> Option<(String, String)> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bytes = BASE64_STANDARD.decode(words).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0').skip(1).map(str::to_owned);
    Some((parts.next()?, parts.next()?))
}
