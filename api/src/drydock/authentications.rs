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

/// `GET /api/v1/authentications` and what is below it.
pub struct Authentications;

#[OpenApi(prefix_path = "/api/v1")]
impl Authentications {
    /// List authentications
    ///
    /// The ways to sign in as configured, without their secrets. By type, then name.
    #[oai(
        path = "/authentications",
        method = "get",
        operation_id = "listAuthentications",
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
        let all = state.app.authentications();
        let total = all.len() as u64;
        let data = page.slice(&all).iter().cloned().map(ComponentView::from);
        let query = uri.query().unwrap_or("");
        let data = data.collect();
        Ok(Json(List::of(
            page,
            data,
            total,
            "/api/v1/authentications",
            query,
        )))
    }

    /// Get an authentication
    #[oai(
        path = "/authentications/:type/:name",
        method = "get",
        operation_id = "getAuthentication",
        tag = "Tag::Components"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
    ) -> Result<Json<ComponentView>, ErrorOf<ReadsOne>> {
        let all = state.app.authentications();
        Ok(Json(find(all, |c| c, (&type_.0, &name.0, None))?))
    }
}
