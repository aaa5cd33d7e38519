use poem_openapi::{OpenApi, types::Any};
use serde_json::Value;

use super::{
    Tag,
    error::{ErrorOf, Public},
};
use crate::drydock::raw::RawPayload;

/// `GET /api/openapi.json`.
pub struct Document;

/// The committed document: a test fails when it is not what the handlers say.
pub const COMMITTED: &str = include_str!("../../../openapi/docksmith.json");

#[OpenApi(prefix_path = "/api")]
impl Document {
    /// Get this document
    #[oai(
        path = "/openapi.json",
        method = "get",
        operation_id = "getOpenApiDocument",
        tag = "Tag::System"
    )]
    async fn get(&self) -> Result<RawPayload<Any<Value>>, ErrorOf<Public>> {
        Ok(RawPayload::new(COMMITTED.into()))
    }
}
