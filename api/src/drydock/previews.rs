use poem_openapi::{Object, OpenApi, param::Path, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    error::{Changes, ErrorOf},
    model::UpdateKind,
    operations::plain_caller,
    raw::Shown,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/preview`.
pub struct Previews;

/// What an update would do. The worker writes it (`worker/src/live/preview.rs`).
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct UpdatePreview {
    container_name: String,
    /// The reference that the container was made of.
    current_image: String,
    new_image: String,
    update_kind: UpdateKind,
    is_running: bool,
    networks: Vec<String>,
    fields: Vec<PreviewedField>,
    /// What cannot be kept as it is, for people.
    warnings: Vec<String>,
}

/// A field of the container. Secrets are `[REDACTED]`.
#[derive(Object)]
struct PreviewedField {
    /// Such as `Env.PATH` or `HostConfig.Memory`.
    path: String,
    /// `null` where there is none.
    old: Any<Value>,
    new: Any<Value>,
    /// Whose the new value is: the user's, the old image's or the new one's.
    source: String,
    changed: bool,
}

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
    ) -> Result<Json<Shown<UpdatePreview>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let preview = state.app.preview_update(&id, &caller).await?;
        Ok(Json(Shown::new(preview)))
    }
}
