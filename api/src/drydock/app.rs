use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::{
    VERSION,
    auth::{Authorized, perm},
};

/// `GET /api/v1/app`.
pub struct Application;

/// What is running.
#[derive(Object)]
#[oai(rename = "App")]
pub struct AppView {
    /// Always `drydock`: clients of the contract check it.
    name: String,
    version: String,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Application {
    /// Get the application's name and version
    #[oai(
        path = "/app",
        method = "get",
        operation_id = "getApp",
        tag = "Tag::App"
    )]
    async fn get(&self, _who: Authorized<perm::SignedIn>) -> Result<Json<AppView>, ErrorOf<Reads>> {
        Ok(Json(AppView {
            name: "drydock".to_owned(),
            version: VERSION.to_owned(),
        }))
    }
}
