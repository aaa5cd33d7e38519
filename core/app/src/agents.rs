//! Agents: workers on other hosts (reference/drydock.md 1.5). This installation's own worker is
//! not one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_store::workers::WorkerRow;
use serde_json::Value;

use crate::{App, AppError, watchers::Counts};

/// One agent: all workers under its name.
#[derive(Clone, Debug)]
pub struct AgentView {
    pub name: String,
    pub host: String,
    pub connected: bool,
    pub version: String,
    /// os, arch, cpus, memoryGb, logLevel as the worker says.
    pub info: Value,
    pub started_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub counts: Counts,
}

impl App {
    /// By name.
    pub async fn agents(&self) -> Result<Vec<AgentView>, AppError> {
        let snapshot = self.snapshot().await?;
        // Of several workers of one agent, the one that was seen last speaks for it.
        let mut agents: BTreeMap<String, WorkerRow> = BTreeMap::new();
        for worker in self.store().workers().await? {
            if worker.agent.is_empty() {
                continue;
            }
            let later = agents
                .get(&worker.agent)
                .is_none_or(|known| known.last_seen_at < worker.last_seen_at);
            if later {
                agents.insert(worker.agent.clone(), worker);
            }
        }
        Ok(agents
            .into_values()
            .map(|worker| AgentView {
                counts: Counts::of(&snapshot.inventory, |w| w.agent == worker.agent),
                name: worker.agent,
                host: worker.host,
                connected: worker.alive,
                version: worker.version,
                info: worker.info,
                started_at: worker.started_at,
                last_seen_at: worker.last_seen_at,
            })
            .collect())
    }
}
