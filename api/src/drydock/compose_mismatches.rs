//! Containers that run another image than their Compose file names.

use poem_openapi::{
    OpenApi,
    param::{Header, Path},
};

use super::{
    Tag,
    described::{IdempotencyKey, Text, text},
    error::ErrorOf,
    operations::caller,
    prefer::Preference,
    updates::{UpdateAnswer, update_answer},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/fix-compose-mismatch`.
pub struct ComposeMismatches;

error_set!(pub FixingMismatch = 400, 404, 409, 415, 422);

#[OpenApi(prefix_path = "/api/v1")]
impl ComposeMismatches {
    /// Make a container run what its Compose file says
    ///
    /// Pulls the image and makes the container again from it, with the health gate and the way back
    /// of any update; the file stays as it is. A service that is built and has no image cannot be
    /// fixed in this way and is 500 with the reason. Answers as an update does.
    #[oai(
        path = "/containers/:id/fix-compose-mismatch",
        method = "post",
        operation_id = "fixComposeMismatch",
        tag = "Tag::Containers"
    )]
    async fn fix(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<UpdateAnswer, ErrorOf<FixingMismatch>> {
        let preference = Preference::parse(prefer.as_deref());
        let target = format!("POST /containers/{}/fix-compose-mismatch", id.0);
        let caller = caller(who.principal(), &context, text(&key.0), &target, "")?;
        let operation = state.app.request_compose_fix(&id, &caller).await?;
        Ok(update_answer(&state, operation, &preference).await?)
    }
}
