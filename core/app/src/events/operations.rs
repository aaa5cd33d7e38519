//! Waiting for an operation to end, on whatever replica the request came to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use plimsoll_domain::{ids::OperationId, operation::Status};
use plimsoll_store::{StoreError, events::StoredEvent, update_operations::Operation};
use serde::Deserialize;
use tokio::{sync::Notify, time::Instant};

use super::{Events, Hub};
use crate::{AppError, update_operations::NOT_FOUND};

/// The row is also looked at this often, in case that no event comes.
const RECHECK: Duration = Duration::from_secs(1);

pub(super) struct Waiters {
    count: usize,
    changed: Arc<Notify>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationChanged {
    operation_id: OperationId,
}

/// Wakes whoever waits for the operation that `event` is about.
pub(super) fn tell(waiting: &HashMap<OperationId, Waiters>, event: &StoredEvent) {
    if waiting.is_empty() {
        return;
    }
    if let Ok(OperationChanged { operation_id }) = serde_json::from_str(&event.payload)
        && let Some(waiters) = waiting.get(&operation_id)
    {
        waiters.changed.notify_waiters();
    }
}

impl Events {
    /// The operation when it has a final status, or `None` when it has none at `deadline`. Works,
    /// slower, while Redis is away; while Postgres is away it goes on waiting, because the
    /// operation is durable.
    ///
    /// # Errors
    /// `NotFound` when there is no such operation.
    pub async fn wait_for_operation(
        &self,
        id: OperationId,
        deadline: Instant,
    ) -> Result<Option<Operation>, AppError> {
        // Listen before looking: a step between the look and the wait must not be missed.
        let joined = self.join(|state, _| {
            let waiters = state.operations.entry(id).or_insert_with(|| Waiters {
                count: 0,
                changed: Arc::new(Notify::new()),
            });
            waiters.count += 1;
            Waiting {
                hub: self.hub.clone(),
                id,
                changed: waiters.changed.clone(),
            }
        });
        let waiting = joined.await.ok();
        loop {
            let changed = async {
                match &waiting {
                    Some(waiting) => waiting.changed.notified().await,
                    None => std::future::pending().await,
                }
            };
            let mut changed = std::pin::pin!(changed);
            // The first poll registers it.
            let _ = futures::poll!(changed.as_mut());
            match self.hub.store.operation(id).await {
                Ok(Some(operation)) if operation.phase.status() != Status::InProgress => {
                    return Ok(Some(operation));
                }
                Ok(Some(_)) | Err(StoreError::Unavailable(_)) => {}
                Ok(None) => {
                    return Err(AppError::NotFound(NOT_FOUND.to_owned()));
                }
                Err(other) => return Err(other.into()),
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            let _ = tokio::time::timeout_at(deadline.min(now + RECHECK), changed).await;
        }
    }
}

struct Waiting {
    hub: Arc<Hub>,
    id: OperationId,
    changed: Arc<Notify>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(waiters) = state.operations.get_mut(&self.id) {
            waiters.count -= 1;
            if waiters.count == 0 {
                state.operations.remove(&self.id);
            }
        }
    }
}
