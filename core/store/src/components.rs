//! Registries and triggers as workers have loaded them, masked (`GET /api/v1/registries`,
//! `/triggers`).

use deadpool_postgres::GenericClient;
use serde_json::Value;

use crate::{Store, StoreError};

statements! {
    REGISTER = "INSERT INTO components (kind, agent, type, name, configuration)
                SELECT $1, $2, t.type, t.name, t.configuration
                  FROM unnest($3::text[], $4::text[], $5::jsonb[]) AS t (type, name, configuration)
                 ORDER BY t.type, t.name
                ON CONFLICT (kind, agent, type, name) DO UPDATE
                SET configuration = excluded.configuration, updated_at = now()
                WHERE components.configuration IS DISTINCT FROM excluded.configuration";
    FORGET_OTHERS = "DELETE FROM components c WHERE kind = $1 AND agent = $2
                        AND NOT EXISTS (SELECT 1 FROM unnest($3::text[], $4::text[]) AS t (type, name)
                                         WHERE t.type = c.type AND t.name = c.name)";
    LIST = "SELECT agent, type, name, configuration FROM components
             WHERE kind = $1 ORDER BY type, name, agent";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentKind {
    Registry,
    Trigger,
}

impl ComponentKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Trigger => "trigger",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Component {
    /// Empty for this installation's own worker.
    pub agent: String,
    pub type_: String,
    pub name: String,
    /// Masked: never a secret.
    pub configuration: Value,
}

/// Replaces what `agent` has of this kind. Each component's own `agent` field is ignored.
pub async fn replace(
    client: &impl GenericClient,
    kind: ComponentKind,
    agent: &str,
    components: &[Component],
) -> Result<(), StoreError> {
    let types: Vec<&str> = components.iter().map(|c| c.type_.as_str()).collect();
    let names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
    let configurations: Vec<&Value> = components.iter().map(|c| &c.configuration).collect();
    let statement = client.prepare_cached(REGISTER).await?;
    client
        .execute(
            &statement,
            &[&kind.as_str(), &agent, &types, &names, &configurations],
        )
        .await?;
    let statement = client.prepare_cached(FORGET_OTHERS).await?;
    client
        .execute(&statement, &[&kind.as_str(), &agent, &types, &names])
        .await?;
    Ok(())
}

impl Store {
    /// Sorted by type, then name.
    pub async fn components(&self, kind: ComponentKind) -> Result<Vec<Component>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&kind.as_str()]).await?;
        Ok(rows
            .into_iter()
            .map(|row| Component {
                agent: row.get(0),
                type_: row.get(1),
                name: row.get(2),
                configuration: row.get(3),
            })
            .collect())
    }
}
