//! `POST /api/update/batch` (contract/docksmith-api.md, reference/docksmith-dokploy-dockup.md 1.2).

use std::collections::BTreeMap;

use plimsoll_app::{
    AppError, Snapshot,
    batch_updates::{Batch, BatchMember},
    names::named,
};
use plimsoll_domain::compose::FileUse;
use poem_openapi::{Object, OpenApi, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag, body,
    envelope::{self, Envelope},
    error::{BAD_BODY, Changes, ErrorOf},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{error::ApiError, operations::caller},
    middleware::context::RequestContext,
};

pub struct BatchUpdates;

/// Names, or objects with `name` and, if it is not the recommended one, `target_version`; what else
/// Docksmith's own page sends (`stack`, `force`, `change_type`) is known without being told.
#[derive(Object)]
#[oai(rename = "UpdateBatchRequest")]
struct BatchRequest {
    #[oai(validator(min_items = 1, max_items = 200))]
    containers: Vec<Any<Value>>,
}

#[derive(Object)]
struct BatchStarted {
    /// One for each stack, and one for each container that was refused.
    operations: Vec<StackStarted>,
    batch_group_id: String,
    /// `started`, or `failed` where nothing was accepted.
    status: String,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct StackStarted {
    /// Empty for containers outside of any.
    stack: String,
    containers: Vec<String>,
    /// Of the group of operations.
    operation_id: Option<String>,
    status: String,
    error: Option<String>,
}

#[OpenApi(prefix_path = "/api")]
impl BatchUpdates {
    /// Update several containers
    ///
    /// Those of one stack one after another, in the order of what they need; stacks at the same
    /// time. What comes after one that failed is left as it is, its Compose file too. Does not wait.
    #[oai(
        path = "/update/batch",
        method = "post",
        operation_id = "updateBatch",
        tag = "Tag::Updates"
    )]
    async fn update(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        body: body::Required<BatchRequest>,
    ) -> Result<Json<Envelope<BatchStarted>>, ErrorOf<Changes>> {
        let mut refused = Vec::new();
        let mut members = Vec::new();
        for one in body.0.containers {
            let (name, version) = read(one.0)?;
            match member(who.snapshot(), &name, version) {
                Ok(member) => members.push(member),
                Err(error) => refused.push(StackStarted::refused(String::new(), name, error)),
            }
        }
        // The one thing that was asked for is not there.
        if members.is_empty() {
            let error = refused.into_iter().find_map(|one| one.error);
            return Err(ApiError::not_found(error.unwrap_or_default()).into());
        }
        let caller = caller(who.principal(), &context, None, "", "")?;
        let batch = state.app.request_batch_update(&members, &caller).await?;
        Ok(envelope::ok(BatchStarted::of(batch, refused)))
    }
}

fn member(
    snapshot: &Snapshot,
    name: &str,
    version: Option<String>,
) -> Result<BatchMember, AppError> {
    let entry = named(&snapshot.inventory, name)?;
    let is_composed = entry.state.facts.compose.is_some();
    Ok(BatchMember {
        container: entry.id().to_owned(),
        version,
        compose_file: is_composed.then_some(FileUse::Edit),
    })
}

/// A string, or an object in either spelling.
fn read(one: Value) -> Result<(String, Option<String>), ApiError> {
    let bad = || ApiError::bad_request(format!("{BAD_BODY}: containers are names, or have one"));
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(bad()),
    };
    let (name, version) = match &one {
        Value::String(_) => (text(Some(&one))?, None),
        Value::Object(fields) => {
            let field = |names: [&str; 3]| {
                let found = names.iter().find_map(|name| fields.get(*name));
                text(found)
            };
            let name = field(["name", "container_name", "container"])?;
            (name, field(["target_version", "version", "target"])?)
        }
        _ => return Err(bad()),
    };
    Ok((name.ok_or_else(bad)?, version))
}

impl BatchStarted {
    fn of(batch: Batch, refused: Vec<StackStarted>) -> Self {
        let mut operations: Vec<StackStarted> = Vec::new();
        for group in batch.groups {
            let updates = group.members.into_iter().filter(|member| member.is_update);
            operations.push(StackStarted {
                stack: group.stack.unwrap_or_default(),
                containers: updates.map(|member| member.container_name).collect(),
                operation_id: Some(group.id.to_string()),
                status: "started".to_owned(),
                error: None,
            });
        }
        // What one stack was refused for the same reason is one line.
        let mut others: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for rejected in batch.rejected {
            let key = (
                rejected.stack.unwrap_or_default(),
                rejected.error.to_string(),
            );
            others.entry(key).or_default().push(rejected.container_name);
        }
        let is_started = !operations.is_empty();
        operations.extend(
            others
                .into_iter()
                .map(|((stack, error), containers)| StackStarted {
                    stack,
                    containers,
                    operation_id: None,
                    status: "failed".to_owned(),
                    error: Some(error),
                }),
        );
        operations.extend(refused);
        let status = if is_started { "started" } else { "failed" };
        Self {
            operations,
            batch_group_id: batch.id.to_string(),
            status: status.to_owned(),
        }
    }
}

impl StackStarted {
    fn refused(stack: String, container: String, error: AppError) -> Self {
        Self {
            stack,
            containers: vec![container],
            operation_id: None,
            status: "failed".to_owned(),
            error: Some(error.to_string()),
        }
    }
}
