//! Updating several containers in the order of what they need.

use plimsoll_app::{
    batch_updates::{BatchGroup, BatchMember, BatchOperation, BatchRejected},
    stacks,
};
use plimsoll_domain::compose::FileUse;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
    types::{Example, MaybeUndefined},
};
use serde_json::json;

use super::{
    Tag,
    actions::Acting,
    body::RequiredJson,
    bulk_updates::UpdatingMany,
    described::{IdempotencyKey, Text, text},
    error::{ApiError, ErrorOf, INVALID_PARAMETERS},
    operation_groups::{location, without},
    operations::caller,
    stacks::engines,
    updates::{ComposeFileUse, file_use},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `POST /api/v1/operation-groups` and `/api/v1/stacks/{name}/update`.
pub struct BatchUpdates;

/// What is to be updated: 1 to 200 containers.
#[derive(Object)]
#[oai(
    rename = "CreateOperationGroupsRequest",
    rename_all = "camelCase",
    skip_serializing_if_is_none,
    deny_unknown_fields,
    example
)]
struct NewBatch {
    #[oai(validator(min_items = 1, max_items = 200))]
    updates: Vec<NewBatchUpdate>,
    /// `edit` writes the new images into the Compose files that the containers came from, each
    /// once it has proved itself, whatever triggers update them.
    compose_file: MaybeUndefined<Text<ComposeFileUse>>,
}

#[derive(Object)]
#[oai(
    rename = "CreateOperationGroupsUpdate",
    rename_all = "camelCase",
    skip_serializing_if_is_none,
    deny_unknown_fields
)]
struct NewBatchUpdate {
    container_id: String,
    /// The tag to go to; the candidate that the last watch found where it is absent.
    version: MaybeUndefined<String>,
}

impl Example for NewBatch {
    fn example() -> Self {
        Self {
            updates: vec![NewBatchUpdate {
                container_id: "4f1d2c3b5a69".to_owned(),
                version: MaybeUndefined::Value("1.25.3".to_owned()),
            }],
            compose_file: MaybeUndefined::Value("edit".to_owned().into()),
        }
    }
}

/// What became of it.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OperationGroupsAccepted")]
struct BatchAccepted {
    message: String,
    /// Of all of these groups together.
    batch_id: String,
    /// One for each stack, which run at the same time, and one for the containers of an engine
    /// outside of any.
    groups: Vec<GroupAccepted>,
    rejected: Vec<GroupRejected>,
}

/// Durable; follow it at `/api/v1/operation-groups/{id}`.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OperationGroupAccepted")]
struct GroupAccepted {
    id: String,
    /// Absent for containers outside of any.
    #[oai(skip_serializing_if_is_none)]
    stack: Option<String>,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    /// In the order in which they come.
    operations: Vec<MemberAccepted>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OperationGroupMemberAccepted")]
struct MemberAccepted {
    operation_id: String,
    container_id: String,
    container_name: String,
    /// Restarts are of what follows those that are updated.
    kind: Text<BatchOperationKind>,
}

crate::choices!(BatchOperationKind as "BatchOperationKind" = "update", "restart");

/// What `POST /containers/{id}/update` would have answered.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OperationGroupMemberRejected")]
struct GroupRejected {
    container_id: String,
    /// Empty for a container that is not known.
    container_name: String,
    #[oai(skip_serializing_if_is_none)]
    stack: Option<String>,
    status_code: u16,
    message: String,
}

/// A stack whose containers are updated one after another.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct StackUpdateAccepted {
    message: String,
    /// Of the group.
    operation_id: String,
    /// In the order in which they come.
    operations: Vec<MemberAccepted>,
    /// Those with an update that cannot be made.
    rejected: Vec<GroupRejected>,
}

#[derive(ApiResponse)]
enum StackUpdateAnswer {
    /// Durable and running; it goes on whatever happens to this connection
    #[oai(status = 202)]
    Accepted(
        Json<StackUpdateAccepted>,
        #[oai(header = "Location")] String,
    ),
}

