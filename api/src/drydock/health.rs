use poem::{Response, http::StatusCode};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};

use super::Tag;
use crate::{ApiState, Health as Observed};

pub const OPERATION: &str = "getHealth";
const REASON: &str = "The database is not available";
const STARTING: &str = "The accounts are not ready: the database's schema is missing or locked";

/// `GET /health`.
pub struct Health;

/// How this replica is.
#[derive(Object)]
#[oai(rename = "Health")]
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
    /// The database is not available, or nobody can sign in yet
    #[oai(status = 503)]
    NotServing(Json<NotServingView>, #[oai(header = "Retry-After")] u32),
}

/// Why this replica does not serve.
#[derive(Object)]
#[oai(rename = "NotServing", skip_serializing_if_is_none)]
struct NotServingView {
    error: String,
    /// `starting`, until people can sign in for the first time.
    status: Option<String>,
    /// What it waits for while it is starting.
    reason: Option<String>,
}

#[OpenApi]
impl Health {
    /// Tell whether this replica can serve
    ///
    /// 503 while Postgres does not answer or nobody can sign in yet. Observed at most once a second; needs no credential and
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
                Json(NotServingView {
                    error: REASON.to_owned(),
                    status: None,
                    reason: None,
                }),
                1,
            ),
            Observed::Starting => Answer::NotServing(
                Json(NotServingView {
                    error: STARTING.to_owned(),
                    status: Some("starting".to_owned()),
                    reason: Some(STARTING.to_owned()),
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
        Observed::Starting => builder
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header("retry-after", "1")
            .body(format!(
                r#"{{"error":"{STARTING}","status":"starting","reason":"{STARTING}"}}"#
            )),
    }
}
