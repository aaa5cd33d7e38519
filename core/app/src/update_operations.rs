//! The history of updates and rollbacks (contract/drydock-container-api.md, "Get update/rollback
//! history").

use plimsoll_domain::{
    access::Scope,
    ids::{OperationGroupId, OperationId},
    operation::Phase,
    webhook,
};
pub use plimsoll_store::update_operations::{Operation, OperationFilter, PastOperation, WayBack};
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, events, journal, update_operations,
};

use serde_json::{Value, json};

use crate::{App, AppError, requests::Caller, totals::Total};

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

    /// Operations of all containers, also of those that are gone, newest first, and how many there
    /// are. `limit` 0 means all.
    pub async fn all_operations(
        &self,
        filter: &OperationFilter,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<Operation>, u64), AppError> {
        // Postgres stores no NUL, so no container has such a name.
        let name = filter.container.as_deref();
        if name.is_some_and(|name| name.contains('\0')) {
            return Ok((Vec::new(), 0));
        }
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let limit = number(if limit == 0 { u64::MAX } else { limit });
        let found = self.store().all_operations(filter, number(offset), limit);
        let (operations, total) = found.await?;
        Ok((operations, u64::try_from(total).unwrap_or(0)))
    }

    /// The newest way back of each container that has one.
    pub async fn ways_back(&self) -> Result<Vec<WayBack>, AppError> {
        Ok(self.store().ways_back().await?)
    }

    /// Tells those who look on how far the operation's pull is. Nobody needs it: what fails is
    /// forgotten.
    pub async fn tell_pull(&self, operation: &Operation, done: u64, total: u64) {
        let payload = json!({
            "operationId": operation.id,
            "kind": operation.kind,
            "containerName": operation.container_name,
            "containerId": operation.container_id,
            "phase": operation.phase,
            "targetImage": operation.target_image,
            "step": "pull",
            "bytesDone": done,
            "bytesTotal": total,
        });
        self.tell_in_passing(webhook::OPERATION_PROGRESS, &payload)
            .await;
    }

    /// An event that nothing depends on.
    pub(crate) async fn tell_in_passing(&self, kind: &str, payload: &Value) {
        let told = async {
            let client = self.store().client().await?;
            events::append(&client, kind, &payload.to_string()).await
        };
        match told.await {
            Ok(()) => self.announce().await,
            Err(error) => tracing::debug!(%error, kind, "an event was not told"),
        }
    }

    /// One operation, wherever its container is now.
    pub async fn get_operation(&self, id: OperationId) -> Result<Operation, AppError> {
        let operation = self.store().operation(id).await?;
        operation.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }

    /// One operation, with what finds those that were asked for with it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn past_operation(&self, id: OperationId) -> Result<PastOperation, AppError> {
        let operation = self.store().past_operation(id).await?;
        operation.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }

    /// Those of a group, or of a request for several containers at once, in the order in which they
    /// come; none where there is no such thing.
    pub async fn operations_together(
        &self,
        id: OperationGroupId,
    ) -> Result<Vec<PastOperation>, AppError> {
        Ok(self.store().operations_together(id).await?)
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
        let ended = [operation.kind.as_str(), Phase::RollbackFailed.as_str()];
        self.tally().add(Total::OperationsEnded, &ended, 1.0);
        self.announce().await;
        self.get_operation(id).await
    }
}
