use plimsoll_app::registry_tags::MOST_TAGS;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};

use super::{
    Tag,
    described::Text,
    error::ErrorOf,
    operations::plain_caller,
    page::{Page, PageNumber},
    stacks::engines,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
    words,
};

/// `GET /api/v1/registry-tags`.
pub struct RegistryTags;

error_set!(pub ReadsRegistry = 400, 404, 502);
words!(ImageName = 1..=512, "^[!-~]+$");

/// Some of the tags that a repository has, in its registry's order.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct TagList {
    /// Registry and repository
    repository: String,
    data: Vec<String>,
    /// How many there are
    total: u64,
    limit: u64,
    offset: u64,
    has_more: bool,
    /// Whether the registry has told all of them
    complete: bool,
}

#[OpenApi(prefix_path = "/api/v1")]
impl RegistryTags {
    /// List the tags of a repository
    ///
    /// Of any, whether a container runs it or not; asked through a worker, and not more often than
    /// every ten minutes. Registries that neither the settings nor a container name are asked on
    /// public addresses only. 404 for one that the registry does not have, or does not show.
    #[oai(
        path = "/registry-tags",
        method = "get",
        operation_id = "listRegistryTags",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        /// As Docker writes it: `nginx`, `ghcr.io/linuxserver/plex`. A tag or digest does not matter.
        image: Query<Text<ImageName>>,
        /// The engine whose worker asks.
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all, up to 10,000.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<TagList>, ErrorOf<ReadsRegistry>> {
        let page = Page::all(limit.0, offset.0);
        let caller = plain_caller(who.principal(), &context);
        let most = match page.limit {
            0 => MOST_TAGS,
            limit => limit as usize,
        };
        let engines = engines(watcher.0, agent.0);
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let app = &state.app;
        let found = app.registry_tags(&image.0.0, offset, most, &engines, &caller);
        let found = found.await?;
        let total = found.total as u64;
        Ok(Json(TagList {
            has_more: page.has_more(found.tags.len() as u64, total),
            repository: found.repository,
            data: found.tags,
            total,
            limit: page.limit,
            offset: page.offset,
            complete: found.complete,
        }))
    }
}
