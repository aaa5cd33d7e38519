//! The error contract: `{"error": string, "details"?: object}` for everything that is not a
//! success (contract/drydock-app-api.md, "Error Contract"; reference/drydock.md 1.1).

use std::{borrow::Cow, marker::PhantomData, time::Duration};

use plimsoll_app::AppError;
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Any, Type},
};
use serde_json::Value;

use crate::middleware::rate_limit::Verdict;

pub const INVALID_PARAMETERS: &str = "Invalid request parameters";
pub const INTERNAL: &str = "Internal server error";
pub const ROUTE_NOT_FOUND: &str = "Route not found";
pub const JSON_REQUIRED: &str = "Content-Type must be application/json";

/// The body of every answer that is not a success.
#[derive(Object)]
#[oai(rename = "Error")]
pub struct ErrorBody {
    /// What went wrong, for people.
    pub error: String,
    /// Context, where there is more to say.
    #[oai(skip_serializing_if_is_none)]
    pub details: Option<Any<Value>>,
}

/// One refusal: what the client hears, and what only the log hears.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: Cow<'static, str>,
    pub details: Option<Value>,
    pub retry_after: Option<Duration>,
    /// The limit that refused the request, where that is not the one of all requests.
    pub limit: Option<Box<Verdict>>,
    /// For the log.
    cause: Option<String>,
}

/// Why a request failed, kept with its response until it is logged, once.
#[derive(Clone, Debug)]
pub struct Cause(pub String);

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            details: None,
            retry_after: None,
            limit: None,
            cause: None,
        }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// A defect of ours: the client hears a constant, the log hears why.
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL);
        error.cause = Some(cause.into());
        error
    }

    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Invalid(m) => Self::new(StatusCode::BAD_REQUEST, m),
            AppError::Unauthenticated(m) => Self::new(StatusCode::UNAUTHORIZED, m),
            AppError::Forbidden(m) => Self::new(StatusCode::FORBIDDEN, m),
            AppError::NotFound(m) => Self::new(StatusCode::NOT_FOUND, m),
            AppError::Conflict { message, details } => Self {
                details,
                ..Self::new(StatusCode::CONFLICT, message)
            },
            AppError::Unprocessable(m) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, m),
            AppError::Locked {
                message,
                retry_after,
            } => Self::new(StatusCode::LOCKED, message).with_retry_after(retry_after),
            AppError::TooManyRequests {
                message,
                retry_after,
            } => Self::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(retry_after),
            AppError::TooLarge(m) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, m),
            AppError::Failed(m) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, m),
            AppError::Upstream(m) => Self::new(StatusCode::BAD_GATEWAY, m),
            AppError::Unavailable {
                message,
                retry_after,
            } => Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_retry_after(retry_after),
            AppError::Internal(cause) => Self::internal(cause),
            AppError::Retry => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is busy; try again",
            )
            .with_retry_after(Duration::from_secs(1)),
        }
    }
}

impl IntoResponse for ApiError {
    /// In this dialect's form. The refusal stays with the response, for the edge to put it into
    /// the form of another one.
    fn into_response(self) -> Response {
        let kept = self.clone();
        let mut body = serde_json::Map::new();
        body.insert("error".to_owned(), Value::from(self.message.into_owned()));
        if let Some(details) = self.details {
            body.insert("details".to_owned(), details);
        }
        let mut response = Response::builder()
            .status(self.status)
            .content_type("application/json; charset=utf-8")
            .body(Value::Object(body).to_string());
        response.set_data(kept);
        if let Some(after) = self.retry_after {
            // Whole seconds, and never one that has the client come back too early.
            let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(cause) = self.cause {
            response.set_data(Cause(cause));
        }
        response
    }
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        let kept = error.clone();
        let mut failed = poem::Error::from_response(error.into_response());
        // poem puts the data of its error in the place of what the response has.
        if let Some(cause) = kept.cause.clone() {
            failed.set_data(Cause(cause));
        }
        failed.set_data(kept);
        failed
    }
}

/// What a handler fails with: an [`ApiError`], and in its type the statuses that the document
/// names for the operation.
pub struct ErrorOf<S> {
    pub error: ApiError,
    statuses: PhantomData<fn() -> S>,
}

/// A list of documented statuses. Declare one with [`error_set!`](crate::error_set).
pub trait ErrorSet: 'static {
    const STATUSES: &'static [u16];
}

