//! Live reads: what only the Docker host knows, asked of the worker beside it (DESIGN.md 7).
//!
//! A request is pushed to the list of its engine and answered on a list of its own. Neither is
//! durable and nothing is repeated: whoever asks hears within the time it gave, or hears nothing.
//! Time is Redis's own, as the life of a key, because hosts' clocks differ.
//!
//! What goes on for longer is a stream: a call opens it ([`Queue::open_stream`], [`StreamHost`]),
//! its bytes come as messages, and neither side holds a connection or one of the places for
//! requests meanwhile.

mod receive;
mod send;
mod wire;

use std::{future::Future, time::Duration};

use plimsoll_domain::ids::WatcherRef;
use plimsoll_trace::TraceContext;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument;
use uuid::Uuid;

pub(crate) use self::receive::Hub;
pub use self::{
    receive::{RemoteStream, StreamError},
    send::{StreamHost, StreamRequest, StreamSink},
};
use crate::{DEADLINE, Queue, QueueError};

/// Requests that may wait for one engine; more are refused.
const MAX_WAITING: usize = 256;
/// Bytes of an answer; a longer one is refused by the worker that made it.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How long an answer that nobody fetched stays.
const ANSWER_KEPT: Duration = Duration::from_secs(10);
/// How long a server's blocking read lasts.
const BLOCK: Duration = Duration::from_secs(2);

/// Why a live read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// No worker answered in time: none serves that engine, or it is busy.
    #[error("no worker of {watcher} answered within {after:?}")]
    Timeout {
        watcher: WatcherRef,
        after: Duration,
    },
    /// Redis is away, or too many requests wait already.
    #[error("live reads are not available: {0}")]
    Unavailable(String),
    /// The worker answered that it cannot.
    #[error("{0}")]
    Remote(RemoteError),
}

impl From<redis::RedisError> for RpcError {
    fn from(error: redis::RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A worker's refusal. `code` is for programs (`not-found`, `unknown-read` …), `message` for
/// people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    pub code: String,
    pub message: String,
}

impl RemoteError {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    id: Uuid,
    kind: String,
    payload: Value,
    /// Only to tell collectors what belongs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceContext>,
}

/// A kind `service:read` goes to the worker that offers the service.
fn requests(watcher: &WatcherRef, kind: &str) -> String {
    let service = kind.split_once(':').map(|(service, _)| service);
    list(watcher, service)
}

fn list(watcher: &WatcherRef, service: Option<&str>) -> String {
    let engine = format!("plimsoll:rpc:{}:{}", watcher.agent, watcher.name);
    match service {
        Some(service) => format!("{engine}:{service}"),
        None => engine,
    }
}

/// Exists as long as somebody waits for the answer.
fn open(id: Uuid) -> String {
    format!("plimsoll:rpc:open:{id}")
}

fn answers(id: Uuid) -> String {
    format!("plimsoll:rpc:answer:{id}")
}

impl Queue {
    /// Asks a worker of `watcher` and waits at most `timeout`.
    pub async fn call(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        payload: &Value,
        timeout: Duration,
    ) -> Result<Value, RpcError> {
        let span = tracing::info_span!(
            target: plimsoll_trace::TARGET,
            "call",
            otel.name = %format_args!("ask {kind}"),
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
        );
        let answer = self.ask(watcher, kind, payload, timeout);
        let answer = answer.instrument(span.clone()).await;
        if answer.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        answer
    }

    async fn ask(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        payload: &Value,
        timeout: Duration,
    ) -> Result<Value, RpcError> {
        let id = Uuid::new_v4();
        let envelope = Envelope {
            id,
            kind: kind.to_owned(),
            payload: payload.clone(),
            trace: plimsoll_trace::current(),
        };
        let message =
            serde_json::to_string(&envelope).map_err(|e| RpcError::Unavailable(e.to_string()))?;
        let ask = async {
            let mut connection = self.blocking_connection(timeout).await?;
            let list = requests(watcher, kind);
            let (waiting,): (usize,) = redis::pipe()
                .atomic()
                .cmd("SET")
                .arg(open(id))
                .arg("")
                .arg("PX")
                .arg(timeout.as_millis() as u64)
                .ignore()
                .rpush(&list, &message)
                .cmd("PEXPIRE")
                .arg(&list)
                .arg(timeout.as_millis() as u64 + 1000)
                .ignore()
                .query_async(&mut connection)
                .await?;
            if waiting > MAX_WAITING {
                let _: () = redis::cmd("LREM")
                    .arg(&list)
                    .arg(-1)
                    .arg(&message)
                    .query_async(&mut connection)
                    .await?;
                return Err(RpcError::Unavailable(format!(
                    "{MAX_WAITING} requests wait for {watcher}"
                )));
            }
            let answer: Option<(String, String)> = redis::cmd("BLPOP")
                .arg(answers(id))
                .arg(timeout.as_secs_f64())
                .query_async(&mut connection)
                .await?;
            Ok(answer.map(|(_, answer)| answer))
        };
        let late = || RpcError::Timeout {
            watcher: watcher.clone(),
            after: timeout,
        };
        let answer = tokio::time::timeout(timeout + DEADLINE, ask)
            .await
            .map_err(|_| late())??
            .ok_or_else(late)?;
        let answer: Result<Value, RemoteError> = serde_json::from_str(&answer)
            .map_err(|e| RpcError::Unavailable(format!("unreadable answer: {e}")))?;
        answer.map_err(RpcError::Remote)
    }

