//! How requests that start an operation are read and answered; `updates` and `rollbacks` share it.

use std::borrow::Cow;

use plimsoll_app::{
    AppError,
    requests::{Caller, IdempotencyKey},
    store::update_operations::Operation,
};
use plimsoll_domain::{access::Principal, ids::OperationId};
use poem::http::StatusCode;
use poem_openapi::Object;
use serde_json::json;

use super::{error::ApiError, prefer::Preference};
use crate::middleware::context::RequestContext;

/// The answer to a request whose operation is still running.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct OperationAccepted {
    pub message: String,
    /// Follow it at `Location`, or by `dd:update-operation-changed` events.
    pub operation_id: String,
}

/// Headers of a 202.
pub struct AcceptedHeaders {
    pub location: String,
    pub preference_applied: Option<String>,
}

impl AcceptedHeaders {
    pub fn of(operation: OperationId, preference: &Preference) -> Self {
        Self {
            location: format!("/api/v1/update-operations/{operation}"),
            preference_applied: preference.applied(),
        }
    }
}

/// Who asks, with the request's idempotency key bound to what it asks.
pub fn caller<'a>(
    principal: &'a Principal,
    context: &'a RequestContext,
    key: Option<&str>,
    target: &str,
    body: &str,
) -> Result<Caller<'a>, AppError> {
    Ok(Caller {
        principal,
        request_id: Some(context.id()),
        idempotency: key
            .map(|key| IdempotencyKey::new(key, target, body.as_bytes()))
            .transpose()?,
    })
}

/// Without an idempotency key.
pub fn plain_caller<'a>(principal: &'a Principal, context: &'a RequestContext) -> Caller<'a> {
    Caller {
        principal,
        request_id: Some(context.id()),
        idempotency: None,
    }
}

/// An operation that did not succeed: `message` is the contract's text, the details say which
/// operation, how it ended and why.
pub fn failed(message: impl Into<Cow<'static, str>>, operation: &Operation) -> ApiError {
    let mut details = json!({
        "operationId": operation.id.to_string(),
        "status": operation.phase.status().as_str(),
        "phase": operation.phase.as_str(),
    });
    let fields = [
        ("rollbackReason", &operation.rollback_reason),
        ("lastError", &operation.last_error),
        ("lastLog", &operation.last_log),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            details[name] = value.as_str().into();
        }
    }
    if let Some(code) = operation.exit_code {
        details["exitCode"] = code.into();
    }
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).with_details(details)
}
