use plimsoll_app::registry_tags::MOST_TAGS;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{
    Tag, envelope,
    envelope::Envelope,
    error::{ErrorOf, ReadsOne},
    explorer::local,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::operations::plain_caller,
    middleware::context::RequestContext,
};

/// `GET /api/registry/tags/{image}`.
pub struct RegistryTags;

#[derive(Object)]
struct TagsData {
    /// As it was asked for
    image_ref: String,
    /// In the registry's order, at most 10,000
    tags: Vec<String>,
    /// How many there are
    count: u64,
}

#[OpenApi(prefix_path = "/api")]
impl RegistryTags {
    /// Get the tags of an image
    ///
    /// As Docker writes it, slashes included: `ghcr.io/linuxserver/plex`.
    #[oai(
        path = "/registry/tags/:image",
        method = "get",
        operation_id = "getRegistryTags",
        tag = "Tag::Registry"
    )]
    async fn tags(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        image: Path<String>,
    ) -> Result<Json<Envelope<TagsData>>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        let engines = local(None);
        let found = state
            .app
            .registry_tags(&image.0, 0, MOST_TAGS, &engines, &caller);
        let found = found.await?;
        Ok(envelope::ok(TagsData {
            image_ref: image.0,
            count: found.total as u64,
            tags: found.tags,
        }))
    }
}
