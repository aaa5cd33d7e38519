use plimsoll_app::{
    outcomes::Outcome,
    updates::{UpdateOrigin, WantedUpdate},
};
use plimsoll_domain::{compose::FileUse, ids::OperationId};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
};

use super::{
    Tag,
    described::{IdempotencyKey, Text, text},
    error::{ApiError, ErrorOf},
    model::Container,
    operations::{AcceptedHeaders, OperationAccepted, caller, failed},
    prefer::Preference,
    raw::Shown,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices, error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/update`.
pub struct Updates;

choices!(pub ComposeFileUse as "ComposeFileUse" = "edit");

error_set!(pub Updating = 400, 404, 409, 415, 422);

/// A finished update.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerUpdated {
    message: String,
    /// The container that runs now; `null` where it is gone again.
    #[oai(nullable)]
    result: Option<Shown<Container>>,
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
    #[allow(clippy::too_many_arguments)]
    async fn update(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `edit` writes the new image into the Compose file that the container came from, once it
        /// has proved itself, whatever trigger updates it: what no trigger need be configured for.
        /// Where the file must not be edited, nothing is touched and the operation fails with the
        /// reason. Without it the trigger decides.
        #[oai(name = "composeFile")]
        compose_file: Query<Option<Text<ComposeFileUse>>>,
        /// The script that checks this update, instead of the container's own; inside of the
        /// directory of scripts.
        script: Query<Option<String>>,
        /// A tag to go to, instead of the candidate.
        version: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<UpdateAnswer, ErrorOf<Updating>> {
        let preference = Preference::parse(prefer.as_deref());
        let target = format!("POST /containers/{}/update", id.0);
        let file = text(&compose_file.0);
        let script = script.0.as_deref();
        let version = version.0.as_deref();
        let asked = [file, script, version].map(Option::unwrap_or_default);
        let asked = asked.join(" ");
        let caller = caller(
            who.principal(),
            &context,
            text(&key.0),
            &target,
            asked.trim(),
        )?;
        let app = &state.app;
        let wanted = WantedUpdate {
            version,
            script,
            compose_file: file_use(&compose_file.0)?,
        };
        let operation = app
            .request_update(&id, UpdateOrigin::Container, wanted, &caller)
            .await?;
        Ok(update_answer(&state, operation, &preference).await?)
    }
}

/// What `composeFile` asks for.
pub(super) fn file_use(
    parameter: &Option<Text<ComposeFileUse>>,
) -> Result<Option<FileUse>, ApiError> {
    match text(parameter) {
        None => Ok(None),
        Some("edit") => Ok(Some(FileUse::Edit)),
        Some(_) => Err(ApiError::bad_request("composeFile must be edit")),
    }
}

/// What a request for an update is told.
pub(super) async fn update_answer(
    state: &ApiState,
    operation: OperationId,
    preference: &Preference,
) -> Result<UpdateAnswer, ApiError> {
    match state.outcome(operation, preference.patience).await? {
        Outcome::Succeeded { container, .. } => Ok(UpdateAnswer::Done(
            Json(ContainerUpdated {
                message: "Container updated successfully".to_owned(),
                result: container.map(|c| Shown::new(c.to_value())),
                operation_id: operation.to_string(),
            }),
            preference.applied(),
        )),
        Outcome::Ended(operation) => Err(failed("Error updating container", &operation)),
        Outcome::Running => {
            let headers = AcceptedHeaders::of(operation, preference);
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
