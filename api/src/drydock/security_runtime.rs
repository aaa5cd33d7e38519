use std::time::Duration;

use plimsoll_app::{
    AppError,
    security_runtime::{ToolStatus, WorkerTools},
};
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
    instant::Instant,
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `GET /api/v1/server/security/runtime`.
pub struct SecurityRuntime;

/// What the workers see of the security tools on their machines.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct SecurityRuntimeView {
    checked_at: Instant,
    /// Whether everything that is switched on is there
    ready: bool,
    scanner: ScannerView,
    signature: ToolView,
    sbom: SbomView,
    /// What is missing, for people
    requirements: Vec<String>,
    /// The same of the workers on other hosts
    agents: Vec<AgentTools>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct AgentTools {
    agent: String,
    host: String,
    checked_at: Instant,
    scanner: ScannerView,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ScannerView {
    enabled: bool,
    command: String,
    /// `null` where nobody looked, because it is not used
    #[oai(nullable)]
    command_available: Option<bool>,
    /// `ready`, `missing` or `disabled`
    status: String,
    message: String,
    scanner: String,
    server: String,
    #[oai(skip_serializing_if_is_none)]
    version: Option<String>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ToolView {
    enabled: bool,
    command: String,
    #[oai(nullable)]
    command_available: Option<bool>,
    /// `ready`, `missing` or `disabled`
    status: String,
    message: String,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct SbomView {
    enabled: bool,
    formats: Vec<String>,
}

fn scanner(tool: &ToolStatus) -> ScannerView {
    let status = match (tool.enabled, tool.available) {
        (false, _) => "disabled",
        (true, Some(true)) => "ready",
        (true, _) => "missing",
    };
    ScannerView {
        enabled: tool.enabled,
        command: tool.command.clone(),
        command_available: tool.available,
        status: status.to_owned(),
        message: match status {
            "disabled" => "DD_SECURITY_SCANNER is not set".to_owned(),
            "ready" => format!("{} is there", tool.command),
            _ => missing(&tool.command),
        },
        scanner: if tool.enabled { "trivy" } else { "" }.to_owned(),
        server: tool.server.clone().unwrap_or_default(),
        version: tool.version.clone(),
    }
}

fn missing(command: &str) -> String {
    format!("{command} is not installed where the worker runs")
}

fn view(workers: Vec<WorkerTools>) -> Option<SecurityRuntimeView> {
    let (own, agents): (Vec<_>, Vec<_>) = workers.into_iter().partition(|w| w.agent.is_empty());
    // Of several workers, one that lacks something speaks: a job may run on any.
    let lacks = |worker: &&WorkerTools| worker.tools.scanner.available == Some(false);
    let speaks = own.iter().find(lacks).or(own.first()).or(agents.first())?;
    let tools = &speaks.tools;
    let mut requirements: Vec<String> = own
        .iter()
        .chain(&agents)
        .filter(|worker| worker.tools.scanner.enabled)
        .filter(lacks)
        .map(|worker| {
            format!(
                "{} ({})",
                missing(&worker.tools.scanner.command),
                worker.host
            )
        })
        .collect();
    requirements.dedup();
    Some(SecurityRuntimeView {
        checked_at: Instant(tools.checked_at),
        ready: tools.scanner.enabled && requirements.is_empty(),
        scanner: scanner(&tools.scanner),
        signature: ToolView {
            enabled: false,
            command: String::new(),
            command_available: None,
            status: "disabled".to_owned(),
            message: "Signatures are not verified".to_owned(),
        },
        sbom: SbomView {
            enabled: false,
            formats: Vec::new(),
        },
        requirements,
        agents: agents
            .iter()
            .map(|worker| AgentTools {
                agent: worker.agent.clone(),
                host: worker.host.clone(),
                checked_at: Instant(worker.tools.checked_at),
                scanner: scanner(&worker.tools.scanner),
            })
            .collect(),
    })
}

#[OpenApi(prefix_path = "/api/v1")]
impl SecurityRuntime {
    /// Get which security tools there are
    ///
    /// As the workers observed it within the last minute.
    #[oai(
        path = "/server/security/runtime",
        method = "get",
        operation_id = "getSecurityRuntime",
        tag = "Tag::Security"
    )]
    async fn get(
        &self,
        who: Authorized<perm::SystemRead>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<Json<SecurityRuntimeView>, ErrorOf<Reads>> {
        let caller = plain_caller(who.principal(), &context);
        let workers = state.app.security_tools(&caller).await?;
        let view = view(workers).ok_or_else(|| AppError::Unavailable {
            message: "Error loading security runtime status (no worker is there)".to_owned(),
            retry_after: Duration::from_secs(5),
        })?;
        Ok(Json(view))
    }
}
