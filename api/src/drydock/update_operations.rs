use plimsoll_app::update_operations::{self, Operation, OperationFilter};
use plimsoll_domain::{ids::OperationId, operation};
use poem::http::Uri;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    confirm::{Confirmed, ContainerRollback},
    described::Text,
    error::{ApiError, ErrorOf, Reads, ReadsOne},
    instant::Instant,
    operations::{OperationAccepted, plain_caller},
    page::{List, Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices, error_set,
    middleware::context::RequestContext,
};

/// `GET /api/v1/containers/{id}/update-operations` and `/api/v1/update-operations/{id}`.
pub struct UpdateOperations;

choices!(
    pub OperationKind as "OperationKind" = "update",
    "rollback",
    "label-change",
    "start",
    "stop",
    "restart"
);
choices!(
    pub OperationStatus as "OperationStatus" = "in-progress",
    "succeeded",
    "rolled-back",
    "failed"
);
error_set!(pub Acknowledging = 404, 409);
error_set!(pub Undoing = 400, 404, 409, 428);

#[derive(ApiResponse)]
pub enum UndoAnswer {
    /// Durable and running
    #[oai(status = 202)]
    Accepted(Json<OperationAccepted>, #[oai(header = "Location")] String),
}

/// One update or rollback.
#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "UpdateOperation",
    skip_serializing_if_is_none
)]
pub struct OperationView {
    id: String,
    /// In lists `update` or `rollback`.
    kind: Text<OperationKind>,
    container_name: String,
    container_id: String,
    watcher: String,
    agent: Option<String>,
    status: Text<OperationStatus>,
    /// `prepare`, `renamed`, `new-created`, `old-stopped`, `new-started`, `health-gate`,
    /// `health-gate-passed`, `succeeded`, `rollback-started`, `rolled-back`, `rollback-failed` or
    /// `failed` (nothing was touched).
    phase: String,
    created_at: Instant,
    updated_at: Instant,
    completed_at: Option<Instant>,
    /// When somebody took over what the rollback could not finish.
    acknowledged_at: Option<Instant>,
    trigger_name: Option<String>,
    from_version: Option<String>,
    to_version: Option<String>,
    target_image: String,
    target_digest: Option<String>,
    old_container_id: Option<String>,
    old_name: Option<String>,
    temp_name: Option<String>,
    old_container_was_running: Option<bool>,
    new_container_id: Option<String>,
    rollback_reason: Option<String>,
    last_error: Option<String>,
    /// Of the new container, where it ended.
    exit_code: Option<i32>,
    /// The last lines of the new container's log, where it failed.
    last_log: Option<String>,
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            id: operation.id.to_string(),
            kind: operation.kind.to_string().into(),
            container_name: operation.container_name,
            container_id: operation.container_id,
            agent: operation.watcher.agent_name().map(str::to_owned),
            watcher: operation.watcher.name,
            status: operation.phase.status().to_string().into(),
            phase: operation.phase.to_string(),
            created_at: Instant(operation.created_at),
            updated_at: Instant(operation.updated_at),
            completed_at: operation.completed_at.map(Instant),
            acknowledged_at: operation.acknowledged_at.map(Instant),
            trigger_name: operation.trigger_name,
            from_version: operation.from_version,
            to_version: operation.to_version,
            target_image: operation.target_image,
            target_digest: operation.target_digest,
            old_container_id: operation.old_container_id,
            old_name: operation.old_name,
            temp_name: operation.temp_name,
            old_container_was_running: operation.old_was_running,
            new_container_id: operation.new_container_id,
            rollback_reason: operation.rollback_reason,
            last_error: operation.last_error,
            exit_code: operation.exit_code,
            last_log: operation.last_log,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl UpdateOperations {
    /// List the updates and rollbacks of a container
    ///
    /// Newest first. They stay with the container when it is re-created.
    #[oai(
        path = "/containers/:id/update-operations",
        method = "get",
        operation_id = "listUpdateOperations",
        tag = "Tag::Containers"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        uri: &Uri,
        id: Path<String>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<OperationView>>, ErrorOf<ReadsOne>> {
        let page = Page::all(limit.0, offset.0);
        let (operations, total) = state
            .app
            .operations_of(&id.0, page.offset, page.limit)
            .await?;
        let data = operations.into_iter().map(OperationView::from).collect();
        let query = uri.query().unwrap_or("");
        Ok(Json(List::of(page, data, total, uri.path(), query)))
    }

    /// List what was done to all containers
    ///
    /// Newest first; also of containers that are gone.
    #[oai(
        path = "/update-operations",
        method = "get",
        operation_id = "listAllUpdateOperations",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list_all(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        uri: &Uri,
        /// Of containers with this name
        container: Query<Option<String>>,
        kind: Query<Option<Text<OperationKind>>>,
        status: Query<Option<Text<OperationStatus>>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<OperationView>>, ErrorOf<Reads>> {
        let page = Page::all(limit.0, offset.0);
        let word = |name: &str| ApiError::bad_request(format!("Invalid {name} query parameter"));
        let kinds = kind
            .0
            .map(|kind| operation::OperationKind::parse(&kind.0).ok_or(word("kind")));
        let status = status
            .0
            .map(|status| operation::Status::parse(&status.0).ok_or(word("status")));
        let filter = OperationFilter {
            container: container.0,
            kinds: kinds.transpose()?.map(|kind| vec![kind]),
            phases: status.transpose()?.map(|status| {
                let phases = operation::Phase::ALL.iter().copied();
                phases.filter(|phase| phase.status() == status).collect()
            }),
        };
        let found = state.app.all_operations(&filter, page.offset, page.limit);
        let (operations, total) = found.await?;
        let data = operations.into_iter().map(OperationView::from).collect();
        let query = uri.query().unwrap_or("");
        Ok(Json(List::of(page, data, total, uri.path(), query)))
    }

    /// Undo an update or rollback
    ///
    /// Goes back to what the container ran before it, as long as that backup is kept. 202: durable;
    /// follow it at `Location`.
    #[oai(
        path = "/update-operations/:id/rollback",
        method = "post",
        operation_id = "rollbackUpdateOperation",
        tag = "Tag::Containers"
    )]
    async fn undo(
        &self,
        who: Authorized<perm::ContainersRollback>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ContainerRollback>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<UndoAnswer, ErrorOf<Undoing>> {
        let id: OperationId = id
            .parse()
            .map_err(|_| ApiError::not_found(update_operations::NOT_FOUND))?;
        let caller = plain_caller(who.principal(), &context);
        let (operation, _) = state.app.request_rollback_of(id, &caller).await?;
        Ok(UndoAnswer::Accepted(
            Json(OperationAccepted {
                message: "Container rollback accepted".to_owned(),
                operation_id: operation.to_string(),
            }),
            format!("/api/v1/update-operations/{operation}"),
        ))
    }

    /// Get an update or rollback
    ///
    /// Where the `Location` of a 202 points.
    #[oai(
        path = "/update-operations/:id",
        method = "get",
        operation_id = "getUpdateOperation",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<OperationView>, ErrorOf<ReadsOne>> {
        let id: OperationId = id
            .parse()
            .map_err(|_| ApiError::not_found(update_operations::NOT_FOUND))?;
        Ok(Json(state.app.get_operation(id).await?.into()))
    }

    /// Take over an operation whose rollback failed
    ///
    /// Plimsoll tries a failed rollback again until it succeeds, and meanwhile refuses other
    /// operations on the container. After this it leaves the host as it is, for somebody to put in
    /// order, and the container can be updated again.
    #[oai(
        path = "/update-operations/:id/acknowledge",
        method = "post",
        operation_id = "acknowledgeUpdateOperation",
        tag = "Tag::Containers"
    )]
    async fn acknowledge(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<OperationView>, ErrorOf<Acknowledging>> {
        let id: OperationId = id
            .parse()
            .map_err(|_| ApiError::not_found(update_operations::NOT_FOUND))?;
        let caller = plain_caller(who.principal(), &context);
        let operation = state.app.acknowledge_operation(id, &caller).await?;
        Ok(Json(operation.into()))
    }
}
