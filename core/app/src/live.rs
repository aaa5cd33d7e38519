//! What live reads share (DESIGN.md 7).

use std::time::Duration;

use plimsoll_domain::ids::WatcherRef;
use plimsoll_queue::rpc::{RemoteStream, RpcError};
use serde::Serialize;
use serde_json::Value;

use crate::{App, AppError, containers::NOT_FOUND};

/// A worker that is there answers most questions within this time; only then is it looked whether
/// there is one.
const LOOK: Duration = Duration::from_secs(1);

impl App {
    /// Asks the worker beside an engine, and waits at most `patience`.
    pub(crate) async fn ask_worker(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        payload: &Value,
        patience: Duration,
    ) -> Result<Value, RpcError> {
        let asked = self.queue().call(watcher, kind, payload, patience);
        tokio::select! {
            answer = asked => answer,
            nobody = self.nobody_serves(watcher) => Err(nobody),
        }
    }

    /// Has the worker beside an engine open a stream, and waits at most `patience` for it.
    pub(crate) async fn open_at_worker(
        &self,
        watcher: &WatcherRef,
        kind: &str,
        payload: Value,
        patience: Duration,
    ) -> Result<RemoteStream, RpcError> {
        let queue = self.queue();
        tokio::select! {
            opened = queue.open_stream(watcher, kind, payload, patience) => opened,
            nobody = self.nobody_serves(watcher) => Err(nobody),
        }
    }

    /// Ends when no worker has been there lately that could answer: whoever asks need not wait.
    async fn nobody_serves(&self, watcher: &WatcherRef) -> RpcError {
        loop {
            tokio::time::sleep(LOOK).await;
            // While the database is away nobody knows.
            if let Ok(false) = self.store().is_served(watcher).await {
                return RpcError::Unavailable(format!("no worker of {watcher} is running"));
            }
        }
    }
}

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
