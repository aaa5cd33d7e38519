//! The worker: everything that touches a Docker engine or a registry.
//!
//! A worker watches one or more engines, runs the jobs of these engines under leases, and answers
//! live reads about them. It keeps nothing that another worker would need: several may watch the
//! same engine. It never ends because something it depends on is away.

mod command;
pub mod compose;
pub mod docker;
pub mod explorer;
pub mod jobs;
mod json;
pub mod live;
pub mod notify;
pub mod operations;
pub mod reconcilers;
mod registration;
pub mod registry;
pub mod release_notes;
pub mod scan;
pub mod scripts;
pub mod settings;
pub mod watchers;
mod webhooks;

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::Context;
use plimsoll_app::App;
use plimsoll_domain::ids::{OperationId, WatcherRef};
pub use registration::is_at_work;
pub use settings::WorkerSettings;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use docker::{Engine, EngineAddress};
use explorer::Explorer;
use jobs::{EngineCapacity, Handlers, JobContext, Outcome, Runner, watch};
use live::{LiveReads, Sampler, StatsReads};
use operations::{Operations, Own};
use registry::Registries;
use release_notes::Github;
use scan::Tools;
use watchers::Watcher;

/// In bytes, for the threads of the runtime that a worker runs on: the update program is one future,
/// which takes more than the usual 2 MiB where it is not optimised. What is not used costs nothing.
pub const STACK: usize = 8 << 20;
/// Watches of one engine that run at the same time.
const WATCHES: usize = 2;

/// Works until `shutdown`; then running steps end, and what is left is handed over.
///
/// # Errors
/// Settings that cannot be used: a certificate that cannot be read. Never because Postgres, Redis,
/// an engine or a registry is away.
pub async fn run(
    app: App,
    settings: WorkerSettings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // New for each start: a lease of the process before this one is another worker's.
    let id = Uuid::now_v7();
    let registries = registries(&app, &settings)?;
    let strangers = registries
        .for_strangers()
        .context("the registries cannot be used")?;
    let own = Own::here();
    let mut explorers = HashMap::new();
    let mut watchers = HashMap::new();
    for watcher in &settings.watchers {
        let engine = Engine::new(watcher.address.clone())
            .with_context(|| format!("the watcher {} cannot be used", watcher.reference))?;
        watchers.insert(
            watcher.reference.clone(),
            Watcher::new(app.clone(), watcher.clone(), engine, registries.clone()),
        );
    }
    let github = Github::new(app.queue().clone(), settings.github.clone());
    let streams = app.queue().stream_host(live::STREAMS)?;
    let tools = Tools::new(&settings, &registries);
    let mut tasks = JoinSet::new();
    tasks.spawn(streams.clone().run(shutdown.clone()));
    // What is found before the triggers are known would be told to nobody.
    let introduced = CancellationToken::new();
    tasks.spawn(registration::keep_registered(
        app.clone(),
        id,
        settings.clone(),
        registries.clone(),
        introduced.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(registration::keep_house(app.clone(), shutdown.clone()));
    tasks.spawn(app.clone().keep_tally(shutdown.clone()));
    tasks.spawn(app.clone().keep_folding(shutdown.clone()));
    for watcher in watchers.values() {
        tasks.spawn(watchers::follow(watcher.clone(), shutdown.clone()));
        tasks.spawn(watchers::keep_schedule(watcher.clone(), shutdown.clone()));
        let explorer = Explorer {
            app: app.clone(),
            watcher: watcher.reference().clone(),
            engine: watcher.engine().clone(),
            scope: watcher.settings().scope.clone(),
            own: own.clone(),
            crash_at: settings.operations.crash_at.clone(),
        };
        explorers.insert(watcher.reference().clone(), explorer.clone());
        let reads = LiveReads {
            engine: watcher.engine().clone(),
            registries: watcher.registries().clone(),
            strangers: strangers.clone(),
            explorer,
            streams: streams.clone(),
            github: github.clone(),
            compose: settings.operations.compose.clone(),
            scripts: settings.operations.scripts.clone(),
        };
        tasks.spawn(answer_reads(watcher.clone(), reads, shutdown.clone()));
        let stats = StatsReads {
            sampler: Sampler::new(watcher.engine().clone(), settings.stats),
            streams: streams.clone(),
        };
        tasks.spawn(measure(watcher.clone(), stats, shutdown.clone()));
    }
    if !settings.agent.is_empty() {
        let (queue, agent) = (app.queue().clone(), settings.agent.clone());
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                never = live::answer_for_itself(&queue, &agent) => match never {},
            }
        });
    }
    let engines: HashMap<WatcherRef, Engine> = watchers
        .iter()
        .map(|(reference, watcher)| (reference.clone(), watcher.engine().clone()))
        .collect();
    tasks.spawn(notify::run(
        app.clone(),
        settings.notifiers.clone(),
        shutdown.clone(),
    ));
    // Agents may be where receivers cannot be reached from.
    if settings.agent.is_empty() {
        tasks.spawn(webhooks::run(app.clone(), shutdown.clone()));
    }
    let reconciling = reconcilers::run(
        app.clone(),
        engines.clone(),
        settings.retention,
        shutdown.clone(),
    );
    let (known, ended) = (introduced.clone(), shutdown.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = known.cancelled() => reconciling.await,
            () = ended.cancelled() => {}
        }
    });
    let operations = Operations::new(
        app.clone(),
        engines,
        registries,
        settings.operations.clone(),
    )
    .shown_by(watchers.clone())
    .scanned_by(tools.clone())
    .inside(own, settings.helper.clone());
    let capacity = watchers
        .keys()
        .map(|watcher| EngineCapacity {
            watcher: watcher.clone(),
            places: vec![
                (jobs::operation::KIND, settings.concurrency),
                (watch::KIND, WATCHES),
                (jobs::pushed::KIND, WATCHES),
                (jobs::scan::KIND, 1),
                (jobs::sbom::KIND, 1),
                (jobs::removal::KIND, 1),
            ],
        })
        .collect();
    let handlers = Handlers::default()
        .with(jobs::operation::KIND, move |context| {
            jobs::operation::run(operations.clone(), context)
        })
        .with(jobs::scan::KIND, {
            let (watchers, tools) = (watchers.clone(), tools.clone());
            move |context: JobContext| {
                let watcher = watchers.get(&context.job.watcher).cloned();
                let tools = tools.clone();
                async move {
                    match watcher {
                        Some(watcher) => jobs::scan::run(watcher, tools, context).await,
                        None => no_engine(&context),
                    }
                }
            }
        })
        .with(jobs::removal::KIND, move |context: JobContext| {
            let explorer = explorers.get(&context.job.watcher).cloned();
            async move {
                match explorer {
                    Some(explorer) => jobs::removal::run(explorer, context).await,
                    None => no_engine(&context),
                }
            }
        })
        .with(jobs::sbom::KIND, {
            let watchers = watchers.clone();
            move |context: JobContext| {
                let watcher = watchers.get(&context.job.watcher).cloned();
                let maker = tools.sbom.clone();
                async move {
                    match watcher {
                        Some(watcher) => jobs::sbom::run(watcher, maker, context).await,
                        None => no_engine(&context),
                    }
                }
            }
        })
        .with(jobs::pushed::KIND, {
            let watchers = watchers.clone();
            move |context: JobContext| {
                let watcher = watchers.get(&context.job.watcher).cloned();
                async move {
                    match watcher {
                        Some(watcher) => jobs::pushed::run(watcher, context).await,
                        None => no_engine(&context),
                    }
                }
            }
        })
        .with(watch::KIND, move |context: JobContext| {
            let watcher = watchers.get(&context.job.watcher).cloned();
            async move {
                match watcher {
                    Some(watcher) => watch::run(watcher, context).await,
                    None => no_engine(&context),
                }
            }
        });
    tracing::info!(worker = %id, engines = settings.watchers.len(), "working");
    tokio::select! {
        () = introduced.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
    Runner::new(app.clone(), id, capacity, handlers)
        .run(shutdown)
        .await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the worker ended badly");
        }
    }
    // Of the steps that ended last.
    if let Err(error) = app.flush_tally().await {
        tracing::debug!(%error, "what was counted last is lost");
    }
    tracing::info!("stopped working");
    Ok(())
}

