//! Registries and triggers as workers have loaded them (reference/drydock.md 1.5, "Component").

use plimsoll_store::components::ComponentKind;
use serde_json::Value;

use crate::{App, AppError};

pub const NOT_FOUND: &str = "Component not found";

/// Something configured, without its secrets.
#[derive(Clone, Debug)]
pub struct Component {
    /// `None` for this installation's own worker.
    pub agent: Option<String>,
    pub type_: String,
    pub name: String,
    pub configuration: Value,
}

impl Component {
    pub(crate) fn new(agent: String, type_: String, name: String, configuration: Value) -> Self {
        Self {
            agent: Some(agent).filter(|agent| !agent.is_empty()),
            type_,
            name,
            configuration,
        }
    }

    /// `type.name`, or `agent.type.name`.
    pub fn id(&self) -> String {
        match &self.agent {
            Some(agent) => format!("{agent}.{}.{}", self.type_, self.name),
            None => format!("{}.{}", self.type_, self.name),
        }
    }

    /// Whether it is what `/{type}/{name}` or `/{type}/{name}/{agent}` names.
    pub fn is(&self, type_: &str, name: &str, agent: Option<&str>) -> bool {
        self.type_ == type_ && self.name == name && self.agent.as_deref() == agent
    }
}

impl App {
    /// By type, then name.
    pub async fn registries(&self) -> Result<Vec<Component>, AppError> {
        self.components(ComponentKind::Registry).await
    }

    /// By type, then name.
    pub async fn triggers(&self) -> Result<Vec<Component>, AppError> {
        self.components(ComponentKind::Trigger).await
    }

    async fn components(&self, kind: ComponentKind) -> Result<Vec<Component>, AppError> {
        let components = self.store().components(kind).await?;
        Ok(components
            .into_iter()
            .map(|c| Component::new(c.agent, c.type_, c.name, c.configuration))
            .collect())
    }
}
