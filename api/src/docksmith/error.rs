//! The dialect's errors: `{"success":false,"error":{"message","code"},"timestamp","version"}`.
//!
//! The contract names 200, 400, 404, 429 and 500. Where none of them is true, the answer is 401, 403,
//! 405, 409, 413 or 503; what other dialects say with further statuses becomes the nearest of these.
//! `POST /api/fix-compose-mismatch/{name}` is the one whose `error` is a string, as its text shows.

use std::{borrow::Cow, marker::PhantomData};

use chrono::Utc;
use plimsoll_domain::iso;
use poem::{
    Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{Any, Type},
};
use serde_json::{Value, json};

use crate::{
    VERSION,
    drydock::{error::ApiError, instant::Instant},
};

pub const NOT_LOCAL: &str = "Without a credential only this machine may ask, by the name localhost \
                             or its loopback address and past no proxy; send a bearer token, or set \
                             DOCKSMITH_AUTH=none if something in front of Plimsoll checks who asks";
/// What [`body`](super::body) refuses, in Docksmith's words.
pub const BAD_BODY: &str = "invalid request body";

/// Where nothing says when to ask again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("30");

/// The operation whose errors are strings.
const WORDED: &str = "docksmith.fixComposeMismatch";

/// What went wrong.
#[derive(Object)]
#[oai(rename = "ErrorDetail", skip_serializing_if_is_none)]
pub struct Detail {
    /// For people.
    message: String,
    /// For programs: `NOT_FOUND`, `BAD_REQUEST`, `UNAUTHORIZED`, `FORBIDDEN`, `CONFLICT`, …
    code: String,
    /// Context, where there is more to say.
    details: Option<Any<Value>>,
}

/// The body of every answer that is not a success.
#[derive(Object)]
#[oai(rename = "Error")]
pub struct ErrorBody {
    /// Always `false`.
    success: bool,
    error: Detail,
    timestamp: Instant,
    version: String,
}

/// The same with words alone.
#[derive(Object)]
#[oai(rename = "WordedError")]
pub struct WordedErrorBody {
    /// Always `false`.
    success: bool,
    error: String,
    timestamp: Instant,
    version: String,
}

/// What a handler fails with, and in its type the statuses and the form that the document names.
pub struct ErrorOf<S, B = ErrorBody> {
    error: ApiError,
    documented: PhantomData<fn() -> (S, B)>,
}

/// A list of documented statuses.
pub trait ErrorSet: 'static {
    const STATUSES: &'static [u16];
}

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = $($status:literal),*;)+) => { $(
        $(#[$doc])*
        pub enum $name {}
        impl ErrorSet for $name {
            const STATUSES: &'static [u16] = &[$($status,)* 429, 500, 503];
        }
    )+ };
}

sets! {
    /// Operations that anyone may call.
    Public = ;
    /// Lists.
    Reads = 400, 401, 403;
    /// One resource by its id or name.
    ReadsOne = 400, 401, 403, 404;
    /// Changes.
    Changes = 400, 401, 403, 404, 409, 413;
}

impl<S, B, E: Into<ApiError>> From<E> for ErrorOf<S, B> {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            documented: PhantomData,
        }
    }
}

impl<S, B> From<ErrorOf<S, B>> for poem::Error {
    fn from(failed: ErrorOf<S, B>) -> Self {
        failed.error.into()
    }
}

impl<S: ErrorSet, B: Type> ApiResponse for ErrorOf<S, B> {
    fn meta() -> MetaResponses {
        let responses = S::STATUSES.iter().map(|status| {
            let after = MetaHeader {
                name: "Retry-After".to_owned(),
                description: Some("Seconds to wait before the next attempt".to_owned()),
                required: true,
                deprecated: false,
                schema: u32::schema_ref(),
            };
            MetaResponse {
                description: match status {
                    400 => "The request is wrong; nothing was changed",
                    401 => "No valid credential",
                    403 => "Not permitted, switched off, or asked by a page of another site",
                    404 => "There is no such thing",
                    409 => "Something that is going on stands in the way",
                    413 => "The body is too large",
                    429 => "Too many requests",
                    503 => "What it needs does not answer: the database, a host, a registry",
                    _ => "Failed",
                },
                status: Some(*status),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/json",
                    schema: B::schema_ref(),
                }],
                headers: match status {
                    429 | 503 => vec![after],
                    _ => Vec::new(),
                },
            }
        });
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        B::register(registry);
    }
}

/// The contract's status for one of ours, and its code.
fn known(status: StatusCode) -> (StatusCode, &'static str) {
    let status = match status.as_u16() {
        400 | 401 | 403 | 404 | 405 | 409 | 413 | 429 | 503 => status,
        // What we asked for it did not answer.
        502 | 504 => StatusCode::SERVICE_UNAVAILABLE,
        // A locked account: too many attempts.
        423 => StatusCode::TOO_MANY_REQUESTS,
        status if status < 500 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let code = match status.as_u16() {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        405 => "METHOD_NOT_ALLOWED",
        409 => "CONFLICT",
        413 => "PAYLOAD_TOO_LARGE",
        429 => "RATE_LIMITED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL_ERROR",
    };
    (status, code)
}

/// A response in the dialect's form, if it is a refusal. `operation` as metrics name it.
pub fn reword(mut response: Response, operation: &str) -> Response {
    let Some(refusal) = response.data::<ApiError>() else {
        return response;
    };
    let (status, code) = known(refusal.status);
    let message: &Cow<'static, str> = &refusal.message;
    let error = match operation == WORDED {
        true => json!(message),
        false => {
            let mut error = json!({"message": message, "code": code});
            if let Some(details) = &refusal.details {
                error["details"] = details.clone();
            }
            error
        }
    };
    let body = json!({
        "success": false,
        "error": error,
        "timestamp": iso::to_string(Utc::now()),
        "version": VERSION,
    });
    response.set_status(status);
    if status == StatusCode::SERVICE_UNAVAILABLE
        && !response.headers().contains_key(header::RETRY_AFTER)
    {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.set_body(body.to_string());
    response
}

#[cfg(test)]
mod tests {
    use poem::IntoResponse;

    use super::*;

    async fn reworded(error: ApiError, operation: &str) -> (u16, Value) {
        let response = reword(error.into_response(), operation);
        let status = response.status().as_u16();
        let body = response.into_body().into_string().await.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_the_contracts_form() {
        let error = ApiError::not_found("Container not found: nginx");
        let (status, body) = reworded(error, "docksmith.recheckContainer").await;
        assert_eq!(status, 404);
        assert_eq!(body["success"], false);
        assert_eq!(
            body["error"],
            json!({"message": "Container not found: nginx", "code": "NOT_FOUND"})
        );
        assert!(body["timestamp"].is_string() && body["version"].is_string());
    }

    #[tokio::test]
    async fn one_operation_says_it_in_words() {
        let error = ApiError::bad_request("no image key found");
        let (status, body) = reworded(error, "docksmith.fixComposeMismatch").await;
        assert_eq!(
            (status, &body["error"]),
            (400, &json!("no image key found"))
        );
    }

    #[tokio::test]
    async fn statuses_that_the_contract_does_not_know_become_its_own() {
        for (ours, theirs) in [
            (422, 400),
            (415, 400),
            (428, 400),
            (423, 429),
            (502, 503),
            (501, 500),
        ] {
            let status = StatusCode::from_u16(ours).unwrap();
            let (found, _) = reworded(ApiError::new(status, "x"), "").await;
            assert_eq!(found, theirs, "{ours}");
        }
    }
}
