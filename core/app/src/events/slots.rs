//! How many streams one client may hold (contract/drydock-app-api.md, "Server-Sent Events").

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use plimsoll_queue::Queue;
use uuid::Uuid;

use super::Events;
use crate::{
    AppError,
    self_updates::{Credentials, Holder, Reachable},
};

/// The contract's limits. All replicas count together, except for `total`, which protects the
/// memory of one process.
#[derive(Clone, Copy, Debug)]
pub struct SlotLimits {
    /// Of one address, and of one session.
    pub each: u32,
    pub total: u32,
}

impl SlotLimits {
    /// The contract's, for a process that holds at most `total` streams.
    pub const fn of_process(total: u32) -> Self {
        Self { each: 10, total }
    }
}

/// A slot that is not renewed for this long is free again: its replica died.
const HELD: Duration = Duration::from_secs(45);

pub(super) struct Slots {
    queue: Queue,
    local: Arc<Mutex<Local>>,
}

#[derive(Default)]
struct Local {
    total: u32,
    each: HashMap<String, u32>,
}

impl Slots {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            local: Arc::default(),
        }
    }
}

/// The right to one stream. Given back with the value.
pub struct Slot {
    queue: Queue,
    local: Arc<Mutex<Local>>,
    keys: Vec<String>,
    member: String,
    client: Option<Reachable>,
}

impl Events {
    /// Takes a slot for a stream of `address` and, where there is one, of `session` (any text that
    /// tells sessions apart). While Redis is away each replica counts for itself.
    ///
    /// # Errors
    /// `TooManyRequests`.
    pub async fn take_slot(
        &self,
        address: &str,
        session: Option<&str>,
        limits: SlotLimits,
    ) -> Result<Slot, AppError> {
        let slots = &self.hub.slots;
        let mut keys = vec![format!("ip:{address}")];
        keys.extend(session.map(|session| format!("session:{session}")));
        {
            let mut local = slots.local.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = |key: &String| local.each.get(key).copied().unwrap_or(0);
            if local.total >= limits.total || keys.iter().any(|key| taken(key) >= limits.each) {
                return Err(refused());
            }
            local.total += 1;
            for key in &keys {
                *local.each.entry(key.clone()).or_insert(0) += 1;
            }
        }
        // From here on the slot's end gives back what was counted.
        let slot = Slot {
            queue: slots.queue.clone(),
            local: slots.local.clone(),
            keys,
            member: Uuid::new_v4().to_string(),
            client: None,
        };
        let shared = slot
            .queue
            .take_stream_slot(&slot.keys, &slot.member, limits.each, HELD)
            .await;
        match shared {
            Ok(true) => Ok(slot),
            Ok(false) => Err(refused()),
            Err(error) => {
                tracing::debug!(%error, "streams are counted by this replica alone");
                Ok(slot)
            }
        }
    }
}

impl Slot {
    /// Makes whoever reads the stream somebody who can be asked, and answers what they prove
    /// themselves with. What begins after this, they are asked about.
    pub async fn introduce(&mut self, holder: &Holder) -> Credentials {
        let (client, credentials) = Reachable::new(holder);
        client.announce(&self.queue, HELD).await;
        self.client = Some(client);
        credentials
    }

    /// Says that the stream is still there. Call it with every heartbeat.
    pub async fn renew(&self) {
        let renewed = self
            .queue
            .renew_stream_slot(&self.keys, &self.member, HELD)
            .await;
        if let Err(error) = renewed {
            tracing::debug!(%error, "a stream's slot was not renewed");
        }
        if let Some(client) = &self.client {
            client.announce(&self.queue, HELD).await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
            local.total = local.total.saturating_sub(1);
            for key in &self.keys {
                match local.each.get_mut(key) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => {
                        local.each.remove(key);
                    }
                }
            }
        }
        let (queue, keys) = (self.queue.clone(), std::mem::take(&mut self.keys));
        let (member, client) = (std::mem::take(&mut self.member), self.client.take());
        // While the process ends there may be no runtime any more; the slot then times out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = queue.release_stream_slot(&keys, &member).await;
                if let Some(client) = client {
                    client.withdraw(&queue).await;
                }
            });
        }
    }
}

fn refused() -> AppError {
    AppError::TooManyRequests {
        message: "Too many event streams".to_owned(),
        retry_after: Duration::from_secs(15),
    }
}
