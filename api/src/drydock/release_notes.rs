use plimsoll_app::release_notes::ReleaseNotes as Notes;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

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

/// `GET /api/v1/containers/{id}/release-notes`.
pub struct ReleaseNotes;

/// What the makers of an image say about a release. Text of strangers: show it as text.
#[derive(Object)]
#[oai(rename = "ReleaseNotes", rename_all = "camelCase")]
pub struct ReleaseNotesView {
    title: String,
    /// Markdown, at most 64 KiB
    body: String,
    url: String,
    #[oai(skip_serializing_if_is_none)]
    published_at: Option<String>,
    /// `github`
    provider: String,
}

impl From<Notes> for ReleaseNotesView {
    fn from(notes: Notes) -> Self {
        Self {
            title: notes.title,
            body: notes.body,
            url: notes.url,
            published_at: notes.published_at,
            provider: notes.provider,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl ReleaseNotes {
    /// Get the release notes of a container's available update
    ///
    /// From the GitHub releases of the image's source. 404 where there are none.
    #[oai(
        path = "/containers/:id/release-notes",
        method = "get",
        operation_id = "getContainerReleaseNotes",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<ReleaseNotesView>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        Ok(Json(state.app.release_notes(&id, &caller).await?.into()))
    }
}
