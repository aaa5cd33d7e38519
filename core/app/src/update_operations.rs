//! The history of updates and rollbacks (contract/drydock-container-api.md, "Get update/rollback
//! history").

use plimsoll_domain::ids::OperationId;
pub use plimsoll_store::update_operations::Operation;

use crate::{App, AppError};

pub const NOT_FOUND: &str = "Update operation not found";

impl App {
    /// One page of a container's history across its re-creations, newest first, and how many
    /// operations there are. `limit` 0 means all.
    pub async fn operations_of(
        &self,
        container: &str,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<Operation>, u64), AppError> {
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (operations, total) = self
            .store()
            .operations_page(
                &state.identity_key,
                &state.facts.watcher,
                &state.facts.name,
                number(offset),
                number(limit),
            )
            .await?;
        Ok((operations, u64::try_from(total).unwrap_or(0)))
    }

    /// One operation, wherever its container is now.
    pub async fn get_operation(&self, id: OperationId) -> Result<Operation, AppError> {
        let operation = self.store().operation(id).await?;
        operation.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }
}
