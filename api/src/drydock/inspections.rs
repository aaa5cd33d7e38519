use poem_openapi::{OpenApi, param::Path, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    error::{ErrorOf, ReadsOne},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `GET /api/v1/containers/{id}/inspect`.
pub struct Inspections;

#[OpenApi(prefix_path = "/api/v1")]
impl Inspections {
    /// Inspect a container
    ///
    /// In its engine's own words, as they are at the moment. Values of variables that look secret
    /// are `***`.
    #[oai(
        path = "/containers/:id/inspect",
        method = "get",
        operation_id = "inspectContainer",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<Any<Value>>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        Ok(Json(Any(state.app.inspect_container(&id, &caller).await?)))
    }
}
