use poem_openapi::{OpenApi, param::Path, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    body::LenientJson,
    error::{Changes, ErrorOf},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `PATCH /api/v1/containers/{id}/update-policy`.
pub struct UpdatePolicies;

#[OpenApi(prefix_path = "/api/v1")]
impl UpdatePolicies {
    /// Skip, snooze or hold back a container's updates
    ///
    /// `action` is one of `skip-current`, `remove-skip` (with `kind` and `value`), `clear-skips`,
    /// `snooze` (with `days` or `snoozeUntil`), `unsnooze`, `clear`, `set-maturity-policy` (with
    /// `mode` and `minAgeDays`) and `clear-maturity-policy`.
    #[oai(
        path = "/containers/:id/update-policy",
        method = "patch",
        operation_id = "updateContainerPolicy",
        tag = "Tag::Containers"
    )]
    async fn change(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: LenientJson<Any<Value>>,
    ) -> Result<Json<Any<Value>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let body = body.0.map_or(Value::Null, |body| body.0);
        let entry = state.app.change_update_policy(&id, &body, &caller).await?;
        Ok(Json(Any(entry.to_value())))
    }
}
