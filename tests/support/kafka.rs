//! Kafka: brokers that librdkafka brings along for tests, started and read by its command line
//! client, and a gate before one of them that wants TLS and a login, or refuses what is written.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{digest, hmac, pbkdf2};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::certificate::Certificate;
use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

/// Brokers that make topics when they are asked for, with four partitions each.
pub struct Cluster {
    // Stopped before its directory is removed: fields are dropped in this order.
    _process: Process,
    _directory: TempDir,
    brokers: String,
}

impl Cluster {
    pub async fn start(brokers: usize) -> Self {
        let directory = shared().scratch();
        let log = directory.path().join("log");
        let file = std::fs::File::create(&log).expect("the scratch directory is writable");
        let mut kcat = command("kcat");
        kcat.args(["-P", "-b", "none", "-t", "unused", "-X", "debug=mock"])
            .args(["-X", &format!("test.mock.num.brokers={brokers}")])
            // It serves for as long as there may be more to read.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file);
        let process = Process::spawn("kcat", kcat);
        let addresses = |log: &Path| {
            let text = std::fs::read_to_string(log).ok()?;
            let (_, rest) = text.split_once("ignored and replaced with ")?;
            let (addresses, _) = rest.split_once('\n')?;
            Some(addresses.trim().to_owned())
        };
        let limit = wait::SOON;
        let brokers = wait::until("kcat's brokers", limit, async || addresses(&log)).await;
        Self {
            _process: process,
            _directory: directory,
            brokers,
        }
    }

    /// `127.0.0.1:port`, separated by commas.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Everything in a topic: each with `key`, `payload` (a text), `partition` and `headers`.
    pub async fn read(&self, topic: &str) -> Vec<Value> {
        let read = tokio::process::Command::new("kcat")
            .args(["-C", "-q", "-e", "-J", "-o", "beginning"])
            .args(["-b", &self.brokers, "-t", topic])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("kcat is there; run `make services`");
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "{said}");
        String::from_utf8_lossy(&read.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("kcat writes JSON"))
            .collect()
    }
}

/// A mechanism with the one user that it lets through.
#[derive(Clone, Copy)]
pub enum Login {
    Plain(&'static str, &'static str),
    /// SCRAM-SHA-512.
    Scram(&'static str, &'static str),
}

impl Login {
    fn mechanism(self) -> &'static str {
        match self {
            Self::Plain(..) => "PLAIN",
            Self::Scram(..) => "SCRAM-SHA-512",
        }
    }

    /// What is answered to a client's words, and whether it is in; `None` refuses. `said` is what
    /// both have said before.
    fn judge(self, words: &[u8], said: &mut Vec<String>) -> Option<(String, bool)> {
        let words = String::from_utf8_lossy(words).into_owned();
        match self {
            Self::Plain(user, password) => {
                (words == format!("\0{user}\0{password}")).then(|| (String::new(), true))
            }
            Self::Scram(user, _) if said.is_empty() => {
                let bare = words.strip_prefix("n,,")?;
                let nonce = bare.strip_prefix(&format!("n={user},r="))?;
                let salt = BASE64_STANDARD.encode(SALT);
                let challenge = format!("r={nonce}+more,s={salt},i={ROUNDS}");
                said.extend([bare.to_owned(), challenge.clone()]);
                Some((challenge, false))
            }
            Self::Scram(_, password) => {
                let (unproven, proof) = words.rsplit_once(",p=")?;
                let proof = BASE64_STANDARD.decode(proof).ok()?;
                let mut salted = [0; 64];
                let rounds = NonZeroU32::new(ROUNDS)?;
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::derive(algorithm, rounds, SALT, password.as_bytes(), &mut salted);
                let sign = |key: &[u8], text: &[u8]| {
                    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), text)
                };
                let all = format!("{},{unproven}", said.join(","));
                let client = sign(&salted, b"Client Key");
                let stored = digest::digest(&digest::SHA512, client.as_ref());
                let signature = sign(stored.as_ref(), all.as_bytes());
                let pairs = client.as_ref().iter().zip(signature.as_ref());
                let expected: Vec<u8> = pairs.map(|(a, b)| a ^ b).collect();
                let server = sign(&salted, b"Server Key");
                let own = BASE64_STANDARD.encode(sign(server.as_ref(), all.as_bytes()));
                (proof == expected).then(|| (format!("v={own}"), true))
            }
        }
    }
}

const SALT: &[u8] = b"a salt of sixteen";
const ROUNDS: u32 = 4096;

/// What stands before a broker.
#[derive(Clone, Default)]
pub struct Rules {
    /// How clients have to log in.
    pub login: Option<Login>,
    /// What writing is refused with, so many times.
    pub refuse: Option<(i16, usize)>,
}

/// One broker behind rules. Clients that ask it for the cluster's brokers are told of the gate.
pub struct Gate {
    port: u16,
    state: Arc<State>,
    server: JoinHandle<()>,
    certificate: Certificate,
}

