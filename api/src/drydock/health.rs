use poem::{Response, http::StatusCode};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};

use super::{Tag, error::ErrorBody};
use crate::{ApiState, Health as Observed};

pub const OPERATION: &str = "getHealth";
const REASON: &str = "The database is not available";

/// `GET /health`.
pub struct Health;

/// How this replica is.
#[derive(Object)]
pub struct HealthView {
    /// Seconds since this process started.
    uptime: f64,
    /// What is away without which everything still works, only slower.
    #[oai(skip_serializing_if_is_none)]
    degraded: Option<Vec<String>>,
}

#[derive(ApiResponse)]
enum Answer {
    #[oai(status = 200)]
    Serving(Json<HealthView>),
    /// The database is not available
    #[oai(status = 503)]
    NotServing(Json<ErrorBody>, #[oai(header = "Retry-After")] u32),
}

#[OpenApi]
impl Health {
    /// Tell whether this replica can serve
    ///
    /// 503 while Postgres does not answer. Observed at most once a second; needs no credential and
    /// counts for no limit.
    #[oai(
        path = "/health",
        method = "get",
        operation_id = "getHealth",
        tag = "Tag::Health"
    )]
    async fn get(&self, state: ApiState) -> Answer {
        match state.health.observe().await {
            Observed::Unavailable => Answer::NotServing(
                Json(ErrorBody {
                    error: REASON.to_owned(),
                    details: None,
                }),
                1,
            ),
            health => Answer::Serving(Json(HealthView {
                uptime: state.started.elapsed().as_secs_f64(),
                degraded: (health == Observed::Degraded).then(|| vec!["redis".to_owned()]),
            })),
        }
    }
}

/// The same answer without the router and the value tree: probes and load balancers ask often.
pub async fn respond(state: &ApiState) -> Response {
    let uptime = state.started.elapsed().as_secs_f64();
    let builder = Response::builder().content_type("application/json; charset=utf-8");
    match state.health.observe().await {
        Observed::Healthy => builder.body(format!(r#"{{"uptime":{uptime}}}"#)),
        Observed::Degraded => {
            builder.body(format!(r#"{{"uptime":{uptime},"degraded":["redis"]}}"#))
        }
        Observed::Unavailable => builder
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header("retry-after", "1")
            .body(format!(r#"{{"error":"{REASON}"}}"#)),
    }
}