impl From<BatchGroup> for GroupAccepted {
    fn from(group: BatchGroup) -> Self {
        Self {
            id: group.id.to_string(),
            stack: group.stack,
            agent: group.watcher.agent_name().map(str::to_owned),
            watcher: group.watcher.name,
            operations: group.members.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<BatchOperation> for MemberAccepted {
    fn from(member: BatchOperation) -> Self {
        let kind = match member.is_update {
            true => "update",
            false => "restart",
        };
        Self {
            operation_id: member.operation.to_string(),
            container_id: member.container,
            container_name: member.container_name,
            kind: kind.to_owned().into(),
        }
    }
}

impl From<BatchRejected> for GroupRejected {
    fn from(rejected: BatchRejected) -> Self {
        let refusal = ApiError::from(rejected.error);
        Self {
            container_id: rejected.container,
            container_name: rejected.container_name,
            stack: rejected.stack,
            status_code: refusal.status.as_u16(),
            message: refusal.message.into_owned(),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl BatchUpdates {
    /// Update several containers in order
    ///
    /// Those of one stack come one after another, in the order in which its services need each
    /// other; stacks run at the same time. Does not wait. What comes after one that failed is left
    /// as it is, its Compose file too. What runs and follows the updated ones is restarted after
    /// them. While an operation works on one container, its whole stack is rejected; what is
    /// refused otherwise keeps none of the others from it.
    #[oai(
        path = "/operation-groups",
        method = "post",
        operation_id = "createOperationGroups",
        tag = "Tag::Stacks"
    )]
    async fn create(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        /// Repeating a request with the same key names the same groups, and makes no others
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
        body: RequiredJson<NewBatch>,
    ) -> Result<Json<BatchAccepted>, ErrorOf<UpdatingMany>> {
        let invalid = || ApiError::bad_request(INVALID_PARAMETERS);
        let body = body.0.ok_or_else(invalid)?;
        let compose_file = match body.compose_file {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Value(text) if text.0 == "edit" => Some(FileUse::Edit),
            _ => return Err(invalid().into()),
        };
        let members = body.updates.into_iter().map(|update| {
            let version = match update.version {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => return Err(invalid()),
                MaybeUndefined::Value(version) => Some(version),
            };
            Ok(BatchMember {
                container: update.container_id,
                version,
                compose_file,
            })
        });
        let members: Vec<BatchMember> = members.collect::<Result<_, _>>()?;
        let shown = members
            .iter()
            .map(|one| json!([one.container, one.version]));
        let shown = json!([shown.collect::<Vec<_>>(), compose_file.map(FileUse::as_str)]);
        let target = "POST /operation-groups";
        let caller = caller(
            who.principal(),
            &context,
            text(&key.0),
            target,
            &shown.to_string(),
        )?;
        let batch = state.app.request_batch_update(&members, &caller);
        let batch = batch.await?;
        let groups: Vec<GroupAccepted> = batch.groups.into_iter().map(Into::into).collect();
        let rejected: Vec<GroupRejected> = batch.rejected.into_iter().map(Into::into).collect();
        Ok(Json(BatchAccepted {
            message: format!(
                "{} operation groups accepted, {} containers rejected",
                groups.len(),
                rejected.len()
            ),
            batch_id: batch.id.to_string(),
            groups,
            rejected,
        }))
    }

    /// Update a stack
    ///
    /// Every container of it that has an update, in the order in which its services need each
    /// other; the message names services without containers. Does not wait. What comes after one
    /// that failed is left as it is, its Compose file too; what runs and follows the updated ones is
    /// restarted after them. Refused while an operation works on one of the containers, and where
    /// none of them has an update.
    #[oai(
        path = "/stacks/:name/update",
        method = "post",
        operation_id = "updateStack",
        tag = "Tag::Stacks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn update_stack(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `edit` writes the new images into the Compose files that the containers came from, each
        /// once it has proved itself, whatever triggers update them.
        #[oai(name = "composeFile")]
        compose_file: Query<Option<Text<ComposeFileUse>>>,
        /// Repeating a request with the same key names the same operations
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<StackUpdateAnswer, ErrorOf<Acting>> {
        let compose_file = file_use(&compose_file.0)?;
        let engines = engines(watcher.0, agent.0);
        let asked = compose_file.map(FileUse::as_str);
        let target = format!("POST /stacks/{}/update {engines:?} {asked:?}", name.0);
        let caller = caller(who.principal(), &context, text(&key.0), &target, "")?;
        let app = &state.app;
        let batch = app.request_stack_update(&name.0, &engines, compose_file, &caller);
        let mut batch = batch.await?;
        // One stack on one engine is one group.
        let group = batch
            .groups
            .pop()
            .ok_or_else(|| ApiError::internal("a stack was accepted without a group"))?;
        let place = location(group.id);
        let group = GroupAccepted::from(group);
        let inventory = &who.snapshot().inventory;
        let absent = stacks::absent_of(inventory, &name.0, &engines);
        let accepted = StackUpdateAccepted {
            message: without("Stack update accepted", &absent),
            operation_id: group.id,
            operations: group.operations,
            rejected: batch.rejected.into_iter().map(Into::into).collect(),
        };
        Ok(StackUpdateAnswer::Accepted(Json(accepted), place))
    }
}
