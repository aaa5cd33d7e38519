use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/store` (reference/drydock.md 1.4).
pub struct DataStore;

#[derive(Object)]
#[oai(rename = "Store")]
struct StoreView {
    configuration: StoreConfiguration,
}

/// Where the data is. The contract's names come from a store that was a file.
#[derive(Object)]
struct StoreConfiguration {
    /// The database server: `postgresql://host:port`, or its socket's directory.
    path: String,
    /// The database's name.
    file: String,
}

#[OpenApi(prefix_path = "/api/v1")]
impl DataStore {
    /// Get where the data is kept
    #[oai(
        path = "/store",
        method = "get",
        operation_id = "getStore",
        tag = "Tag::App"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<StoreView>, ErrorOf<Reads>> {
        let place = state.app.store().place();
        Ok(Json(StoreView {
            configuration: StoreConfiguration {
                path: place.server,
                file: place.database,
            },
        }))
    }
}
