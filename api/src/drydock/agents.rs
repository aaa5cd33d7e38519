use plimsoll_app::agents::AgentView as Agent;
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
    instant::Instant,
    summary::ContainerCounts,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/agents`.
pub struct Agents;

#[derive(Object)]
struct AgentList {
    data: Vec<AgentView>,
    total: u64,
}

/// A worker on another host.
#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "Agent",
    skip_serializing_if_is_none
)]
struct AgentView {
    name: String,
    host: String,
    /// 0: agents connect to the server and listen nowhere.
    port: u16,
    connected: bool,
    version: String,
    os: Option<String>,
    arch: Option<String>,
    cpus: Option<u64>,
    memory_gb: Option<f64>,
    uptime_seconds: i64,
    last_seen: Instant,
    log_level: Option<String>,
    containers: ContainerCounts,
    images: u64,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        let text = |key: &str| agent.info.get(key)?.as_str().map(str::to_owned);
        let number = |key: &str| agent.info.get(key)?.as_f64();
        Self {
            port: 0,
            connected: agent.connected,
            os: text("os"),
            arch: text("arch"),
            cpus: number("cpus").map(|cpus| cpus as u64),
            memory_gb: number("memoryGb"),
            log_level: text("logLevel"),
            uptime_seconds: (agent.last_seen_at - agent.started_at).num_seconds(),
            last_seen: Instant(agent.last_seen_at),
            containers: agent.counts.into(),
            images: agent.counts.images as u64,
            name: agent.name,
            host: agent.host,
            version: agent.version,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Agents {
    /// List agents
    ///
    /// By name. This installation's own worker is not one.
    #[oai(
        path = "/agents",
        method = "get",
        operation_id = "listAgents",
        tag = "Tag::Components"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<AgentList>, ErrorOf<Reads>> {
        let agents = state.app.agents().await?;
        let data: Vec<AgentView> = agents.into_iter().map(AgentView::from).collect();
        let total = data.len() as u64;
        Ok(Json(AgentList { data, total }))
    }
}
