//! The history of updates and rollbacks (contract/drydock-container-api.md, "Get update/rollback
//! history").

use plimsoll_domain::{access::Scope, ids::OperationId, operation::Phase};
pub use plimsoll_store::update_operations::Operation;
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, events, journal, update_operations,
};

use crate::{App, AppError, requests::Caller};

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

    /// Takes over an operation whose rollback keeps failing (reliability.md K12): no worker tries
    /// any longer, and the container may be updated again. What is on the host stays as it is.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` unless the operation waits in `rollback-failed`.
    pub async fn acknowledge_operation(
        &self,
        id: OperationId,
        caller: &Caller<'_>,
    ) -> Result<Operation, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        let operation = self.get_operation(id).await?;
        let entry = NewAudit {
            details: Some("the failed rollback is taken over by hand"),
            actor: Some(caller.principal.name()),
            request_id: caller.request_id,
            ..NewAudit::about(&operation, "operation-acknowledged", AuditStatus::Info)
        };
        let event = journal::event(&operation, Phase::RollbackFailed, &Default::default());
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        if !update_operations::acknowledge(&tx, id).await? {
            return Err(AppError::conflict(
                "Only an operation whose rollback failed can be acknowledged",
            ));
        }
        audit::append(&tx, &entry).await?;
        events::append(&tx, journal::EVENT, &event).await?;
        commit(tx).await?;
        self.announce().await;
        self.get_operation(id).await
    }
}
