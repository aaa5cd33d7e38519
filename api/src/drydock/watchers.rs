use plimsoll_app::watchers::{Counts, WatcherView};
use poem::http::Uri;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    components::{ComponentView, Metadata, find},
    error::{ErrorOf, Reads, ReadsOne},
    instant::Instant,
    page::{List, Page, PageNumber},
    summary::ContainerCounts,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/watchers` and what is below it.
pub struct Watchers;

#[OpenApi(prefix_path = "/api/v1")]
impl Watchers {
    /// List watchers
    ///
    /// By type, then name.
    #[oai(
        path = "/watchers",
        method = "get",
        operation_id = "listWatchers",
        tag = "Tag::Components"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        uri: &Uri,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<ComponentView>>, ErrorOf<Reads>> {
        let page = Page::all(limit.0, offset.0);
        let all = state.app.watchers().await?;
        let total = all.len() as u64;
        let data = page.slice(&all).iter().cloned().map(ComponentView::from);
        let query = uri.query().unwrap_or("");
        let data = data.collect();
        Ok(Json(List::of(page, data, total, "/api/v1/watchers", query)))
    }

    /// Get a watcher
    #[oai(
        path = "/watchers/:type/:name",
        method = "get",
        operation_id = "getWatcher",
        tag = "Tag::Components"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
    ) -> Result<Json<ComponentView>, ErrorOf<ReadsOne>> {
        let all = state.app.watchers().await?;
        Ok(Json(find(
            all,
            |w| &w.component,
            (&type_.0, &name.0, None),
        )?))
    }

    /// Get a watcher of an agent
    #[oai(
        path = "/watchers/:type/:name/:agent",
        method = "get",
        operation_id = "getAgentWatcher",
        tag = "Tag::Components"
    )]
    async fn get_of_agent(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
        agent: Path<String>,
    ) -> Result<Json<ComponentView>, ErrorOf<ReadsOne>> {
        let all = state.app.watchers().await?;
        Ok(Json(find(
            all,
            |w| &w.component,
            (&type_.0, &name.0, Some(&agent.0)),
        )?))
    }
}

impl From<WatcherView> for ComponentView {
    fn from(watcher: WatcherView) -> Self {
        let metadata = Metadata {
            connected: watcher.connected,
            error: watcher.last_error,
            last_run_at: watcher.last_run_at.map(Instant),
            next_run_at: watcher.next_run_at.map(Instant),
            containers: watcher.counts.into(),
            images: watcher.counts.images as u64,
        };
        Self {
            metadata: Some(metadata),
            ..watcher.component.into()
        }
    }
}

impl From<Counts> for ContainerCounts {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total as u64,
            running: counts.running as u64,
            stopped: counts.stopped() as u64,
            updates_available: counts.updates_available as u64,
        }
    }
}
