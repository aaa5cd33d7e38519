//! Worker processes: who is there, and since when (`GET /api/v1/agents`).

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::WatcherRef;
use serde_json::Value;
use uuid::Uuid;

use crate::{Store, StoreError, agents};

statements! {
    /// Also the heartbeat: a worker that was forgotten by the clean-up comes back by itself.
    REGISTER = "INSERT INTO workers (id, agent, host, version, info) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (id) DO UPDATE
                SET agent = excluded.agent, host = excluded.host, version = excluded.version,
                    info = excluded.info, last_seen_at = now(), left_at = NULL";
    LIST = "SELECT id, agent, host, version, info, started_at, last_seen_at,
                   left_at IS NULL
                       AND last_seen_at > now() - make_interval(secs => $1) AS alive
              FROM workers ORDER BY agent, host, started_at";
    SERVED = "SELECT EXISTS (SELECT 1 FROM workers
                              WHERE agent = $1 AND info -> 'watchers' ? $2 AND left_at IS NULL
                                AND last_seen_at > now() - make_interval(secs => $3))";
    /// This installation's own worker is forgotten, an agent's stays in sight.
    LEAVE = "WITH gone AS (DELETE FROM workers WHERE id = $1 AND agent = '')
             UPDATE workers SET left_at = now() WHERE id = $1 AND agent <> ''";
    EXPIRE = "DELETE FROM workers WHERE last_seen_at < now() - make_interval(secs => $1)";
}

/// A worker that has not been seen for this many seconds counts as gone. Judged by the database's
/// clock.
pub const ALIVE_SECONDS: f64 = 15.0;

#[derive(Clone, Debug)]
pub struct NewWorker {
    pub id: Uuid,
    /// Empty for this installation's own worker.
    pub agent: String,
    pub host: String,
    pub version: String,
    /// os, arch, cpus, memoryGb, logLevel, watchers; never a secret.
    pub info: Value,
}

#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub id: Uuid,
    pub agent: String,
    pub host: String,
    pub version: String,
    pub info: Value,
    pub started_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    /// Seen within [`ALIVE_SECONDS`].
    pub alive: bool,
}

/// Registers a worker, or says that it is still there.
pub async fn seen(client: &impl GenericClient, worker: &NewWorker) -> Result<(), StoreError> {
    let statement = client.prepare_cached(REGISTER).await?;
    let NewWorker {
        id,
        agent,
        host,
        version,
        info,
    } = worker;
    client
        .execute(&statement, &[id, agent, host, version, info])
        .await?;
    Ok(())
}

/// A worker that ends in order leaves at once.
pub async fn left(client: &impl GenericClient, id: Uuid) -> Result<(), StoreError> {
    let statement = client.prepare_cached(LEAVE).await?;
    client.execute(&statement, &[&id]).await?;
    Ok(())
}

impl Store {
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&ALIVE_SECONDS]).await?;
        Ok(rows
            .into_iter()
            .map(|row| WorkerRow {
                id: row.get(0),
                agent: row.get(1),
                host: row.get(2),
                version: row.get(3),
                info: row.get(4),
                started_at: row.get(5),
                last_seen_at: row.get(6),
                alive: row.get(7),
            })
            .collect())
    }

    /// Whether a living worker serves the engine.
    pub async fn is_served(&self, watcher: &WatcherRef) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(SERVED).await?;
        let WatcherRef { agent, name } = watcher;
        let row = client
            .query_one(&statement, &[agent, name, &ALIVE_SECONDS])
            .await?;
        Ok(row.get(0))
    }

    /// Forgets workers that have not been seen for `seconds`, and agents without any.
    pub async fn expire_workers(&self, seconds: f64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        let forgotten = client.execute(&statement, &[&seconds]).await?;
        agents::forget(&client).await?;
        Ok(forgotten)
    }
}
