//! `POST /api/fix-compose-mismatch/{name}` (contract/docksmith-api.md).

use plimsoll_app::names::named;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{
    Tag,
    envelope::{self, Envelope},
    error::{Changes, ErrorOf, WordedErrorBody},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::operations::caller,
    middleware::context::RequestContext,
};

pub struct ComposeMismatches;

#[derive(Object)]
struct FixStarted {
    operation_id: String,
    container_name: String,
    /// `started`
    status: String,
    message: String,
}

#[OpenApi(prefix_path = "/api")]
impl ComposeMismatches {
    /// Make a container run what its Compose file says
    ///
    /// Pulls the image that the file names and makes the container again from it. Does not wait. A
    /// service that is built has no image to go to: 500 with the reason.
    #[oai(
        path = "/fix-compose-mismatch/:name",
        method = "post",
        operation_id = "fixComposeMismatch",
        tag = "Tag::Updates"
    )]
    async fn fix(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
    ) -> Result<Json<Envelope<FixStarted>>, ErrorOf<Changes, WordedErrorBody>> {
        let entry = named(&who.snapshot().inventory, &name)?;
        let caller = caller(who.principal(), &context, None, "", "")?;
        let operation = state.app.request_compose_fix(entry.id(), &caller).await?;
        let container = &entry.state.facts.name;
        Ok(envelope::ok(FixStarted {
            operation_id: operation.to_string(),
            container_name: container.clone(),
            status: "started".to_owned(),
            message: format!("Fixing compose mismatch of {container}"),
        }))
    }
}
