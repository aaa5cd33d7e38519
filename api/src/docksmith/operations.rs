//! What an operation is to a client, alone and together with others (reference/docksmith-dokploy-dockup.md
//! 1.2, "History").

use plimsoll_app::{
    history::Past,
    removals::PastRemoval,
    update_operations::{Operation, PastOperation},
};
use plimsoll_domain::{ids::OperationGroupId, operation::Phase};
use poem_openapi::Object;

use super::stages;
use crate::{
    ApiState,
    drydock::{error::ApiError, instant::Instant},
};

/// One operation.
#[derive(Object)]
#[oai(rename = "Operation", skip_serializing_if_is_none)]
pub struct OperationView {
    id: String,
    operation_id: String,
    container_id: String,
    container_name: String,
    stack_name: Option<String>,
    /// `update`, `rollback`, `start`, `stop`, `restart`, `remove`, …
    operation_type: String,
    /// `validating`, `recreating`, `health_check`, `rolling_back`, `stopping`, `complete` or
    /// `failed`.
    status: String,
    old_version: Option<String>,
    new_version: Option<String>,
    started_at: Instant,
    completed_at: Option<Instant>,
    error_message: Option<String>,
    /// Of several that were asked for together: containers that follow them.
    dependents_affected: Option<Vec<String>>,
    /// Whether the container went back to what it ran before.
    rollback_occurred: bool,
    /// Where it stands for several that were asked for together: each of them.
    batch_details: Option<Vec<BatchDetail>>,
    /// `/api/operations/group/{id}` shows those that were asked for together.
    batch_group_id: Option<String>,
    created_at: Instant,
    updated_at: Instant,
    /// Which host, where there are several.
    watcher: String,
    /// Who asked.
    actor: String,
}

/// One container of several.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct BatchDetail {
    operation_id: String,
    container_name: String,
    stack_name: Option<String>,
    old_version: Option<String>,
    new_version: Option<String>,
    /// As of an operation.
    status: String,
    message: Option<String>,
}

impl From<&OperationView> for BatchDetail {
    fn from(one: &OperationView) -> Self {
        Self {
            operation_id: one.operation_id.clone(),
            container_name: one.container_name.clone(),
            stack_name: one.stack_name.clone(),
            old_version: one.old_version.clone(),
            new_version: one.new_version.clone(),
            status: one.status.clone(),
            message: one.error_message.clone(),
        }
    }
}

impl From<PastOperation> for OperationView {
    fn from(past: PastOperation) -> Self {
        Self {
            batch_group_id: past.together.map(|id| id.to_string()),
            ..Self::from(past.operation)
        }
    }
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            id: operation.id.to_string(),
            operation_id: operation.id.to_string(),
            stack_name: operation.identity.stack().map(str::to_owned),
            operation_type: stages::operation_type(operation.kind).to_owned(),
            status: stages::status(operation.phase).to_owned(),
            rollback_occurred: operation.phase == Phase::RolledBack,
            error_message: operation.rollback_reason.or(operation.last_error),
            container_id: operation.new_container_id.unwrap_or(operation.container_id),
            container_name: operation.container_name,
            dependents_affected: None,
            batch_details: None,
            old_version: operation.from_version,
            new_version: operation.to_version,
            started_at: Instant(operation.created_at),
            completed_at: operation.completed_at.map(Instant),
            batch_group_id: None,
            created_at: Instant(operation.created_at),
            updated_at: Instant(operation.updated_at),
            watcher: operation.watcher.to_string(),
            actor: operation.actor,
        }
    }
}