fn registries(app: &App, settings: &WorkerSettings) -> anyhow::Result<Registries> {
    let options = registry::Options {
        tally: app.tally().clone(),
        ..settings.registry_options.clone()
    };
    let queue = Some(app.queue().clone());
    Registries::with_options(settings.registries.clone(), queue, options)
        .context("the registries cannot be used")
}

fn no_engine(context: &JobContext) -> Outcome {
    Outcome::Later {
        after: Duration::from_secs(5),
        why: format!("this worker has no engine named {}", context.job.watcher),
    }
}

/// Runs one operation and nothing else: the work of a helper beside a worker that the operation
/// stops and starts. `socket`: the engine's own, where the worker reaches it some other way.
///
/// # Errors
/// As [`run`]; and an end before that of the operation, so that the engine starts the helper again.
pub async fn assist(
    app: App,
    settings: WorkerSettings,
    operation: OperationId,
    socket: Option<&Path>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registries = registries(&app, &settings)?;
    let tools = Tools::new(&settings, &registries);
    let mut engines = HashMap::new();
    for watcher in &settings.watchers {
        let address = match socket {
            Some(socket) => EngineAddress::Unix {
                socket: socket.to_owned(),
            },
            None => watcher.address.clone(),
        };
        let engine = Engine::new(address)
            .with_context(|| format!("the watcher {} cannot be used", watcher.reference))?;
        engines.insert(watcher.reference.clone(), engine);
    }
    let operations = Operations::new(
        app.clone(),
        engines,
        registries,
        settings.operations.clone(),
    )
    .scanned_by(tools);
    let handlers = Handlers::default().with(jobs::operation::KIND, move |context| {
        jobs::operation::run(operations.clone(), context)
    });
    tracing::info!(%operation, "helping");
    let ended = jobs::run_single(app.clone(), Uuid::now_v7(), operation, handlers, shutdown).await;
    if let Err(error) = app.flush_tally().await {
        tracing::debug!(%error, "what was counted is lost");
    }
    match ended {
        jobs::Ended::Yes => Ok(()),
        jobs::Ended::No => anyhow::bail!("the operation {operation} is not over yet"),
    }
}

async fn answer_reads(watcher: Watcher, reads: LiveReads, shutdown: CancellationToken) {
    let queue = watcher.app().queue();
    tokio::select! {
        () = shutdown.cancelled() => {}
        never = reads.serve(queue, watcher.reference()) => match never {},
    }
}

async fn measure(watcher: Watcher, stats: StatsReads, shutdown: CancellationToken) {
    let queue = watcher.app().queue();
    stats.serve(queue, watcher.reference(), shutdown).await;
}
