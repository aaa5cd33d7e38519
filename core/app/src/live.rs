//! What live reads share (DESIGN.md 7).

use std::time::Duration;

use plimsoll_queue::rpc::RpcError;
use serde::Serialize;
use serde_json::Value;

use crate::{AppError, containers::NOT_FOUND};

/// For a read that failed; `what` begins the sentence, as in "The statistics are".
///
/// `NotFound` for a container that the engine does not have, `Failed` for what the worker could not
/// do, `Unavailable` when no worker answers or it has too much to do.
pub(crate) fn refusal(what: &str, error: RpcError) -> AppError {
    match error {
        RpcError::Remote(error) if error.code == "not-found" => {
            AppError::NotFound(NOT_FOUND.to_owned())
        }
        RpcError::Remote(error) if error.code != "busy" => AppError::Failed(error.message),
        error => AppError::Unavailable {
            message: format!("{what} not available: {error}"),
            retry_after: Duration::from_secs(5),
        },
    }
}

pub(crate) fn payload(request: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(request).map_err(|error| RpcError::Unavailable(error.to_string()))
}
