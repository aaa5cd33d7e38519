//! Agents: workers on other hosts (reference/drydock.md 1.5). This installation's own worker is
//! not one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_store::{
    agents,
    audit::{self, AuditStatus, NewAudit},
    begin, commit, events, retrying,
    workers::{self, NewWorker, WorkerRow},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{App, AppError, Queue, Store, announcements::agent_lost, watchers::Counts};

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
        // Of several workers of one agent, a living one speaks for it, or the one seen last.
        let mut agents: BTreeMap<String, WorkerRow> = BTreeMap::new();
        for worker in self.store().workers().await? {
            if worker.agent.is_empty() {
                continue;
            }
            let rank = |worker: &WorkerRow| (worker.alive, worker.last_seen_at);
            let known = agents.get(&worker.agent);
            let later = known.is_none_or(|known| rank(known) < rank(&worker));
            if later {
                agents.insert(worker.agent.clone(), worker);
            }
        }
        if agents.values().any(|worker| !worker.alive) {
            // Where no worker is left, nobody else would say so.
            self.note_lost_agents().await?;
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

/// The event of an agent that is there, and of one that is not.
const CONNECTED: &str = "dd:agent-connected";
const DISCONNECTED: &str = "dd:agent-disconnected";

impl App {
    /// A worker is there: its first word, and each one after it. An agent that was not connected
    /// until now is announced.
    pub async fn worker_seen(&self, worker: &NewWorker) -> Result<(), AppError> {
        let told = retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            workers::seen(&tx, worker).await?;
            let news = !worker.agent.is_empty() && agents::connected(&tx, &worker.agent).await?;
            if news {
                let mut payload = worker.info.clone();
                payload["agentName"] = worker.agent.as_str().into();
                payload["name"] = worker.agent.as_str().into();
                payload["host"] = worker.host.as_str().into();
                payload["version"] = worker.version.as_str().into();
                payload["connected"] = true.into();
                events::append(&tx, CONNECTED, &payload.to_string()).await?;
            }
            commit(tx).await?;
            Ok::<_, AppError>(news)
        })
        .await?;
        if told {
            tracing::info!(agent = worker.agent, "the agent is connected");
            self.announce().await;
        }
        Ok(())
    }

    /// A worker ends in order.
    pub async fn worker_left(&self, worker: &NewWorker) -> Result<(), AppError> {
        let reason = "The agent has shut down";
        change(self.store(), self.queue(), reason, Some(worker.id)).await
    }

    /// Announces agents that have not been heard of. Any process may look, as often as it likes.
    pub async fn note_lost_agents(&self) -> Result<(), AppError> {
        note_lost(self.store(), self.queue()).await
    }
}

pub(crate) async fn note_lost(store: &Store, queue: &Queue) -> Result<(), AppError> {
    change(store, queue, "The agent has not been heard of", None).await
}

/// Tells of the agents that are not connected any more, after `leaving` has left.
async fn change(
    store: &Store,
    queue: &Queue,
    reason: &str,
    leaving: Option<Uuid>,
) -> Result<(), AppError> {
    let mut client = store.client().await?;
    let tx = begin(&mut client).await?;
    if let Some(worker) = leaving {
        workers::left(&tx, worker).await?;
    }
    let lost = agents::lost(&tx).await?;
    for agent in &lost {
        let payload = json!({ "agentName": agent, "reason": reason });
        events::append(&tx, DISCONNECTED, &payload.to_string()).await?;
        let entry = NewAudit {
            details: Some(reason),
            ..NewAudit::new("agent-disconnect", agent, AuditStatus::Info)
        };
        audit::append(&tx, &entry).await?;
        agent_lost(&tx, agent, reason).await?;
    }
    commit(tx).await?;
    if !lost.is_empty() {
        tracing::warn!(agents = lost.join(", "), reason, "agents are disconnected");
        if let Err(error) = queue.announce_events().await {
            tracing::debug!(%error, "replicas find the event by themselves");
        }
    }
    Ok(())
}
