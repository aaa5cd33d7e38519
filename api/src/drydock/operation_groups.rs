//! Operations that were asked for together and come one after another.

use plimsoll_app::operation_groups::{Group, GroupOutcome, NOT_FOUND, status};
use plimsoll_domain::{ids::OperationGroupId, operation::Status};
use poem::http::StatusCode;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};
use serde_json::{Value, json};

use super::{
    Tag,
    described::Text,
    error::{ApiError, ErrorOf, ReadsOne},
    instant::Instant,
    operations::OperationAccepted,
    prefer::Preference,
    update_operations::{OperationStatus, OperationView},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices,
};

/// `GET /api/v1/operation-groups/{id}`.
pub struct OperationGroups;

choices!(OperationGroupKind as "OperationGroupKind" = "restart-stack", "restart-container", "update-stack");

/// Operations that come one after another.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OperationGroup")]
pub struct GroupView {
    id: String,
    kind: Text<OperationGroupKind>,
    /// Of the stack, or of the container; empty for containers outside of any stack.
    name: String,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    /// `succeeded` when all members did, `failed` when all are over and one did not.
    status: Text<OperationStatus>,
    created_at: Instant,
    /// In the order in which they come. One whose predecessor failed is `failed` without having
    /// been touched.
    members: Vec<OperationView>,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.to_string(),
            kind: group.kind.as_str().to_owned().into(),
            status: status(&group).to_string().into(),
            agent: group.watcher.agent_name().map(str::to_owned),
            watcher: group.watcher.name,
            name: group.name,
            created_at: Instant(group.created_at),
            members: group.members.into_iter().map(OperationView::from).collect(),
        }
    }
}

/// A stack whose containers were restarted.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct StackRestarted {
    message: String,
    /// Of the group.
    operation_id: String,
    /// In the order in which they were restarted.
    members: Vec<OperationView>,
}

#[derive(ApiResponse)]
pub enum StackRestartAnswer {
    /// Observed: every container was restarted and runs, or has done its work
    #[oai(status = 200)]
    Done(
        Json<StackRestarted>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running; it goes on whatever happens to this connection
    #[oai(status = 202)]
    Accepted(
        Json<OperationAccepted>,
        #[oai(header = "Location")] String,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

#[OpenApi(prefix_path = "/api/v1")]
impl OperationGroups {
    /// Get operations that come one after another
    #[oai(
        path = "/operation-groups/:id",
        method = "get",
        operation_id = "getOperationGroup",
        tag = "Tag::Stacks"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<GroupView>, ErrorOf<ReadsOne>> {
        let id: OperationGroupId = id.0.parse().map_err(|_| ApiError::not_found(NOT_FOUND))?;
        Ok(Json(state.app.operation_group(id).await?.into()))
    }
}

/// Where a group is found.
pub fn location(group: OperationGroupId) -> String {
    format!("/api/v1/operation-groups/{group}")
}

/// The group once it has succeeded; `None` while it runs.
///
/// # Errors
/// 500 with what became of each member, where one failed.
pub async fn finished(
    state: &ApiState,
    group: OperationGroupId,
    preference: &Preference,
    what: &str,
) -> Result<Option<Group>, ApiError> {
    let ended = match state.group_outcome(group, preference.patience).await? {
        GroupOutcome::Running => return Ok(None),
        GroupOutcome::Ended(ended) => *ended,
    };
    if status(&ended) == Status::Succeeded {
        return Ok(Some(ended));
    }
    let members: Vec<Value> = ended
        .members
        .iter()
        .map(|member| {
            json!({
                "operationId": member.id.to_string(),
                "containerName": member.container_name,
                "status": member.phase.status().as_str(),
                "lastError": member.last_error,
            })
        })
        .collect();
    let message = format!("Error performing restart on {what}");
    let details = json!({
        "operationId": group.to_string(),
        "status": Status::Failed.as_str(),
        "members": members,
    });
    Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).with_details(details))
}

/// What a request to restart a stack is told. `absent` are its services without containers.
pub async fn stack_answer(
    state: &ApiState,
    id: OperationGroupId,
    preference: &Preference,
    absent: &[&str],
) -> Result<StackRestartAnswer, ApiError> {
    Ok(match finished(state, id, preference, "stack").await? {
        Some(group) => StackRestartAnswer::Done(
            Json(StackRestarted {
                message: without("Stack restarted successfully", absent),
                operation_id: id.to_string(),
                members: GroupView::from(group).members,
            }),
            preference.applied(),
        ),
        None => StackRestartAnswer::Accepted(
            Json(OperationAccepted {
                message: without("Stack restart accepted", absent),
                operation_id: id.to_string(),
            }),
            location(id),
            preference.applied(),
        ),
    })
}

/// The message, and which services had no part in it.
pub fn without(message: &str, absent: &[&str]) -> String {
    match absent {
        [] => message.to_owned(),
        some => format!("{message}; without containers: {}", some.join(", ")),
    }
}
