use poem::http::Uri;
use poem_openapi::{
    OpenApi,
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

/// `GET /api/v1/registries` and what is below it.
pub struct Registries;

#[OpenApi(prefix_path = "/api/v1")]
impl Registries {
    /// List registries
    ///
    /// By type, then name.
    #[oai(
        path = "/registries",
        method = "get",
        operation_id = "listRegistries",
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
        let all = state.app.registries().await?;
        let total = all.len() as u64;
        let data = page.slice(&all).iter().cloned().map(ComponentView::from);
        let query = uri.query().unwrap_or("");
        let data = data.collect();
        Ok(Json(List::of(
            page,
            data,
            total,
            "/api/v1/registries",
            query,
        )))
    }

    /// Get a registry
    #[oai(
        path = "/registries/:type/:name",
        method = "get",
        operation_id = "getRegistry",
        tag = "Tag::Components"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
    ) -> Result<Json<ComponentView>, ErrorOf<ReadsOne>> {
        let all = state.app.registries().await?;
        Ok(Json(find(all, |c| c, (&type_.0, &name.0, None))?))
    }

    /// Get a registry of an agent
    #[oai(
        path = "/registries/:type/:name/:agent",
        method = "get",
        operation_id = "getAgentRegistry",
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
        let all = state.app.registries().await?;
        Ok(Json(find(all, |c| c, (&type_.0, &name.0, Some(&agent.0)))?))
    }
}
