//! The worker's side of streams: many writers, one connection to listen on and one to write to.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    RemoteError, is_stale,
    receive::subscribe,
    wire::{
        BEAT, CHUNK, Opened, Opening, SILENCE, ToReplica, ToWorker, WINDOW, cost, replica_channel,
        worker_channel,
    },
};
use crate::{DEADLINE, Queue, QueueError};

/// Longer than for a request: a frame whose fate is not known breaks its stream.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);
const FAREWELL: Duration = Duration::from_secs(1);

/// The streams that one worker writes. Cheap to clone; [`StreamHost::run`] must run beside.
#[derive(Clone)]
pub struct StreamHost {
    host: Arc<Host>,
}

struct Host {
    id: Uuid,
    queue: Queue,
    connection: ConnectionManager,
    limit: usize,
    streams: Mutex<HashMap<Uuid, Arc<Writing>>>,
}

/// One stream that is being written.
struct Writing {
    replica: Uuid,
    /// What the reader has read, as [`cost`] counts.
    taken: watch::Sender<u64>,
    /// Frames that Redis has.
    number: AtomicU64,
    heard: Mutex<Instant>,
    /// Ends the writer. Nobody reads any more, or the worker ends.
    ended: CancellationToken,
}

impl Queue {
    /// For one worker process, at most `limit` streams at a time. Inside the tokio runtime.
    ///
    /// # Errors
    /// Never for a queue that could be made.
    pub fn stream_host(&self, limit: usize) -> Result<StreamHost, QueueError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(FRAME_DEADLINE))
            .set_number_of_retries(1);
        // Not the shared one: a large frame must not hold up what others wait for.
        let connection = ConnectionManager::new_lazy_with_config(self.client().clone(), config)
            .map_err(|error| QueueError::Address(error.to_string()))?;
        Ok(StreamHost {
            host: Arc::new(Host {
                id: Uuid::new_v4(),
                queue: self.clone(),
                connection,
                limit,
                streams: Mutex::default(),
            }),
        })
    }
}

/// A request for a stream, taken out of a call's payload.
#[derive(Debug)]
pub struct StreamRequest {
    stream: Uuid,
    replica: Uuid,
    pub request: Value,
}

impl StreamRequest {
    /// # Errors
    /// `bad-request`.
    pub fn parse(payload: Value) -> Result<Self, RemoteError> {
        let Opening {
            stream,
            replica,
            request,
        } = serde_json::from_value(payload)
            .map_err(|error| RemoteError::new("bad-request", error.to_string()))?;
        Ok(Self {
            stream,
            replica,
            request,
        })
    }
}

impl StreamHost {
    /// Begins a stream: `produce` writes into the sink from a task of its own, and is dropped when
    /// the reader leaves. Answers what the call that asked for the stream must be answered with;
    /// `head` goes to the reader with it.
    ///
    /// # Errors
    /// `busy` when there are too many streams.
    pub fn start<F>(
        &self,
        request: &StreamRequest,
        head: Value,
        produce: impl FnOnce(StreamSink) -> F,
    ) -> Result<Value, RemoteError>
    where
        F: Future<Output = Result<(), RemoteError>> + Send + 'static,
    {
        let writing = Arc::new(Writing {
            replica: request.replica,
            taken: watch::Sender::new(0),
            number: AtomicU64::new(0),
            heard: Mutex::new(Instant::now()),
            ended: CancellationToken::new(),
        });
        {
            let mut streams = self.host.lock();
            if streams.len() >= self.host.limit {
                let message = format!("The worker has {} streams already", self.host.limit);
                return Err(RemoteError::new("busy", message));
            }
            streams.insert(request.stream, writing.clone());
        }
        let place = Place {
            host: self.host.clone(),
            stream: request.stream,
        };
        let sink = StreamSink {
            host: self.host.clone(),
            writing: writing.clone(),
            stream: request.stream,
            sent: 0,
        };
        let work = produce(sink);
        tokio::spawn(async move {
            let outcome = tokio::select! {
                () = writing.ended.cancelled() => None,
                outcome = work => Some(outcome),
            };
            if let Some(outcome) = outcome {
                place.host.say_end(place.stream, &writing, outcome).await;
            }
        });
        serde_json::to_value(Opened {
            worker: self.host.id,
            head,
        })
        .map_err(|error| RemoteError::new("internal", error.to_string()))
    }

