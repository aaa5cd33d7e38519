//! Updating one container, and going back (reference/docksmith-dokploy-dockup.md 1.2, "Updates").

use plimsoll_app::{
    AppError,
    names::named,
    requests::Caller,
    update_operations::PastOperation,
    updates::{UpdateOrigin, WantedUpdate},
};
use plimsoll_domain::{
    compose::FileUse,
    ids::{OperationGroupId, OperationId},
};
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    body::Required,
    envelope::{Envelope, ok},
    error::{Changes, ErrorOf},
    history::operation_id,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{error::ApiError, operations::plain_caller},
    middleware::context::RequestContext,
};

/// `POST /api/update`, `/api/rollback` and `/api/rollback/containers`.
pub struct Updates;

/// Both spellings of each field; the document's counts.
#[derive(Object)]
pub struct UpdateRequest {
    /// The container's name, `name@watcher`, or its id.
    container: Option<String>,
    container_name: Option<String>,
    /// A tag; the newest that a check found where it is left out.
    version: Option<String>,
    target_version: Option<String>,
    /// A program that must agree first, instead of the container's own.
    script: Option<String>,
}

#[derive(Object)]
pub struct UpdateStarted {
    /// Follow it at `/api/operations/{id}` or on `/api/events`.
    operation_id: String,
    container: String,
    container_name: String,
    #[oai(skip_serializing_if_is_none)]
    target_version: Option<String>,
    /// `started`
    status: String,
}

#[derive(Object)]
pub struct RollbackRequest {
    /// Of an operation, or of several that were asked for together.
    operation_id: String,
    /// Accepted for Docksmith's sake: nothing can be forced past what protects a container.
    #[allow(dead_code)]
    force: Option<bool>,
}

#[derive(Object)]
pub struct RollbackContainersRequest {
    operation_id: String,
    /// Which of them go back; all where it is left out.
    container_names: Option<Vec<String>>,
    containers: Option<Vec<String>>,
    #[allow(dead_code)]
    force: Option<bool>,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct RollbackStarted {
    /// The first of them; absent where none began.
    operation_id: Option<String>,
    original_operation_id: String,
    message: String,
    status: String,
    operations: Vec<ContainerRollback>,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ContainerRollback {
    container: String,
    operation_id: Option<String>,
    error: Option<String>,
}

#[OpenApi(prefix_path = "/api")]
impl Updates {
    /// Update a container
    ///
    /// To the version that is named, or to the newest that a check found. Answers as soon as the
    /// update is sure to be done, whatever happens to Plimsoll meanwhile.
    #[oai(
        path = "/update",
        method = "post",
        operation_id = "updateContainer",
        tag = "Tag::Updates"
    )]
    async fn update(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        body: Required<UpdateRequest>,
    ) -> Result<Json<Envelope<UpdateStarted>>, ErrorOf<Changes>> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let UpdateRequest {
            container,
            container_name,
            version,
            target_version,
            script,
        } = body.0;
        let name = given(container)
            .or(given(container_name))
            .ok_or_else(|| ApiError::bad_request("container is required"))?;
        let version = given(version).or(given(target_version));
        let script = given(script);
        let entry = named(&who.snapshot().inventory, &name)?.clone();
        let caller = plain_caller(who.principal(), &context);
        let app = &state.app;
        let wanted = WantedUpdate {
            version: version.as_deref(),
            script: script.as_deref(),
            // Docksmith edits the file that a container came from.
            compose_file: entry.state.facts.compose.as_ref().map(|_| FileUse::Edit),
        };
        let operation = app
            .request_update(entry.id(), UpdateOrigin::Container, wanted, &caller)
            .await?;
        let name = &entry.state.facts.name;
        Ok(ok(UpdateStarted {
            operation_id: operation.to_string(),
            container: name.clone(),
            container_name: name.clone(),
            target_version: version,
            status: "started".to_owned(),
        }))
    }

    /// Undo an update
    ///
    /// Back to what the container ran before the operation, by its digest, so that a tag that has
    /// moved meanwhile really goes back.
    #[oai(
        path = "/rollback",
        method = "post",
        operation_id = "rollbackOperation",
        tag = "Tag::Updates"
    )]
    async fn rollback(
        &self,
        who: Authorized<perm::ContainersRollback>,
        state: ApiState,
        context: RequestContext,
        body: Required<RollbackRequest>,
    ) -> Result<Json<Envelope<RollbackStarted>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        Ok(ok(
            roll_back(&state, &body.0.operation_id, None, &caller).await?
        ))
    }

    /// Undo an update of some containers
    #[oai(
        path = "/rollback/containers",
        method = "post",
        operation_id = "rollbackContainers",
        tag = "Tag::Updates"
    )]
    async fn rollback_containers(
        &self,
        who: Authorized<perm::ContainersRollback>,
        state: ApiState,
        context: RequestContext,
        body: Required<RollbackContainersRequest>,
    ) -> Result<Json<Envelope<RollbackStarted>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let names = body.0.container_names.or(body.0.containers);
        let id = &body.0.operation_id;
        Ok(ok(roll_back(&state, id, names.as_deref(), &caller).await?))
    }
}