impl From<PastRemoval> for OperationView {
    fn from(removal: PastRemoval) -> Self {
        Self {
            id: removal.id.to_string(),
            operation_id: removal.id.to_string(),
            stack_name: None,
            operation_type: stages::REMOVE.to_owned(),
            status: stages::removal_status(removal.status()).to_owned(),
            container_id: removal.object_id,
            container_name: removal.name,
            old_version: None,
            new_version: None,
            started_at: Instant(removal.created_at),
            completed_at: removal.completed_at.map(Instant),
            error_message: removal.error,
            dependents_affected: None,
            rollback_occurred: false,
            batch_details: None,
            batch_group_id: removal.batch.map(|id| id.to_string()),
            created_at: Instant(removal.created_at),
            updated_at: Instant(removal.completed_at.unwrap_or(removal.created_at)),
            watcher: removal.watcher.to_string(),
            actor: removal.actor,
        }
    }
}

impl From<Past> for OperationView {
    fn from(past: Past) -> Self {
        match past {
            Past::Operation(operation) => Self::from(*operation),
            Past::Removal(removal) => Self::from(removal),
        }
    }
}

/// Several operations as the one that they are in Docksmith.
pub fn as_one(
    id: OperationGroupId,
    members: &[OperationView],
    asked_for: &[String],
) -> Option<OperationView> {
    let first = members.first()?;
    let updates = |one: &&OperationView| one.operation_type == "update";
    let kind = members.iter().find(updates).unwrap_or(first);
    let open = members.iter().find(|one| one.completed_at.is_none());
    let failed = members.iter().find(|one| one.status == "failed");
    let names = members.iter().map(|one| one.container_name.as_str());
    let (asked, follow): (Vec<&str>, Vec<&str>) =
        names.partition(|name| asked_for.is_empty() || asked_for.iter().any(|asked| asked == name));
    let same = |of: fn(&OperationView) -> &Option<String>| {
        let all = members.iter().all(|one| of(one) == of(first));
        of(first).clone().filter(|_| all)
    };
    let last = |of: fn(&OperationView) -> Option<Instant>| {
        let all = members.iter().filter_map(of);
        all.max_by_key(|instant| instant.0)
    };
    let ended = last(|one| one.completed_at).filter(|_| open.is_none());
    let updated = last(|one| Some(one.updated_at)).unwrap_or(first.updated_at);
    Some(OperationView {
        id: id.to_string(),
        operation_id: id.to_string(),
        container_id: kind.container_id.clone(),
        container_name: asked.join(", "),
        stack_name: same(|one| &one.stack_name),
        operation_type: kind.operation_type.clone(),
        status: open.or(failed).unwrap_or(first).status.clone(),
        old_version: same(|one| &one.old_version),
        new_version: same(|one| &one.new_version),
        started_at: first.started_at,
        completed_at: ended,
        error_message: members.iter().find_map(|one| {
            let why = one.error_message.as_ref()?;
            Some(format!("{}: {why}", one.container_name))
        }),
        dependents_affected: Some(follow.into_iter().map(str::to_owned).collect()),
        rollback_occurred: members.iter().any(|one| one.rollback_occurred),
        batch_details: Some(members.iter().map(BatchDetail::from).collect()),
        batch_group_id: Some(
            first
                .batch_group_id
                .clone()
                .unwrap_or_else(|| id.to_string()),
        ),
        created_at: first.created_at,
        updated_at: updated,
        watcher: first.watcher.clone(),
        actor: first.actor.clone(),
    })
}

/// Of updates and what they restart, those that are updated; otherwise nobody follows anybody.
pub fn updated(members: &[OperationView]) -> Vec<String> {
    let updates = members.iter().filter(|one| one.operation_type == "update");
    updates.map(|one| one.container_name.clone()).collect()
}

/// What was asked for together, in its order.
pub async fn together(
    state: &ApiState,
    id: OperationGroupId,
) -> Result<Vec<OperationView>, ApiError> {
    let operations = state.app.operations_together(id).await?;
    let mut members: Vec<OperationView> = operations.into_iter().map(Into::into).collect();
    if members.is_empty() {
        let removals = state.app.removals_together(id).await?;
        members = removals.into_iter().map(Into::into).collect();
    }
    Ok(members)
}
