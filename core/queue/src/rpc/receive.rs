//! The replica's side of streams: one listener for all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use plimsoll_domain::ids::WatcherRef;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use uuid::Uuid;

use super::{
    RemoteError, RpcError,
    wire::{
        BEAT, CHUNK, Opened, Opening, SILENCE, ToReplica, ToWorker, WINDOW, cost, replica_channel,
        worker_channel,
    },
};
use crate::{DEADLINE, Queue, QueueError};

/// Without streams the listener ends after this time.
const IDLE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(250);

/// Why a stream ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The worker said so.
    #[error("{0}")]
    Remote(RemoteError),
    /// The worker is gone, or something on the way was.
    #[error("the stream broke off: {0}")]
    Lost(&'static str),
}

/// A stream from a worker. Dropping it ends it there.
#[derive(Debug)]
pub struct RemoteStream {
    /// What the worker said before the first byte.
    pub head: Value,
    frames: mpsc::UnboundedReceiver<Frame>,
    place: Place,
}

enum Frame {
    Data(Bytes),
    End(Result<(), StreamError>),
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::End(outcome) => outcome.fmt(f),
        }
    }
}

impl RemoteStream {
    /// The next bytes, `None` at the end. May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        match self.frames.recv().await? {
            Frame::Data(bytes) => {
                self.place.took(bytes.len());
                Some(Ok(bytes))
            }
            Frame::End(outcome) => {
                self.frames.close();
                outcome.err().map(Err)
            }
        }
    }
}

impl Queue {
    /// Opens a stream at a worker of `watcher`; `timeout` is for the opening.
    ///
    /// # Errors
    /// As [`Queue::call`]: also what the worker refuses with.
    pub async fn open_stream(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        request: Value,
        within: Duration,
    ) -> Result<RemoteStream, RpcError> {
        let hub = self.replica();
        // Before the listener is asked for: it ends only when nobody has a place.
        let (place, frames) = hub.take_place();
        let mut listening = hub.listen(self);
        let subscribed = timeout(within, listening.wait_for(|listening| *listening))
            .await
            .is_ok_and(|listening| listening.is_ok());
        if !subscribed {
            return Err(RpcError::Unavailable(
                "Redis cannot be listened to".to_owned(),
            ));
        }
        let opening = Opening {
            stream: place.stream,
            replica: hub.id,
            request,
        };
        let unreadable = |e: serde_json::Error| RpcError::Unavailable(e.to_string());
        let payload = serde_json::to_value(&opening).map_err(unreadable)?;
        let answer = self.call(watcher, kind, &payload, within).await?;
        let Opened { worker, head } = serde_json::from_value(answer).map_err(unreadable)?;
        place.opened_by(worker);
        Ok(RemoteStream {
            head,
            frames,
            place,
        })
    }
}

