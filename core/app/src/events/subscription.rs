//! One listener: what it missed, then what comes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use plimsoll_store::events::{EventPosition, StoredEvent};
use tokio::sync::Notify;

use super::{Events, Hub};
use crate::AppError;

/// A listener that lags behind by more is cut off; it comes back and replays from the table.
const MAX_EVENTS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;
const REPLAY_PAGE: i64 = 200;

/// Events on their way to one listener.
pub(super) struct Buffer {
    state: Mutex<BufferState>,
    filled: Notify,
}

#[derive(Default)]
struct BufferState {
    events: VecDeque<Arc<StoredEvent>>,
    bytes: usize,
    closed: bool,
}

impl Buffer {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; `false` when the listener is too slow and gets no more.
    pub(super) fn push(&self, event: &Arc<StoredEvent>) -> bool {
        let mut state = self.lock();
        let bytes = state.bytes + event.payload.len();
        if state.events.len() >= MAX_EVENTS || (bytes > MAX_BYTES && !state.events.is_empty()) {
            state.events.clear();
            state.closed = true;
        } else {
            state.bytes = bytes;
            state.events.push_back(event.clone());
        }
        let open = !state.closed;
        drop(state);
        self.filled.notify_one();
        open
    }

    /// No more events will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// The next event; `None` when the listener was cut off.
    async fn pop(&self) -> Option<Arc<StoredEvent>> {
        loop {
            {
                let mut state = self.lock();
                if let Some(event) = state.events.pop_front() {
                    state.bytes -= event.payload.len();
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Delivery {
    Event(Arc<StoredEvent>),
    /// What was missed cannot be told any more: read everything again.
    Resync {
        reason: &'static str,
    },
    /// The listener was too slow, or the reader ended: connect again.
    CutOff,
}

/// A listener. Ends with the value.
pub struct Subscription {
    hub: Arc<Hub>,
    number: u64,
    buffer: Arc<Buffer>,
    /// The last event that was handed out, or where the listener began.
    last: EventPosition,
    /// Up to here events come from the table; after it, from the buffer.
    live_from: EventPosition,
    resync: Option<&'static str>,
    replayed: VecDeque<Arc<StoredEvent>>,
}

impl Events {
    /// Listens from now on; with `last_event_id`, first everything since that event, on whatever
    /// replica it was received.
    ///
    /// # Errors
    /// `Unavailable` while Postgres is away.
    pub async fn subscribe(&self, last_event_id: Option<&str>) -> Result<Subscription, AppError> {
        let mut subscription = self
            .join(|state, position| {
                let number = state.next_listener;
                state.next_listener += 1;
                let buffer = Arc::new(Buffer::new());
                state.listeners.insert(number, buffer.clone());
                Subscription {
                    hub: self.hub.clone(),
                    number,
                    buffer,
                    last: position,
                    live_from: position,
                    resync: None,
                    replayed: VecDeque::new(),
                }
            })
            .await?;
        if let Some(id) = last_event_id {
            match id.trim().parse::<EventPosition>() {
                Ok(seen) if self.hub.store.event_is_kept(seen).await? => subscription.last = seen,
                Ok(_) => subscription.resync = Some("too-old"),
                Err(()) => subscription.resync = Some("unknown-event-id"),
            }
        }
        Ok(subscription)
    }
}

impl Subscription {
    /// Where the stream begins: the id of an event that precedes everything it will yield.
    pub fn position(&self) -> EventPosition {
        self.last
    }

    /// The next delivery. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Delivery {
        if let Some(reason) = self.resync.take() {
            return Delivery::Resync { reason };
        }
        loop {
            if let Some(event) = self.replayed.pop_front() {
                self.last = event.position;
                return Delivery::Event(event);
            }
            if self.last < self.live_from {
                match self.replay().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "events cannot be replayed for now");
                        return Delivery::CutOff;
                    }
                }
            }
            match self.buffer.pop().await {
                // Another replica was ahead of this one and has shown it already.
                Some(event) if event.position <= self.last => {}
                Some(event) => {
                    self.last = event.position;
                    return Delivery::Event(event);
                }
                None => return Delivery::CutOff,
            }
        }
    }

    async fn replay(&mut self) -> Result<(), plimsoll_store::StoreError> {
        let page = self.hub.store.events_after(self.last, REPLAY_PAGE).await?;
        let more = page.len() as i64 == REPLAY_PAGE;
        let live_from = self.live_from;
        self.replayed = page
            .into_iter()
            .filter(|event| event.position <= live_from)
            .map(Arc::new)
            .collect();
        if self.replayed.is_empty() || !more {
            // Whatever follows is in the buffer.
            self.live_from = EventPosition { xid: 0, id: 0 };
        }
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.lock().listeners.remove(&self.number);
    }
}