    /// Serves live reads of `watchers` on a connection of its own.
    pub fn rpc_server(&self, watchers: &[WatcherRef]) -> RpcServer {
        RpcServer {
            queue: self.clone(),
            lists: watchers.iter().map(|watcher| list(watcher, None)).collect(),
            connection: None,
        }
    }

    /// Serves one service of an engine: what only one of its workers should do at a time.
    pub fn service_server(&self, watcher: &WatcherRef, service: &str) -> RpcServer {
        RpcServer {
            queue: self.clone(),
            lists: vec![list(watcher, Some(service))],
            connection: None,
        }
    }

    async fn blocking_connection(
        &self,
        longest: Duration,
    ) -> Result<MultiplexedConnection, redis::RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(longest + DEADLINE));
        self.client()
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// A request that somebody waits for.
#[derive(Debug)]
pub struct RpcRequest {
    id: Uuid,
    pub kind: String,
    pub payload: Value,
    /// What is left of the time that the caller gave. Work that takes longer is in vain.
    pub remaining: Duration,
    trace: Option<TraceContext>,
}

/// The worker's side. [`RpcServer::next`] hands out requests; answer each with
/// [`RpcRequest::answer`], from a task of its own where that takes time.
pub struct RpcServer {
    queue: Queue,
    lists: Vec<String>,
    connection: Option<MultiplexedConnection>,
}

impl RpcServer {
    /// The next request, or `None` when there was none for a while. An error means that Redis is
    /// away: wait a little and call again.
    pub async fn next(&mut self) -> Result<Option<RpcRequest>, QueueError> {
        let next = self.read().await;
        if next.is_err() {
            self.connection = None;
        }
        Ok(next?)
    }

    async fn read(&mut self) -> Result<Option<RpcRequest>, redis::RedisError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.queue.blocking_connection(BLOCK).await?),
        };
        let request: Option<(String, String)> = redis::cmd("BLPOP")
            .arg(&self.lists)
            .arg(BLOCK.as_secs())
            .query_async(connection)
            .await?;
        let Some((list, message)) = request else {
            return Ok(None);
        };
        let Ok(Envelope {
            id,
            kind,
            payload,
            trace,
        }) = serde_json::from_str(&message)
        else {
            tracing::warn!(list, "ignored a live read that cannot be read");
            return Ok(None);
        };
        // Nobody waits for it any more: negative.
        let left: i64 = redis::cmd("PTTL")
            .arg(open(id))
            .query_async(connection)
            .await?;
        Ok(u64::try_from(left).ok().map(|left| RpcRequest {
            id,
            kind,
            payload,
            remaining: Duration::from_millis(left),
            trace,
        }))
    }

    /// Serves until the future is dropped: `handle` runs in a task per request, at most
    /// `concurrent` at once, and is stopped when the caller's time is over.
    pub async fn serve<F>(
        mut self,
        concurrent: usize,
        handle: impl Fn(String, Value) -> F + Clone + Send + 'static,
    ) -> std::convert::Infallible
    where
        F: Future<Output = Result<Value, RemoteError>> + Send + 'static,
    {
        let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(concurrent.max(1)));
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().acquire_owned().await else {
                std::future::pending().await
            };
            let request = match self.next().await {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "live reads are not served for now");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (queue, handle) = (self.queue.clone(), handle.clone());
            let span = request.span();
            let answering = async move {
                let _slot = slot;
                let work = handle(request.kind.clone(), request.payload.clone());
                if let Ok(outcome) = tokio::time::timeout(request.remaining, work).await
                    && let Err(error) = request.answer(&queue, outcome).await
                {
                    tracing::debug!(%error, "an answer was lost");
                }
            };
            tasks.spawn(answering.instrument(span));
        }
    }
}

impl RpcRequest {
    fn span(&self) -> tracing::Span {
        let span = tracing::error_span!(
            target: plimsoll_trace::LOGGED,
            "read",
            otel.name = %format_args!("answer {}", self.kind),
            otel.kind = "server",
            read = self.kind,
            trace_id = tracing::field::Empty,
        );
        plimsoll_trace::follow(&span, self.trace.as_ref());
        span
    }

    /// Sends the answer. A lost one is the caller's timeout.
    pub async fn answer(
        &self,
        queue: &Queue,
        outcome: Result<Value, RemoteError>,
    ) -> Result<(), QueueError> {
        let encode = |outcome: &Result<Value, RemoteError>| {
            serde_json::to_string(outcome).unwrap_or_else(|_| "null".to_owned())
        };
        let mut answer = encode(&outcome);
        if answer.len() > MAX_ANSWER {
            answer = encode(&Err(RemoteError::new(
                "too-large",
                format!("The answer has more than {MAX_ANSWER} bytes"),
            )));
        }
        let key = answers(self.id);
        let mut pipe = redis::pipe();
        pipe.atomic()
            .rpush(&key, answer)
            .ignore()
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(ANSWER_KEPT.as_millis() as u64)
            .ignore()
            .del(open(self.id))
            .ignore();
        let mut connection = queue.manager();
        let mut told = pipe.query_async(&mut connection).await;
        if is_stale(&told) {
            told = pipe.query_async(&mut connection).await;
        }
        Ok(told?)
    }
}

/// A shared connection learns that Redis restarted by the first command that fails on it. What is
/// told only once is told again then.
fn is_stale<T>(told: &Result<T, redis::RedisError>) -> bool {
    matches!(told, Err(error) if error.is_connection_dropped())
}
