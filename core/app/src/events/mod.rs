//! Events for clients: one reader per process follows the event table and hands each event to
//! everybody who listens. The table is the truth; Redis only says when to look.

mod operations;
mod slots;
mod subscription;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use plimsoll_domain::ids::OperationId;
use plimsoll_store::{
    Store,
    events::{EventPosition, StoredEvent},
};
pub use slots::{Slot, SlotLimits};
pub use subscription::{Delivery, Subscription};
use tokio::sync::Notify;

use self::subscription::Buffer;
use crate::{AppError, Queue, agents};

/// The event that tells of an operation's step; its payload carries `operationId`.
pub const OPERATION_CHANGED: &str = "dd:update-operation-changed";

/// How often the table is read when nobody says that there is something new.
const POLL: Duration = Duration::from_secs(1);
/// How soon it is read again while an older transaction holds events back; doubles up to `POLL`.
const UNSETTLED_POLL: Duration = Duration::from_millis(10);
/// How often a listener's process looks for agents that are gone. Workers do so too, but the last
/// one of all cannot.
const AGENTS: Duration = Duration::from_secs(5);
/// Without listeners the reader ends after this time.
const IDLE: Duration = Duration::from_secs(10);
const PAGE: i64 = 500;

/// Gives out events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    hub: Arc<Hub>,
}

struct Hub {
    store: Store,
    queue: Queue,
    slots: slots::Slots,
    state: Mutex<State>,
    /// Somebody announced events, or came to listen.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// Where the reader stands; `None` while there is no reader.
    position: Option<EventPosition>,
    /// Which reader stands there.
    reader: u64,
    listeners: HashMap<u64, Arc<Buffer>>,
    next_listener: u64,
    operations: HashMap<OperationId, operations::Waiters>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.listeners.is_empty() && self.operations.is_empty()
    }
}

impl Events {
    pub fn new(store: Store, queue: Queue) -> Self {
        Self {
            hub: Arc::new(Hub {
                slots: slots::Slots::new(queue.clone()),
                store,
                queue,
                state: Mutex::default(),
                wake: Notify::new(),
            }),
        }
    }

    /// Starts the reader unless it runs, then does `join` in the same breath, so that what `join`
    /// adds sees every event after the position it is given.
    async fn join<T>(
        &self,
        join: impl FnOnce(&mut State, EventPosition) -> T,
    ) -> Result<T, AppError> {
        loop {
            let running = self.hub.lock().position.is_some();
            let tail = match running {
                true => None,
                false => Some(self.hub.store.events_tail().await?),
            };
            let mut state = self.hub.lock();
            let position = match (state.position, tail) {
                (Some(position), _) => position,
                (None, Some(tail)) => {
                    state.position = Some(tail);
                    state.reader += 1;
                    let reader = Reader {
                        hub: self.hub.clone(),
                        number: state.reader,
                    };
                    tokio::spawn(reader.run());
                    tail
                }
                // The reader ended between the two looks.
                (None, None) => continue,
            };
            return Ok(join(&mut state, position));
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the table until nobody has listened for a while.
    async fn read(&self) {
        let mut wait = POLL;
        let mut idle_since = tokio::time::Instant::now();
        let mut looked_at_agents = tokio::time::Instant::now();
        loop {
            if looked_at_agents.elapsed() > AGENTS {
                looked_at_agents = tokio::time::Instant::now();
                if let Err(error) = agents::note_lost(&self.store, &self.queue).await {
                    tracing::debug!(%error, "agents are looked at later");
                }
            }
            let announced = tokio::time::timeout(wait, self.wake.notified())
                .await
                .is_ok();
            wait = match self.catch_up().await {
                Ok(Settled::Yes) => POLL,
                Ok(Settled::No) if announced => UNSETTLED_POLL,
                Ok(Settled::No) => (wait * 2).clamp(UNSETTLED_POLL, POLL),
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read for now");
                    POLL
                }
            };
            let mut state = self.lock();
            if !state.is_idle() {
                idle_since = tokio::time::Instant::now();
            } else if idle_since.elapsed() > IDLE {
                state.position = None;
                return;
            }
        }
    }

    async fn catch_up(&self) -> Result<Settled, plimsoll_store::StoreError> {
        loop {
            let Some(position) = self.lock().position else {
                return Ok(Settled::Yes);
            };
            let events = self.store.events_after(position, PAGE).await?;
            let full = events.len() as i64 == PAGE;
            self.deliver(events);
            if !full {
                break;
            }
        }
        Ok(match self.store.has_unsettled_events().await? {
            true => Settled::No,
            false => Settled::Yes,
        })
    }

    fn deliver(&self, events: Vec<StoredEvent>) {
        let mut state = self.lock();
        for event in events {
            let event = Arc::new(event);
            state.position = Some(event.position);
            state.listeners.retain(|_, buffer| buffer.push(&event));
            if event.kind == OPERATION_CHANGED {
                operations::tell(&state.operations, &event);
            }
        }
    }

    /// Turns announcements into wake-ups, for as long as the reader runs.
    async fn listen(&self) {
        loop {
            let subscribed =
                tokio::time::timeout(Duration::from_secs(2), self.queue.event_announcements())
                    .await;
            if let Ok(Ok(mut announcements)) = subscribed {
                self.wake.notify_one();
                while announcements.next().await.is_some() {
                    self.wake.notify_one();
                }
            }
            // Redis is away; the poll carries on.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Whether everything that is written has been given out.
enum Settled {
    Yes,
    No,
}

struct Reader {
    hub: Arc<Hub>,
    number: u64,
}

impl Reader {
    async fn run(self) {
        tokio::select! {
            () = self.hub.read() => {}
            () = self.hub.listen() => {}
        }
    }
}

impl Drop for Reader {
    /// A reader that ended in a panic must not look as if it ran.
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if state.reader == self.number && state.position.take().is_some() {
            for (_, buffer) in state.listeners.drain() {
                buffer.close();
            }
        }
    }
}
