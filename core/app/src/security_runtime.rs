//! Which security tools there are (contract/drydock-app-api.md, "Security runtime";
//! reference/drydock.md 1.4): what workers have observed on their own machines.

use chrono::{DateTime, Utc};
use plimsoll_domain::{access::Scope, security::SbomFormat};
use serde::{Deserialize, Serialize};

use crate::{App, AppError, requests::Caller};

/// What one worker sees. Part of what it tells about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityTools {
    pub checked_at: DateTime<Utc>,
    pub scanner: ToolStatus,
    /// What verifies signatures.
    #[serde(default)]
    pub signature: ToolStatus,
    /// What makes bills of materials.
    #[serde(default)]
    pub sbom: ToolStatus,
    /// The formats in which scans make them.
    #[serde(default)]
    pub sbom_formats: Vec<SbomFormat>,
}

/// One tool on one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolStatus {
    pub enabled: bool,
    pub command: String,
    /// `None` where nobody looked, because it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The address of the tool's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// The tools of one worker.
#[derive(Clone, Debug)]
pub struct WorkerTools {
    /// Empty: this installation's own worker.
    pub agent: String,
    pub host: String,
    pub tools: SecurityTools,
}

impl App {
    /// What the workers that are there have seen last, this installation's own first.
    pub async fn security_tools(&self, caller: &Caller<'_>) -> Result<Vec<WorkerTools>, AppError> {
        caller.authorise(Scope::SystemRead)?;
        self.worker_tools().await
    }

    pub(crate) async fn worker_tools(&self) -> Result<Vec<WorkerTools>, AppError> {
        let workers = self.store().workers().await?.into_iter();
        Ok(workers
            .filter(|worker| worker.alive)
            .filter_map(|worker| {
                let tools = worker.info.get("security")?.clone();
                Some(WorkerTools {
                    tools: serde_json::from_value(tools).ok()?,
                    agent: worker.agent,
                    host: worker.host,
                })
            })
            .collect())
    }
}
