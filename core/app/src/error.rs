use std::time::Duration;

use plimsoll_store::{MaybeRetry, StoreError};

/// Why a use case did not do what it was asked. Dialects map it to their status and shape; the text
/// is for the person who asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppError {
    /// The request itself is wrong; nothing was changed.
    #[error("{0}")]
    Invalid(String),
    /// No valid credential.
    #[error("{0}")]
    Unauthenticated(String),
    /// A valid credential that may not do this, or a feature that is switched off.
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(String),
    /// Something that is going on or already there stands in the way. `details` name it.
    #[error("{message}")]
    Conflict {
        message: String,
        details: Option<serde_json::Value>,
    },
    /// The same idempotency key came with another request.
    #[error("{0}")]
    Unprocessable(String),
    /// Locked out after too many failures.
    #[error("{message}")]
    Locked {
        message: String,
        retry_after: Duration,
    },
    #[error("{message}")]
    TooManyRequests {
        message: String,
        retry_after: Duration,
    },
    /// What was asked for is larger than what is given out at once.
    #[error("{0}")]
    TooLarge(String),
    /// What was asked ran and failed; the text says on what.
    #[error("{0}")]
    Failed(String),
    /// Another process of ours answered badly, or not at all.
    #[error("{0}")]
    Upstream(String),
    /// Something we depend on is away for now.
    #[error("{message}")]
    Unavailable {
        message: String,
        retry_after: Duration,
    },
    /// A defect of ours. The text goes to the log, never to the client.
    #[error("{0}")]
    Internal(String),
    /// Internal to transactions: repeat.
    #[error("the database asks to repeat the transaction")]
    Retry,
}

impl AppError {
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict {
            message: message.into(),
            details: None,
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => {
                tracing::warn!(why, "database unavailable");
                Self::Unavailable {
                    message: "The database is not available; try again shortly".to_owned(),
                    retry_after: Duration::from_secs(1),
                }
            }
            StoreError::Unstorable => {
                Self::Invalid("A text holds a character that cannot be stored".to_owned())
            }
            StoreError::Retry => Self::Retry,
            other => Self::Internal(other.to_string()),
        }
    }
}

impl MaybeRetry for AppError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Retry)
    }
}
