//! Which scripts check updates of which containers.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::{IdentityKey, WatcherRef};

use crate::{Store, StoreError};

statements! {
    ASSIGN = "INSERT INTO script_assignments
                (identity_key, agent, watcher, container_name, script, actor)
              VALUES ($1, $2, $3, $4, $5, $6)
              ON CONFLICT (identity_key) DO UPDATE
                SET agent = excluded.agent, watcher = excluded.watcher,
                    container_name = excluded.container_name, script = excluded.script,
                    actor = excluded.actor, assigned_at = now()
              RETURNING assigned_at";
    UNASSIGN = "DELETE FROM script_assignments WHERE identity_key = $1 RETURNING script";
    LIST = "SELECT identity_key, agent, watcher, container_name, script, actor, assigned_at
              FROM script_assignments ORDER BY container_name, agent, watcher, identity_key";
}

#[derive(Clone, Debug)]
pub struct Assignment {
    pub identity: IdentityKey,
    pub watcher: WatcherRef,
    /// As the container was called when the script was assigned.
    pub container_name: String,
    /// Relative to the directory of scripts.
    pub script: String,
    pub actor: String,
    pub assigned_at: DateTime<Utc>,
}

/// Assigns, instead of what was assigned before; answers when.
pub async fn assign(
    client: &impl GenericClient,
    new: &Assignment,
) -> Result<DateTime<Utc>, StoreError> {
    let statement = client.prepare_cached(ASSIGN).await?;
    let row = client
        .query_one(
            &statement,
            &[
                &new.identity.as_str(),
                &new.watcher.agent,
                &new.watcher.name,
                &new.container_name,
                &new.script,
                &new.actor,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// The script that was assigned, if there was one.
pub async fn unassign(
    client: &impl GenericClient,
    identity: &IdentityKey,
) -> Result<Option<String>, StoreError> {
    let statement = client.prepare_cached(UNASSIGN).await?;
    let row = client.query_opt(&statement, &[&identity.as_str()]).await?;
    Ok(row.map(|row| row.get(0)))
}

impl Store {
    /// All of them, by the containers' names.
    pub async fn script_assignments(&self) -> Result<Vec<Assignment>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| Assignment {
                identity: IdentityKey::from_stored(row.get(0)),
                watcher: WatcherRef {
                    agent: row.get(1),
                    name: row.get(2),
                },
                container_name: row.get(3),
                script: row.get(4),
                actor: row.get(5),
                assigned_at: row.get(6),
            })
            .collect())
    }
}