/// Undoes one operation, or those of a group, the last first.
async fn roll_back(
    state: &ApiState,
    id: &str,
    names: Option<&[String]>,
    caller: &Caller<'_>,
) -> Result<RollbackStarted, ApiError> {
    let app = &state.app;
    let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|one| one == name));
    let mut found = members(state, id).await?;
    found.retain(|(_, name)| wanted(name));
    if found.is_empty() {
        return Err(ApiError::not_found(
            "The operation was on none of these containers",
        ));
    }
    let mut operations = Vec::new();
    let mut first_refusal = None;
    for (operation, container) in found.into_iter().rev() {
        let (id, error) = match app.request_rollback_of(operation, caller).await {
            Ok((id, _)) => (Some(id.to_string()), None),
            Err(refusal) => {
                let refusal = ApiError::from(refusal);
                let message = refusal.message.to_string();
                first_refusal.get_or_insert(refusal);
                (None, Some(message))
            }
        };
        operations.push(ContainerRollback {
            container,
            operation_id: id,
            error,
        });
    }
    let begun = operations.iter().find_map(|one| one.operation_id.clone());
    // What was begun has to be told, also where the rest was refused.
    match (begun, first_refusal) {
        (None, Some(refusal)) => Err(refusal),
        (begun, refusal) => Ok(RollbackStarted {
            operation_id: begun,
            original_operation_id: id.to_owned(),
            message: match refusal {
                None => "Rollback started",
                Some(_) => "Rollback started for some of the containers",
            }
            .to_owned(),
            status: "started".to_owned(),
            operations,
        }),
    }
}

/// An operation, or those that were asked for together, with their containers' names.
async fn members(state: &ApiState, id: &str) -> Result<Vec<(OperationId, String)>, ApiError> {
    let operation = operation_id(id)?;
    let missing = match state.app.get_operation(operation).await {
        Err(AppError::NotFound(message)) => ApiError::not_found(message),
        found => {
            let found = found?;
            return Ok(vec![(found.id, found.container_name)]);
        }
    };
    let group = OperationGroupId::from_uuid(operation.as_uuid());
    let together = state.app.operations_together(group).await?;
    if together.is_empty() {
        return Err(missing);
    }
    // Restarts of what follows the updated ones leave nothing to go back from.
    let is_restart = |past: &PastOperation| past.operation.kind.action().is_some();
    let all_restarts = together.iter().all(is_restart);
    let undone = together
        .into_iter()
        .filter(|past| all_restarts || !is_restart(past));
    Ok(undone
        .map(|past| (past.operation.id, past.operation.container_name))
        .collect())
}
