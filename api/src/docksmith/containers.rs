//! One container (reference/docksmith-dokploy-dockup.md 1.2, "Containers"): what it uses, and
//! starting, stopping and removing it. All of it the same operations that Drydock's dialect asks for.

use std::sync::Arc;

use plimsoll_app::{
    AppError, actions::WantedAction, inventory::Entry, names::named, outcomes::Outcome,
};
use plimsoll_domain::{
    action::{ContainerAction, StopGrace},
    explorer::removal::{ObjectKind, RemovalRequest},
    ids::{OperationGroupId, OperationId},
};
use poem::http::StatusCode;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use tokio::time::Instant;

use super::{
    Tag, body, envelope,
    envelope::Envelope,
    error::{Changes, ErrorOf, ReadsOne},
    removals::{PATIENCE, remove_one},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{
        error::ApiError,
        operations::{failed, plain_caller},
    },
    middleware::context::RequestContext,
};

/// `GET /api/containers/{name}/stats`, `POST …/start`, `…/stop`, `…/restart`,
/// `DELETE /api/containers/{name}` and `POST /api/containers/batch/…`.
pub struct Containers;

/// Containers of one batch.
const MOST: usize = 200;

/// What a container uses.
#[derive(Object)]
struct StatsData {
    /// Of one processor: two that are busy are 200
    cpu_percent: f64,
    /// Bytes, without what the kernel could give back at once
    memory_usage: u64,
    memory_limit: u64,
    memory_percent: f64,
    /// Bytes since it started, over all its interfaces
    network_rx: u64,
    network_tx: u64,
    block_read: u64,
    block_write: u64,
}

/// What was done to a container.
#[derive(Object)]
struct ActedData {
    container: String,
    /// `started`, `stopped`, `restarted`, `removed`, or `in_progress` where it takes longer
    status: String,
    operation_id: String,
    message: String,
}

