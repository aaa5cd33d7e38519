use poem::http::Uri;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    components::{ComponentView, find},
    error::{ErrorOf, Reads, ReadsOne},
    page::{List, Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/triggers` and what is below it, and `/api/v1/containers/{id}/triggers`.
pub struct Triggers;

#[derive(Object)]
#[oai(rename = "ContainerTriggerList")]
struct TriggerList {
    data: Vec<ComponentView>,
    total: u64,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Triggers {
    /// List triggers
    ///
    /// By type, then name.
    #[oai(
        path = "/triggers",
        method = "get",
        operation_id = "listTriggers",
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
        let all = state.app.triggers().await?;
        let total = all.len() as u64;
        let data = page.slice(&all).iter().cloned().map(ComponentView::from);
        let query = uri.query().unwrap_or("");
        let data = data.collect();
        Ok(Json(List::of(page, data, total, "/api/v1/triggers", query)))
    }

    /// Get a trigger
    #[oai(
        path = "/triggers/:type/:name",
        method = "get",
        operation_id = "getTrigger",
        tag = "Tag::Components"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
    ) -> Result<Json<ComponentView>, ErrorOf<ReadsOne>> {
        let all = state.app.triggers().await?;
        Ok(Json(find(all, |c| c, (&type_.0, &name.0, None))?))
    }

    /// Get a trigger of an agent
    #[oai(
        path = "/triggers/:type/:name/:agent",
        method = "get",
        operation_id = "getAgentTrigger",
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
        let all = state.app.triggers().await?;
        Ok(Json(find(all, |c| c, (&type_.0, &name.0, Some(&agent.0)))?))
    }

    /// List the triggers of a container
    ///
    /// Those of its agent that its labels let through.
    #[oai(
        path = "/containers/:id/triggers",
        method = "get",
        operation_id = "listContainerTriggers",
        tag = "Tag::Containers"
    )]
    async fn of_container(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<TriggerList>, ErrorOf<ReadsOne>> {
        let triggers = state.app.triggers_of(&id.0).await?;
        let data: Vec<_> = triggers.into_iter().map(ComponentView::from).collect();
        let total = data.len() as u64;
        Ok(Json(TriggerList { data, total }))
    }
}