    /// Streams that are being written.
    pub fn len(&self) -> usize {
        self.host.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Listens to readers until `shutdown`, and then ends all streams with a word.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            never = self.hear() => match never {},
            never = self.beat() => match never {},
        }
        let streams: Vec<(Uuid, Arc<Writing>)> = self.host.lock().drain().collect();
        let farewell = streams.iter().map(|(stream, writing)| {
            writing.ended.cancel();
            let outcome = Err(RemoteError::new("gone", "The worker is shutting down"));
            self.host.say_end(*stream, writing, outcome)
        });
        // Whoever does not hear it notices the silence.
        let _ = timeout(FAREWELL, futures::future::join_all(farewell)).await;
    }

    async fn hear(&self) -> std::convert::Infallible {
        let host = &self.host;
        loop {
            let channel = worker_channel(host.id);
            let subscribed = timeout(DEADLINE * 4, subscribe(&host.queue, channel)).await;
            if let Ok(Ok(mut messages)) = subscribed {
                while let Some(message) = messages.next().await {
                    if let Ok(message) = serde_json::from_slice(&message) {
                        host.handle(message);
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    async fn beat(&self) -> std::convert::Infallible {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            for (replica, streams) in self.host.living() {
                let gone: Vec<Uuid> = streams.iter().map(|(stream, _)| *stream).collect();
                let told = self.host.publish(replica, &ToReplica::Beat(streams)).await;
                if let Ok(0) = told {
                    self.host.forget(&gone);
                }
            }
        }
    }
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Writing>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, message: ToWorker) {
        let streams = self.lock();
        for (stream, taken) in message.taken {
            if let Some(writing) = streams.get(&stream) {
                writing.hear();
                writing.taken.send_if_modified(|known| {
                    let more = taken > *known;
                    *known = taken.max(*known);
                    more
                });
            }
        }
        for stream in message.left {
            if let Some(writing) = streams.get(&stream) {
                writing.ended.cancel();
            }
        }
    }

    /// Streams by reader, with the frames sent of each. Those that nobody asks for any more end.
    fn living(&self) -> HashMap<Uuid, Vec<(Uuid, u64)>> {
        let mut replicas: HashMap<Uuid, Vec<(Uuid, u64)>> = HashMap::new();
        for (stream, writing) in self.lock().iter() {
            if writing.is_silent() {
                writing.ended.cancel();
            } else {
                let number = writing.number.load(Ordering::Acquire);
                replicas
                    .entry(writing.replica)
                    .or_default()
                    .push((*stream, number));
            }
        }
        replicas
    }

    fn forget(&self, streams: &[Uuid]) {
        let known = self.lock();
        for stream in streams {
            if let Some(writing) = known.get(stream) {
                writing.ended.cancel();
            }
        }
    }

    /// Says how many listened: the reader's process, or nobody.
    async fn publish(&self, replica: Uuid, message: &ToReplica) -> Result<u64, QueueError> {
        let mut command = redis::cmd("PUBLISH");
        command
            .arg(replica_channel(replica))
            .arg(&message.encode()[..]);
        let mut connection = self.connection.clone();
        let mut told = command.query_async(&mut connection).await;
        if is_stale(&told) {
            told = command.query_async(&mut connection).await;
        }
        Ok(told?)
    }

    async fn say_end(&self, stream: Uuid, writing: &Writing, outcome: Result<(), RemoteError>) {
        let end = ToReplica::End {
            stream,
            number: writing.number.load(Ordering::Acquire),
            outcome,
        };
        if let Err(error) = self.publish(writing.replica, &end).await {
            tracing::debug!(%error, "the end of a stream was not heard");
        }
    }
}

impl Writing {
    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_silent(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.elapsed() > SILENCE
    }
}

/// A stream's place among the others of this worker. Given up with the value.
struct Place {
    host: Arc<Host>,
    stream: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.lock().remove(&self.stream);
    }
}

/// Where a stream's bytes go.
pub struct StreamSink {
    host: Arc<Host>,
    writing: Arc<Writing>,
    stream: Uuid,
    /// As [`cost`] counts.
    sent: u64,
}

impl StreamSink {
    /// Sends, as soon as the reader has room.
    ///
    /// # Errors
    /// `gone`: nobody reads. Pass it on.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), RemoteError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(CHUNK));
            self.send_frame(bytes).await?;
        }
        Ok(())
    }

    async fn send_frame(&mut self, bytes: Bytes) -> Result<(), RemoteError> {
        let gone = |why: &str| RemoteError::new("gone", why);
        let sent = self.sent + cost(bytes.len());
        let mut taken = self.writing.taken.subscribe();
        taken
            .wait_for(|taken| taken + WINDOW >= sent)
            .await
            .map_err(|_| gone("the reader left"))?;
        self.sent = sent;
        let frame = ToReplica::Data {
            stream: self.stream,
            number: self.writing.number.load(Ordering::Acquire),
            bytes,
        };
        match self.host.publish(self.writing.replica, &frame).await {
            Ok(0) => Err(gone("the reader left")),
            Ok(_) => {
                // Only now, so that a beat never names a frame that is still on its way.
                self.writing.number.fetch_add(1, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "a frame was not sent");
                Err(gone(&error.to_string()))
            }
        }
    }
}
