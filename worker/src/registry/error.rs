//! What can go wrong at a registry, in words for the person whose container it concerns.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use plimsoll_domain::image::Digest;

/// Cheap to clone: one failure is shown at every container of the repository.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{registry} limits our requests; it is asked again after {}", .until.format("%Y-%m-%d %H:%M:%S UTC"))]
    RateLimited {
        registry: Arc<str>,
        until: DateTime<Utc>,
    },
    /// The circuit breaker: the registry failed several times in a row a moment ago.
    #[error("{registry} failed several times in a row and is left alone until {}; last: {last}", .until.format("%H:%M:%S UTC"))]
    Skipped {
        registry: Arc<str>,
        until: DateTime<Utc>,
        last: Arc<str>,
    },
    #[error("{registry} cannot be reached: {detail}")]
    Unreachable { registry: Arc<str>, detail: String },
    #[error("{registry} did not answer in time: {detail}")]
    Slow { registry: Arc<str>, detail: String },
    #[error(
        "{registry} has a certificate that is not trusted: {detail}. If it is yours, set its cafile"
    )]
    Tls { registry: Arc<str>, detail: String },
    #[error("{registry} is in trouble: it answered {status} to {what}{detail}")]
    Server {
        registry: Arc<str>,
        status: u16,
        what: String,
        detail: String,
    },
    #[error("{registry} does not let us read {what}: {detail}")]
    Unauthorized {
        registry: Arc<str>,
        what: String,
        detail: String,
    },
    /// The cloud that runs the registry did not exchange our key for a login.
    #[error("{registry} was not asked, because logging in failed: {detail}")]
    Login { registry: Arc<str>, detail: String },
    #[error("{registry} does not have {what}")]
    NotFound { registry: Arc<str>, what: String },
    #[error("{registry} refused {what} with {status}{detail}")]
    Rejected {
        registry: Arc<str>,
        status: u16,
        what: String,
        detail: String,
    },
    #[error("{registry} answered {what} with something else: {detail}")]
    Malformed {
        registry: Arc<str>,
        what: String,
        detail: String,
    },
    #[error("{registry} answered {what} with more than {limit} bytes")]
    TooLarge {
        registry: Arc<str>,
        what: String,
        limit: usize,
    },
    #[error("{what} from {registry} should be {expected} but is {found}; it was not used")]
    DigestMismatch {
        registry: Arc<str>,
        what: String,
        expected: Digest,
        found: Digest,
    },
    #[error("{image} has no image for {platform}; it has {available}")]
    NoPlatform {
        image: String,
        platform: String,
        available: String,
    },
    /// The registry sent us to a place where we do not go.
    #[error("{registry} was not followed: {detail}")]
    Untrusted { registry: Arc<str>, detail: String },
    /// The settings of this registry cannot be used.
    #[error("{registry} cannot be used as configured: {detail}")]
    Misconfigured { registry: Arc<str>, detail: String },
}

impl RegistryError {
    /// When asking again makes sense, if the registry or the breaker said so.
    pub fn retry_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::RateLimited { until, .. } | Self::Skipped { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// A word for metrics and states; `rate-limited` is not an error (reliability.md G1).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate-limited",
            Self::Skipped { .. } => "skipped",
            Self::Unreachable { .. } => "unreachable",
            Self::Slow { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::Server { .. } => "server-error",
            Self::Unauthorized { .. } | Self::Login { .. } => "unauthorized",
            Self::NotFound { .. } => "not-found",
            Self::Rejected { .. } => "rejected",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too-large",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::NoPlatform { .. } => "no-platform",
            Self::Untrusted { .. } => "untrusted",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }

    /// Whether the registry itself is failing, as opposed to what was asked of it.
    pub(super) fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Slow { .. } | Self::Server { .. } | Self::Tls { .. }
        )
    }

    /// Whether a second try in a moment may go better.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Server { .. })
    }
}

/// Text from outside, made fit for a message: one line, no control characters, at most 200
/// characters.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    short.truncate(short.trim_end().len());
    short
}
