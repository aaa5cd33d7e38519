use poem_openapi::{ApiResponse, OpenApi, param::Path};

use super::{
    Tag,
    confirm::{Confirmed, ContainerDelete},
    error::ErrorOf,
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `DELETE /api/v1/containers/{id}`.
pub struct Deletions;

error_set!(pub Deleting = 404, 428);

#[derive(ApiResponse)]
pub enum Forgotten {
    /// Forgotten. The container on the host is untouched; it is shown again once it is re-created
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Deletions {
    /// Forget a container
    #[oai(
        path = "/containers/:id",
        method = "delete",
        operation_id = "deleteContainer",
        tag = "Tag::Containers"
    )]
    async fn delete(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ContainerDelete>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Forgotten, ErrorOf<Deleting>> {
        let caller = plain_caller(who.principal(), &context);
        state.app.forget_container(&id, &caller).await?;
        Ok(Forgotten::Done)
    }
}