/// Containers to do the same to.
#[derive(Object)]
struct BatchRequest {
    /// Names, 1 to 200
    containers: Vec<String>,
    /// Of a removal: also those that run
    #[oai(default)]
    force: bool,
    /// Of a stop or restart: seconds that each may take to stop, 0 to 3600, instead of its own grace
    timeout: Option<i64>,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct BatchResult {
    container: String,
    success: bool,
    operation_id: Option<String>,
    error: Option<String>,
}

#[derive(Object)]
struct BatchData {
    /// In the order in which they were named
    results: Vec<BatchResult>,
    /// `/api/operations/group/{id}` shows all of them
    batch_group_id: String,
}

/// `timeout`, where it is given.
fn grace(timeout: Option<i64>) -> Result<Option<StopGrace>, ApiError> {
    let within = |seconds| {
        StopGrace::from_seconds(seconds).ok_or_else(|| {
            let most = StopGrace::LONGEST;
            ApiError::bad_request(format!("timeout must be 0 to {most} seconds"))
        })
    };
    timeout.map(within).transpose()
}

async fn request(
    who: &Authorized<perm::ContainersActions>,
    state: &ApiState,
    context: &RequestContext,
    name: &str,
    action: ContainerAction,
    wanted: WantedAction,
) -> Result<(Arc<Entry>, OperationId), AppError> {
    let entry = named(&who.snapshot().inventory, name)?.clone();
    let caller = plain_caller(who.principal(), context);
    let app = &state.app;
    let operation = app
        .request_action(entry.id(), action, wanted, &caller)
        .await?;
    Ok((entry, operation))
}

async fn one(
    who: &Authorized<perm::ContainersActions>,
    state: &ApiState,
    context: &RequestContext,
    name: &str,
    action: ContainerAction,
    timeout: Option<i64>,
) -> Result<Json<Envelope<ActedData>>, ErrorOf<Changes>> {
    let wanted = WantedAction {
        stop_grace: grace(timeout)?,
        batch: None,
    };
    let (entry, operation) = request(who, state, context, name, action, wanted).await?;
    let name = &entry.state.facts.name;
    let done = |status: &str, message| {
        envelope::ok(ActedData {
            container: name.clone(),
            status: status.to_owned(),
            operation_id: operation.to_string(),
            message,
        })
    };
    let participle = action.participle();
    match state.outcome(operation, PATIENCE).await? {
        Outcome::Succeeded { .. } => Ok(done(
            participle,
            format!("Container {name} {participle} successfully"),
        )),
        Outcome::Running => Ok(done(
            "in_progress",
            format!(
                "The {} of container {name} is still running",
                action.as_str()
            ),
        )),
        Outcome::Ended(operation) => {
            let message = format!("failed to {} container", action.as_str());
            Err(failed(message, &operation).into())
        }
    }
}

/// All are asked for before any is waited for.
async fn many(
    who: &Authorized<perm::ContainersActions>,
    state: &ApiState,
    context: &RequestContext,
    batch: BatchRequest,
    action: ContainerAction,
) -> Result<Json<Envelope<BatchData>>, ErrorOf<Changes>> {
    check(&batch)?;
    let id = OperationGroupId::generate();
    let wanted = WantedAction {
        stop_grace: match action {
            ContainerAction::Start => None,
            ContainerAction::Stop | ContainerAction::Restart => grace(batch.timeout)?,
        },
        batch: Some(id),
    };
    let mut asked = Vec::new();
    for name in batch.containers {
        let operation = request(who, state, context, &name, action, wanted).await;
        asked.push((name, operation));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut results = Vec::new();
    for (container, operation) in asked {
        let mut result = BatchResult {
            container,
            success: true,
            operation_id: None,
            error: None,
        };
        match operation {
            Err(error) => result.error = Some(ApiError::from(error).message.into_owned()),
            Ok((_, operation)) => {
                result.operation_id = Some(operation.to_string());
                let left = deadline.saturating_duration_since(Instant::now());
                match state.outcome(operation, left).await? {
                    // What runs on is found under its id.
                    Outcome::Succeeded { .. } | Outcome::Running => {}
                    Outcome::Ended(operation) => {
                        let why = operation.last_error.clone();
                        result.error = Some(why.unwrap_or_else(|| "it failed".to_owned()));
                    }
                }
            }
        }
        result.success = result.error.is_none();
        results.push(result);
    }
    Ok(envelope::ok(BatchData {
        results,
        batch_group_id: id.to_string(),
    }))
}

fn check(request: &BatchRequest) -> Result<(), ApiError> {
    match request.containers.len() {
        0 => Err(ApiError::bad_request("containers array is required")),
        1..=MOST => Ok(()),
        _ => Err(ApiError::bad_request(format!(
            "containers must name at most {MOST}"
        ))),
    }
}

/// The request for one container's removal: by its id where it is watched, else by what was said.
fn removal(
    who: &Authorized<perm::ContainersDelete>,
    name: &str,
    force: bool,
    volumes: bool,
) -> Result<(RemovalRequest, Option<String>), AppError> {
    let (reference, watcher) = match named(&who.snapshot().inventory, name) {
        Ok(entry) => {
            let facts = &entry.state.facts;
            if !facts.watcher.agent.is_empty() {
                let message = format!("Container not found on this host: {name}");
                return Err(AppError::NotFound(message));
            }
            (entry.id().to_owned(), Some(facts.watcher.name.clone()))
        }
        Err(AppError::NotFound(_)) => (name.to_owned(), None),
        Err(error) => return Err(error),
    };
    let request = RemovalRequest::One {
        kind: ObjectKind::Container,
        reference,
        force,
        volumes,
    };
    Ok((request, watcher))
}

/// Docksmith's words and status for one that runs.
fn worded(mut error: ApiError) -> ApiError {
    let details = error.details.as_ref();
    if details.is_some_and(|details| details["reason"] == "running") {
        error.status = StatusCode::BAD_REQUEST;
        error.message = "container is running, use force=true to remove".into();
    }
    error
}

#[OpenApi(prefix_path = "/api")]
impl Containers {
    /// Get what a container uses
    ///
    /// 400 for one that does not run.
    #[oai(
        path = "/containers/:name/stats",
        method = "get",
        operation_id = "getContainerStats",
        tag = "Tag::Containers"
    )]
    async fn stats(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        name: Path<String>,
    ) -> Result<Json<Envelope<StatsData>>, ErrorOf<ReadsOne>> {
        let entry = named(&who.snapshot().inventory, &name.0)?;
        let stats = state.app.container_stats(entry.id()).await?;
        let Some(now) = stats.data else {
            let message = format!("Container is not running: {}", entry.state.facts.name);
            return Err(ApiError::bad_request(message).into());
        };
        Ok(envelope::ok(StatsData {
            cpu_percent: now.cpu_percent,
            memory_usage: now.memory_usage_bytes,
            memory_limit: now.memory_limit_bytes,
            memory_percent: now.memory_percent,
            network_rx: now.network_rx_bytes,
            network_tx: now.network_tx_bytes,
            block_read: now.block_read_bytes,
            block_write: now.block_write_bytes,
        }))
    }

