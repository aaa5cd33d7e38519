//! The engine's event stream. Correctness never depends on it: readers also list
//! (reliability.md D13).

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;

use futures::Stream;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::containers::about;
use super::engine::{Engine, deadline, escape};
use super::error::EngineError;

/// The kinds of objects that events can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Container,
    Image,
    Network,
    Volume,
}

impl EventKind {
    const fn as_str(self) -> &'static str {
        match self {
            EventKind::Container => "container",
            EventKind::Image => "image",
            EventKind::Network => "network",
            EventKind::Volume => "volume",
        }
    }
}

/// One event, with the engine's own words: kinds and actions are open sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    pub kind: String,
    /// `create`, `start`, `die`, `health_status: healthy`, `rename`, …
    pub action: String,
    /// The object's id: of a container the full one.
    pub id: String,
    /// For a container its labels, `name`, `image`, and `exitCode` or `oldName` where they apply.
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the Unix epoch, by the engine's clock. Pass it as `since` (in seconds,
    /// rounded down) to resume; some events then come twice.
    pub time_nano: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEvent {
    #[serde(default, rename = "Type")]
    kind: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    actor: RawActor,
    #[serde(default, rename = "timeNano")]
    time_nano: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawActor {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    attributes: Option<BTreeMap<String, String>>,
}

impl Engine {
    /// Events of these kinds from now on, or from `since` (seconds since the Unix epoch) and then
    /// on. When this returns, the engine has begun to listen: a list made afterwards misses
    /// nothing. The stream ends with the connection, after an error or without one.
    pub async fn events(
        &self,
        since: Option<i64>,
        kinds: &[EventKind],
    ) -> Result<impl Stream<Item = Result<EngineEvent, EngineError>> + Send + use<>, EngineError>
    {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let filters = json!({ "type": kinds }).to_string();
        let mut path = format!("/events?filters={}", escape(&filters));
        if let Some(since) = since {
            path.push_str(&format!("&since={since}"));
        }
        let about = about("report", "its events");
        let request = Request::builder().method(Method::GET);
        let body = self.open(request, &path, about, deadline::INSPECT).await?;
        let engine = self.clone();
        let mut lines = JsonLines::<RawEvent>::new(body);
        Ok(async_stream::stream! {
            loop {
                match lines.next().await {
                    Ok(Some(raw)) => yield Ok(event(raw)),
                    Ok(None) => break,
                    Err(message) => {
                        yield Err(engine.interrupted(about_events(), &message));
                        break;
                    }
                }
            }
        })
    }
}

fn about_events() -> super::engine::About<'static> {
    about("report", "its events")
}

fn event(raw: RawEvent) -> EngineEvent {
    EngineEvent {
        kind: raw.kind,
        action: raw.action,
        id: raw.actor.id,
        attributes: raw.actor.attributes.unwrap_or_default(),
        time_nano: raw.time_nano,
    }
}

/// The longest line that is buffered. An event carries a container's labels, so lines are longer
/// than one would think.
const LINE_LIMIT: usize = 4 << 20;

/// A stream of JSON values, one per line.
pub(super) struct JsonLines<T> {
    body: Incoming,
    buffer: Vec<u8>,
    ready: VecDeque<T>,
    ended: bool,
    value: PhantomData<T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
            value: PhantomData,
        }
    }

    /// The next value; `None` at the end. May be dropped while it waits without losing a value.
    pub(super) async fn next(&mut self) -> Result<Option<T>, String> {
        loop {
            if let Some(value) = self.ready.pop_front() {
                return Ok(Some(value));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(&data)?;
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => {
                    self.ended = true;
                    self.take(b"\n")?;
                }
            }
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), String> {
        self.buffer.extend_from_slice(data);
        let Some(end) = self.buffer.iter().rposition(|byte| *byte == b'\n') else {
            return if self.buffer.len() > LINE_LIMIT {
                Err(format!("a line is longer than {LINE_LIMIT} bytes"))
            } else {
                Ok(())
            };
        };
        let rest = self.buffer.split_off(end + 1);
        let lines = std::mem::replace(&mut self.buffer, rest);
        for line in lines.split(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                let value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
                self.ready.push_back(value);
            }
        }
        Ok(())
    }
}
