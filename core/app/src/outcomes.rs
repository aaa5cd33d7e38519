//! How an accepted operation ended, for those who wait for it.

use std::{sync::Arc, time::Duration};

use plimsoll_domain::{ids::OperationId, operation::Status};
use plimsoll_store::update_operations::Operation;
use tokio::time::Instant;

use crate::{App, AppError, inventory::Entry};

/// How long an answer waits for the inventory to show the new container. The engine's event
/// stream brings it within milliseconds.
const INVENTORY_LAG: Duration = Duration::from_secs(2);

/// What the wait for an operation came to.
#[derive(Debug)]
pub enum Outcome {
    /// It runs on; ask again later.
    Running,
    /// Observed to have succeeded. The container is the one that runs now; `None` if it was gone
    /// from the inventory by the time it was looked for.
    Succeeded {
        operation: Box<Operation>,
        container: Option<Arc<Entry>>,
    },
    /// Rolled back or failed: the operation says why.
    Ended(Box<Operation>),
}

impl App {
    /// Waits up to `patience` for the operation's final status.
    pub async fn outcome(
        &self,
        operation: OperationId,
        patience: Duration,
    ) -> Result<Outcome, AppError> {
        if patience.is_zero() {
            return Ok(Outcome::Running);
        }
        let deadline = Instant::now() + patience;
        let Some(ended) = self
            .events()
            .wait_for_operation(operation, deadline)
            .await?
        else {
            return Ok(Outcome::Running);
        };
        if ended.phase.status() != Status::Succeeded {
            return Ok(Outcome::Ended(Box::new(ended)));
        }
        let id = ended
            .new_container_id
            .as_deref()
            .unwrap_or(&ended.container_id);
        let container = self.container_soon(id).await?;
        Ok(Outcome::Succeeded {
            operation: Box::new(ended),
            container,
        })
    }

    async fn container_soon(&self, id: &str) -> Result<Option<Arc<Entry>>, AppError> {
        let deadline = Instant::now() + INVENTORY_LAG;
        loop {
            match self.get_container(id).await {
                Ok(entry) => return Ok(Some(entry)),
                Err(AppError::NotFound(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(AppError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
