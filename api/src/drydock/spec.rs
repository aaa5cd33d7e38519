use poem_openapi::{OpenApi, types::Any};
use serde_json::Value;

use super::{
    Tag,
    error::{ErrorOf, Public},
    raw::RawJson,
};

/// `GET /api/v1/openapi.json`.
pub struct Document;

/// The committed document: a test fails when it is not what the handlers say.
pub const COMMITTED: &str = include_str!("../../../openapi/drydock.json");

#[OpenApi(prefix_path = "/api/v1")]
impl Document {
    /// Get this document
    ///
    /// OpenAPI 3.1.0. Interactive documentation is at `/api/v1/docs`.
    #[oai(
        path = "/openapi.json",
        method = "get",
        operation_id = "getOpenApiDocument",
        tag = "Tag::App"
    )]
    async fn get(&self) -> Result<RawJson<Any<Value>>, ErrorOf<Public>> {
        Ok(RawJson::new(COMMITTED).with_cache_control("max-age=300"))
    }
}