struct State {
    rules: Rules,
    upstream: String,
    port: u16,
    refused: Mutex<usize>,
    written: Mutex<usize>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Gate {
    pub async fn clear(cluster: &Cluster, rules: Rules) -> Self {
        Self::start(cluster, rules, false).await
    }

    pub async fn tls(cluster: &Cluster, rules: Rules) -> Self {
        Self::start(cluster, rules, true).await
    }

    async fn start(cluster: &Cluster, rules: Rules, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let upstream = cluster.brokers().to_owned();
        assert!(!upstream.contains(','), "a gate has one broker behind it");
        let certificate = Certificate::new();
        let acceptor = tls.then(|| certificate.acceptor());
        let state = Arc::new(State {
            rules,
            upstream,
            port,
            refused: Mutex::default(),
            written: Mutex::default(),
        });
        let shared = state.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (shared.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &state).await,
                        Some(acceptor) => serve(acceptor.accept(stream).await?, &state).await,
                    }
                });
            }
        });
        Self {
            port,
            state,
            server,
            certificate,
        }
    }

    /// `127.0.0.1:port`.
    pub fn broker(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a client has to trust.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// How often something was to be written.
    pub fn written(&self) -> usize {
        *self.state.written.lock().expect("no test panicked")
    }
}

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const HANDSHAKE: i16 = 17;
const AUTHENTICATE: i16 = 36;

async fn serve(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    state: &State,
) -> std::io::Result<()> {
    let mut broker = TcpStream::connect(&state.upstream).await?;
    let mut is_in = state.rules.login.is_none();
    let mut said = Vec::new();
    loop {
        let question = frame(&mut client).await?;
        let key = i16::from_be_bytes([question[0], question[1]]);
        let number = &question[4..8];
        let client_id = usize::from(u16::from_be_bytes([question[8], question[9]]));
        let body = &question[10 + client_id..];
        let mut answer = number.to_vec();
        match (key, state.rules.login) {
            (HANDSHAKE, Some(login)) => {
                let mechanism = login.mechanism();
                let is_known = body[2..] == *mechanism.as_bytes();
                answer.extend(if is_known { [0, 0] } else { [0, 33] });
                // The mechanisms that there are.
                answer.extend(1_i32.to_be_bytes());
                text(&mut answer, mechanism);
            }
            (AUTHENTICATE, Some(login)) => match login.judge(&body[4..], &mut said) {
                Some((words, lets_in)) => {
                    is_in = lets_in;
                    answer.extend([0, 0, 0xff, 0xff]);
                    answer.extend((words.len() as u32).to_be_bytes());
                    answer.extend(words.as_bytes());
                }
                None => {
                    answer.extend([0, 58]);
                    let words = String::from_utf8_lossy(&body[4..]);
                    text(&mut answer, &format!("wrong: {words}"));
                    answer.extend([0; 4]);
                }
            },
            // As brokers do: nothing is said to strangers.
            _ if !is_in => return Ok(()),
            (PRODUCE, _) if refuses(state) => {
                let (code, _) = state.rules.refuse.expect("it refuses");
                answer.extend(refusal(body, code));
            }
            _ => {
                send(&mut broker, &question).await?;
                answer = frame(&mut broker).await?;
                if key == METADATA {
                    move_to(&mut answer, &state.upstream, state.port);
                }
            }
        }
        send(&mut client, &answer).await?;
    }
}

fn refuses(state: &State) -> bool {
    *state.written.lock().expect("no test panicked") += 1;
    let mut refused = state.refused.lock().expect("no test panicked");
    let refuses = state
        .rules
        .refuse
        .is_some_and(|(_, times)| *refused < times);
    *refused += usize::from(refuses);
    refuses
}

/// The answer to a third-version Produce of one topic that says `code` of each of its partitions.
fn refusal(body: &[u8], code: i16) -> Vec<u8> {
    let number = |at: usize| {
        let bytes = body[at..at + 4].try_into().expect("four bytes");
        i32::from_be_bytes(bytes) as usize
    };
    // Transaction, acknowledgements, timeout and the count of topics come before the topic's name.
    let name = 2 + 2 + 4 + 4;
    let length = usize::from(u16::from_be_bytes([body[name], body[name + 1]]));
    let mut at = name + 2 + length;
    let mut answer = 1_i32.to_be_bytes().to_vec();
    answer.extend(&body[name..at + 4]);
    let partitions = number(at);
    at += 4;
    for _ in 0..partitions {
        answer.extend(&body[at..at + 4]);
        answer.extend(code.to_be_bytes());
        answer.extend([0xff; 16]);
        at += 8 + number(at + 4);
    }
    answer.extend([0; 4]);
    answer
}

/// Tells of the gate's port in place of the broker's.
fn move_to(answer: &mut [u8], upstream: &str, port: u16) {
    let (host, old) = upstream.rsplit_once(':').expect("an address");
    let old: i32 = old.parse().expect("a port");
    let mut told = host.as_bytes().to_vec();
    told.extend(old.to_be_bytes());
    let place = answer.windows(told.len()).position(|part| part == told);
    let end = place.expect("the broker tells of itself") + told.len();
    answer[end - 4..end].copy_from_slice(&i32::from(port).to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> std::io::Result<()> {
    stream.write_u32(frame.len() as u32).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}
