use std::time::Duration;

use plimsoll_app::watches::WatchAnswer;
use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
};
use serde_json::json;

use super::{
    Tag,
    error::{ApiError, ErrorOf},
    model::Container,
    operations::plain_caller,
    prefer::Preference,
    raw::RawPayload,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::{context::RequestContext, rate_limit},
};

/// `POST /api/v1/containers/{id}/scan` and `POST /api/v1/containers/scan-all`.
pub struct Scans;

error_set!(pub Scanning = 400, 404);

pub(super) const ONE: rate_limit::Scope = rate_limit::Scope {
    name: "scan",
    max: 30,
    window: Duration::from_secs(60),
};
const ALL: rate_limit::Scope = rate_limit::Scope {
    name: "scan-all",
    max: 1,
    window: Duration::from_secs(60),
};

#[derive(Object)]
pub struct ScanAccepted {
    message: String,
}

#[derive(ApiResponse)]
pub enum ScannedOne {
    /// Scanned: the container as it is now
    #[oai(status = 200)]
    Done(
        RawPayload<Container>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running
    #[oai(status = 202)]
    Accepted(
        Json<ScanAccepted>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ScanCycleAccepted {
    cycle_id: String,
    /// Containers that will be scanned
    scheduled_count: u64,
}

#[derive(ApiResponse)]
pub enum ScannedAll {
    /// Durable and running
    #[oai(status = 202)]
    Accepted(Json<ScanCycleAccepted>),
}

#[OpenApi(prefix_path = "/api/v1")]
impl Scans {
    /// Scan a container's image for vulnerabilities
    ///
    /// The image that an update goes to, else the one that runs. At most 30 a minute, and one at a
    /// time on each engine: 429.
    #[oai(
        path = "/containers/:id/scan",
        method = "post",
        operation_id = "scanContainer",
        tag = "Tag::Security"
    )]
    async fn scan(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<ScannedOne, ErrorOf<Scanning>> {
        let preference = Preference::parse(prefer.as_deref());
        let caller = plain_caller(who.principal(), &context);
        limited(&state, ONE).await?;
        let answer = state
            .app
            .scan_container(&id, preference.patience, &caller)
            .await?;
        match answer {
            WatchAnswer::Done { .. } => {}
            WatchAnswer::Running { .. } => {
                let accepted = Json(ScanAccepted {
                    message: "Scan accepted".to_owned(),
                });
                return Ok(ScannedOne::Accepted(accepted, preference.applied()));
            }
            WatchAnswer::Failed { message } => {
                let failed =
                    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Security scan failed");
                return Err(failed.with_details(json!({ "reason": message })).into());
            }
        }
        let entry = state.app.get_container(&id).await?;
        Ok(ScannedOne::Done(
            RawPayload::new(entry.json.clone()),
            preference.applied(),
        ))
    }

    /// Scan every container
    ///
    /// Once a minute. Engines that have a scan under way are left out.
    #[oai(
        path = "/containers/scan-all",
        method = "post",
        operation_id = "scanAllContainers",
        tag = "Tag::Security"
    )]
    async fn scan_all(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<ScannedAll, ErrorOf<Scanning>> {
        let caller = plain_caller(who.principal(), &context);
        limited(&state, ALL).await?;
        let cycle = state.app.scan_all(&caller).await?;
        Ok(ScannedAll::Accepted(Json(ScanCycleAccepted {
            cycle_id: cycle.id.to_string(),
            scheduled_count: cycle.scheduled as u64,
        })))
    }
}

/// One bucket for the installation: what is scarce is the scanner.
pub(super) async fn limited(state: &ApiState, scope: rate_limit::Scope) -> Result<(), ApiError> {
    match state.limiter.take(scope, "all").await {
        Some(verdict) if !verdict.allowed => Err(verdict.refusal()),
        _ => Ok(()),
    }
}
