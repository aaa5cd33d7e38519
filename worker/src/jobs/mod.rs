//! Durable jobs: taking them under a lease, keeping the lease, running their handlers.
//!
//! What a job does is in a file of its own kind; [`Handlers`] is the registry list. A handler gets
//! a [`JobContext`] and says by its [`Outcome`] what becomes of the job.

mod lease;
pub mod operation;
pub mod pushed;
pub mod removal;
mod runner;
pub mod sbom;
pub mod scan;
mod single;
mod standing;
pub mod watch;
mod watch_result;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use plimsoll_app::store::jobs::LeasedJob;
use tokio_util::sync::CancellationToken;

pub use lease::LeaseGuard;
pub use runner::{EngineCapacity, Runner};
pub use single::{Ended, run_single};

/// What a handler works with.
pub struct JobContext {
    pub job: LeasedJob,
    /// Ask it before every call that changes something.
    pub lease: LeaseGuard,
    /// Cancelled when the process is asked to end: hand over at the next safe point, within 20 s.
    pub shutdown: CancellationToken,
}

/// What becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// For people; the job is over.
    Failed(String),
    /// The job goes back and may be taken again after this time.
    Later {
        after: Duration,
        why: String,
    },
    /// The process ends: another worker may take the job at once.
    HandedOver,
    /// Another worker has it; nothing may be written any more.
    LeaseLost,
}

/// Runs one kind of job.
pub type Handler =
    Arc<dyn Fn(JobContext) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// The kinds of jobs that this worker knows. A job of another kind is left to a worker that knows
/// it.
#[derive(Clone, Default)]
pub struct Handlers {
    handlers: Vec<(&'static str, Handler)>,
}

impl Handlers {
    /// Registers the handler of the kind `JobSpec::kind` names.
    pub fn with<F, Fut>(mut self, kind: &'static str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |context| Box::pin(handler(context)));
        self.handlers.push((kind, handler));
        self
    }

    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.handlers.iter().map(|(kind, _)| *kind)
    }

    fn get(&self, kind: &str) -> Option<&Handler> {
        self.handlers
            .iter()
            .find_map(|(known, handler)| (*known == kind).then_some(handler))
    }
}
