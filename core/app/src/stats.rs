//! What containers use (contract/drydock-container-api.md, "Get container stats" and the two
//! after). One worker of each engine samples, however many watch.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use plimsoll_domain::{ids::WatcherRef, stats::StatsSnapshot};
use plimsoll_queue::rpc::{RemoteStream, RpcError};
use serde::{Deserialize, Serialize};

use crate::{App, AppError, inventory::Entry, live};

/// The kinds of live read. The part before the colon sends them to the worker that samples.
pub const SERVICE: &str = "stats";
pub const ALL: &str = "stats:all";
pub const ONE: &str = "stats:one";
pub const FOLLOW: &str = "stats:follow";

/// A first snapshot takes the worker one to three seconds, and it waits five at most. While another
/// worker takes over the sampling, ten may pass.
const PATIENCE: Duration = Duration::from_secs(12);
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(6);

/// A request for one container, and for many.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsRequest {
    pub container_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllStatsRequest {
    pub container_ids: Vec<String>,
}

/// The answer to [`ONE`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StatsHistory {
    /// `None` for a container that does not run.
    pub data: Option<StatsSnapshot>,
    /// Oldest first; the last is `data`.
    pub history: Vec<StatsSnapshot>,
}

/// The answer to [`ALL`], by container id: those that run and could be sampled.
pub type AllStats = HashMap<String, StatsSnapshot>;

/// One container of the list.
pub struct ContainerStats {
    pub entry: Arc<Entry>,
    pub stats: Option<StatsSnapshot>,
}

impl App {
    /// Every container, with what it uses where that is known: one question to each engine.
    ///
    /// # Errors
    /// `Unavailable` when no worker at all answers.
    pub async fn all_container_stats(&self) -> Result<Vec<ContainerStats>, AppError> {
        let snapshot = self.snapshot().await?;
        let entries = snapshot.inventory.entries();
        let mut engines: HashMap<&WatcherRef, Vec<String>> = HashMap::new();
        for entry in entries
            .iter()
            .filter(|entry| entry.state.facts.is_running())
        {
            let facts = &entry.state.facts;
            let asked = engines.entry(&facts.watcher).or_default();
            asked.push(facts.id.as_str().to_owned());
        }
        let questions = engines
            .into_iter()
            .map(|(watcher, container_ids)| async move {
                let request = live::payload(&AllStatsRequest { container_ids })?;
                let answer = self
                    .ask_worker(watcher, ALL, &request, PATIENCE_FOR_ALL)
                    .await?;
                serde_json::from_value::<AllStats>(answer)
                    .map_err(|error| RpcError::Unavailable(error.to_string()))
            });
        let (mut known, mut failure, mut answered) = (AllStats::new(), None, false);
        for answer in join_all(questions).await {
            match answer {
                Ok(stats) => {
                    known.extend(stats);
                    answered = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "an engine's statistics are missing");
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure.filter(|_| !answered) {
            return Err(live::refusal("The statistics are", error));
        }
        Ok(entries
            .iter()
            .map(|entry| ContainerStats {
                stats: known.remove(entry.state.facts.id.as_str()),
                entry: entry.clone(),
            })
            .collect())
    }

    /// What one container uses, and used lately.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable` when no worker answers, `Failed` when the engine does not.
    pub async fn container_stats(&self, container: &str) -> Result<StatsHistory, AppError> {
        let entry = self.get_container(container).await?;
        let facts = &entry.state.facts;
        let ask = async {
            let request = live::payload(&StatsRequest {
                container_id: facts.id.as_str().to_owned(),
            })?;
            let answer = self
                .ask_worker(&facts.watcher, ONE, &request, PATIENCE)
                .await?;
            serde_json::from_value(answer).map_err(|error| RpcError::Unavailable(error.to_string()))
        };
        let answer = ask.await;
        answer.map_err(|error| live::refusal("The container's statistics are", error))
    }

    /// One container's snapshots as they are taken: JSON, one per line.
    ///
    /// # Errors
    /// As [`App::container_stats`].
    pub async fn follow_container_stats(&self, container: &str) -> Result<RemoteStream, AppError> {
        let entry = self.get_container(container).await?;
        let facts = &entry.state.facts;
        let open = async {
            let request = live::payload(&StatsRequest {
                container_id: facts.id.as_str().to_owned(),
            })?;
            self.open_at_worker(&facts.watcher, FOLLOW, request, PATIENCE)
                .await
        };
        let opened = open.await;
        opened.map_err(|error| live::refusal("The container's statistics are", error))
    }
}