/// `error_set!(pub Deleting = 404, 428);` declares a set for operations that need a principal:
/// 401, 403, 423 (a locked account), 429, 500 and 503 are always in it.
#[macro_export]
macro_rules! error_set {
    ($(#[$doc:meta])* $vis:vis $name:ident = $($status:literal),* $(,)?) => {
        $(#[$doc])*
        $vis enum $name {}
        impl $crate::drydock::error::ErrorSet for $name {
            const STATUSES: &'static [u16] = &[$($status,)* 401, 403, 423, 429, 500, 503];
        }
    };
}

error_set!(
    /// Lists and whole views.
    pub Reads = 400
);
error_set!(
    /// One resource by its id or name.
    pub ReadsOne = 400, 404
);
error_set!(
    /// Changes to one resource.
    pub Changes = 400, 404, 409, 413, 415
);
error_set!(
    /// Changes that need `X-DD-Confirm-Action`.
    pub ConfirmedChanges = 400, 404, 409, 413, 415, 428
);

/// Operations that anyone may call.
pub enum Public {}

impl ErrorSet for Public {
    const STATUSES: &'static [u16] = &[429, 500, 503];
}

impl<S, E: Into<ApiError>> From<E> for ErrorOf<S> {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            statuses: PhantomData,
        }
    }
}

impl<S> From<ErrorOf<S>> for poem::Error {
    fn from(failed: ErrorOf<S>) -> Self {
        failed.error.into()
    }
}

impl<S: ErrorSet> ApiResponse for ErrorOf<S> {
    fn meta() -> MetaResponses {
        let mut statuses = S::STATUSES.to_vec();
        statuses.sort_unstable();
        MetaResponses {
            responses: statuses.into_iter().map(documented).collect(),
        }
    }

    fn register(registry: &mut Registry) {
        ErrorBody::register(registry);
    }
}

fn documented(status: u16) -> MetaResponse {
    let description = match status {
        400 => "The request is wrong; nothing was changed",
        401 => "No valid credential",
        403 => "Not permitted, or switched off",
        404 => "There is no such thing",
        409 => "Something that is going on stands in the way",
        413 => "The body is too large",
        415 => "The body is not JSON",
        422 => "The body is not understood, or the idempotency key was used for another request",
        423 => "Locked after too many failed attempts",
        428 => "The confirmation header is missing",
        429 => "Too many requests",
        502 => "Another process did not answer",
        503 => "The database is not available",
        _ => "Failed",
    };
    let headers = match status {
        423 | 429 | 503 => vec![MetaHeader {
            name: "Retry-After".to_owned(),
            description: Some("Seconds to wait before the next attempt".to_owned()),
            required: true,
            deprecated: false,
            schema: u32::schema_ref(),
        }],
        _ => Vec::new(),
    };
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: "application/json",
            schema: ErrorBody::schema_ref(),
        }],
        headers,
    }
}

/// What the router, the extractors and poem itself fail with, in the contract's words. An error
/// that already is a response passes.
pub fn to_response(error: poem::Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let operation = error.data::<poem_openapi::OperationId>().copied();
    let refusal = match status {
        StatusCode::NOT_FOUND => ApiError::not_found(ROUTE_NOT_FOUND),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(status, JSON_REQUIRED),
        StatusCode::BAD_REQUEST => ApiError {
            cause: Some(error.to_string()),
            ..ApiError::bad_request(INVALID_PARAMETERS)
        },
        status if status.is_server_error() => ApiError::internal(error.to_string()),
        status => ApiError::new(status, status.canonical_reason().unwrap_or("Error")),
    };
    let mut response = refusal.into_response();
    if let Some(operation) = operation {
        response.set_data(operation);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(response: Response) -> String {
        response.into_body().into_string().await.unwrap()
    }

    #[tokio::test]
    async fn a_defect_tells_the_client_nothing() {
        let error = ApiError::from(AppError::Internal("SELECT * FROM secrets failed".into()));
        let response = error.into_response();
        assert_eq!(response.status(), 500);
        assert!(response.data::<Cause>().is_some());
        assert_eq!(text(response).await, r#"{"error":"Internal server error"}"#);
    }

    #[tokio::test]
    async fn a_refusal_stays_with_its_response() {
        let error: poem::Error = ApiError::internal("SELECT failed").into();
        let response = to_response(error);
        assert!(response.data::<ApiError>().is_some());
        assert!(response.data::<Cause>().is_some());
    }

    #[tokio::test]
    async fn waiting_times_are_rounded_up_to_whole_seconds() {
        let error = ApiError::from(AppError::Unavailable {
            message: "away".into(),
            retry_after: Duration::from_millis(1200),
        });
        let response = error.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
    }

    #[tokio::test]
    async fn router_errors_speak_the_contract() {
        let response = to_response(poem::error::NotFoundError.into());
        assert_eq!(response.status(), 404);
        assert_eq!(text(response).await, r#"{"error":"Route not found"}"#);
        let response = to_response(poem::error::MethodNotAllowedError.into());
        assert_eq!(response.status(), 405);
        assert_eq!(text(response).await, r#"{"error":"Method Not Allowed"}"#);
    }

    #[tokio::test]
    async fn details_are_absent_where_there_are_none() {
        let plain = ApiError::bad_request("no").into_response();
        assert_eq!(text(plain).await, r#"{"error":"no"}"#);
        let detailed = ApiError::bad_request("no")
            .with_details(serde_json::json!({"why": 1}))
            .into_response();
        assert_eq!(
            text(detailed).await,
            r#"{"details":{"why":1},"error":"no"}"#
        );
    }
}
