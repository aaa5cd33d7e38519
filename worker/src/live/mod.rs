//! Live reads: what only the Docker host knows, answered while somebody waits (DESIGN.md 7).
//! They change nothing, are never durable and never repeated.

mod compose;
mod env;
mod explorer;
mod inspect;
mod logs;
mod preview;
mod scripts;
mod stats;

use std::{convert::Infallible, time::Duration};

use plimsoll_app::{
    Queue, compose_mismatches, container_logs, env_reveals,
    explorer::EXPLORE,
    inspections::INSPECT,
    log::{self, LogEntry, LogFilter},
    previews,
    queue::rpc::{RemoteError, StreamHost, StreamRequest},
    registry_tags::TAGS,
    release_notes::{self, ReleaseNotesQuestion},
    scripts as shared_scripts, stats as shared_stats,
};
use plimsoll_domain::ids::WatcherRef;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    compose::Access,
    docker::{Engine, EngineError},
    explorer::Explorer,
    registry::Registries,
    release_notes::Github,
    scripts::Scripts,
};

pub use preview::{PreviewRequest, preview};
pub use stats::{Sampler, StatsSettings};

/// Reads answered at a time, per engine. More wait in the queue, as long as their callers do.
const CONCURRENT: usize = 8;
/// Streams that one worker writes at a time, over all its engines.
pub const STREAMS: usize = 1024;

/// What one engine's live reads need. Cheap to clone.
#[derive(Clone)]
pub struct LiveReads {
    pub engine: Engine,
    pub registries: Registries,
    /// For registries that only a request names.
    pub strangers: Registries,
    pub explorer: Explorer,
    pub github: Github,
    /// `None` where no directory of scripts is configured.
    pub scripts: Option<Scripts>,
    /// Of the whole worker. Its `run` must run beside.
    pub streams: StreamHost,
    /// Which Compose files may be read.
    pub compose: Access,
}

impl LiveReads {
    /// Answers the live reads of `watcher` until the future is dropped.
    pub async fn serve(self, queue: &Queue, watcher: &WatcherRef) -> Infallible {
        queue
            .rpc_server(std::slice::from_ref(watcher))
            .serve(CONCURRENT, move |kind, payload| {
                let reads = self.clone();
                async move { reads.answer(&kind, payload).await }
            })
            .await
    }

    /// The answer to one read. Errors carry a code for programs: `not-found`, `refused`,
    /// `registry`, `github`, `engine`, `scripts`, `bad-request`, `busy`, `unknown-read`, and those of the read
    /// itself.
    pub async fn answer(&self, kind: &str, payload: Value) -> Result<Value, RemoteError> {
        match kind {
            previews::PREVIEW => {
                let request = PreviewRequest::parse(&payload)?;
                preview(&self.engine, &self.registries, &request).await
            }
            release_notes::RELEASE_NOTES => {
                let question: ReleaseNotesQuestion = serde_json::from_value(payload)
                    .map_err(|error| RemoteError::new("bad-request", error.to_string()))?;
                let notes = self.github.notes(&question).await;
                notes
                    .map(|notes| json!(notes))
                    .map_err(|error| RemoteError::new("github", error.to_string()))
            }
            EXPLORE => explorer::explore(&self.explorer, payload).await,
            TAGS => explorer::registry_tags(self, payload).await,
            INSPECT => inspect::inspect(&self.engine, payload).await,
            shared_scripts::SCRIPTS => scripts::list(self.scripts.clone()).await,
            env_reveals::REVEAL => env::environment(&self.engine, payload).await,
            compose_mismatches::COMPOSE_IMAGE => {
                compose::image(&self.engine, &self.compose, payload).await
            }
            container_logs::DOWNLOAD => {
                logs::download(&self.engine, &self.streams, &StreamRequest::parse(payload)?).await
            }
            container_logs::FOLLOW => {
                logs::follow(&self.engine, &self.streams, &StreamRequest::parse(payload)?).await
            }
            other => Err(unknown(other)),
        }
    }
}

/// Answers questions about what containers use, while it is this worker that samples.
#[derive(Clone)]
pub struct StatsReads {
    pub sampler: Sampler,
    pub streams: StreamHost,
}

/// How long a worker that has died keeps the right to sample.
const TERM: Duration = Duration::from_secs(8);
const RENEWAL: Duration = Duration::from_secs(2);
/// Questions at a time; each waits for a first sample.
const STATS_CONCURRENT: usize = 64;

impl StatsReads {
    /// Samples for `watcher` whenever no other worker does, until `shutdown`.
    pub async fn serve(self, queue: &Queue, watcher: &WatcherRef, shutdown: CancellationToken) {
        let lease = format!("stats:{}:{}", watcher.agent, watcher.name);
        let holder = Uuid::new_v4().to_string();
        while !shutdown.is_cancelled() {
            if let Ok(true) = queue.hold_lease(&lease, &holder, TERM).await {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = keep(queue, &lease, &holder) => {}
                    never = self.answer_all(queue, watcher) => match never {},
                }
                self.sampler.hand_over();
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(RENEWAL) => {}
            }
        }
        // Another worker need not wait for the end of the term.
        let _ = queue.release_lease(&lease, &holder).await;
    }

    async fn answer_all(&self, queue: &Queue, watcher: &WatcherRef) -> Infallible {
        let server = queue.service_server(watcher, shared_stats::SERVICE);
        let reads = self.clone();
        server
            .serve(STATS_CONCURRENT, move |kind, payload| {
                let reads = reads.clone();
                async move { reads.answer(&kind, payload).await }
            })
            .await
    }

    async fn answer(&self, kind: &str, payload: Value) -> Result<Value, RemoteError> {
        match kind {
            shared_stats::ALL => self.sampler.all(payload).await,
            shared_stats::ONE => self.sampler.one(payload).await,
            shared_stats::FOLLOW => {
                let request = StreamRequest::parse(payload)?;
                self.sampler.follow(&self.streams, &request).await
            }
            other => Err(unknown(other)),
        }
    }
}

/// Until another worker has the lease. While Redis is away nobody is asked anything.
async fn keep(queue: &Queue, lease: &str, holder: &str) {
    loop {
        sleep(RENEWAL).await;
        if let Ok(false) = queue.hold_lease(lease, holder, TERM).await {
            return;
        }
    }
}

/// Answers questions about the worker itself, until the future is dropped.
pub async fn answer_for_itself(queue: &Queue, agent: &str) -> Infallible {
    queue
        .rpc_server(&[log::agent_itself(agent)])
        .serve(2, |kind, payload| async move {
            match kind.as_str() {
                log::ENTRIES => {
                    let filter: LogFilter = serde_json::from_value(payload)
                        .map_err(|error| RemoteError::new("bad-request", error.to_string()))?;
                    let entries = log::process_log().entries(&filter);
                    let entries: Vec<&LogEntry> = entries.iter().map(|entry| &**entry).collect();
                    Ok(json!(entries))
                }
                other => Err(unknown(other)),
            }
        })
        .await
}

fn unknown(kind: &str) -> RemoteError {
    let message = format!("this worker does not know the read {kind:?}");
    RemoteError::new("unknown-read", message)
}

fn engine_failed(error: EngineError) -> RemoteError {
    let code = if error.is_not_found() {
        "not-found"
    } else {
        "engine"
    };
    RemoteError::new(code, error.to_string())
}
