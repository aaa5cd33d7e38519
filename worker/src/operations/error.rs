use plimsoll_app::store::{StoreError, journal::FencedError};

use crate::docker::EngineError;

/// Why a step did not succeed, as the program must tell it apart.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// Another worker owns the operation, or may: nothing may be done any more.
    #[error("the lease is lost")]
    LeaseLost,
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It makes no sense to try again. For people.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FencedError> for StepError {
    fn from(error: FencedError) -> Self {
        match error {
            FencedError::LeaseLost => Self::LeaseLost,
            FencedError::Store(error) => Self::Store(error),
        }
    }
}
