use plimsoll_app::{outcomes::Outcome, updates::UpdateOrigin};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
    types::Any,
};
use serde_json::Value;

use super::{
    Tag,
    described::{IdempotencyKey, Text, text},
    error::ErrorOf,
    operations::{AcceptedHeaders, OperationAccepted, caller, failed},
    prefer::Preference,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/update`.
pub struct Updates;

error_set!(pub Updating = 400, 404, 409, 415, 422);

/// A finished update.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerUpdated {
    message: String,
    /// The container that runs now.
    result: Any<Value>,
    operation_id: String,
}

#[derive(ApiResponse)]
pub enum UpdateAnswer {
    /// Observed: the new image runs, stable and healthy
    #[oai(status = 200)]
    Done(
        Json<ContainerUpdated>,
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
impl Updates {
    /// Update a container to the candidate that the last watch found
    ///
    /// Waits up to 60 seconds for the end, or as long as `Prefer: wait=N` says; then, or at once
    /// with `Prefer: respond-async`, the answer is 202. A bad image is rolled back and answered
    /// with 500 and the reason.
    #[oai(
        path = "/containers/:id/update",
        method = "post",
        operation_id = "updateContainer",
        tag = "Tag::Containers"
    )]
    async fn update(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<UpdateAnswer, ErrorOf<Updating>> {
        let preference = Preference::parse(prefer.as_deref());
        let target = format!("POST /containers/{}/update", id.0);
        let caller = caller(who.principal(), &context, text(&key.0), &target, "")?;
        let operation = state
            .app
            .request_update(&id, UpdateOrigin::Container, &caller)
            .await?;
        match state.app.outcome(operation, preference.patience).await? {
            Outcome::Succeeded { container, .. } => Ok(UpdateAnswer::Done(
                Json(ContainerUpdated {
                    message: "Container updated successfully".to_owned(),
                    result: Any(container.map_or(Value::Null, |c| c.to_value())),
                    operation_id: operation.to_string(),
                }),
                preference.applied(),
            )),
            Outcome::Ended(operation) => Err(failed("Error updating container", &operation).into()),
            Outcome::Running => {
                let headers = AcceptedHeaders::of(operation, &preference);
                Ok(UpdateAnswer::Accepted(
                    Json(OperationAccepted {
                        message: "Container update accepted".to_owned(),
                        operation_id: operation.to_string(),
                    }),
                    headers.location,
                    headers.preference_applied,
                ))
            }
        }
    }
}
