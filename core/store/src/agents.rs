//! Whether agents are connected, as everybody was told last (`dd:agent-connected`,
//! `dd:agent-disconnected`). The row decides who tells: of many that see a change, one changes it.

use deadpool_postgres::GenericClient;

use crate::{StoreError, workers::ALIVE_SECONDS};

statements! {
    CONNECTED = "INSERT INTO agents (name, connected) VALUES ($1, true)
                 ON CONFLICT (name) DO UPDATE SET connected = true, changed_at = now()
                  WHERE NOT agents.connected";
    LOST = "UPDATE agents SET connected = false, changed_at = now()
             WHERE connected
               AND NOT EXISTS (SELECT 1 FROM workers w
                                WHERE w.agent = agents.name AND w.left_at IS NULL
                                  AND w.last_seen_at > now() - make_interval(secs => $1))
            RETURNING name";
    FORGET = "DELETE FROM agents
               WHERE NOT connected
                 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.agent = agents.name)";
}

/// Notes that a worker of the agent is there: `true` when that is news.
pub async fn connected(client: &impl GenericClient, agent: &str) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(CONNECTED).await?;
    Ok(client.execute(&statement, &[&agent]).await? > 0)
}

/// Notes which agents have no living worker any more: those of which that is news.
pub async fn lost(client: &impl GenericClient) -> Result<Vec<String>, StoreError> {
    let statement = client.prepare_cached(LOST).await?;
    let rows = client.query(&statement, &[&ALIVE_SECONDS]).await?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

/// Forgets agents whose workers are forgotten.
pub async fn forget(client: &impl GenericClient) -> Result<u64, StoreError> {
    let statement = client.prepare_cached(FORGET).await?;
    Ok(client.execute(&statement, &[]).await?)
}
