use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use plimsoll_app::{App, Queue, Store, store::StoreSettings};
use plimsoll_domain::ids::OperationId;
use plimsoll_runtime::{CommonArgs, SETTINGS_HELP, Settings};
use plimsoll_worker::WorkerSettings;

/// The worker of Plimsoll: watches Docker engines, finds newer images, runs updates and rollbacks.
///
/// It needs a Postgres and a Redis that it shares with `plimsoll-api`, and one or more Docker
/// engines. It listens on no port. Several workers may serve the same engines: each job runs on
/// one of them, and another takes over within 15 seconds when that one dies.
#[derive(Parser)]
#[command(name = "plimsoll-worker", version, max_term_width = 100, after_long_help = SETTINGS_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or SIGINT
    ///
    /// Postgres, Redis, engines and registries may be away, at start or later: the worker waits
    /// for them. At SIGTERM it takes no new work, ends or hands over the step at hand, and leaves
    /// within 20 seconds; a second signal ends it at once. Updates that are cut off are resumed
    /// by any worker.
    Run,
    /// Ask the database whether the worker on this machine is at work; exit status 0 if it is
    ///
    /// A worker says so every 5 seconds. In a container, the machine is the container.
    Healthcheck,
    /// Run one operation and nothing else
    ///
    /// For the helper container that a worker starts when the operation is on the container that
    /// the worker itself runs in.
    #[command(hide = true)]
    Assist {
        operation: OperationId,
        /// The engine's own socket, where the settings name another way to it
        #[arg(long)]
        socket: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(plimsoll_worker::STACK)
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| match args.command {
            Command::Run => runtime.block_on(run(&args.common)),
            Command::Healthcheck => runtime.block_on(healthcheck(&args.common)),
            Command::Assist { operation, socket } => {
                runtime.block_on(assist(&args.common, operation, socket.as_deref()))
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plimsoll-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &CommonArgs) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(args, "plimsoll-worker")?;
    let settings = &runtime.settings;
    let worker = WorkerSettings::from_settings(settings)?;
    let app = app(settings)?;
    app.tally().legacy_settings(&runtime.legacy);
    plimsoll_worker::run(app, worker, runtime.shutdown.clone()).await
}

async fn healthcheck(args: &CommonArgs) -> anyhow::Result<()> {
    let app = app(&plimsoll_runtime::read_settings(args)?)?;
    let at_work = plimsoll_worker::is_at_work(&app).await?;
    anyhow::ensure!(
        at_work,
        "no worker of this machine has been heard of within the last 15 seconds"
    );
    Ok(())
}

async fn assist(
    args: &CommonArgs,
    operation: OperationId,
    socket: Option<&Path>,
) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(args, "plimsoll-worker")?;
    let settings = &runtime.settings;
    let worker = WorkerSettings::from_settings(settings)?;
    let app = app(settings)?;
    plimsoll_worker::assist(app, worker, operation, socket, runtime.shutdown.clone()).await
}

fn app(settings: &Settings) -> anyhow::Result<App> {
    let database = settings.database.url.clone();
    let store = Store::new(&StoreSettings {
        url: database
            .context("DATABASE_URL is not set: a worker shares the API's Postgres")?
            .0,
        connections: usize::from(settings.database.max_connections),
    })?;
    let redis = settings.redis.url.clone();
    let queue = Queue::new(
        &redis
            .context("REDIS_URL is not set: a worker shares the API's Redis")?
            .0,
    )?;
    Ok(App::new(
        store,
        queue,
        plimsoll_runtime::app_settings(settings)?,
    ))
}
