//! JSON bodies: half of the scripts send no `Content-Type`.

use super::error::BAD_BODY;
use crate::{
    drydock::error::ApiError,
    json_body::{Unreadable, json_body},
};

/// A body that must be there.
pub struct Required<T>(pub T);

/// One that may be left out.
pub struct Optional<T>(pub Option<T>);

json_body!(Required, true, |found: Option<_>| {
    found.unwrap_or(Err(Unreadable::NoJson)).map_err(refused)
});
json_body!(Optional, false, |found: Option<Result<_, _>>| {
    found.transpose().map_err(refused)
});

fn refused(why: Unreadable) -> ApiError {
    match why {
        Unreadable::NoJson => ApiError::bad_request(BAD_BODY),
        Unreadable::Other(why) => ApiError::bad_request(format!("{BAD_BODY}: {why}")),
    }
}
