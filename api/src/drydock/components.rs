//! What triggers, watchers and registries have in common (reference/drydock.md 1.5).

use plimsoll_app::components::{self, Component};
use poem_openapi::{Object, types::Any};
use serde_json::Value;

use super::{error::ApiError, instant::Instant, summary::ContainerCounts};

/// Something configured. Secrets in `configuration` are `[REDACTED]`.
#[derive(Object)]
#[oai(rename = "Component", skip_serializing_if_is_none)]
pub struct ComponentView {
    /// `type.name`, or `agent.type.name`.
    pub id: String,
    #[oai(rename = "type")]
    pub type_: String,
    pub name: String,
    pub configuration: Any<Value>,
    /// Absent for this installation's own worker.
    pub agent: Option<String>,
    pub metadata: Option<Metadata>,
}

/// What a watcher sees.
#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "WatcherMetadata",
    skip_serializing_if_is_none
)]
pub struct Metadata {
    /// Whether its engine answers.
    pub connected: bool,
    pub error: Option<String>,
    pub last_run_at: Option<Instant>,
    pub next_run_at: Option<Instant>,
    pub containers: ContainerCounts,
    pub images: u64,
}

impl From<Component> for ComponentView {
    fn from(component: Component) -> Self {
        Self {
            id: component.id(),
            type_: component.type_,
            name: component.name,
            configuration: Any(component.configuration),
            agent: component.agent,
            metadata: None,
        }
    }
}

/// The one that a path names, or 404.
pub fn find<T: Into<ComponentView>>(
    all: Vec<T>,
    component: impl Fn(&T) -> &Component,
    (type_, name, agent): (&str, &str, Option<&str>),
) -> Result<ComponentView, ApiError> {
    all.into_iter()
        .find(|candidate| component(candidate).is(type_, name, agent))
        .map(Into::into)
        .ok_or_else(|| ApiError::not_found(components::NOT_FOUND))
}
