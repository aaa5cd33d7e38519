use std::time::Duration;

use plimsoll_app::{
    AppError,
    security_runtime::{SecurityTools, ToolStatus, WorkerTools},
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
#[oai(rename = "SecurityRuntime", rename_all = "camelCase")]
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
    signature: ToolView,
    sbom: SbomView,
}

#[derive(Object)]
#[oai(rename = "Scanner", rename_all = "camelCase")]
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
#[oai(rename = "Tool", rename_all = "camelCase")]
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
#[oai(rename = "SbomSettings", rename_all = "camelCase")]
pub struct SbomView {
    /// Whether scans make bills of materials, too
    enabled: bool,
    /// In which formats they do
    formats: Vec<String>,
    /// What makes one that is asked for, and those
    command: String,
    #[oai(nullable)]
    command_available: Option<bool>,
    /// `ready`, `missing` or `disabled`
    status: String,
    message: String,
}

const DISABLED: &str = "disabled";
const READY: &str = "ready";

/// A tool's `status` and `message`; `unset` says why it is not used.
fn judged(tool: &ToolStatus, unset: &str) -> (String, String) {
    let (status, message) = match (tool.enabled, tool.available) {
        (false, _) => (DISABLED, unset.to_owned()),
        (true, Some(true)) => (READY, format!("{} is there", tool.command)),
        (true, _) => ("missing", missing(tool)),
    };
    (status.to_owned(), message)
}

fn missing(tool: &ToolStatus) -> String {
    format!("{} is not installed where the worker runs", tool.command)
}

fn scanner(tool: &ToolStatus) -> ScannerView {
    let (status, message) = judged(tool, "DD_SECURITY_SCANNER is not set");
    ScannerView {
        enabled: tool.enabled,
        command: tool.command.clone(),
        command_available: tool.available,
        status,
        message,
        scanner: if tool.enabled { "trivy" } else { "" }.to_owned(),
        server: tool.server.clone().unwrap_or_default(),
        version: tool.version.clone(),
    }
}

fn signature(tool: &ToolStatus) -> ToolView {
    let (status, message) = judged(tool, "DD_SECURITY_VERIFY_SIGNATURES is not set");
    ToolView {
        enabled: tool.enabled,
        command: tool.command.clone(),
        command_available: tool.available,
        status,
        message,
    }
}

fn sbom(tools: &SecurityTools) -> SbomView {
    let tool = &tools.sbom;
    let (status, message) = judged(tool, "DD_SECURITY_SBOM_ENABLED is not set");
    let formats = tools.sbom_formats.iter();
    SbomView {
        enabled: !tools.sbom_formats.is_empty(),
        formats: formats.map(|format| format.as_str().to_owned()).collect(),
        command: tool.command.clone(),
        command_available: tool.available,
        status,
        message,
    }
}

/// What is switched on and not there. What makes bills of materials counts where scans make them.
fn lacking(tools: &SecurityTools) -> impl Iterator<Item = &ToolStatus> {
    let sbom = (!tools.sbom_formats.is_empty()).then_some(&tools.sbom);
    [&tools.scanner, &tools.signature]
        .into_iter()
        .chain(sbom)
        .filter(|tool| tool.enabled && tool.available == Some(false))
}

fn view(workers: Vec<WorkerTools>) -> Option<SecurityRuntimeView> {
    let (own, agents): (Vec<_>, Vec<_>) = workers.into_iter().partition(|w| w.agent.is_empty());
    // Of several workers, one that lacks something speaks: a job may run on any.
    let lacks = |worker: &&WorkerTools| lacking(&worker.tools).next().is_some();
    let speaks = own.iter().find(lacks).or(own.first()).or(agents.first())?;
    let tools = &speaks.tools;
    let mut requirements: Vec<String> = own
        .iter()
        .chain(&agents)
        .flat_map(|worker| {
            lacking(&worker.tools).map(|tool| format!("{} ({})", missing(tool), worker.host))
        })
        .collect();
    requirements.dedup();
    Some(SecurityRuntimeView {
        checked_at: Instant(tools.checked_at),
        ready: tools.scanner.enabled && requirements.is_empty(),
        scanner: scanner(&tools.scanner),
        signature: signature(&tools.signature),
        sbom: sbom(tools),
        requirements,
        agents: agents
            .iter()
            .map(|worker| AgentTools {
                agent: worker.agent.clone(),
                host: worker.host.clone(),
                checked_at: Instant(worker.tools.checked_at),
                scanner: scanner(&worker.tools.scanner),
                signature: signature(&worker.tools.signature),
                sbom: sbom(&worker.tools),
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