    /// Start a container
    #[oai(
        path = "/containers/:name/start",
        method = "post",
        operation_id = "startContainer",
        tag = "Tag::Containers"
    )]
    async fn start(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
    ) -> Result<Json<Envelope<ActedData>>, ErrorOf<Changes>> {
        one(&who, &state, &context, &name, ContainerAction::Start, None).await
    }

    /// Stop a container
    ///
    /// With the grace that it was made with, unless `timeout` says otherwise: then it is killed.
    #[oai(
        path = "/containers/:name/stop",
        method = "post",
        operation_id = "stopContainer",
        tag = "Tag::Containers"
    )]
    async fn stop(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// Seconds that it may take to stop, 0 to 3600, instead of its own grace
        timeout: Query<Option<i64>>,
    ) -> Result<Json<Envelope<ActedData>>, ErrorOf<Changes>> {
        let action = ContainerAction::Stop;
        one(&who, &state, &context, &name, action, timeout.0).await
    }

    /// Restart a container
    ///
    /// Alone; with what depends on it, see `POST /api/restart/container/{name}`.
    #[oai(
        path = "/containers/:name/restart",
        method = "post",
        operation_id = "restartOneContainer",
        tag = "Tag::Containers"
    )]
    async fn restart(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// Seconds that it may take to stop, 0 to 3600, instead of its own grace
        timeout: Query<Option<i64>>,
    ) -> Result<Json<Envelope<ActedData>>, ErrorOf<Changes>> {
        let action = ContainerAction::Restart;
        one(&who, &state, &context, &name, action, timeout.0).await
    }

    /// Remove a container
    ///
    /// From its host. One that runs only with `force=true`; its anonymous volumes only with
    /// `volumes=true`.
    #[oai(
        path = "/containers/:name",
        method = "delete",
        operation_id = "removeContainer",
        tag = "Tag::Containers"
    )]
    async fn remove(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        force: Query<Option<bool>>,
        volumes: Query<Option<bool>>,
    ) -> Result<Json<Envelope<ActedData>>, ErrorOf<Changes>> {
        let (force, volumes) = (force.0 == Some(true), volumes.0 == Some(true));
        let (request, watcher) = removal(&who, &name.0, force, volumes)?;
        let caller = plain_caller(who.principal(), &context);
        let removed = remove_one(&state, &caller, &request, watcher, None).await;
        let removed = removed.map_err(worded)?;
        let container = removed
            .items
            .first()
            .map_or(name.0, |item| item.name.clone());
        Ok(envelope::ok(ActedData {
            message: format!("Container {container} removed successfully"),
            container,
            status: "removed".to_owned(),
            operation_id: removed.id.to_string(),
        }))
    }

    /// Start several containers
    #[oai(
        path = "/containers/batch/start",
        method = "post",
        operation_id = "startContainers",
        tag = "Tag::Containers"
    )]
    async fn start_many(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        request: body::Required<BatchRequest>,
    ) -> Result<Json<Envelope<BatchData>>, ErrorOf<Changes>> {
        let action = ContainerAction::Start;
        many(&who, &state, &context, request.0, action).await
    }

    /// Stop several containers
    #[oai(
        path = "/containers/batch/stop",
        method = "post",
        operation_id = "stopContainers",
        tag = "Tag::Containers"
    )]
    async fn stop_many(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        request: body::Required<BatchRequest>,
    ) -> Result<Json<Envelope<BatchData>>, ErrorOf<Changes>> {
        let action = ContainerAction::Stop;
        many(&who, &state, &context, request.0, action).await
    }

    /// Restart several containers
    #[oai(
        path = "/containers/batch/restart",
        method = "post",
        operation_id = "restartContainers",
        tag = "Tag::Containers"
    )]
    async fn restart_many(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        request: body::Required<BatchRequest>,
    ) -> Result<Json<Envelope<BatchData>>, ErrorOf<Changes>> {
        let action = ContainerAction::Restart;
        many(&who, &state, &context, request.0, action).await
    }

    /// Remove several containers
    ///
    /// One after the other. Those that run only with `force`.
    #[oai(
        path = "/containers/batch/remove",
        method = "post",
        operation_id = "removeContainers",
        tag = "Tag::Containers"
    )]
    async fn remove_many(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        request: body::Required<BatchRequest>,
    ) -> Result<Json<Envelope<BatchData>>, ErrorOf<Changes>> {
        check(&request.0)?;
        let caller = plain_caller(who.principal(), &context);
        let batch = OperationGroupId::generate();
        let mut results = Vec::new();
        for name in &request.0.containers {
            let removed = match removal(&who, name, request.0.force, false) {
                Ok((request, watcher)) => {
                    remove_one(&state, &caller, &request, watcher, Some(batch)).await
                }
                Err(error) => Err(error.into()),
            };
            let removed = removed.map_err(worded);
            results.push(BatchResult {
                container: name.clone(),
                success: removed.is_ok(),
                operation_id: removed.as_ref().ok().map(|removed| removed.id.to_string()),
                error: removed.err().map(|error| error.message.into_owned()),
            });
        }
        Ok(envelope::ok(BatchData {
            results,
            batch_group_id: batch.to_string(),
        }))
    }
}
