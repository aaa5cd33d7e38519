//! Live reads: what only the Docker host knows, answered while somebody waits (DESIGN.md 7).
//! They change nothing, are never durable and never repeated.

mod logs;
mod preview;

use std::convert::Infallible;

use plimsoll_app::{
    Queue, container_logs, previews,
    queue::rpc::{RemoteError, StreamHost, StreamRequest},
    release_notes::{self, ReleaseNotesQuestion},
};
use plimsoll_domain::ids::WatcherRef;
use serde_json::{Value, json};

use crate::{
    docker::{Engine, EngineError},
    registry::Registries,
    release_notes::Github,
};

pub use preview::{PreviewRequest, preview};

/// Reads answered at a time, per engine. More wait in the queue, as long as their callers do.
const CONCURRENT: usize = 8;
/// Streams that one worker writes at a time, over all its engines.
pub const STREAMS: usize = 1024;

/// What one engine's live reads need. Cheap to clone.
#[derive(Clone)]
pub struct LiveReads {
    pub engine: Engine,
    pub registries: Registries,
    pub github: Github,
    /// Of the whole worker. Its `run` must run beside.
    pub streams: StreamHost,
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
    /// `registry`, `github`, `engine`, `bad-request`, `busy`, `unknown-read`, and those of the read
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
            container_logs::DOWNLOAD => {
                logs::download(&self.engine, &self.streams, &StreamRequest::parse(payload)?).await
            }
            container_logs::FOLLOW => {
                logs::follow(&self.engine, &self.streams, &StreamRequest::parse(payload)?).await
            }
            other => Err(RemoteError::new(
                "unknown-read",
                format!("this worker does not know the read {other:?}"),
            )),
        }
    }
}

fn engine_failed(error: EngineError) -> RemoteError {
    let code = if error.is_not_found() {
        "not-found"
    } else {
        "engine"
    };
    RemoteError::new(code, error.to_string())
}
