//! What can go wrong between a worker and an engine.

use std::time::Duration;

/// Every message names the engine and the subject (a container, an image), so that it can be
/// shown as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("{subject} does not exist on the engine {engine}: {message}")]
    NotFound {
        engine: String,
        subject: String,
        message: String,
    },
    /// A name is taken, a container is in the wrong state, an image is in use.
    #[error("the engine {engine} refused to {action} {subject}: {message}")]
    Conflict {
        engine: String,
        action: &'static str,
        subject: String,
        message: String,
    },
    /// Any other answer between 400 and 499: the request was understood and is wrong.
    #[error("the engine {engine} refused to {action} {subject} ({status}): {message}")]
    Rejected {
        engine: String,
        action: &'static str,
        subject: String,
        status: u16,
        message: String,
    },
    /// No connection. Nothing happened on the engine.
    #[error("the engine {engine} cannot be reached: {message}")]
    Unreachable { engine: String, message: String },
    /// The connection broke after the request was sent. It may have had its effect.
    #[error(
        "the connection to the engine {engine} broke while it was asked to {action} {subject}: {message}"
    )]
    Interrupted {
        engine: String,
        action: &'static str,
        subject: String,
        message: String,
    },
    /// No answer in time. The request may have had its effect, or may have it later.
    #[error("the engine {engine} did not answer within {after:?} when asked to {action} {subject}")]
    Timeout {
        engine: String,
        action: &'static str,
        subject: String,
        after: Duration,
    },
    /// An answer of 500 and above, or an error inside a stream that began with 200.
    #[error("the engine {engine} failed to {action} {subject}: {message}")]
    Server {
        engine: String,
        action: &'static str,
        subject: String,
        message: String,
    },
    /// An answer that cannot be understood.
    #[error("the engine {engine} gave an answer that cannot be read: {message}")]
    Protocol { engine: String, message: String },
    /// The caller gave up (cancellation of a pull).
    #[error("stopped waiting for the engine {engine} to {action} {subject}")]
    Cancelled {
        engine: String,
        action: &'static str,
        subject: String,
    },
}

impl EngineError {
    /// Whether the same call may succeed later without anything being changed by us. At most
    /// three retries (reliability.md D5); an ambiguous call is looked at before it is repeated.
    pub fn is_retriable(&self) -> bool {
        match self {
            EngineError::Unreachable { .. }
            | EngineError::Interrupted { .. }
            | EngineError::Timeout { .. }
            | EngineError::Server { .. } => true,
            EngineError::NotFound { .. }
            | EngineError::Conflict { .. }
            | EngineError::Rejected { .. }
            | EngineError::Protocol { .. }
            | EngineError::Cancelled { .. } => false,
        }
    }

    /// Whether the call may have had its effect although it failed (reliability.md D4): look
    /// before repeating a create or a rename.
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self,
            EngineError::Interrupted { .. } | EngineError::Timeout { .. }
        )
    }

    /// Whether the engine itself is away, so that every other call would fail too. An operation
    /// waits for such an engine instead of failing (reliability.md D1).
    pub fn is_engine_away(&self) -> bool {
        matches!(
            self,
            EngineError::Unreachable { .. }
                | EngineError::Interrupted { .. }
                | EngineError::Timeout { .. }
        )
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, EngineError::NotFound { .. })
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, EngineError::Conflict { .. })
    }
}
