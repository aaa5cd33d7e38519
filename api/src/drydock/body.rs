//! Request bodies that may be left out.

use super::error::{ApiError, INVALID_PARAMETERS};
use crate::json_body::{Unreadable, json_body};

/// A JSON body that an action may come without.
pub struct LenientJson<T>(pub Option<T>);

/// A JSON body that must be there. Answers 400 to a request that has none, as the contract does, and
/// not 415. `None`: there is none. A use case refuses that where it needs one.
pub struct RequiredJson<T>(pub Option<T>);

json_body!(LenientJson, false, |found: Option<Result<_, _>>| {
    found.transpose().map_err(refused)
});
json_body!(RequiredJson, true, |found: Option<Result<_, _>>| {
    found.transpose().map_err(refused)
});

fn refused(_: Unreadable) -> ApiError {
    ApiError::bad_request(INVALID_PARAMETERS)
}
