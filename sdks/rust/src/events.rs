use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use reqwest::StatusCode;
use serde_json::Value;

use crate::Configuration;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Such as `dd:container-updated`.
    pub kind: String,
    /// The JSON that goes with it.
    pub data: Value,
}

/// The server does not let us follow, for example because the token is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Refused {
    pub status: StatusCode,
    pub reason: String,
}

/// The server sends a heartbeat every 15 seconds: three that are missing mean that it is away.
const SILENCE: Duration = Duration::from_secs(45);

struct Position {
    id: String,
    retry: Duration,
}

/// Follows what happens, for as long as the stream is read.
///
/// A connection that ends (a replica is replaced, the network is away) is made again and goes on
/// where the last one ended; after `dd:resync-required` that was not possible, so read again what
/// you rely on. The stream ends after a refusal.
pub fn follow(plimsoll: &Configuration) -> impl Stream<Item = Result<Event, Refused>> + use<> {
    let plimsoll = plimsoll.clone();
    let mut at = Position {
        id: String::new(),
        retry: Duration::from_secs(2),
    };
    async_stream::stream! {
        loop {
            match open(&plimsoll, &at.id).await {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    let mut reader = Reader::default();
                    let mut body = pin!(answer.bytes_stream());
                    while let Ok(Some(Ok(piece))) =
                        tokio::time::timeout(SILENCE, body.next()).await
                    {
                        for event in reader.read(&piece, &mut at) {
                            yield Ok(event);
                        }
                    }
                }
                Ok(answer) if is_final(answer.status()) => {
                    let status = answer.status();
                    let reason = answer.text().await.unwrap_or_default();
                    yield Err(Refused { status, reason });
                    return;
                }
                // Away for now.
                _ => {}
            }
            tokio::time::sleep(at.retry).await;
        }
    }
}

fn is_final(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
}

async fn open(plimsoll: &Configuration, last_id: &str) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/api/v1/events/ui", plimsoll.base_path);
    let mut request = plimsoll.client.get(url);
    if let Some(token) = &plimsoll.bearer_access_token {
        request = request.bearer_auth(token);
    }
    if let Some((user, password)) = &plimsoll.basic_auth {
        request = request.basic_auth(user, password.as_ref());
    }
    if !last_id.is_empty() {
        request = request.header("Last-Event-ID", last_id);
    }
    request.send().await
}

/// The form of server-sent events, as far as Plimsoll writes it.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    kind: String,
    data: Option<String>,
    id: Option<String>,
}

impl Reader {
    fn read(&mut self, piece: &[u8], at: &mut Position) -> Vec<Event> {
        let mut events = Vec::new();
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            events.extend(self.line(line, at));
        }
        events
    }

    fn line(&mut self, line: &str, at: &mut Position) -> Option<Event> {
        if line.is_empty() {
            // Only now: of an event that was cut off nothing has been seen.
            at.id = self.id.take().unwrap_or_else(|| std::mem::take(&mut at.id));
            let kind = std::mem::take(&mut self.kind);
            let data = serde_json::from_str(&self.data.take()?).ok()?;
            return Some(Event { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            "id" => self.id = Some(value.to_owned()),
            "retry" => {
                if let Ok(milliseconds) = value.parse() {
                    at.retry = Duration::from_millis(milliseconds);
                }
            }
            _ => {}
        }
        None
    }
}