/// All streams of this process.
#[derive(Debug)]
pub(crate) struct Hub {
    id: Uuid,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<Uuid, Reading>,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct Listener {
    /// Whether what is published to us arrives.
    listening: watch::Receiver<bool>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// One stream that is being read.
#[derive(Debug)]
struct Reading {
    worker: Option<Uuid>,
    frames: mpsc::UnboundedSender<Frame>,
    /// Frames that arrived.
    number: u64,
    /// What arrived, what was read of it, and what the worker was told of that; as [`cost`] counts.
    arrived: u64,
    taken: u64,
    told: u64,
    heard: Instant,
}

/// Something that a worker should hear before the next beat.
#[derive(Debug)]
enum Notice {
    Taken(Uuid, Uuid, u64),
    Left(Uuid, Uuid),
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::new_v4(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the listener unless it runs.
    fn listen(self: &Arc<Self>, queue: &Queue) -> watch::Receiver<bool> {
        let mut state = self.lock();
        if let Some(listener) = &state.listener
            && listener.listening.has_changed().is_ok()
        {
            return listener.listening.clone();
        }
        let (tell, listening) = watch::channel(false);
        let (notices, told) = mpsc::unbounded_channel();
        state.listener = Some(Listener {
            listening: listening.clone(),
            notices,
        });
        drop(state);
        tokio::spawn(run(self.clone(), queue.clone(), tell, told));
        listening
    }

    fn take_place(self: &Arc<Self>) -> (Place, mpsc::UnboundedReceiver<Frame>) {
        let stream = Uuid::new_v4();
        let (frames, receiver) = mpsc::unbounded_channel();
        let reading = Reading {
            worker: None,
            frames,
            number: 0,
            arrived: 0,
            taken: 0,
            told: 0,
            heard: Instant::now(),
        };
        self.lock().streams.insert(stream, reading);
        let place = Place {
            hub: self.clone(),
            stream,
        };
        (place, receiver)
    }

    fn handle(&self, message: ToReplica) {
        let mut state = self.lock();
        match message {
            ToReplica::Data {
                stream,
                number,
                bytes,
            } => {
                let Some(reading) = state.streams.get_mut(&stream) else {
                    return;
                };
                reading.heard = Instant::now();
                reading.arrived += cost(bytes.len());
                let lost = if number != reading.number {
                    Some("something was lost on the way")
                } else if reading.arrived - reading.taken > WINDOW + cost(CHUNK) {
                    Some("the worker sent more than was asked for")
                } else {
                    None
                };
                match lost {
                    Some(why) => state.end(stream, Err(StreamError::Lost(why))),
                    None => {
                        reading.number += 1;
                        // An error: the reader has just left.
                        let _ = reading.frames.send(Frame::Data(bytes));
                    }
                }
            }
            ToReplica::End {
                stream,
                number,
                outcome,
            } => {
                let Some(reading) = state.streams.get(&stream) else {
                    return;
                };
                let outcome = match reading.number == number {
                    true => outcome.map_err(StreamError::Remote),
                    false => Err(StreamError::Lost("something was lost on the way")),
                };
                state.end(stream, outcome);
            }
            ToReplica::Beat(streams) => {
                for (stream, sent) in streams {
                    let Some(reading) = state.streams.get_mut(&stream) else {
                        continue;
                    };
                    reading.heard = Instant::now();
                    if sent > reading.number {
                        let why = "something was lost on the way";
                        state.end(stream, Err(StreamError::Lost(why)));
                    }
                }
            }
        }
    }

    /// What each worker should hear at a beat. Streams that are silent for too long end here.
    fn beat(&self) -> HashMap<Uuid, ToWorker> {
        let mut state = self.lock();
        let silent: Vec<Uuid> = state
            .streams
            .iter()
            .filter(|(_, reading)| reading.worker.is_some() && reading.heard.elapsed() > SILENCE)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in silent {
            let why = "the worker has not been heard of";
            state.end(stream, Err(StreamError::Lost(why)));
        }
        let mut messages: HashMap<Uuid, ToWorker> = HashMap::new();
        for (stream, reading) in &mut state.streams {
            if let Some(worker) = reading.worker {
                reading.told = reading.taken;
                let message = messages.entry(worker).or_default();
                message.taken.push((*stream, reading.taken));
            }
        }
        messages
    }

    /// Ends the listener if there is nothing to listen for.
    fn rest(&self) -> bool {
        let mut state = self.lock();
        let idle = state.streams.is_empty();
        if idle {
            state.listener = None;
        }
        idle
    }
}

impl State {
    /// The reader hears how it ended, after what arrived before.
    fn end(&mut self, stream: Uuid, outcome: Result<(), StreamError>) {
        if let Some(reading) = self.streams.remove(&stream) {
            if let (Err(StreamError::Lost(_)), Some(worker)) = (&outcome, reading.worker) {
                self.notify(Notice::Left(worker, stream));
            }
            let _ = reading.frames.send(Frame::End(outcome));
        }
    }

    fn notify(&self, notice: Notice) {
        if let Some(listener) = &self.listener {
            let _ = listener.notices.send(notice);
        }
    }
}

/// A stream's place among the others of this process. Given up with the value.
#[derive(Debug)]
struct Place {
    hub: Arc<Hub>,
    stream: Uuid,
}

impl Place {
    fn opened_by(&self, worker: Uuid) {
        if let Some(reading) = self.hub.lock().streams.get_mut(&self.stream) {
            reading.worker = Some(worker);
            reading.heard = Instant::now();
        }
    }

    fn took(&self, bytes: usize) {
        let mut state = self.hub.lock();
        let Some(reading) = state.streams.get_mut(&self.stream) else {
            return;
        };
        reading.taken += cost(bytes);
        // Half a window at a time: the rest is on its way meanwhile.
        if reading.taken - reading.told >= WINDOW / 2
            && let Some(worker) = reading.worker
        {
            reading.told = reading.taken;
            let notice = Notice::Taken(worker, self.stream, reading.taken);
            state.notify(notice);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        let reading = state.streams.remove(&self.stream);
        if let Some(worker) = reading.and_then(|reading| reading.worker) {
            state.notify(Notice::Left(worker, self.stream));
        }
    }
}

async fn run(
    hub: Arc<Hub>,
    queue: Queue,
    listening: watch::Sender<bool>,
    notices: mpsc::UnboundedReceiver<Notice>,
) {
    tokio::select! {
        never = hear(&hub, &queue, &listening) => match never {},
        () = tell(&hub, &queue, notices) => {}
    }
}

/// Hands out what arrives. Never waits for a reader: what may arrive is bounded by the window.
async fn hear(
    hub: &Hub,
    queue: &Queue,
    listening: &watch::Sender<bool>,
) -> std::convert::Infallible {
    loop {
        let subscribed = timeout(DEADLINE * 4, subscribe(queue, replica_channel(hub.id))).await;
        match subscribed {
            Ok(Ok(mut messages)) => {
                listening.send_replace(true);
                while let Some(message) = messages.next().await {
                    if let Some(message) = ToReplica::decode(message) {
                        hub.handle(message);
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "streams cannot be heard for now"),
            Err(_) => tracing::debug!("Redis does not answer; streams cannot be heard for now"),
        }
        listening.send_replace(false);
        sleep(RETRY).await;
    }
}

/// Tells workers what was read and what is not wanted any more, until there is nobody to tell.
async fn tell(hub: &Hub, queue: &Queue, mut notices: mpsc::UnboundedReceiver<Notice>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle_since: Option<Instant> = None;
    loop {
        let mut some = Vec::new();
        let messages = tokio::select! {
            _ = beat.tick() => {
                let messages = hub.beat();
                if messages.is_empty() {
                    let since = *idle_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > IDLE && hub.rest() {
                        return;
                    }
                } else {
                    idle_since = None;
                }
                messages
            }
            _ = notices.recv_many(&mut some, 256) => sorted(some),
        };
        for (worker, message) in messages {
            if let Err(error) = publish(queue, &worker_channel(worker), &message).await {
                tracing::debug!(%error, "a worker of streams was not told; it hears at the next beat");
            }
        }
    }
}

fn sorted(notices: Vec<Notice>) -> HashMap<Uuid, ToWorker> {
    let mut messages: HashMap<Uuid, ToWorker> = HashMap::new();
    for notice in notices {
        match notice {
            Notice::Taken(worker, stream, taken) => {
                messages
                    .entry(worker)
                    .or_default()
                    .taken
                    .push((stream, taken));
            }
            Notice::Left(worker, stream) => messages.entry(worker).or_default().left.push(stream),
        }
    }
    messages
}

async fn publish(queue: &Queue, channel: &str, message: &ToWorker) -> Result<(), QueueError> {
    let text = serde_json::to_string(message).unwrap_or_default();
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(text);
    Ok(command.query_async(&mut queue.manager()).await?)
}

/// The messages of a channel until its connection ends.
pub(super) async fn subscribe(
    queue: &Queue,
    channel: String,
) -> Result<impl futures::Stream<Item = Bytes> + Send + Unpin + use<>, QueueError> {
    let mut subscription = queue.client().get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(subscription
        .into_on_message()
        .map(|message| Bytes::copy_from_slice(message.get_payload_bytes())))
}
