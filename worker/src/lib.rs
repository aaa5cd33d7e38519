//! The worker: everything that touches a Docker engine or a registry.
//!
//! A worker watches one or more engines, runs the jobs of these engines under leases, and answers
//! live reads about them. It keeps nothing that another worker would need: several may watch the
//! same engine. It never ends because something it depends on is away.

mod command;
pub mod compose;
pub mod docker;
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
pub mod settings;
pub mod watchers;

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use plimsoll_app::App;
use plimsoll_domain::ids::{OperationId, WatcherRef};
pub use settings::WorkerSettings;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use docker::Engine;
use jobs::{EngineCapacity, Handlers, JobContext, Outcome, Runner, watch};
use live::{LiveReads, Sampler, StatsReads};
use operations::{Operations, Own};
use registry::Registries;
use release_notes::Github;
use scan::Scanner;
use watchers::Watcher;

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
    let registries = Registries::with_options(
        settings.registries.clone(),
        Some(app.queue().clone()),
        settings.registry_options.clone(),
    )
    .context("the registries cannot be used")?;
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
    let scanner = settings
        .scan
        .clone()
        .map(|settings| Scanner::new(settings, registries.clone()));
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
    for watcher in watchers.values() {
        tasks.spawn(watchers::follow(watcher.clone(), shutdown.clone()));
        tasks.spawn(watchers::keep_schedule(watcher.clone(), shutdown.clone()));
        let reads = LiveReads {
            engine: watcher.engine().clone(),
            registries: watcher.registries().clone(),
            streams: streams.clone(),
            github: github.clone(),
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
    .scanned_by(scanner.clone())
    .inside(Own::here(), settings.helper.clone());
    let capacity = watchers
        .keys()
        .map(|watcher| EngineCapacity {
            watcher: watcher.clone(),
            places: vec![
                (jobs::operation::KIND, settings.concurrency),
                (watch::KIND, WATCHES),
                (jobs::scan::KIND, 1),
            ],
        })
        .collect();
    let handlers = Handlers::default()
        .with(jobs::operation::KIND, move |context| {
            jobs::operation::run(operations.clone(), context)
        })
        .with(jobs::scan::KIND, {
            let watchers = watchers.clone();
            move |context: JobContext| {
                let watcher = watchers.get(&context.job.watcher).cloned();
                let scanner = scanner.clone();
                async move {
                    match (watcher, scanner) {
                        (Some(watcher), Some(scanner)) => {
                            jobs::scan::run(watcher, scanner, context).await
                        }
                        (_, None) => Outcome::Failed(jobs::scan::NO_SCANNER.to_owned()),
                        (None, _) => no_engine(&context),
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
    Runner::new(app, id, capacity, handlers).run(shutdown).await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the worker ended badly");
        }
    }
    tracing::info!("stopped working");
    Ok(())
}

fn no_engine(context: &JobContext) -> Outcome {
    Outcome::Later {
        after: Duration::from_secs(5),
        why: format!("this worker has no engine named {}", context.job.watcher),
    }
}

/// Runs one operation and nothing else: the work of a helper beside a worker that the operation
/// stops and starts.
///
/// # Errors
/// As [`run`]; and an end before that of the operation, so that the engine starts the helper again.
pub async fn assist(
    app: App,
    settings: WorkerSettings,
    operation: OperationId,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registries = Registries::with_options(
        settings.registries.clone(),
        Some(app.queue().clone()),
        settings.registry_options.clone(),
    )
    .context("the registries cannot be used")?;
    let scanner = settings
        .scan
        .clone()
        .map(|settings| Scanner::new(settings, registries.clone()));
    let mut engines = HashMap::new();
    for watcher in &settings.watchers {
        let engine = Engine::new(watcher.address.clone())
            .with_context(|| format!("the watcher {} cannot be used", watcher.reference))?;
        engines.insert(watcher.reference.clone(), engine);
    }
    let operations = Operations::new(
        app.clone(),
        engines,
        registries,
        settings.operations.clone(),
    )
    .scanned_by(scanner);
    let handlers = Handlers::default().with(jobs::operation::KIND, move |context| {
        jobs::operation::run(operations.clone(), context)
    });
    tracing::info!(%operation, "helping");
    match jobs::run_single(app, Uuid::now_v7(), operation, handlers, shutdown).await {
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
