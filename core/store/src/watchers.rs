//! Watchers: one Docker engine each, as a worker last saw it (`GET /api/v1/watchers`).

use chrono::{DateTime, Utc};
use plimsoll_domain::ids::WatcherRef;
use serde_json::Value;

use crate::{Store, StoreError};

statements! {
    REGISTER = "INSERT INTO watchers (agent, name, configuration) VALUES ($1, $2, $3)
                ON CONFLICT (agent, name) DO UPDATE
                SET configuration = excluded.configuration, updated_at = now()
                WHERE watchers.configuration IS DISTINCT FROM excluded.configuration";
    CONNECTED = "UPDATE watchers SET connected = true, last_error = NULL,
                        engine = coalesce($3, engine), updated_at = now()
                  WHERE agent = $1 AND name = $2
                    AND (NOT connected OR last_error IS NOT NULL
                         OR ($3::jsonb IS NOT NULL AND engine IS DISTINCT FROM $3))";
    DISCONNECTED = "UPDATE watchers SET connected = false, last_error = $3, updated_at = now()
                     WHERE agent = $1 AND name = $2
                       AND (connected OR last_error IS DISTINCT FROM $3)";
    /// The database's clock is the only one that says when something ran.
    RAN = "UPDATE watchers SET last_run_at = now(), updated_at = now()
            WHERE agent = $1 AND name = $2";
    NEXT = "UPDATE watchers SET next_run_at = $3, updated_at = now()
             WHERE agent = $1 AND name = $2 AND next_run_at IS DISTINCT FROM $3";
    NOW = "SELECT now()";
    LIST = "SELECT agent, name, configuration, engine, connected, last_error, last_run_at, next_run_at
              FROM watchers ORDER BY name, agent";
    GET = "SELECT agent, name, configuration, engine, connected, last_error, last_run_at, next_run_at
             FROM watchers WHERE agent = $1 AND name = $2";
}

#[derive(Clone, Debug)]
pub struct WatcherRow {
    pub watcher: WatcherRef,
    /// Masked: never a secret.
    pub configuration: Value,
    /// version, os, arch, cpus, memory as the engine last reported them.
    pub engine: Option<Value>,
    pub connected: bool,
    /// Why the engine does not answer, while it does not.
    pub last_error: Option<String>,
    pub last_run_at: Option<DateTime<Utc>>,
    pub next_run_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Makes the watcher known, with its masked configuration.
    pub async fn register_watcher(
        &self,
        watcher: &WatcherRef,
        configuration: &Value,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(REGISTER).await?;
        client
            .execute(&statement, &[&watcher.agent, &watcher.name, configuration])
            .await?;
        Ok(())
    }

    /// The engine answers. `engine` is what it says of itself, where it was asked.
    pub async fn watcher_connected(
        &self,
        watcher: &WatcherRef,
        engine: Option<&Value>,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CONNECTED).await?;
        client
            .execute(&statement, &[&watcher.agent, &watcher.name, &engine])
            .await?;
        Ok(())
    }

    /// The engine does not answer. Nothing that is known of its containers changes.
    pub async fn watcher_disconnected(
        &self,
        watcher: &WatcherRef,
        error: &str,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(DISCONNECTED).await?;
        client
            .execute(&statement, &[&watcher.agent, &watcher.name, &error])
            .await?;
        Ok(())
    }

    /// A watch cycle over all containers ended.
    pub async fn watcher_ran(&self, watcher: &WatcherRef) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RAN).await?;
        client
            .execute(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        Ok(())
    }

    /// When the schedule fires next; `None` where there is no schedule.
    pub async fn watcher_runs_next(
        &self,
        watcher: &WatcherRef,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(NEXT).await?;
        client
            .execute(&statement, &[&watcher.agent, &watcher.name, &at])
            .await?;
        Ok(())
    }

    /// What time it is. Schedules go by the database's clock, as leases do.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(NOW).await?;
        Ok(client.query_one(&statement, &[]).await?.get(0))
    }

    /// All watchers, by name and agent.
    pub async fn watchers(&self) -> Result<Vec<WatcherRow>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows.iter().map(read).collect())
    }

    pub async fn watcher(&self, watcher: &WatcherRef) -> Result<Option<WatcherRow>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client
            .query_opt(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        Ok(row.as_ref().map(read))
    }
}

fn read(row: &tokio_postgres::Row) -> WatcherRow {
    WatcherRow {
        watcher: WatcherRef {
            agent: row.get(0),
            name: row.get(1),
        },
        configuration: row.get(2),
        engine: row.get(3),
        connected: row.get(4),
        last_error: row.get(5),
        last_run_at: row.get(6),
        next_run_at: row.get(7),
    }
}
