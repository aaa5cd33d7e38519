//! What a worker tells the installation about itself: that it is there, and which
//! registries and triggers it has loaded. All of it masked.

use std::time::Duration;

use chrono::Utc;
use plimsoll_app::{
    App, AppError,
    security_runtime::{SecurityTools, ToolStatus},
    store::{
        StoreError,
        components::{self, Component, ComponentKind},
        workers::NewWorker,
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{registry::Registries, scan::look, settings::WorkerSettings};

/// Well within the time after which a silent worker counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether the security tools are there.
const LOOK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// Workers that ended without a word, and containers that are gone, are forgotten after a week:
/// replicas that keep copies have looked by then, or start over.
const FORGET: f64 = 7.0 * 24.0 * 60.0 * 60.0;
const HOUSEKEEPING: Duration = Duration::from_secs(600);

/// Says that the worker is there until `shutdown`, then that it has left. A database that is away
/// is waited for. `done` is cancelled once the triggers and registries are known.
pub(crate) async fn keep_registered(
    app: App,
    id: Uuid,
    settings: WorkerSettings,
    registries: Registries,
    done: CancellationToken,
    shutdown: CancellationToken,
) {
    let mut worker = NewWorker {
        id,
        agent: settings.agent.clone(),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        info: json!({
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "memoryGb": memory_gb(),
            "logLevel": settings.log_level,
            "watchers": settings.watchers.iter().map(|w| &w.reference.name).collect::<Vec<_>>(),
        }),
    };
    let mut introduced = false;
    let mut looked: Option<Instant> = None;
    loop {
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            worker.info["security"] = json!(security_tools(&settings).await);
        }
        let told = async {
            app.worker_seen(&worker).await?;
            app.note_lost_agents().await?;
            if !introduced {
                introduce(&app, &settings, &registries).await?;
                introduced = true;
                done.cancel();
            }
            Ok::<_, AppError>(())
        };
        if let Err(error) = told.await {
            tracing::debug!(%error, "the worker is registered later");
        }
        let pause = match introduced {
            true => HEARTBEAT,
            false => RETRY,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    if let Err(error) = app.worker_left(&worker).await {
        tracing::debug!(%error, "the worker leaves without a word");
    }
}

/// What there is on this machine.
async fn security_tools(settings: &WorkerSettings) -> SecurityTools {
    let scanner = match &settings.scan {
        None => ToolStatus::default(),
        Some(scan) => ToolStatus {
            server: scan.trivy.server.clone(),
            ..status(&scan.trivy.command, &["--version"]).await
        },
    };
    let signature = match &settings.cosign {
        None => ToolStatus::default(),
        Some(cosign) => status(&cosign.command, &["version"]).await,
    };
    let sbom = match &settings.sbom {
        None => ToolStatus::default(),
        Some(sbom) => status(sbom.command(), &["--version"]).await,
    };
    SecurityTools {
        checked_at: Utc::now(),
        scanner,
        signature,
        sbom,
        sbom_formats: settings
            .sbom
            .as_ref()
            .map(|sbom| sbom.with_scans.clone())
            .unwrap_or_default(),
    }
}

async fn status(command: &str, version: &[&str]) -> ToolStatus {
    let seen = look(command, version).await;
    ToolStatus {
        enabled: true,
        command: seen.command,
        available: Some(seen.available),
        version: seen.version,
        server: None,
    }
}

async fn introduce(
    app: &App,
    settings: &WorkerSettings,
    registries: &Registries,
) -> Result<(), StoreError> {
    let component = |type_, name, configuration| Component {
        agent: settings.agent.clone(),
        type_,
        name,
        configuration,
    };
    let registries: Vec<Component> = registries
        .components(Some(settings.agent.as_str()).filter(|agent| !agent.is_empty()))
        .iter()
        .map(|shown| {
            let configuration = Value::Object(shown.configuration().clone());
            component(
                shown.kind().to_owned(),
                shown.name().to_owned(),
                configuration,
            )
        })
        .collect();
    let triggers: Vec<Component> = settings
        .triggers
        .iter()
        .cloned()
        .map(|shown| component(shown.kind, shown.name, shown.configuration))
        .collect();
    let client = app.store().client().await?;
    let agent = &settings.agent;
    components::replace(&client, ComponentKind::Registry, agent, &registries).await?;
    components::replace(&client, ComponentKind::Trigger, agent, &triggers).await
}

/// Forgets workers and containers that are gone, at intervals. Any number of workers may do it.
pub(crate) async fn keep_house(app: App, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(HOUSEKEEPING) => {}
        }
        let store = app.store();
        let done = async {
            store.expire_workers(FORGET).await?;
            store.forget_removed_containers(FORGET).await?;
            store.expire_image_reports(FORGET).await?;
            Ok::<_, StoreError>(())
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "what is over is forgotten later");
        }
    }
}

/// Whether a worker of this machine (in a container: of this container) was heard of lately.
///
/// # Errors
/// A database that does not answer.
pub async fn is_at_work(app: &App) -> Result<bool, AppError> {
    let host = host_name();
    let workers = app.store().workers().await?;
    Ok(workers
        .iter()
        .any(|worker| worker.alive && worker.host == host))
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Of the machine, in GiB with one decimal.
fn memory_gb() -> Option<f64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 1024.0 / 1024.0 * 10.0).round() / 10.0)
}
