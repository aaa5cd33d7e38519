use poem_openapi::{OpenApi, param::Path, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    error::{Changes, ErrorOf},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/preview`.
pub struct Previews;

#[OpenApi(prefix_path = "/api/v1")]
impl Previews {
    /// Show what an update would change, without doing it
    ///
    /// Each field of the new container with where its value comes from: the user, the old image or
    /// the new one.
    #[oai(
        path = "/containers/:id/preview",
        method = "post",
        operation_id = "previewContainerUpdate",
        tag = "Tag::Containers"
    )]
    async fn preview(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<Any<Value>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        Ok(Json(Any(state.app.preview_update(&id, &caller).await?)))
    }
}
