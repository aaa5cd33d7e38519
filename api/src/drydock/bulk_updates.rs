use plimsoll_app::bulk_updates::{Accepted, Rejected};
use poem_openapi::{Object, OpenApi, param::Header, payload::Json, registry::MetaSchema};

use super::{
    Tag,
    body::RequiredJson,
    described::{Body, Description, IdempotencyKey, Text, closed, text},
    error::{ApiError, ErrorOf},
    operations::caller,
    watches::{container_ids, ids_schema},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/update`.
pub struct BulkUpdates;

error_set!(
    /// Updating many.
    pub UpdatingMany = 400, 404, 409, 413, 415, 422
);

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UpdatesAccepted {
    message: String,
    accepted: Vec<UpdateAccepted>,
    rejected: Vec<UpdateRejected>,
}

/// Durable; follow it at `/api/v1/update-operations/{operationId}`.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UpdateAccepted {
    container_id: String,
    container_name: String,
    operation_id: String,
}

/// What `POST /containers/{id}/update` would have answered.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UpdateRejected {
    container_id: String,
    /// Empty for a container that is not known.
    container_name: String,
    status_code: u16,
    message: String,
}

impl From<Accepted> for UpdateAccepted {
    fn from(accepted: Accepted) -> Self {
        Self {
            container_id: accepted.container,
            container_name: accepted.container_name,
            operation_id: accepted.operation.to_string(),
        }
    }
}

impl From<Rejected> for UpdateRejected {
    fn from(rejected: Rejected) -> Self {
        let refusal = ApiError::from(rejected.error);
        Self {
            container_id: rejected.container,
            container_name: rejected.container_name,
            status_code: refusal.status.as_u16(),
            message: refusal.message.into_owned(),
        }
    }
}

/// `{containerIds}`.
enum ManyContainers {}

impl Description for ManyContainers {
    const NAME: Option<&'static str> = Some("UpdateContainersRequest");

    fn schema() -> MetaSchema {
        let mut schema = closed(vec![("containerIds", ids_schema())]);
        schema.required = vec!["containerIds"];
        schema
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl BulkUpdates {
    /// Update several containers
    ///
    /// The body is `{"containerIds": [1 to 200 ids]}`. Does not wait: each accepted update is an
    /// operation of its own, and what is refused keeps none of the others from it.
    #[oai(
        path = "/containers/update",
        method = "post",
        operation_id = "updateContainers",
        tag = "Tag::Containers"
    )]
    async fn update(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        /// Repeating a request with the same key names the same operations, and makes no others
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
        body: RequiredJson<Body<ManyContainers>>,
    ) -> Result<Json<UpdatesAccepted>, ErrorOf<UpdatingMany>> {
        let ids = container_ids(body.0.map(|body| body.0))?.ok_or_else(|| {
            ApiError::bad_request("containerIds must be an array of non-empty strings")
        })?;
        let target = "POST /containers/update";
        let caller = caller(
            who.principal(),
            &context,
            text(&key.0),
            target,
            &ids.join(","),
        )?;
        let bulk = state.app.request_updates(&ids, &caller).await?;
        let (accepted, rejected) = (bulk.accepted.len(), bulk.rejected.len());
        Ok(Json(UpdatesAccepted {
            message: format!("{accepted} container updates accepted, {rejected} rejected"),
            accepted: bulk.accepted.into_iter().map(Into::into).collect(),
            rejected: bulk.rejected.into_iter().map(Into::into).collect(),
        }))
    }
}
